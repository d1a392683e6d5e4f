/* http_c: a plain C server of HTTP on libev that neap is compared with.
 *
 *     http_c 127.0.0.1 8080        (port 0 picks one)
 *
 * It parses nothing: it looks for the blank line that ends a head, and answers each with the same
 * bytes; what came at once is answered in one write. A head is at most 16 KiB. Memory: at most
 * 32 KiB for each connection that has half a head or does not read. */
#define _GNU_SOURCE /* accept4, memmem */
#include "answering.h"

enum { BUFFER_BYTES = 16 * 1024 };

static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Date: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
                             "Content-Type: text/plain; charset=utf-8\r\n"
                             "Content-Length: 6\r\n\r\n"
                             "hello\n";
enum { ANSWER_BYTES = sizeof answer - 1, SHORTEST_HEAD = 18 };

struct http_conn {
    struct conn conn; /* first */
    char *half;       /* the beginning of a head, NULL: none */
    size_t half_bytes;
};

static char buffer[2 * BUFFER_BYTES];
static char answers[(2 * BUFFER_BYTES / SHORTEST_HEAD + 1) * ANSWER_BYTES];

static void conn_destroy(struct ev_loop *loop, struct conn *c)
{
    conn_end(loop, c);
    free(((struct http_conn *)c)->half);
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

static ssize_t receive(struct http_conn *c, int fd)
{
    size_t before = c->half_bytes;
    if (before) memcpy(buffer, c->half, before);
    free(c->half);
    c->half = NULL;
    c->half_bytes = 0;
    ssize_t n = recv(fd, buffer + before, BUFFER_BYTES, 0);
    return n > 0 ? n + (ssize_t)before : n;
}

static void keep_half(struct http_conn *c, size_t n, size_t left)
{
    if (!left) return;
    c->half = allocate(left);
    c->half_bytes = left;
    memcpy(c->half, buffer + n - left, left);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct http_conn *c = watcher->data;
    size_t left = 0;
    (void)events;
    ssize_t n = receive(c, watcher->fd);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    size_t bytes = n > 0 ? answer_all((size_t)n, &left) : 0;
    int written = n > 0 && left < BUFFER_BYTES ? 1 : -1; /* -1: the head is too long */
    if (written > 0 && bytes) written = output_write(&c->conn.output, watcher->fd, answers, bytes);
    if (written >= 0) keep_half(c, (size_t)n, left);
    conn_wrote(loop, &c->conn, written);
}

static void on_connection(struct ev_loop *loop, int fd)
{
    conn_begin(loop, allocate(sizeof(struct http_conn)), fd, on_readable);
}

int main(int argc, char **argv)
{
    return answering_main(argc, argv, "http_c", on_connection);
}
