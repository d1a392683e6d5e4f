/* pattern: the bytes that the load generator sends and expects back.
 *
 * Each connection sends its own stretch of a pattern that depends on the position, so a byte that
 * is wrong, missing, swapped or another connection's shows. With `frames` a message is that
 * stretch behind a header: its bytes u32be, type 1 u16be, its number u16be (the protocol of
 * examples/frames.lua). A request of HTTP is the same for all, over and over: there the answer tells
 * whose it is. Included once. One thread.
 *
 *     pattern_fill(&message);
 *     send(fd, bytes_at(&message, index, offset, n), n, 0); */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    FRAME_HEADER_BYTES = 8,
    FRAME_ECHO = 1,
    CHUNK_BYTES = 64 * 1024,  /* the most that one send or one recv moves */
    PATTERN_PERIOD = 65521,   /* prime, so that no power of two hides a shift */
    CONNECTION_STRIDE = 7919, /* neighbours start elsewhere in the pattern */
    REQUEST_MAX_BYTES = 4096,
};

/* What all messages of a run are like. */
struct message {
    size_t size_bytes; /* without a header */
    bool frames;
    const char *request; /* of HTTP, size_bytes long. NULL: an echo */
};

static unsigned char pattern[PATTERN_PERIOD + CHUNK_BYTES];

/* xorshift64: the same sequence in every run, so that a failure can be repeated. */
static inline uint64_t random_next(void)
{
    static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* The pattern is followed by its own beginning, so that any stretch of
 * CHUNK_BYTES can be sent from it, and compared with it, in one piece. */
static inline void pattern_fill(const struct message *m)
{
    if (m->request) memcpy(pattern, m->request, m->size_bytes);
    size_t period = m->request ? m->size_bytes : PATTERN_PERIOD;
    for (size_t i = m->request ? period : 0; i < sizeof pattern; i++)
        pattern[i] = i < period ? (unsigned char)(random_next() >> 32) : pattern[i - period];
}

static inline const unsigned char *pattern_at(int index, uint64_t offset)
{
    uint64_t shift = (uint64_t)index * CONNECTION_STRIDE;
    return pattern + (offset + shift) % PATTERN_PERIOD;
}

/* What a message takes on the way, its header included. */
static inline uint64_t message_bytes(const struct message *m)
{
    return m->size_bytes + (m->frames ? FRAME_HEADER_BYTES : 0);
}

/* The bytes from `skip` on of the frame `number`, at most n. Returns how many. */
static inline size_t compose_frame(const struct message *m, int index, uint64_t number, size_t skip,
                                   unsigned char *to, size_t n)
{
    size_t size = m->size_bytes;
    if (skip < FRAME_HEADER_BYTES) {
        unsigned char header[FRAME_HEADER_BYTES] = {
            (unsigned char)(size >> 24),
            (unsigned char)(size >> 16),
            (unsigned char)(size >> 8),
            (unsigned char)size,
            FRAME_ECHO >> 8,
            FRAME_ECHO,
            (unsigned char)(number >> 8),
            (unsigned char)number,
        };
        size_t part = FRAME_HEADER_BYTES - skip;
        if (part > n) part = n;
        memcpy(to, header + skip, part);
        return part;
    }
    skip -= FRAME_HEADER_BYTES;
    size_t part = size - skip < n ? size - skip : n;
    memcpy(to, pattern_at(index, number * size + skip), part);
    return part;
}

/* The n bytes (CHUNK_BYTES at most) that the connection `index` sends at an offset, and expects.
 * Valid until the next call. */
static inline const unsigned char *bytes_at(const struct message *m, int index, uint64_t offset,
                                            size_t n)
{
    static unsigned char composed[CHUNK_BYTES];
    size_t done = 0;
    if (m->request) return pattern + offset % m->size_bytes;
    if (!m->frames) return pattern_at(index, offset);
    while (done < n) {
        uint64_t at = offset + done;
        done += compose_frame(m, index, at / message_bytes(m), (size_t)(at % message_bytes(m)),
                              composed + done, n - done);
    }
    return composed;
}

#endif
