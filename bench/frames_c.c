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

#include "answering.h"

enum { HEADER_BYTES = 8, PAYLOAD_MAX_BYTES = 64 * 1024, TYPE_ECHO = 1 };

struct frames_conn {
    struct conn conn; /* first */
    size_t filled_bytes;
    unsigned char buffer[HEADER_BYTES + PAYLOAD_MAX_BYTES];
};

static void conn_destroy(struct ev_loop *loop, struct conn *c)
{
    conn_end(loop, c);
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
static int answer(struct frames_conn *c)
{
    ssize_t done = whole_frames(c->buffer, c->filled_bytes);
    if (done <= 0) return done < 0 ? -1 : 1;
    int written = output_write(&c->conn.output, c->conn.reader.fd, (char *)c->buffer, (size_t)done);
    c->filled_bytes -= (size_t)done;
    memmove(c->buffer, c->buffer + done, c->filled_bytes);
    return written;
}

/* A frame fits the buffer, so there is always room for more of one that is not whole. */
static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    struct frames_conn *c = watcher->data;
    (void)events;
    ssize_t n =
        recv(watcher->fd, c->buffer + c->filled_bytes, sizeof c->buffer - c->filled_bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n > 0) c->filled_bytes += (size_t)n;
    conn_wrote(loop, &c->conn, n > 0 ? answer(c) : -1);
}

static void on_connection(struct ev_loop *loop, int fd)
{
    conn_begin(loop, allocate(sizeof(struct frames_conn)), fd, on_readable);
}

int main(int argc, char **argv)
{
    return answering_main(argc, argv, "frames_c", on_connection);
}
