/* relay_c: a TCP relay in plain C on libev, beside examples/proxy.lua.
 *
 *     relay_c 127.0.0.1 7003 127.0.0.1 7000      (listen there, relay to here)
 *
 * One read and one write for a message, one 16 KiB buffer for all. The end of one direction is
 * passed on, and the other one goes on; an error ends both. Memory: at most 16 KiB for each
 * direction whose receiver does not read. */
#define _GNU_SOURCE /* accept4 */
#include "server.h"

enum { BUFFER_BYTES = 16 * 1024 };

struct direction {
    struct pair *pair;
    ev_io reader; /* of where it comes from; runs while nothing is queued */
    ev_io writer; /* of where it goes; runs while something is, or while connecting */
    struct output output;
    bool ended;
};

struct pair {
    struct direction there, back;
};

static char buffer[BUFFER_BYTES];
static struct sockaddr_in target; /* ro after parsing */

static void direction_stop(struct ev_loop *loop, struct direction *d)
{
    ev_io_stop(loop, &d->reader);
    ev_io_stop(loop, &d->writer);
    free(d->output.queued);
}

static void pair_destroy(struct ev_loop *loop, struct pair *p)
{
    direction_stop(loop, &p->there);
    direction_stop(loop, &p->back);
    close(p->there.reader.fd);
    close(p->back.reader.fd);
    free(p);
}

/* Reading stops before anything is queued, so nothing is: the end can be passed on at once. */
static void direction_end(struct ev_loop *loop, struct direction *d)
{
    d->ended = true;
    ev_io_stop(loop, &d->reader);
    if (d->pair->there.ended && d->pair->back.ended)
        pair_destroy(loop, d->pair); /* d is gone */
    else
        shutdown(d->writer.fd, SHUT_WR);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct direction *d = watcher->data;
    (void)events;
    ssize_t n = recv(watcher->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n == 0) {
        direction_end(loop, d);
        return;
    }
    int written = n > 0 ? output_write(&d->output, d->writer.fd, buffer, (size_t)n) : -1;
    if (written < 0) {
        pair_destroy(loop, d->pair); /* d is gone */
    } else if (written == 0) {
        ev_io_stop(loop, &d->reader);
        ev_io_start(loop, &d->writer);
    }
}

/* With nothing queued it is the connection that stands now, or an error that reading meets. */
static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct direction *d = watcher->data;
    (void)events;
    int written = d->output.queued ? output_flush(&d->output, watcher->fd) : 1;
    if (written < 0) {
        pair_destroy(loop, d->pair); /* d is gone */
    } else if (written > 0) {
        ev_io_stop(loop, &d->writer);
        ev_io_start(loop, &d->reader);
    }
}

static void direction_init(struct pair *p, struct direction *d, int from, int to)
{
    d->pair = p;
    ev_io_init(&d->reader, on_readable, from, EV_READ);
    ev_io_init(&d->writer, on_writable, to, EV_WRITE);
    d->reader.data = d->writer.data = d;
}

static int connect_to_target(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    set_no_delay(fd);
    if (connect(fd, (struct sockaddr *)&target, sizeof target) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static void on_connection(struct ev_loop *loop, int client)
{
    int server = connect_to_target();
    if (server < 0) {
        close(client);
        return;
    }
    struct pair *p = allocate(sizeof *p);
    direction_init(p, &p->there, client, server);
    direction_init(p, &p->back, server, client);
    ev_io_start(loop, &p->there.writer);
    ev_io_start(loop, &p->back.reader);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    if (argc != 5 || !parse_address(&address, argv[1], argv[2]) ||
        !parse_address(&target, argv[3], argv[4])) {
        fputs("usage: relay_c IPV4-ADDRESS PORT TARGET-ADDRESS TARGET-PORT\n", stderr);
        return 1;
    }
    server_run(&address, on_connection);
    return 0;
}
