#include "scan/http.h"

#include <string.h>

enum {
    EMPTY_LINES = 2, /* before a head */
    /* characters of a name, and others that a target may have */
    NAME = NEAP_HTTP_TOKEN | NEAP_HTTP_TARGET | NEAP_HTTP_PATH | NEAP_HTTP_TEXT | NEAP_HTTP_HOST,
    SIGN = NEAP_HTTP_TARGET | NEAP_HTTP_PATH | NEAP_HTTP_TEXT,
};

const uint8_t neap_http_kinds[256] = {
    ['\t'] = NEAP_HTTP_TEXT,
    [' '] = NEAP_HTTP_TEXT,
    [0x80 ... 0xff] = NEAP_HTTP_TEXT,
    ['0' ... '9'] = NAME | NEAP_HTTP_DIGIT,
    ['A' ... 'Z'] = NAME,
    ['a' ... 'z'] = NAME,
    ['!'] = NAME,
    ['$'] = NAME,
    ['%'] = NAME & ~NEAP_HTTP_HOST,
    ['&'] = NAME,
    ['\''] = NAME,
    ['*'] = NAME,
    ['+'] = NAME,
    ['-'] = NAME,
    ['.'] = NAME,
    ['_'] = NAME,
    ['~'] = NAME,
    ['^'] = NAME & ~NEAP_HTTP_HOST,
    ['`'] = NAME & ~NEAP_HTTP_HOST,
    ['|'] = NAME & ~NEAP_HTTP_HOST,
    ['#'] = NEAP_HTTP_TOKEN | NEAP_HTTP_TEXT, /* a fragment stays with the client */
    ['('] = SIGN | NEAP_HTTP_HOST,
    [')'] = SIGN | NEAP_HTTP_HOST,
    [','] = SIGN | NEAP_HTTP_HOST,
    [';'] = SIGN | NEAP_HTTP_HOST,
    ['='] = SIGN | NEAP_HTTP_HOST,
    ['"'] = SIGN,
    ['/'] = SIGN,
    [':'] = SIGN,
    ['<'] = SIGN,
    ['>'] = SIGN,
    ['?'] = SIGN & ~NEAP_HTTP_PATH,
    ['@'] = SIGN,
    ['['] = SIGN,
    ['\\'] = SIGN,
    [']'] = SIGN,
    ['{'] = SIGN,
    ['}'] = SIGN,
};

/* ---- runs of characters ---- */

static uint32_t skip(const struct neap_http_scan *s, uint32_t at, int kind)
{
    return (uint32_t)(neap_http_skip(s->in + at, s->in + s->size, kind) - s->in);
}

static uint32_t skip_spaces(const struct neap_http_scan *s, uint32_t at)
{
    while (at < s->size && neap_http_is_space(s->in[at])) at++;
    return at;
}

typedef uint8_t sixteen __attribute__((vector_size(16)));

/* Which of eight bytes is the first that is not 0; one is not. */
static inline uint32_t first_byte(uint64_t bytes)
{
    bool little = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
    return (uint32_t)(little ? __builtin_ctzll(bytes) : __builtin_clzll(bytes)) / 8;
}

/* How many of these sixteen bytes stand before the first control character; a tab is one. */
static uint32_t before_control(const uint8_t *in)
{
    sixteen bytes;
    memcpy(&bytes, in, sizeof bytes);
    sixteen control = (sixteen)((bytes < ' ') | (bytes == 0x7f));
    uint64_t half[2];
    memcpy(half, &control, sizeof half);
    if (half[0]) return first_byte(half[0]);
    return half[1] ? 8 + first_byte(half[1]) : sizeof bytes;
}

/* As skip(TEXT), sixteen at a time: values are most of a head. */
static uint32_t skip_text(const struct neap_http_scan *s, uint32_t at)
{
    while (s->size - at >= sizeof(sixteen)) {
        uint32_t n = before_control(s->in + at);
        at += n;
        if (n == sizeof(sixteen)) continue;
        if (s->in[at] != '\t') return at;
        at++;
    }
    return skip(s, at, NEAP_HTTP_TEXT);
}

/* ---- lines ---- */

/* No end of a line stands here: why not? */
static int no_line_end(struct neap_http_scan *s, int why)
{
    if (s->at == s->size) return NEAP_E_AGAIN;
    bool ends = s->in[s->at] == '\r' || s->in[s->at] == '\n';
    if (s->in[s->at] != '\r') return neap_http_wrong(s, ends ? NEAP_HTTP_LINE_END : why);
    if (s->at + 1 == s->size) return NEAP_E_AGAIN;
    return neap_http_wrong(s, NEAP_HTTP_LINE_END);
}

/* The end of a line stands here. */
static inline int line_end(struct neap_http_scan *s, int why)
{
    if (s->size - s->at < 2 || memcmp(s->in + s->at, "\r\n", 2) != 0) return no_line_end(s, why);
    s->at += 2;
    return NEAP_OK;
}

