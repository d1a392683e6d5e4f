/* echo_c: the plain C echo on libev that neap is compared with.
 *
 *     echo_c 127.0.0.1 7000        (port 0 picks one)
 *
 * One read and one write for a message, one 16 KiB buffer for all connections. Memory: at most
 * 16 KiB for each connection whose peer does not read. */
#define _GNU_SOURCE /* accept4 */
#include "answering.h"

enum { BUFFER_BYTES = 16 * 1024 };

static char buffer[BUFFER_BYTES];

static void conn_destroy(struct ev_loop *loop, struct conn *c)
{
    conn_end(loop, c);
    free(c);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *c = watcher->data;
    (void)events;
    ssize_t n = recv(watcher->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    conn_wrote(loop, c, n > 0 ? output_write(&c->output, watcher->fd, buffer, (size_t)n) : -1);
}

static void on_connection(struct ev_loop *loop, int fd)
{
    conn_begin(loop, allocate(sizeof(struct conn)), fd, on_readable);
}

int main(int argc, char **argv)
{
    return answering_main(argc, argv, "echo_c", on_connection);
}
