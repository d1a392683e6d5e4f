/* frames_c: frames echoed, in plain C on libev; the protocol of examples/frames.lua, type 1.
 *
 *     frames_c 127.0.0.1 7001      (port 0 picks one)
 *
 * A frame is length u32be (of the payload, 64 KiB at most), type u16be, id u16be, payload. An
 * echo's answer is the frame itself, so what came is sent from where it lies: one read, a look
 * at the header of each whole frame in the buffer, one write for all of them. What is left of
 * a frame moves to the front. Memory: 64 KiB for each connection, and twice that for one whose
 * peer does not read. Any other type ends the connection. */
#define _GNU_SOURCE /* accept4 */
#include <stdint.h>

#include "server.h"

enum { HEADER_BYTES = 8, PAYLOAD_MAX_BYTES = 64 * 1024, TYPE_ECHO = 1 };

struct conn {
    ev_io reader; /* runs while nothing is queued */
    ev_io writer; /* runs while something is */
    struct output output;
    size_t filled_bytes;
    unsigned char buffer[HEADER_BYTES + PAYLOAD_MAX_BYTES];
};

static void conn_destroy(struct ev_loop *loop, struct conn *c)
{
    ev_io_stop(loop, &c->reader);
    ev_io_stop(loop, &c->writer);
    close(c->reader.fd);
    free(c->output.queued);
    free(c);
}

static uint32_t u32be(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t u16be(const unsigned char *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

/* Returns the bytes of all whole frames in front, or -1: one of them is wrong. */
static ssize_t whole_frames(const unsigned char *bytes, size_t n)
{
    size_t done = 0;
    while (n - done >= HEADER_BYTES) {
        uint32_t payload = u32be(bytes + done);
        if (payload > PAYLOAD_MAX_BYTES || u16be(bytes + done + 4) != TYPE_ECHO) return -1;
        if (n - done < HEADER_BYTES + payload) break;
        done += HEADER_BYTES + payload;
    }
    return (ssize_t)done;
}

/* Answers what is whole. Returns as output_write does; 1 if nothing is. */
static int answer(struct conn *c)
{
    ssize_t done = whole_frames(c->buffer, c->filled_bytes);
    if (done <= 0) return done < 0 ? -1 : 1;
    int written = output_write(&c->output, c->reader.fd, (char *)c->buffer, (size_t)done);
    c->filled_bytes -= (size_t)done;
    memmove(c->buffer, c->buffer + done, c->filled_bytes);
    return written;
}

/* A frame fits the buffer, so there is always room for more of one that is not whole. */
static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct conn *c = watcher->data;
    (void)events;
    ssize_t n =
        recv(watcher->fd, c->buffer + c->filled_bytes, sizeof c->buffer - c->filled_bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) c->filled_bytes += (size_t)n;
    int written = n > 0 ? answer(c) : -1;
    if (written < 0) {
        conn_destroy(loop, c); /* c is gone: end, error, a wrong frame, or nobody to answer */
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
        fputs("usage: frames_c IPV4-ADDRESS PORT\n", stderr);
        return 1;
    }
    server_run(&address, on_connection);
    return 0;
}