/* One space stands here, and no other behind it. */
static int one_space(struct neap_http_scan *s, int why)
{
    if (s->at == s->size) return NEAP_E_AGAIN;
    if (s->in[s->at] != ' ') return neap_http_wrong(s, why);
    s->at++;
    return NEAP_OK;
}

/* "HTTP/", a digit, a dot and a digit: anything but one of the two. */
static int other_version(struct neap_http_scan *s)
{
    static const char form[] = "HTTP/0.0";
    const uint8_t *at = s->in + s->at;
    for (uint32_t i = 0; form[i]; i++) {
        if (s->at + i == s->size) return NEAP_E_AGAIN;
        bool good = form[i] == '0' ? neap_http_is(at[i], NEAP_HTTP_DIGIT) : at[i] == form[i];
        if (!good) return neap_http_wrong(s, NEAP_HTTP_VERSION_FORM);
    }
    s->head->version = 10u * (uint32_t)(at[5] - '0') + (uint32_t)(at[7] - '0');
    return neap_http_wrong(s, NEAP_HTTP_VERSION);
}

static int version(struct neap_http_scan *s)
{
    enum { BYTES = 8 };
    const uint8_t *at = s->in + s->at;
    bool whole = s->size - s->at >= BYTES, old = whole && !memcmp(at, "HTTP/1.0", BYTES);
    if (!old && !(whole && !memcmp(at, "HTTP/1.1", BYTES))) return other_version(s);
    s->head->version = old ? 10 : 11;
    s->head->flags |= old ? NEAP_HTTP_OLD : 0;
    s->at += BYTES;
    return NEAP_OK;
}

static const struct {
    const char *name;
    uint32_t size;
    enum neap_http_method method;
} methods[] = {
    {"GET", 3, NEAP_HTTP_GET},         {"HEAD", 4, NEAP_HTTP_HEAD},
    {"POST", 4, NEAP_HTTP_POST},       {"PUT", 3, NEAP_HTTP_PUT},
    {"DELETE", 6, NEAP_HTTP_DELETE},   {"PATCH", 5, NEAP_HTTP_PATCH},
    {"OPTIONS", 7, NEAP_HTTP_OPTIONS}, {"CONNECT", 7, NEAP_HTTP_CONNECT},
    {"TRACE", 5, NEAP_HTTP_TRACE},
};

static enum neap_http_method method_of(const uint8_t *in, uint32_t size)
{
    if (size == 3 && !memcmp(in, "GET", 3)) return NEAP_HTTP_GET; /* as most are */
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (methods[i].size == size && !memcmp(methods[i].name, in, size)) return methods[i].method;
    return NEAP_HTTP_METHOD_OTHER;
}

/* Empty lines before the first one are ignored (RFC 9112, 2.2); some clients end a body with one or
 * two that do not belong to it. */
static int empty_lines(struct neap_http_scan *s)
{
    int result = NEAP_OK;
    for (int i = 0; i < EMPTY_LINES && result == NEAP_OK; i++) {
        if (s->at == s->size || s->in[s->at] != '\r') break;
        result = line_end(s, NEAP_HTTP_LINE_END);
    }
    return result;
}

static int method(struct neap_http_scan *s)
{
    struct neap_http_head *head = s->head;
    head->method_at = s->at;
    s->at = skip(s, s->at, NEAP_HTTP_TOKEN);
    head->method_size = s->at - head->method_at;
    head->method = method_of(s->in + head->method_at, head->method_size);
    bool none = !head->method_size && s->at < s->size;
    return none ? neap_http_wrong(s, NEAP_HTTP_METHOD) : one_space(s, NEAP_HTTP_METHOD);
}

static int target(struct neap_http_scan *s)
{
    struct neap_http_head *head = s->head;
    head->target_at = s->at;
    s->mark = skip(s, s->at, NEAP_HTTP_PATH);
    s->at = skip(s, s->mark, NEAP_HTTP_TARGET);
    head->target_size = s->at - head->target_at;
    bool none = !head->target_size && s->at < s->size;
    return none ? neap_http_wrong(s, NEAP_HTTP_TARGET_FORM) : one_space(s, NEAP_HTTP_TARGET_FORM);
}

static int request_line(struct neap_http_scan *s)
{
    int result = empty_lines(s);
    if (result == NEAP_OK) result = method(s);
    if (result == NEAP_OK) result = target(s);
    if (result == NEAP_OK) result = version(s);
    if (result == NEAP_OK) result = line_end(s, NEAP_HTTP_VERSION_FORM);
    return result == NEAP_OK ? neap_http_mean_target(s) : result;
}

static int status(struct neap_http_scan *s)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < 3; i++) {
        if (s->at + i == s->size) return NEAP_E_AGAIN;
        uint8_t digit = s->in[s->at + i];
        if (!neap_http_is(digit, NEAP_HTTP_DIGIT)) return neap_http_wrong(s, NEAP_HTTP_STATUS);
        value = 10 * value + digit - '0';
    }
    if (value < 100) return neap_http_wrong(s, NEAP_HTTP_STATUS);
    s->head->status = value;
    s->at += 3;
    return NEAP_OK;
}

