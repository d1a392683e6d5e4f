/* http.h - the heads of HTTP/1.1 messages (RFC 9110, RFC 9112): where their parts are, and what
 * they mean for what follows. Leaf functions: no state, no allocation; the caller's memory holds
 * the result. What is declared in neap.h is not repeated here.
 *
 * Strict: what a recipient could read in two ways is refused, with a reason.
 *
 * Thread: any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "neap.h"

/* The longest body: a double holds the integers up to 2^53. */
static const uint64_t NEAP_HTTP_MOST = UINT64_C(1) << 53;

/* Kinds of characters, in neap_http_kinds[]. */
enum neap_http_character {
    NEAP_HTTP_TOKEN = 1,  /* of a method or a name */
    NEAP_HTTP_TARGET = 2, /* of a request's target */
    NEAP_HTTP_TEXT = 4,   /* of a value: visible, white space, or above 127 */
    NEAP_HTTP_DIGIT = 8,
    NEAP_HTTP_HOST = 16, /* of a host's name, but for "%" */
    NEAP_HTTP_PATH = 32, /* of a target, but for "?" */
};

extern const uint8_t neap_http_kinds[256];

static inline bool neap_http_is(uint8_t byte, int kind)
{
    return neap_http_kinds[byte] & kind;
}

/* Where a run of such characters ends. */
static inline const uint8_t *neap_http_skip(const uint8_t *at, const uint8_t *end, int kind)
{
    while (at < end && neap_http_is(*at, kind)) at++;
    return at;
}

static inline bool neap_http_is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

/* A head that is being scanned. */
struct neap_http_scan {
    const uint8_t *in;
    uint32_t size;
    uint32_t at;   /* how far it got */
    uint32_t mark; /* where the target's first "?" is, or its end */
    struct neap_http_head *head;
};

/* Note why the head is wrong, and that it is so where the scan is. Returns MALFORMED. */
static inline int neap_http_wrong(struct neap_http_scan *s, int why)
{
    s->head->wrong = (uint32_t)why;
    s->head->wrong_at = s->at;
    return NEAP_E_MALFORMED;
}

/* Are these bytes `word`, which is in small letters? */
bool neap_http_same(const uint8_t *in, uint32_t size, const char *word, uint32_t word_size);

/* What a field means that was just scanned, and a target and a whole head, if anything.
 * err: MALFORMED. */
int neap_http_mean_field(struct neap_http_scan *s, enum neap_http_kind kind, uint32_t field);
int neap_http_mean_target(struct neap_http_scan *s);
int neap_http_mean_head(struct neap_http_scan *s, enum neap_http_kind kind);
