/* files_c: a plain C server of one file over HTTP, on libev, that neap is compared with.
 *
 *     files_c 127.0.0.1 8080 FILE        (port 0 picks one)
 *
 * Whatever is asked for, the answer is the file: its head by one send, the rest by sendfile(2) for
 * as long as the kernel takes it. It looks for the blank line and parses nothing. One request at a
 * time: a connection is not read while it is answered. Memory: 32 bytes beside libev's for each. */
#define _GNU_SOURCE /* accept4, memmem */
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "server.h"

enum { HEAD_BYTES = 16 * 1024, ANSWER_HEAD_BYTES = 256 };

struct conn {
    ev_io reader; /* runs while nothing is sent */
    ev_io writer; /* runs while something is */
    off_t sent;   /* of the file */
};

static int file;
static off_t file_bytes;
static char head[ANSWER_HEAD_BYTES];
static size_t head_bytes;

static void conn_destroy(struct ev_loop *loop, struct conn *c)
{
    ev_io_stop(loop, &c->reader);
    ev_io_stop(loop, &c->writer);
    close(c->reader.fd);
    free(c);
}

/* Returns 1 when all is sent, 0 when the kernel takes no more now, -1 when the connection broke. */
static int send_file(struct conn *c)
{
    while (c->sent < file_bytes) {
        ssize_t n = sendfile(c->reader.fd, file, &c->sent, (size_t)(file_bytes - c->sent));
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) return -1;
    }
    return 1;
}

/* own: takes c when its connection broke. */
static void conn_send(struct ev_loop *loop, struct conn *c)
{
    int sent = send_file(c);
    if (sent < 0) {
        conn_destroy(loop, c);
    } else if (sent == 0) {
        ev_io_stop(loop, &c->reader);
        ev_io_start(loop, &c->writer);
    } else {
        ev_io_stop(loop, &c->writer);
        ev_io_start(loop, &c->reader);
    }
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    static char buffer[HEAD_BYTES];
    struct conn *c = watcher->data;
    (void)events;
    ssize_t n = recv(watcher->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    bool whole = n >= 4 && memmem(buffer, (size_t)n, "\r\n\r\n", 4) == buffer + n - 4;
    if (!whole || send(watcher->fd, head, head_bytes, MSG_NOSIGNAL | MSG_MORE) < 0) {
        conn_destroy(loop, c);
        return;
    }
    c->sent = 0;
    conn_send(loop, c);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    conn_send(loop, watcher->data);
}

static void on_connection(struct ev_loop *loop, int fd)
{
    struct conn *c = allocate(sizeof *c);
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    ev_io_init(&c->writer, on_writable, fd, EV_WRITE);
    c->reader.data = c->writer.data = c;
    ev_io_start(loop, &c->reader);
}

static void open_file(const char *path)
{
    struct stat about;
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &about) != 0) die(path);
    file_bytes = about.st_size;
    head_bytes = (size_t)snprintf(head, sizeof head,
                                  "HTTP/1.1 200 OK\r\n"
                                  "Date: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
                                  "Content-Type: application/octet-stream\r\n"
                                  "Content-Length: %lld\r\n\r\n",
                                  (long long)file_bytes);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    if (argc != 4 || !parse_address(&address, argv[1], argv[2])) {
        fputs("usage: files_c IPV4-ADDRESS PORT FILE\n", stderr);
        return 1;
    }
    open_file(argv[3]);
    server_run(&address, on_connection);
    return 0;
}
