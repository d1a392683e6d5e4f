/* echo_uring: the plain C echo on epoll, with many answers in one system call.
 *
 *     echo_uring 127.0.0.1 7000        (port 0 picks one)
 *     echo_uring --check               (status 1: the system has no io_uring)
 *
 * As echo_epoll, but up to 64 messages are read, each into a buffer of its own, before their answers
 * leave in one io_uring_enter, by the same ring as neap's. Memory: 1 MiB, and what echo_epoll has. */
#define _GNU_SOURCE /* accept4 */
#include <sys/epoll.h>

#include "net/ring.h"
#include "server.h"

enum { BUFFER_BYTES = 16 * 1024, EVENTS = 256 };

struct conn {
    int fd;
    size_t bytes; /* in its buffer, until the run */
    struct output output;
};

static char buffers[NEAP_RING_SENDS][BUFFER_BYTES];
static struct conn *answering[NEAP_RING_SENDS]; /* whose message is in the buffer of that number */
static uint32_t answer_count;
static struct neap_ring *ring;
static int poller;

static void watch(struct conn *c, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) != 0) die("epoll_ctl");
}

static void conn_destroy(struct conn *c)
{
    close(c->fd);
    free(c->output.queued);
    free(c);
}

/* c may be gone after this. */
static void answered(struct conn *c, const char *bytes, int64_t sent)
{
    if (sent < 0 && errno != EAGAIN) {
        conn_destroy(c);
        return;
    }
    size_t left = c->bytes - (size_t)(sent > 0 ? sent : 0);
    if (left == 0) return;
    output_queue(&c->output, bytes + (c->bytes - left), left);
    watch(c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void answer_all(void)
{
    neap_ring_run(ring);
    for (uint32_t i = 0; i < answer_count; i++)
        answered(answering[i], buffers[i], neap_ring_sent(ring, i));
    answer_count = 0;
}

static void on_readable(struct conn *c)
{
    char *buffer = buffers[answer_count];
    ssize_t n = recv(c->fd, buffer, BUFFER_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        conn_destroy(c);
        return;
    }
    c->bytes = (size_t)n;
    neap_ring_add(ring, c->fd, buffer, (uint32_t)n);
    answering[answer_count++] = c;
    if (answer_count == NEAP_RING_SENDS) answer_all();
}

static void on_writable(struct conn *c)
{
    int written = output_flush(&c->output, c->fd);
    if (written < 0)
        conn_destroy(c);
    else if (written > 0)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void accept_one(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) return;
    if (fd < 0) die("accept4");
    set_no_delay(fd);
    struct conn *c = allocate(sizeof *c);
    c->fd = fd;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void serve(struct conn *listener)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c == listener)
                accept_one(c->fd);
            else if (c->output.queued)
                on_writable(c);
            else
                on_readable(c);
        }
        answer_all();
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    struct conn listener = {0};
    ring = neap_ring_open();
    if (argc == 2 && strcmp(argv[1], "--check") == 0) return ring == NULL;
    if (argc != 3 || !parse_address(&address, argv[1], argv[2])) {
        fputs("usage: echo_uring IPV4-ADDRESS PORT\n", stderr);
        return 1;
    }
    if (ring == NULL) die("io_uring");
    listener.fd = listen_on(&address);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) die("epoll_create1");
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    announce(&address);
    serve(&listener);
}
