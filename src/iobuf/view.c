/* view.c - bytes that stay unread, looked at where a reader has them.
 *
 * A view is good until its reader reads, peeks or skips again: it has the epoch of then. Every
 * function checks that, and the range, so nothing that a script passes can reach outside what is
 * unread. */
#include <math.h>
#include <string.h>

#include "iobuf/ledger.h"
#include "iobuf/reader.h"
#include "scan/find.h"
#include "scan/number.h"

static inline struct neap_reader *viewed(uint32_t slot, uint32_t gen, uint32_t epoch)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    return r && r->epoch == epoch && r->pool ? r : NULL;
}

const uint8_t *neap_view_bytes(const struct neap_view *view)
{
    static const uint8_t nothing[1];
    const struct neap_reader *r = viewed(view->slot, view->gen, view->epoch);
    if (!r || view->at > neap_reader_unread(r) || view->size > neap_reader_unread(r) - view->at)
        return NULL;
    return r->buf ? r->buf->mem + r->start + view->at : nothing;
}

/* Where a view ends. The caller's word for it is not believed. */
static inline uint32_t end_of(const struct neap_reader *r, uint32_t end)
{
    return end < neap_reader_unread(r) ? end : neap_reader_unread(r);
}

/* Where `width` bytes stand in a view that ends at `end`, or NULL. */
static inline const uint8_t *bytes_in(const struct neap_reader *r, uint32_t end, uint32_t offset,
                                      uint32_t width)
{
    if (!r || !r->buf) return NULL;
    uint32_t most = end_of(r, end);
    if (offset > most || width > most - offset) return NULL;
    return r->buf->mem + r->start + offset;
}

double neap_view_get(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t end, uint32_t offset,
                     int number)
{
    const uint8_t *at = bytes_in(viewed(slot, gen, epoch), end, offset, neap_number_width(number));
    return at ? neap_number_get(at, number) : NAN;
}

uint64_t neap_view_bits(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t end, uint32_t offset,
                        int number)
{
    const uint8_t *at = bytes_in(viewed(slot, gen, epoch), end, offset, neap_number_width(number));
    return at && neap_number_known(number) ? neap_number_bits(at, number) : 0;
}

int neap_view_unpack(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t end, uint32_t offset,
                     struct neap_numbers *numbers)
{
    const struct neap_reader *r = viewed(slot, gen, epoch);
    if (!r) return NEAP_E_STALE;
    const uint8_t *at = bytes_in(r, end, offset, 0);
    if (!at) return NEAP_E_RANGE;
    return neap_numbers_load(at, end_of(r, end) - offset, numbers);
}

int neap_view_find(const struct neap_view *view, const char *bytes, uint32_t size, uint32_t from)
{
    const uint8_t *in = neap_view_bytes(view);
    if (!in) return NEAP_E_STALE;
    if (from > view->size) return NEAP_E_RANGE;
    int64_t at = neap_find(in, view->size, bytes, size, from);
    return at < 0 ? NEAP_E_EOF : (int)at;
}

int neap_view_copy(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t end, uint32_t offset,
                   uint32_t n, char *room)
{
    const struct neap_reader *r = viewed(slot, gen, epoch);
    if (!r || end > neap_reader_unread(r)) return NEAP_E_STALE;
    if (offset > end || n > end - offset) return NEAP_E_RANGE;
    if (n) memcpy(room, r->buf->mem + r->start + offset, n);
    r->pool->stats.strings_made += n != 0;
    return NEAP_OK;
}

int neap_view_equals(const struct neap_view *view, const char *bytes, uint32_t size)
{
    const uint8_t *in = neap_view_bytes(view);
    if (!in) return NEAP_E_STALE;
    return size == view->size && (!size || memcmp(in, bytes, size) == 0);
}

int neap_view_retain(const struct neap_view *view, struct neap_handle *handle)
{
    if (!neap_view_bytes(view)) return NEAP_E_STALE;
    struct neap_reader *r = neap_reader_of(view->slot, view->gen);
    struct neap_room room;
    int result = r->buf ? NEAP_OK : neap_reader_make_room(r, 0, &room);
    if (result < 0) return result;
    uint32_t at = r->start + view->at;
    struct neap_slice *s = neap_slice_make(r->buf, at, at, at + view->size);
    if (!s) {
        neap_reader_rest(r);
        return NEAP_E_MEMORY;
    }
    neap_slice_mark_clone(s); /* the bytes stay unread: they will be read out once more */
    *handle = neap_slice_handle(s);
    neap_reader_rest(r);
    return neap_slice_born(s);
}
