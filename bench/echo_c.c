/* echo_c: the plain C echo on libev that neap is compared with.
 *
 *     echo_c 127.0.0.1 7000        (port 0 picks one)
 *
 * As fast as a readable server gets: one read and one write for a message, one
 * 16 KiB buffer for all connections. What a write does not take is copied and
 * queued, and reading stops until it is gone, so memory has a limit: 16 KiB for
 * each connection whose peer does not read. */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 16 * 1024, BACKLOG = 511 };

struct conn {
    ev_io reader; /* runs while nothing is queued */
    ev_io writer; /* runs while something is */
    char *queued; /* owned; NULL when nothing waits */
    size_t queued_bytes, queued_sent;
};

static char buffer[BUFFER_BYTES];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void conn_destroy(struct ev_loop *loop, struct conn *c)
{
    ev_io_stop(loop, &c->reader);
    ev_io_stop(loop, &c->writer);
    close(c->reader.fd);
    free(c->queued);
    free(c);
}

/* Returns the number of bytes taken, 0 if the kernel takes none now, -1 if the
 * connection is broken. */
static ssize_t write_some(int fd, const char *bytes, size_t n)
{
    ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    return sent;
}

static void queue_rest(struct ev_loop *loop, struct conn *c, const char *rest, size_t n)
{
    c->queued = malloc(n);
    if (c->queued == NULL) die("malloc");
    memcpy(c->queued, rest, n);
    c->queued_bytes = n;
    c->queued_sent = 0;
    ev_io_stop(loop, &c->reader);
    ev_io_start(loop, &c->writer);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *c = watcher->data;
    (void)events;
    ssize_t n = recv(watcher->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    ssize_t sent = n > 0 ? write_some(watcher->fd, buffer, (size_t)n) : -1;
    if (sent < 0)
        conn_destroy(loop, c); /* c is gone: end, error, or nobody to answer */
    else if (sent < n)
        queue_rest(loop, c, buffer + sent, (size_t)(n - sent));
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *c = watcher->data;
    (void)events;
    ssize_t sent =
        write_some(watcher->fd, c->queued + c->queued_sent, c->queued_bytes - c->queued_sent);
    if (sent < 0) {
        conn_destroy(loop, c);
        return;
    }
    c->queued_sent += (size_t)sent;
    if (c->queued_sent < c->queued_bytes) return;
    free(c->queued);
    c->queued = NULL;
    ev_io_stop(loop, &c->writer);
    ev_io_start(loop, &c->reader);
}

static void on_connection(struct ev_loop *loop, ev_io *watcher, int events)
{
    int on = 1;
    (void)events;
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) return;
    if (fd < 0) die("accept4");
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) die("calloc");
    /* No effect that shows on loopback, but neap sets it, so both do. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    ev_io_init(&c->writer, on_writable, fd, EV_WRITE);
    c->reader.data = c->writer.data = c;
    ev_io_start(loop, &c->reader);
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

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct ev_loop *loop = ev_default_loop(EVBACKEND_EPOLL);
    ev_io listener;
    unsigned short port;
    if (argc != 3 || sscanf(argv[2], "%hu", &port) != 1 ||
        inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) {
        fputs("usage: echo_c IPV4-ADDRESS PORT\n", stderr);
        return 1;
    }
    if (loop == NULL) {
        fputs("echo_c: libev has no epoll here\n", stderr);
        return 1;
    }
    address.sin_port = htons(port);
    ev_io_init(&listener, on_connection, listen_on(&address), EV_READ);
    ev_io_start(loop, &listener);
    printf("listening on tcp://%s:%d\n", argv[1], ntohs(address.sin_port));
    fflush(stdout);
    ev_run(loop, 0);
    return 0;
}
