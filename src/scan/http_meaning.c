#include <ctype.h>
#include <string.h>

#include "scan/http.h"

/* Up to eight bytes, which are the same but for their case. */
static inline bool same_part(const uint8_t *in, const char *word, uint32_t size)
{
    uint64_t a = 0, b = 0, small = 0;
    memcpy(&a, in, size);
    memcpy(&b, word, size);
    memset(&small, 0x20, size);
    return (a | small) == b;
}

/* Is it this word of small letters, digits, "-", ":" and "/"? Besides large letters only control
 * characters could pass for these, and they are in no name, value or target. Its size is known where
 * this is compiled, so that a few comparisons are left. */
static inline __attribute__((always_inline)) bool is_word(const uint8_t *in, uint32_t size,
                                                          const char *word, uint32_t word_size)
{
    uint32_t part = word_size < 8 ? word_size : 8, last = word_size - part;
    if (size != word_size || !same_part(in, word, part)) return false;
    if (last > 8 && !same_part(in + 8, word + 8, 8)) return false;
    return !last || same_part(in + last, word + last, part);
}

#define IS(in, size, word)                                                                         \
    ({                                                                                             \
        _Static_assert(sizeof(word) <= 25, "three parts");                                         \
        is_word(in, size, word, sizeof(word) - 1);                                                 \
    })

