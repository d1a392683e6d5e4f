/* http.c - libFuzzer: HTTP heads and chunks' lines, as the scanner takes them.
 *
 * The first byte chooses what is scanned, the second where the input is cut. Each part lies in
 * memory of just its size, so that a byte read beyond it is seen. What must hold: */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "neap.h"

enum { CHUNK = NEAP_HTTP_TRAILERS + 1, FIRST_CHUNK, KINDS };

struct outcome {
    int result;
    uint32_t wrong;
    double size;
    struct neap_http_head head;
};

static struct outcome scan(const uint8_t *in, size_t n, int kind)
{
    struct outcome o = {0};
    char *copy = malloc(n ? n : 1);
    if (n) memcpy(copy, in, n);
    if (kind >= CHUNK) {
        struct neap_http_chunk chunk = {0};
        o.result = neap_http_chunk(copy, (uint32_t)n, kind == FIRST_CHUNK, &chunk);
        o.wrong = chunk.wrong;
        o.size = chunk.size;
    } else {
        o.result = neap_http_scan(copy, (uint32_t)n, kind, &o.head);
        o.wrong = o.head.wrong;
        neap_http_find(copy, (uint32_t)n, &o.head, "host", 4, 0);
    }
    free(copy);
    return o;
}

/* A front part of an input is complete, or wrong, as the whole is, or needs more. */
static void check_cut(const uint8_t *in, size_t n, size_t cut, int kind)
{
    struct outcome whole = scan(in, n, kind), front = scan(in, cut, kind);
    bool may_need_more = whole.result < 0 || (size_t)whole.result > cut;
    if (front.result == NEAP_E_AGAIN && may_need_more) return;
    neap_assert(front.result == whole.result, "a front part says the same as the whole");
    neap_assert(front.wrong == whole.wrong, "and for the same reason");
    neap_assert(front.size == whole.size || front.result < 0, "and of the same chunk");
}

static void check_lines(const uint8_t *in, size_t n)
{
    neap_assert(n >= 2 && in[n - 1] == '\n', "it ends with an end of line");
    for (size_t i = 0; i < n; i++) {
        neap_assert(in[i] != 0 && in[i] != 127, "no control character is in it");
        bool cr = in[i] == '\r', lf = in[i] == '\n';
        neap_assert(!cr || (i + 1 < n && in[i + 1] == '\n'), "no CR stands alone");
        neap_assert(!lf || (i > 0 && in[i - 1] == '\r'), "no LF stands alone");
    }
}

static void check_span(size_t n, uint32_t at, uint32_t size)
{
    neap_assert(at <= n && size <= n - at, "a part lies in the head");
}

static void check_fields(const uint8_t *in, size_t n, const struct neap_http_head *head)
{
    uint32_t behind = 0;
    neap_assert(head->count <= NEAP_HTTP_FIELDS_MAX, "fields have a limit");
    for (uint32_t i = 0; i < head->count; i++) {
        check_span(n, head->name_at[i], head->name_size[i]);
        check_span(n, head->value_at[i], head->value_size[i]);
        const char *name = (const char *)in + head->name_at[i];
        const char *value = (const char *)in + head->value_at[i];
        neap_assert(head->name_at[i] >= behind, "fields stand in their order");
        neap_assert(neap_http_is_token(name, head->name_size[i]), "a name is a token");
        neap_assert(neap_http_is_text(value, head->value_size[i]), "a value is text");
        behind = head->value_at[i] + head->value_size[i];
    }
}

static uint32_t count_of(const uint8_t *in, const struct neap_http_head *head, const char *name)
{
    uint32_t count = 0;
    int at = -1;
    while ((at = neap_http_find((const char *)in, UINT32_MAX, head, name, (uint32_t)strlen(name),
                                (uint32_t)(at + 1))) >= 0)
        count++;
    return count;
}

/* What two recipients could read in two ways is not taken. */
static void check_framing(const uint8_t *in, const struct neap_http_head *head, int kind)
{
    uint32_t lengths = count_of(in, head, "content-length");
    uint32_t codings = count_of(in, head, "transfer-encoding");
    if (kind == NEAP_HTTP_TRAILERS) {
        uint32_t hosts = count_of(in, head, "host");
        neap_assert(!lengths && !codings && !hosts, "a trailer says nothing of the message");
        return;
    }
    neap_assert(lengths <= 1 && !(lengths && codings), "one length, or a coding");
    neap_assert((head->length >= 0) == (lengths == 1), "a length is what a field says");
    if (kind != NEAP_HTTP_REQUEST) return;
    uint32_t hosts = count_of(in, head, "host");
    neap_assert(hosts == 1 || (hosts == 0 && head->version == 10), "one Host");
    neap_assert(codings <= 1, "one coding");
    neap_assert((head->flags & NEAP_HTTP_CHUNKED) == codings, "and that is chunked");
    check_span((size_t)head->target_at + head->target_size, head->path_at, head->path_size);
    check_span((size_t)head->target_at + head->target_size, head->query_at, head->query_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    int kind = data[0] % KINDS;
    size_t cut = data[1];
    data += 2;
    size -= 2;
    struct outcome o = scan(data, size, kind);
    check_cut(data, size, cut < size ? cut : size, kind);
    if (o.result <= 0) return 0;
    neap_assert((size_t)o.result <= size, "no more is taken than there is");
    check_lines(data, (size_t)o.result);
    if (kind >= CHUNK) return 0;
    check_fields(data, (size_t)o.result, &o.head);
    check_framing(data, &o.head, kind);
    return 0;
}
