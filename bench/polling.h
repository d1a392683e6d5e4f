/* polling: what the plain C echos on bare epoll have in common: a connection that is not read while
 * an answer waits, with no library between. A program says how a connection is answered:
 *
 *     static void on_readable(struct conn *c) { … conn_read(c, buffer) … }
 *     static void on_turn_end(void) { … }
 *     int main(int argc, char **argv) { return polling_main(argc, argv, "echo_epoll"); }
 *
 * The including file defines _GNU_SOURCE, for accept4. */
#ifndef BENCH_POLLING_H
#define BENCH_POLLING_H

#include <sys/epoll.h>

#include "server.h"

enum { BUFFER_BYTES = 16 * 1024, EVENTS = 256 };

struct conn {
    int fd;
    struct output output;
};

static int poller;

/* c may be gone after this. */
static void on_readable(struct conn *c);

/* The events of one look have been handled. */
static void on_turn_end(void);

static inline void watch(struct conn *c, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) != 0) die("epoll_ctl");
}

static inline void conn_destroy(struct conn *c)
{
    close(c->fd);
    free(c->output.queued);
    free(c);
}

/* Up to BUFFER_BYTES of what is there; 0: nothing, and c is gone if that was the end. */
static inline size_t conn_read(struct conn *c, char *buffer)
{
    ssize_t n = recv(c->fd, buffer, BUFFER_BYTES, 0);
    if (n > 0) return (size_t)n;
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) conn_destroy(c);
    return 0;
}

static inline void on_writable(struct conn *c)
{
    int written = output_flush(&c->output, c->fd);
    if (written < 0)
        conn_destroy(c);
    else if (written > 0)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static inline void accept_one(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) return;
    if (fd < 0) die("accept4");
    set_no_delay(fd);
    struct conn *c = allocate(sizeof *c);
    c->fd = fd;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static inline void serve(struct conn *listener)
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
        on_turn_end();
    }
}

static inline int polling_main(int argc, char **argv, const char *name)
{
    struct sockaddr_in address;
    struct conn listener = {0};
    if (argc != 3 || !parse_address(&address, argv[1], argv[2])) {
        fprintf(stderr, "usage: %s IPV4-ADDRESS PORT\n", name);
        return 1;
    }
    listener.fd = listen_on(&address);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) die("epoll_create1");
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    announce(&address);
    serve(&listener);
    return 0;
}

#endif
