/* answering: what the plain C servers have in common that answer what they read.
 *
 * A connection is read while nothing waits to be sent, and written while something does. A program
 * has struct conn at the front of its own, if it needs more, and says how that ends:
 *
 *     static void conn_destroy(struct ev_loop *loop, struct conn *c) { conn_end(loop, c); free(c); }
 *     static void on_readable(struct ev_loop *loop, ev_io *watcher, int events) { … }
 *     static void on_connection(struct ev_loop *loop, int fd)
 *     {
 *         conn_begin(loop, allocate(sizeof(struct conn)), fd, on_readable);
 *     }
 *     int main(int argc, char **argv) { return answering_main(argc, argv, "echo_c", on_connection); } */
#ifndef BENCH_ANSWERING_H
#define BENCH_ANSWERING_H

#include "server.h"

struct conn {
    ev_io reader; /* runs while nothing is queued */
    ev_io writer; /* runs while something is */
    struct output output;
};

typedef void on_readable_fn(struct ev_loop *loop, ev_io *watcher, int events);

/* own: takes c. */
static void conn_destroy(struct ev_loop *loop, struct conn *c);

static inline void conn_end(struct ev_loop *loop, struct conn *c)
{
    ev_io_stop(loop, &c->reader);
    ev_io_stop(loop, &c->writer);
    close(c->reader.fd);
    free(c->output.queued);
}

/* written: what output_write or output_flush returned. own: takes c if that is -1. */
static inline void conn_wrote(struct ev_loop *loop, struct conn *c, int written)
{
    if (written < 0) {
        conn_destroy(loop, c); /* c is gone: the end, an error, or nobody to answer */
    } else if (written == 0) {
        ev_io_stop(loop, &c->reader);
        ev_io_start(loop, &c->writer);
    }
}

static inline void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
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

static inline void conn_begin(struct ev_loop *loop, struct conn *c, int fd,
                              on_readable_fn *on_readable)
{
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    ev_io_init(&c->writer, on_writable, fd, EV_WRITE);
    c->reader.data = c->writer.data = c;
    ev_io_start(loop, &c->reader);
}

static inline int answering_main(int argc, char **argv, const char *name,
                                 on_connection_fn *on_connection)
{
    struct sockaddr_in address;
    if (argc != 3 || !parse_address(&address, argv[1], argv[2])) {
        fprintf(stderr, "usage: %s IPV4-ADDRESS PORT\n", name);
        return 1;
    }
    server_run(&address, on_connection);
    return 0;
}

#endif
