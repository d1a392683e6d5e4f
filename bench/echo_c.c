/* echo_c: the plain C echo on libev that neap is compared with.
 *
 *     echo_c 127.0.0.1 7000        (port 0 picks one)
 *
 * One read and one write for a message, one 16 KiB buffer for all connections. Memory: at most
 * 16 KiB for each connection whose peer does not read. */
#define _GNU_SOURCE /* accept4 */
#include "server.h"

enum { BUFFER_BYTES = 16 * 1024 };

struct conn {
    ev_io reader; /* runs while nothing is queued */
    ev_io writer; /* runs while something is */
    struct output output;
};

static char buffer[BUFFER_BYTES];

static void conn_destroy(struct ev_loop *loop, struct conn *c)
{
    ev_io_stop(loop, &c->reader);
    ev_io_stop(loop, &c->writer);
    close(c->reader.fd);
    free(c->output.queued);
    free(c);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *c = watcher->data;
    (void)events;
    ssize_t n = recv(watcher->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    int written = n > 0 ? output_write(&c->output, watcher->fd, buffer, (size_t)n) : -1;
    if (written < 0) {
        conn_destroy(loop, c); /* c is gone: end, error, or nobody to answer */
    } else if (written == 0) {
        ev_io_stop(loop, &c->reader);
        ev_io_start(loop, &c->writer);
    }
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *c = watcher->data;
    (void)events;
    int written = output_flush(&c->output, watcher->fd);
    if (written < 0) {
        conn_destroy(loop, c);
    } else if (written > 0) {
        ev_io_stop(loop, &c->writer);
        ev_io_start(loop, &c->reader);
    }
}

static void on_connection(struct ev_loop *loop, int fd)
{
    struct conn *c = allocate(sizeof *c);
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    ev_io_init(&c->writer, on_writable, fd, EV_WRITE);
    c->reader.data = c->writer.data = c;
    ev_io_start(loop, &c->reader);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    if (argc != 3 || !parse_address(&address, argv[1], argv[2])) {
        fputs("usage: echo_c IPV4-ADDRESS PORT\n", stderr);
        return 1;
    }
    server_run(&address, on_connection);
    return 0;
}
