/* echo_epoll: the plain C echo on the bare system calls, with no library between.
 *
 *     echo_epoll 127.0.0.1 7000        (port 0 picks one)
 *
 * As echo_c: one read and one write for a message, one 16 KiB buffer for all connections, what a
 * write does not take is copied and reading stops until it is gone. */
#define _GNU_SOURCE /* accept4 */
#include <sys/epoll.h>

#include "server.h"

enum { BUFFER_BYTES = 16 * 1024, EVENTS = 256 };

struct conn {
    int fd;
    struct output output;
};

static char buffer[BUFFER_BYTES];
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

/* Each returns -1 if c is done: end, error, or nobody to answer. */
static int on_readable(struct conn *c)
{
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) return -1;
    int written = output_write(&c->output, c->fd, buffer, (size_t)n);
    if (written == 0) watch(c, EPOLL_CTL_MOD, EPOLLOUT);
    return written;
}

static int on_writable(struct conn *c)
{
    int written = output_flush(&c->output, c->fd);
    if (written > 0) watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return written;
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
            if (c == listener) {
                accept_one(c->fd);
                continue;
            }
            if ((c->output.queued ? on_writable(c) : on_readable(c)) < 0) conn_destroy(c);
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    struct conn listener = {0};
    if (argc != 3 || !parse_address(&address, argv[1], argv[2])) {
        fputs("usage: echo_epoll IPV4-ADDRESS PORT\n", stderr);
        return 1;
    }
    listener.fd = listen_on(&address);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) die("epoll_create1");
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    announce(&address);
    serve(&listener);
}
