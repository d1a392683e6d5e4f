#include "scan/http.h"

/* What stands between the parts of a chunked body. */
struct line {
    const uint8_t *in;
    uint32_t size;
    uint32_t at;
    struct neap_http_chunk *chunk;
};

static int wrong(struct line *l, int why)
{
    l->chunk->wrong = (uint32_t)why;
    return NEAP_E_MALFORMED;
}

static int line_end(struct line *l, int why)
{
    if (l->at == l->size) return NEAP_E_AGAIN;
    if (l->in[l->at] != '\r') return wrong(l, why);
    if (l->at + 1 == l->size) return NEAP_E_AGAIN;
    if (l->in[l->at + 1] != '\n') return wrong(l, why);
    l->at += 2;
    return NEAP_OK;
}

static int digit_of(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static int size_of_chunk(struct line *l)
{
    uint64_t size = 0;
    uint32_t from = l->at;
    for (; l->at < l->size; l->at++) {
        int digit = digit_of(l->in[l->at]);
        if (digit < 0) break;
        size = 16 * size + (uint32_t)digit;
        if (size > NEAP_HTTP_MOST || l->at - from >= NEAP_HTTP_CHUNK_DIGITS)
            return wrong(l, NEAP_HTTP_CHUNK_SIZE);
    }
    if (l->at == l->size) return NEAP_E_AGAIN;
    l->chunk->size = (double)size;
    return l->at > from ? NEAP_OK : wrong(l, NEAP_HTTP_CHUNK_SIZE);
}

static void skip_spaces(struct line *l)
{
    while (l->at < l->size && neap_http_is_space(l->in[l->at])) l->at++;
}

static int token(struct line *l)
{
    uint32_t from = l->at;
    while (l->at < l->size && neap_http_is(l->in[l->at], NEAP_HTTP_TOKEN)) l->at++;
    if (l->at == l->size) return NEAP_E_AGAIN;
    return l->at > from ? NEAP_OK : wrong(l, NEAP_HTTP_CHUNK_EXTENSION);
}

static int quoted(struct line *l)
{
    for (l->at++; l->at < l->size; l->at++) {
        if (l->in[l->at] == '"') {
            l->at++;
            return NEAP_OK;
        }
        if (l->in[l->at] == '\\' && ++l->at == l->size) break;
        if (!neap_http_is(l->in[l->at], NEAP_HTTP_TEXT)) return wrong(l, NEAP_HTTP_CHUNK_EXTENSION);
    }
    return NEAP_E_AGAIN;
}

/* ";", a name, and perhaps "=" and a value, which is a token or quoted. */
static int extension(struct line *l)
{
    l->at++;
    skip_spaces(l);
    int result = token(l);
    if (result < 0) return result;
    skip_spaces(l);
    if (l->at == l->size) return NEAP_E_AGAIN;
    if (l->in[l->at] != '=') return NEAP_OK;
    l->at++;
    skip_spaces(l);
    if (l->at == l->size) return NEAP_E_AGAIN;
    result = l->in[l->at] == '"' ? quoted(l) : token(l);
    skip_spaces(l);
    return result;
}

static int extensions(struct line *l)
{
    int result = NEAP_OK;
    uint32_t from = l->at;
    skip_spaces(l);
    if (l->at == l->size) return NEAP_E_AGAIN;
    bool bare = l->at > from && l->in[l->at] != ';';
    if (bare) return wrong(l, NEAP_HTTP_CHUNK_SIZE); /* white space alone is no extension */
    while (result == NEAP_OK && l->at < l->size && l->in[l->at] == ';') result = extension(l);
    return result;
}

int neap_http_chunk(const char *bytes, uint32_t size, bool first, struct neap_http_chunk *chunk)
{
    uint32_t most = size < NEAP_HTTP_CHUNK_LINE ? size : NEAP_HTTP_CHUNK_LINE;
    struct line l = {(const uint8_t *)bytes, most, 0, chunk};
    int result = first ? NEAP_OK : line_end(&l, NEAP_HTTP_CHUNK_END);
    if (result == NEAP_OK) result = size_of_chunk(&l);
    uint32_t digits_end = l.at;
    if (result == NEAP_OK) result = extensions(&l);
    bool plain = l.at == digits_end;
    if (result == NEAP_OK)
        result = line_end(&l, plain ? NEAP_HTTP_CHUNK_SIZE : NEAP_HTTP_CHUNK_EXTENSION);
    if (result == NEAP_E_AGAIN && size >= NEAP_HTTP_CHUNK_LINE)
        return wrong(&l, NEAP_HTTP_CHUNK_EXTENSION);
    return result == NEAP_OK ? (int)l.at : result;
}
