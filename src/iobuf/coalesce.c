/* coalesce.c - neighbours in one buf, merged without a copy.
 *
 * A list is checked before anything of it changes: all are live, and none stands there twice. The
 * first of a run gets the bytes of those behind it, and these end. */
#include "iobuf/ledger.h"
#include "iobuf/slice.h"

/* Refuse the list for handles[bad], when those before it are hidden: they are shown again.
 * If that brings the bad one back, it was one of them. */
static int refuse(const struct neap_handle *handles, uint32_t bad)
{
    for (uint32_t i = 0; i < bad; i++) neap_slots_show(&neap_slice_at(handles[i].slot)->head);
    struct neap_handle h = handles[bad];
    return neap_slice_of(h.slot, h.gen) ? NEAP_E_RANGE : neap_slice_stale(h.slot);
}

/* All must be live, and none may stand twice: each is hidden once it was seen, so that a second
 * handle of it finds nothing. They stay hidden if all is well. */
static int hide_all(const struct neap_handle *handles, uint32_t count, uint32_t *where)
{
    for (uint32_t i = 0; i < count; i++) {
        struct neap_slice *s = neap_slice_of(handles[i].slot, handles[i].gen);
        if (!s) {
            *where = i;
            return refuse(handles, i);
        }
        neap_slots_hide(&s->head);
    }
    return NEAP_OK;
}

/* s is about to end: its clone's mark becomes first's, and it leaves the buf's list. The list
 * begins with what was made last, so neighbours mostly stand there in a row that ends with
 * `first`; of such a row s becomes the beginning, and all of it leaves at once afterwards.
 * Returns where the row begins. */
static inline uint32_t join_row(struct neap_slice *s, uint32_t slot, struct neap_slice *first,
                                uint32_t row)
{
    if (__builtin_expect(s->clone, 0)) {
        neap_slice_mark_clone(first);
        s->buf->clones--;
    }
    if (__builtin_expect(s->next == row, 1)) return slot;
    neap_slice_leave_list(s, s->buf);
    return row;
}

/* All of the row leaves the list but `first`, which ends it. */
static inline void leave_row(struct neap_slice *first, uint32_t slot, uint32_t row)
{
    first->prev = neap_slice_at(row)->prev;
    neap_buf_set_next(first->buf, first->prev, slot);
}

/* first has the bytes up to `bound`, which were those of `ended` others. */
static inline void take_over(struct neap_slice *first, uint32_t bound, uint32_t ended)
{
    struct neap_buf *buf = first->buf;
    first->bound = bound;
    buf->refs -= ended;
    buf->more_handles -= (int32_t)ended;
    buf->stats->slices_taken += ended;
    neap_assert(buf->refs > 0, "the slice that took the others keeps the buf");
}

/* Merge what stands behind the first handle into it, as far as it touches and fits. Returns
 * the handles used up, the first included. What is referenced stays the same. */
static uint32_t merge_run(const struct neap_handle *handles, uint32_t count, uint32_t max_size)
{
    uint32_t row = handles->slot, chain = neap_here.slices.free_head;
    struct neap_slice *first = neap_slice_at(row);
    struct neap_buf *buf = first->buf;
    if (!max_size || !buf->slab) return 1;
    uint32_t bound = first->bound;
    uint32_t room = buf->capacity - first->base;
    uint32_t most = first->base + (max_size < room ? max_size : room);
    const struct neap_handle *h = handles + 1, *end = handles + count;
    for (; h < end; h++) {
        struct neap_slice *s = neap_slice_at(h->slot);
        bool touches = s->buf == buf && s->free == bound && s->base == bound;
        if (!touches || s->bound > most) break;
        bound = s->bound;
        if (__builtin_expect(s->track, 0)) neap_ledger_end(s, NEAP_TAKEN);
        row = join_row(s, h->slot, first, row);
        chain = neap_slots_chain(&s->head, h->slot, chain);
    }
    uint32_t ended = (uint32_t)(h - handles) - 1;
    if (!ended) return 1;
    neap_slots_give_chain(&neap_here.slices, chain, ended);
    leave_row(first, handles->slot, row);
    take_over(first, bound, ended);
    return ended + 1;
}

int neap_slice_coalesce(struct neap_handle *handles, uint32_t count, uint32_t max_size,
                        uint32_t *where)
{
    bool here = !count || neap_slice_of(handles->slot, handles->gen);
    if (!here && neap_visit(handles->slot))
        return neap_leave(neap_slice_coalesce(handles, count, max_size, where));
    int result = hide_all(handles, count, where);
    if (result < 0) return result;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count;) {
        neap_slots_show(&neap_slice_at(handles[i].slot)->head);
        uint32_t used = merge_run(handles + i, count - i, max_size);
        handles[kept++] = handles[i];
        i += used;
    }
    return (int)kept;
}