static uint8_t small(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

bool neap_http_same(const uint8_t *in, uint32_t size, const char *word, uint32_t word_size)
{
    if (size != word_size) return false;
    for (uint32_t i = 0; i < size; i++)
        if (small(in[i]) != small((uint8_t)word[i])) return false;
    return true;
}

/* ---- hosts ---- */

static bool all(const uint8_t *in, uint32_t size, int kind)
{
    return neap_http_skip(in, in + size, kind) == in + size;
}

/* "[::1]": the bytes of a literal, its brackets included. 0: it is none. */
static uint32_t literal_size(const uint8_t *in, uint32_t size)
{
    const uint8_t *end = memchr(in, ']', size);
    if (!end || end == in + 1) return 0;
    for (const uint8_t *at = in + 1; at < end; at++)
        if (*at != ':' && *at != '%' && !neap_http_is(*at, NEAP_HTTP_HOST)) return 0;
    return (uint32_t)(end - in) + 1;
}

/* "%41" stands here. */
static bool is_escape(const uint8_t *in, const uint8_t *end)
{
    return end - in > 2 && in[0] == '%' && isxdigit(in[1]) && isxdigit(in[2]);
}

static uint32_t host_size(const uint8_t *in, uint32_t size)
{
    if (size && in[0] == '[') return literal_size(in, size);
    const uint8_t *end = in + size, *at = neap_http_skip(in, end, NEAP_HTTP_HOST);
    while (is_escape(at, end)) at = neap_http_skip(at + 3, end, NEAP_HTTP_HOST);
    return (uint32_t)(at - in);
}

/* A host, and a port if there is one. No user: that has no place here (RFC 9110, 4.2.4). */
static bool is_authority(const uint8_t *in, uint32_t size, bool with_port)
{
    uint32_t host = host_size(in, size);
    if (!host) return false;
    if (host == size) return !with_port;
    bool digits = all(in + host + 1, size - host - 1, NEAP_HTTP_DIGIT);
    return in[host] == ':' && digits && (!with_port || size - host > 1);
}

static int host(struct neap_http_scan *s, const uint8_t *value, uint32_t size)
{
    struct neap_http_head *head = s->head;
    if (head->flags & NEAP_HTTP_HAS_HOST) return neap_http_wrong(s, NEAP_HTTP_HOST_TWICE);
    head->flags |= NEAP_HTTP_HAS_HOST;
    if (size && !is_authority(value, size, false)) return neap_http_wrong(s, NEAP_HTTP_HOST_FORM);
    if (head->target_form == NEAP_HTTP_ABSOLUTE) return NEAP_OK; /* that counts (RFC 9112, 3.2.2) */
    head->host_at = (uint32_t)(value - s->in);
    head->host_size = size;
    return NEAP_OK;
}

/* ---- targets ---- */

static void set_path(struct neap_http_scan *s, uint32_t from, uint32_t to)
{
    struct neap_http_head *head = s->head;
    bool query = s->mark < to;
    head->path_at = from;
    head->path_size = s->mark - from;
    head->query_at = query ? s->mark + 1 : 0;
    head->query_size = query ? to - s->mark - 1 : 0;
}

/* The bytes of "http://" or "https://". 0: it is neither. */
static uint32_t scheme_size(const uint8_t *in, uint32_t size)
{
    if (size > 7 && IS(in, 7, "http://")) return 7;
    return size > 8 && IS(in, 8, "https://") ? 8 : 0;
}

static int absolute_form(struct neap_http_scan *s, uint32_t from, uint32_t to)
{
    struct neap_http_head *head = s->head;
    uint32_t scheme = scheme_size(s->in + from, to - from), host = from + scheme, at = host;
    while (at < to && s->in[at] != '/' && s->in[at] != '?') at++;
    if (!scheme || !is_authority(s->in + host, at - host, false))
        return neap_http_wrong(s, NEAP_HTTP_TARGET_FORM);
    head->target_form = NEAP_HTTP_ABSOLUTE;
    head->host_at = host;
    head->host_size = at - host;
    set_path(s, at, to);
    return NEAP_OK;
}

static int authority_form(struct neap_http_scan *s, uint32_t from, uint32_t to)
{
    struct neap_http_head *head = s->head;
    if (!is_authority(s->in + from, to - from, true))
        return neap_http_wrong(s, NEAP_HTTP_TARGET_FORM);
    head->target_form = NEAP_HTTP_AUTHORITY;
    return NEAP_OK;
}

int neap_http_mean_target(struct neap_http_scan *s)
{
    struct neap_http_head *head = s->head;
    uint32_t from = head->target_at, to = from + head->target_size;
    if (head->method == NEAP_HTTP_CONNECT) return authority_form(s, from, to);
    if (s->in[from] == '*' && to - from == 1 && head->method == NEAP_HTTP_OPTIONS) {
        head->target_form = NEAP_HTTP_ASTERISK;
        return NEAP_OK;
    }
    if (s->in[from] != '/') return absolute_form(s, from, to);
    head->target_form = NEAP_HTTP_ORIGIN;
    set_path(s, from, to);
    return NEAP_OK;
}

/* ---- fields ---- */

static int content_length(struct neap_http_scan *s, const uint8_t *value, uint32_t size)
{
    uint64_t length = 0;
    if (s->head->length >= 0) return neap_http_wrong(s, NEAP_HTTP_LENGTH_TWICE);
    if (!size || !all(value, size, NEAP_HTTP_DIGIT)) return neap_http_wrong(s, NEAP_HTTP_LENGTH);
    for (uint32_t i = 0; i < size && length <= NEAP_HTTP_MOST; i++)
        length = 10 * length + (uint32_t)(value[i] - '0');
    if (length > NEAP_HTTP_MOST) return neap_http_wrong(s, NEAP_HTTP_LENGTH_LARGE);
    s->head->length = (double)length;
    return NEAP_OK;
}

/* The next element of a list at or behind *at. False: there is none. */
static bool next_element(const uint8_t *in, uint32_t size, uint32_t *at, uint32_t *end)
{
    while (*at < size && (in[*at] == ',' || neap_http_is_space(in[*at]))) ++*at;
    if (*at == size) return false;
    *end = *at;
    while (*end < size && in[*end] != ',') ++*end;
    while (neap_http_is_space(in[*end - 1])) --*end;
    return true;
}

/* Of a request: "chunked", once, and nothing else. A response's body may have other codings, which
 * are the caller's business; if chunked is not the last it reaches to the end of the connection. */
static int transfer_encoding(struct neap_http_scan *s, bool request, const uint8_t *value,
                             uint32_t size)
{
    struct neap_http_head *head = s->head;
    if (head->version == 10) return neap_http_wrong(s, NEAP_HTTP_CODING_OLD);
    bool again = head->flags & NEAP_HTTP_HAS_CODING;
    head->flags |= NEAP_HTTP_HAS_CODING;
    if (request && (again || !IS(value, size, "chunked")))
        return neap_http_wrong(s, NEAP_HTTP_CODING);
    for (uint32_t at = 0, end; next_element(value, size, &at, &end); at = end) {
        bool chunked = IS(value + at, end - at, "chunked");
        if (chunked && head->flags & NEAP_HTTP_CHUNKED) return neap_http_wrong(s, NEAP_HTTP_CODING);
        head->flags &= ~(uint32_t)NEAP_HTTP_CHUNKED;
        head->flags |= chunked ? NEAP_HTTP_CHUNKED : NEAP_HTTP_CODED;
    }
    return NEAP_OK;
}

static void connection(struct neap_http_head *head, const uint8_t *value, uint32_t size)
{
    for (uint32_t at = 0, end; next_element(value, size, &at, &end); at = end) {
        if (IS(value + at, end - at, "close")) head->flags |= NEAP_HTTP_CLOSE;
        if (IS(value + at, end - at, "keep-alive")) head->flags |= NEAP_HTTP_KEEP_ALIVE;
        if (head->version == 10) continue; /* knows no upgrades (RFC 9110, 7.8) */
        if (IS(value + at, end - at, "upgrade")) head->flags |= NEAP_HTTP_UPGRADE_ASKED;
    }
}

/* What says where a message ends and for whom it is must stand before its body. */
static int trailer(struct neap_http_scan *s, const uint8_t *name, uint32_t n)
{
    bool misplaced =
        IS(name, n, "content-length") || IS(name, n, "transfer-encoding") || IS(name, n, "host");
    return misplaced ? neap_http_wrong(s, NEAP_HTTP_TRAILER) : NEAP_OK;
}

int neap_http_mean_field(struct neap_http_scan *s, enum neap_http_kind kind, uint32_t field)
{
    struct neap_http_head *head = s->head;
    const uint8_t *name = s->in + head->name_at[field], *value = s->in + head->value_at[field];
    uint32_t n = head->name_size[field], size = head->value_size[field];
    bool request = kind == NEAP_HTTP_REQUEST;
    if (kind == NEAP_HTTP_TRAILERS) return trailer(s, name, n);
    switch (n) {
    case 4: return request && IS(name, n, "host") ? host(s, value, size) : NEAP_OK;
    case 6:
        if (request && IS(name, n, "expect"))
            head->flags |= IS(value, size, "100-continue") ? NEAP_HTTP_CONTINUE : NEAP_HTTP_EXPECT;
        return NEAP_OK;
    case 7:
        if (IS(name, n, "upgrade")) head->flags |= NEAP_HTTP_UPGRADE_NAMED;
        return NEAP_OK;
    case 10:
        if (IS(name, n, "connection")) connection(head, value, size);
        return NEAP_OK;
    case 14: return IS(name, n, "content-length") ? content_length(s, value, size) : NEAP_OK;
    case 17:
        if (!IS(name, n, "transfer-encoding")) return NEAP_OK;
        return transfer_encoding(s, request, value, size);
    default: return NEAP_OK;
    }
}

int neap_http_mean_head(struct neap_http_scan *s, enum neap_http_kind kind)
{
    struct neap_http_head *head = s->head;
    uint32_t flags = head->flags;
    if (flags & NEAP_HTTP_HAS_CODING && head->length >= 0)
        return neap_http_wrong(s, NEAP_HTTP_CODING_AND_LENGTH);
    bool host_needed = kind == NEAP_HTTP_REQUEST && head->version == 11;
    if (host_needed && !(flags & NEAP_HTTP_HAS_HOST))
        return neap_http_wrong(s, NEAP_HTTP_HOST_NONE);
    return NEAP_OK;
}
