/* conversation: what the load generator says on a connection, and what it must hear.
 *
 * With an echo that is what was said, byte for byte (pattern.h); with a server of HTTP an answer to
 * each request (answers.h). Anything else ends the program with a line that says where. Included
 * once. One thread. */
#ifndef BENCH_CONVERSATION_H
#define BENCH_CONVERSATION_H

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "answers.h"
#include "pattern.h"

enum { NAME_MAX_BYTES = 64 };

struct options {
    int connections; /* for each target */
    struct message message;
    struct expected expected; /* of HTTP */
    int pipeline;             /* messages that a connection sends at once */
    int turns;
    int turn_ms;
    int messages; /* after which a turn ends; 0: only the time does that */
    int rate;     /* messages a second that are begun; 0: when the last ones are back */
    int stall_s;  /* without progress, after which the run ends */
    bool has_beside;
    clockid_t beside_clock;
};

struct conn {
    int fd;
    int index;
    bool wants_out;       /* EPOLLOUT is on: the kernel did not take all up to goal */
    uint64_t goal;        /* offset up to which bytes are to be sent, whole messages */
    uint64_t sent;        /* offset up to which the kernel took them */
    uint64_t received;    /* bytes that came back */
    uint64_t begun;       /* messages */
    uint64_t answered;    /* of these */
    uint64_t progress_ns; /* when the last byte came, or when waiting began */
    uint64_t started_ns;  /* when the messages that wait began; of a closed loop */
    uint64_t turn_first;  /* the number of the turn's first message */
    struct listener listener;
};

struct target {
    char name[NAME_MAX_BYTES];
    struct sockaddr_storage address;
    socklen_t address_bytes;
    bool has_clock;
    clockid_t cpu_clock; /* of the server's process, if a PID was given */
    int epoll_fd;
    struct conn *conns;
    struct known_head known;
};

/* ro after parsing */
static struct options options = {.connections = 64,
                                 .message = {.size_bytes = 64},
                                 .pipeline = 1,
                                 .turns = 100,
                                 .turn_ms = 250,
                                 .stall_s = 5};
static unsigned char arrived[CHUNK_BYTES];

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

__attribute__((noreturn)) static void die_at(const struct target *t, const struct conn *c,
                                             uint64_t offset, const char *what)
{
    die("%s: connection %d: offset %llu: %s", t->name, c->index, (unsigned long long)offset, what);
}

static void want_out(struct target *t, struct conn *c, bool on)
{
    if (c->wants_out == on) return;
    struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
    c->wants_out = on;
}

/* Send towards the goal until it is reached or the kernel takes no more. */
static void conn_send(struct target *t, struct conn *c)
{
    while (c->sent < c->goal) {
        uint64_t left = c->goal - c->sent;
        size_t chunk = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        ssize_t n =
            send(c->fd, bytes_at(&options.message, c->index, c->sent, chunk), chunk, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) die_at(t, c, c->sent, strerror(errno));
        c->sent += (uint64_t)n;
    }
    want_out(t, c, c->sent < c->goal);
}

/* Begin messages; together they leave in one send where they fit. */
static void conn_begin(struct target *t, struct conn *c, uint64_t count, uint64_t now)
{
    if (c->answered == c->begun) c->progress_ns = now;
    c->started_ns = now;
    c->begun += count;
    c->goal += count * message_bytes(&options.message);
    conn_send(t, c);
}

/* Returns how many messages are complete by the n bytes that came. */
static uint64_t conn_verify_echo(const struct target *t, const struct conn *c, size_t n)
{
    uint64_t size = message_bytes(&options.message);
    size_t i = 0;
    char what[64];
    if (c->received + n > c->sent) die_at(t, c, c->sent, "more bytes came back than were sent");
    const unsigned char *expected = bytes_at(&options.message, c->index, c->received, n);
    if (memcmp(arrived, expected, n) == 0) return (c->received + n) / size - c->answered;
    while (arrived[i] == expected[i]) i++;
    snprintf(what, sizeof what, "expected byte 0x%02x, got 0x%02x", expected[i], arrived[i]);
    die_at(t, c, c->received + i, what);
}

static uint64_t conn_verify_http(struct target *t, struct conn *c, size_t n)
{
    uint64_t count = 0;
    const char *wrong =
        answers_take(&options.expected, &t->known, &c->listener, arrived, n, &count);
    if (wrong) die_at(t, c, c->received, wrong);
    if (c->answered == c->begun || c->answered + count > c->begun)
        die_at(t, c, c->received, "more answers came than were asked for");
    return count;
}

/* One recv for each event: a small answer comes whole, and for the rest of a large
 * one epoll reports again. Returns the number of bytes, 0 for none; *count: of messages that are
 * complete by them. */
static size_t conn_receive(struct target *t, struct conn *c, uint64_t *count)
{
    ssize_t n = recv(c->fd, arrived, sizeof arrived, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n < 0) die_at(t, c, c->received, strerror(errno));
    if (n == 0) die_at(t, c, c->received, "closed by the server");
    *count = options.message.request ? conn_verify_http(t, c, (size_t)n)
                                     : conn_verify_echo(t, c, (size_t)n);
    return (size_t)n;
}

#endif
