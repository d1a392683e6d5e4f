/* answers: what a server of HTTP answers the load generator, checked.
 *
 * All requests of a run are the same, and so is the body that must come back: every byte of it is
 * compared. Of a head the status and the Content-Length are looked at; an answer without one is
 * wrong here. Heads that are the same as the last one of their server, which most are, are looked
 * at no more. Included once. One thread.
 *
 *     const char *wrong = answers_take(&expected, &known, &listener, bytes, n, &count); */
#ifndef BENCH_ANSWERS_H
#define BENCH_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ANSWER_HEAD_BYTES = 4096 };

/* The body that all answers must have. */
struct expected {
    const unsigned char *body;
    size_t body_bytes;
};

/* The last head of a server that was good. */
struct known_head {
    char bytes[ANSWER_HEAD_BYTES];
    size_t size;
};

/* How far the answers on a connection are. */
struct listener {
    unsigned char *half; /* owned: the beginning of a head that is not all there. NULL: none */
    size_t half_bytes;
    size_t body_at; /* bytes of the body that are here */
    bool in_body;
};

static inline const char *check_length(const char *head, const char *end, size_t wanted)
{
    static const char name[] = "content-length:";
    for (const char *line = head; line < end; line = memchr(line, '\n', (size_t)(end - line)) + 1) {
        if (strncasecmp(line, name, sizeof name - 1) != 0) continue;
        return strtoull(line + sizeof name - 1, NULL, 10) == wanted ? NULL
                                                                    : "another Content-Length";
    }
    return "no Content-Length";
}

/* Returns what is wrong with a head, or NULL. */
static inline const char *check_head(const struct expected *e, struct known_head *known,
                                     const char *head, size_t size)
{
    if (size > ANSWER_HEAD_BYTES) return "a head that is too long";
    if (strncmp(head, "HTTP/1.1 200 ", 13) != 0) return "no 200 of HTTP/1.1";
    const char *wrong = check_length(head, head + size, e->body_bytes);
    if (wrong) return wrong;
    memcpy(known->bytes, head, size);
    known->size = size;
    return NULL;
}

/* The bytes of the head that begins here. 0: it is not all there. */
static inline size_t head_size(const struct known_head *known, const unsigned char *bytes, size_t n)
{
    if (known->size && n >= known->size && memcmp(bytes, known->bytes, known->size) == 0)
        return known->size;
    const unsigned char *end = memmem(bytes, n, "\r\n\r\n", 4);
    return end ? (size_t)(end - bytes) + 4 : 0;
}

/* Keeps the beginning of a head. */
static inline const char *keep_half(struct listener *l, const unsigned char *bytes, size_t n)
{
    if (n > ANSWER_HEAD_BYTES) return "a head that is too long";
    unsigned char *half = malloc(n);
    if (half == NULL) return "no memory for a head";
    memcpy(half, bytes, n);
    free(l->half);
    l->half = half;
    l->half_bytes = n;
    return NULL;
}

/* Compares some of a body. Returns how many bytes it took, -1 if one is wrong. */
static inline ssize_t take_body(const struct expected *e, struct listener *l,
                                const unsigned char *bytes, size_t n, uint64_t *count)
{
    size_t left = e->body_bytes - l->body_at, part = n < left ? n : left;
    if (memcmp(bytes, e->body + l->body_at, part) != 0) return -1;
    l->body_at += part;
    if (l->body_at < e->body_bytes) return (ssize_t)part;
    l->in_body = false;
    l->body_at = 0;
    ++*count;
    return (ssize_t)part;
}

/* Takes all that is whole of n bytes. Returns what is wrong, or NULL. */
static inline const char *take_whole(const struct expected *e, struct known_head *known,
                                     struct listener *l, const unsigned char *bytes, size_t n,
                                     uint64_t *count)
{
    for (size_t at = 0; at < n || l->in_body;) {
        if (!l->in_body) {
            size_t size = head_size(known, bytes + at, n - at);
            if (size == 0) return keep_half(l, bytes + at, n - at);
            bool same = size == known->size && memcmp(bytes + at, known->bytes, size) == 0;
            const char *wrong = same ? NULL : check_head(e, known, (const char *)bytes + at, size);
            if (wrong) return wrong;
            at += size;
            l->in_body = true;
        }
        if (at == n && e->body_bytes > 0) return NULL;
        ssize_t took = take_body(e, l, bytes + at, n - at, count);
        if (took < 0) return "a byte of the body is wrong";
        at += (size_t)took;
    }
    return NULL;
}

/* Some bytes came. Adds the answers that are complete by them to *count. Returns what is wrong, or
 * NULL. */
static inline const char *answers_take(const struct expected *e, struct known_head *known,
                                       struct listener *l, const unsigned char *bytes, size_t n,
                                       uint64_t *count)
{
    if (l->half == NULL) return take_whole(e, known, l, bytes, n, count);
    size_t before = l->half_bytes;
    unsigned char *all = realloc(l->half, before + n);
    if (all == NULL) return "no memory for a head";
    memcpy(all + before, bytes, n);
    l->half = NULL;
    const char *wrong = take_whole(e, known, l, all, before + n, count);
    free(all);
    return wrong;
}

#endif