/* Its reason phrase may be empty, and then some servers leave the space before it out. */
static int reason(struct neap_http_scan *s)
{
    struct neap_http_head *head = s->head;
    if (s->at < s->size && s->in[s->at] == ' ')
        s->at++;
    else if (s->at < s->size && s->in[s->at] != '\r')
        return line_end(s, NEAP_HTTP_STATUS);
    head->reason_at = s->at;
    s->at = skip_text(s, s->at);
    head->reason_size = s->at - head->reason_at;
    return line_end(s, NEAP_HTTP_TEXT_FORM);
}

static int status_line(struct neap_http_scan *s)
{
    int result = empty_lines(s);
    if (result == NEAP_OK) result = version(s);
    if (result == NEAP_OK) result = one_space(s, NEAP_HTTP_VERSION_FORM);
    if (result == NEAP_OK) result = status(s);
    return result == NEAP_OK ? reason(s) : result;
}

/* ---- fields ---- */

static int field_name(struct neap_http_scan *s, uint32_t i)
{
    struct neap_http_head *head = s->head;
    head->name_at[i] = s->at;
    s->at = skip(s, s->at, NEAP_HTTP_TOKEN);
    head->name_size[i] = s->at - head->name_at[i];
    if (s->at == s->size) return NEAP_E_AGAIN;
    if (s->in[s->at] == ':' && head->name_size[i]) {
        s->at++;
        return NEAP_OK;
    }
    if (s->in[s->at] == '\n' || s->in[s->at] == '\r') return neap_http_wrong(s, NEAP_HTTP_LINE_END);
    bool fold = !head->name_size[i] && neap_http_is_space(s->in[s->at]);
    return neap_http_wrong(s, fold ? NEAP_HTTP_FOLD : NEAP_HTTP_NAME);
}

static int field_value(struct neap_http_scan *s, uint32_t i)
{
    uint32_t from = skip_spaces(s, s->at), to = skip_text(s, from);
    s->at = to;
    while (to > from && neap_http_is_space(s->in[to - 1])) to--;
    s->head->value_at[i] = from;
    s->head->value_size[i] = to - from;
    return line_end(s, NEAP_HTTP_TEXT_FORM);
}

static int field(struct neap_http_scan *s, enum neap_http_kind kind)
{
    uint32_t i = s->head->count;
    if (i == NEAP_HTTP_FIELDS_MAX) return neap_http_wrong(s, NEAP_HTTP_FIELDS);
    int result = field_name(s, i);
    if (result == NEAP_OK) result = field_value(s, i);
    if (result == NEAP_OK) result = neap_http_mean_field(s, kind, i);
    s->head->count += result == NEAP_OK;
    return result;
}

static int fields(struct neap_http_scan *s, enum neap_http_kind kind)
{
    int result = NEAP_OK;
    while (result == NEAP_OK) {
        if (s->at == s->size) return NEAP_E_AGAIN;
        if (s->in[s->at] == '\r') return line_end(s, NEAP_HTTP_LINE_END);
        result = field(s, kind);
    }
    return result;
}

/* ---- heads ---- */

int neap_http_scan(const char *bytes, uint32_t size, int kind, struct neap_http_head *head)
{
    struct neap_http_scan s = {(const uint8_t *)bytes, size, 0, 0, head};
    memset(head, 0, offsetof(struct neap_http_head, name_at));
    head->length = -1;
    int result = NEAP_OK;
    if (kind == NEAP_HTTP_REQUEST) result = request_line(&s);
    if (kind == NEAP_HTTP_RESPONSE) result = status_line(&s);
    if (result == NEAP_OK) result = fields(&s, (enum neap_http_kind)kind);
    if (result == NEAP_OK) result = neap_http_mean_head(&s, (enum neap_http_kind)kind);
    return result == NEAP_OK ? (int)s.at : result;
}

int neap_http_find(const char *bytes, uint32_t size, const struct neap_http_head *head,
                   const char *name, uint32_t name_size, uint32_t from)
{
    uint32_t count = head->count < NEAP_HTTP_FIELDS_MAX ? head->count : NEAP_HTTP_FIELDS_MAX;
    for (uint32_t i = from; i < count; i++) {
        uint32_t at = head->name_at[i];
        if (head->name_size[i] != name_size || at > size || name_size > size - at) continue;
        if (neap_http_same((const uint8_t *)bytes + at, name_size, name, name_size)) return (int)i;
    }
    return NEAP_E_EOF;
}

bool neap_http_is_token(const char *bytes, uint32_t size)
{
    struct neap_http_scan s = {(const uint8_t *)bytes, size, 0, 0, NULL};
    return size && skip(&s, 0, NEAP_HTTP_TOKEN) == size;
}

bool neap_http_is_text(const char *bytes, uint32_t size)
{
    struct neap_http_scan s = {(const uint8_t *)bytes, size, 0, 0, NULL};
    return skip_text(&s, 0) == size;
}
