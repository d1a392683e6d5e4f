/* HTTP heads in what a reader holds. The scanner is in scan/http.c, and knows bytes only. */
#include <string.h>

#include "iobuf/reader.h"

/* The name of a search (struct neap_reader); no short delimiter has it. */
static const uint64_t SEARCH = UINT64_MAX;

/* Bytes that come one at a time would be scanned from the start each time: not before another
 * line ends, or looks as if it did. */
static bool no_line_more(const struct neap_reader *r, const uint8_t *in, uint32_t size)
{
    if (r->searched_for != SEARCH || r->searched == 0 || r->searched > size) return false;
    uint32_t from = r->searched;
    bool ends = in[from - 1] == '\r' || memchr(in + from, '\r', size - from);
    return !ends && !memchr(in + from, '\n', size - from);
}

int neap_view_http_scan(const struct neap_view *view, int kind, struct neap_http_head *head)
{
    const uint8_t *in = neap_view_bytes(view);
    if (!in) return NEAP_E_STALE;
    struct neap_reader *r = neap_reader_of(view->slot, view->gen);
    bool at_start = view->at == 0;
    int result = NEAP_E_AGAIN;
    if (!at_start || !no_line_more(r, in, view->size))
        result = neap_http_scan((const char *)in, view->size, kind, head);
    if (at_start && result == NEAP_E_AGAIN) {
        r->searched_for = SEARCH;
        r->searched = view->size;
    }
    return result;
}

int neap_view_http_find(const struct neap_view *view, const struct neap_http_head *head,
                        const char *name, uint32_t name_size, uint32_t from)
{
    const uint8_t *in = neap_view_bytes(view);
    if (!in) return NEAP_E_STALE;
    return neap_http_find((const char *)in, view->size, head, name, name_size, from);
}

int neap_view_http_chunk(const struct neap_view *view, bool first, struct neap_http_chunk *chunk)
{
    const uint8_t *in = neap_view_bytes(view);
    if (!in) return NEAP_E_STALE;
    return neap_http_chunk((const char *)in, view->size, first, chunk);
}
