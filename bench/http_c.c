/* http_c: a plain C server of HTTP on libev that neap is compared with.
 *
 *     http_c 127.0.0.1 8080        (port 0 picks one)
 *
 * It parses nothing: it looks for the blank line that ends a head, and answers each with the same
 * bytes; what came at once is answered in one write. A head is at most 16 KiB. Memory: at most
 * 32 KiB for each connection that has half a head or does not read. */
#define _GNU_SOURCE /* accept4, memmem */
#include "server.h"

enum { BUFFER_BYTES = 16 * 1024 };

static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Date: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
                             "Content-Type: text/plain; charset=utf-8\r\n"
                             "Content-Length: 6\r\n\r\n"
                             "hello\n";
enum { ANSWER_BYTES = sizeof answer - 1, SHORTEST_HEAD = 18 };

struct conn {
    ev_io reader; /* runs while nothing is queued */
    ev_io writer; /* runs while something is */
    struct output output;
    char *half; /* the beginning of a head, NULL: none */
    size_t half_bytes;
};

static char buffer[2 * BUFFER_BYTES];
static char answers[(2 * BUFFER_BYTES / SHORTEST_HEAD + 1) * ANSWER_BYTES];

static void conn_destroy(struct ev_loop *loop, struct conn *c)
{
    ev_io_stop(loop, &c->reader);
    ev_io_stop(loop, &c->writer);
    close(c->reader.fd);
    free(c->output.queued);
    free(c->half);
    free(c);
}

/* Returns the bytes of the answers; *left: bytes of the head that is not all there. */
static size_t answer_all(size_t n, size_t *left)
{
    const char *at = buffer, *end = buffer + n, *blank;
    size_t bytes = 0;
    while ((blank = memmem(at, (size_t)(end - at), "\r\n\r\n", 4))) {
        at = blank + 4;
        if (bytes + ANSWER_BYTES > sizeof answers) break;
        memcpy(answers + bytes, answer, ANSWER_BYTES);
        bytes += ANSWER_BYTES;
    }
    *left = (size_t)(end - at);
    return bytes;
}

static ssize_t receive(struct conn *c, int fd)
{
    size_t before = c->half_bytes;
    if (before) memcpy(buffer, c->half, before);
    free(c->half);
    c->half = NULL;
    c->half_bytes = 0;
    ssize_t n = recv(fd, buffer + before, BUFFER_BYTES, 0);
    return n > 0 ? n + (ssize_t)before : n;
}

static void keep_half(struct conn *c, size_t n, size_t left)
{
    if (!left) return;
    c->half = allocate(left);
    c->half_bytes = left;
    memcpy(c->half, buffer + n - left, left);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *c = watcher->data;
    size_t left = 0;
    (void)events;
    ssize_t n = receive(c, watcher->fd);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    size_t bytes = n > 0 ? answer_all((size_t)n, &left) : 0;
    int written = n > 0 && left < BUFFER_BYTES ? 1 : -1;
    if (written > 0 && bytes) written = output_write(&c->output, watcher->fd, answers, bytes);
    if (written < 0) {
        conn_destroy(loop, c); /* c is gone: end, error, a head too long, or nobody to answer */
        return;
    }
    keep_half(c, (size_t)n, left);
    if (written == 0) {
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
        fputs("usage: http_c IPV4-ADDRESS PORT\n", stderr);
        return 1;
    }
    server_run(&address, on_connection);
    return 0;
}
