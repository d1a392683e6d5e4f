/* server: what the plain C servers that neap is compared with have in common.
 *
 * They are as fast as a readable server gets: epoll by libev, one read and one write a
 * message. What a write does not take is copied and queued, and reading stops until it is
 * gone, so memory has a limit. Each program includes this once. One thread.
 *
 *     static void on_connection(struct ev_loop *loop, int fd) { … }
 *     int main(…) { …; server_run(&address, on_connection); } */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 511 };

/* Bytes that wait until the peer takes more. */
struct output {
    char *queued; /* owned; NULL when nothing waits */
    size_t queued_bytes, queued_sent;
};

/* Takes fd, which does not block. */
typedef void on_connection_fn(struct ev_loop *loop, int fd);

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static inline void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL) die("calloc");
    return memory;
}

/* Returns the number of bytes taken, 0 if the kernel takes none now, -1 if the
 * connection is broken. */
static inline ssize_t write_some(int fd, const char *bytes, size_t n)
{
    ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    return sent;
}

/* own: borrows bytes. Nothing is queued before. */
static inline void output_queue(struct output *o, const char *bytes, size_t n)
{
    o->queued_bytes = n;
    o->queued_sent = 0;
    o->queued = allocate(n);
    memcpy(o->queued, bytes, n);
}

/* Returns 1 if all n bytes left, 0 if the rest was copied and queued, -1 if the connection is
 * broken. Nothing is queued before. */
static inline int output_write(struct output *o, int fd, const char *bytes, size_t n)
{
    ssize_t sent = write_some(fd, bytes, n);
    if (sent < 0) return -1;
    if ((size_t)sent == n) return 1;
    output_queue(o, bytes + sent, n - (size_t)sent);
    return 0;
}

/* The same for what is queued. */
static inline int output_flush(struct output *o, int fd)
{
    ssize_t sent = write_some(fd, o->queued + o->queued_sent, o->queued_bytes - o->queued_sent);
    if (sent < 0) return -1;
    o->queued_sent += (size_t)sent;
    if (o->queued_sent < o->queued_bytes) return 0;
    free(o->queued);
    o->queued = NULL;
    return 1;
}

/* No effect that shows on loopback, but neap sets it, so all do. */
static inline void set_no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline void on_acceptable(struct ev_loop *loop, ev_io *watcher, int events)
{
    on_connection_fn *on_connection = (on_connection_fn *)watcher->data;
    (void)events;
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) return;
    if (fd < 0) die("accept4");
    set_no_delay(fd);
    on_connection(loop, fd);
}

/* Returns the listening socket; the address it got is in *address. */
static int listen_on(struct sockaddr_in *address)
{
    int on = 1;
    socklen_t bytes = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) die("socket");
    if (bind(fd, (struct sockaddr *)address, bytes) != 0) die("bind");
    if (listen(fd, BACKLOG) != 0) die("listen");
    if (getsockname(fd, (struct sockaddr *)address, &bytes) != 0) die("getsockname");
    return fd;
}

/* Returns whether both texts are an IPv4 address and a port. */
static bool parse_address(struct sockaddr_in *address, const char *host, const char *port)
{
    unsigned short number;
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    if (sscanf(port, "%hu", &number) != 1) return false;
    address->sin_port = htons(number);
    return inet_pton(AF_INET, host, &address->sin_addr) == 1;
}

static void announce(const struct sockaddr_in *address)
{
    char host[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address->sin_addr, host, sizeof host);
    printf("listening on tcp://%s:%d\n", host, ntohs(address->sin_port));
    fflush(stdout);
}

/* Says where it listens, and serves until a signal ends the process. */
static inline void server_run(struct sockaddr_in *address, on_connection_fn *on_connection)
{
    struct ev_loop *loop = ev_default_loop(EVBACKEND_EPOLL);
    ev_io listener;
    if (loop == NULL) {
        fputs("libev has no epoll here\n", stderr);
        exit(1);
    }
    ev_io_init(&listener, on_acceptable, listen_on(address), EV_READ);
    listener.data = (void *)on_connection;
    ev_io_start(loop, &listener);
    announce(address);
    ev_run(loop, 0);
}

#endif
