#include "iobuf/slice.h"

#include <string.h>

#include "base/panic.h"
#include "iobuf/ledger.h"
#include "iobuf/returns.h"

const struct neap_slots neap_no_slices = NEAP_SLOTS(struct neap_slice, NEAP_SLICES_MAX);

/* ---- making and ending ---- */

static void link_extent(struct neap_slice *s, uint32_t slot, struct neap_buf *buf)
{
    s->prev = 0;
    s->next = buf->extents;
    if (s->next) neap_slice_at(s->next)->prev = slot;
    buf->extents = slot;
    s->buf = buf;
    neap_buf_retain(buf);
    buf->stats->bytes_referenced += s->bound - s->free;
}

/* The buf keeps the count that the slice had. */
static inline void unlink_extent(struct neap_slice *s, struct neap_buf *buf)
{
    neap_slice_leave_list(s, buf);
    buf->clones -= s->clone;
    buf->stats->bytes_referenced -= s->bound - s->free;
}

/* All that changes [free, bound) goes through here, so that the counter stays true. */
static void reshape(struct neap_slice *s, uint32_t free, uint32_t base, uint32_t bound)
{
    neap_assert(free <= base && base <= bound && bound <= s->buf->capacity,
                "free <= base <= bound <= capacity");
    s->buf->stats->bytes_referenced += (uint64_t)(bound - free) - (s->bound - s->free);
    s->free = free;
    s->base = base;
    s->bound = bound;
}

void neap_slice_shift(struct neap_slice *s, uint32_t n)
{
    reshape(s, s->free, s->base + n, s->bound);
}

void neap_slice_shrink_to(struct neap_slice *s, uint32_t bound)
{
    reshape(s, s->free, s->base, bound);
}

static __attribute__((noinline)) struct neap_slice *
make_after_refill(struct neap_buf *buf, uint32_t free, uint32_t base, uint32_t bound)
{
    return neap_slots_refill(&neap_here.slices) ? neap_slice_make(buf, free, base, bound) : NULL;
}

struct neap_slice *neap_slice_make(struct neap_buf *buf, uint32_t free, uint32_t base,
                                   uint32_t bound)
{
    neap_assert(free <= base && base <= bound && bound <= buf->capacity,
                "free <= base <= bound <= capacity");
    if (__builtin_expect(!neap_here.slices.free_head, 0))
        return make_after_refill(buf, free, base, bound);
    uint32_t slot;
    struct neap_slice *s = neap_slots_take_raw(&neap_here.slices, sizeof *s, &slot);
    s->free = free;
    s->base = base;
    s->bound = bound;
    s->queued = 0;
    s->track = 0;
    s->clone = false;
    s->owned = false;
    s->still = false;
    s->held = false;
    s->unused = 0;
    s->idle_since = 0;
    link_extent(s, slot, buf);
    neap_buf_hold(buf);
    buf->stats->slices_made++;
    return s;
}

static inline void count_ending(struct neap_pool_stats *stats, enum neap_slice_ending ending)
{
    switch (ending) {
    case NEAP_RELEASED: stats->slices_released++; break;
    case NEAP_TAKEN: stats->slices_taken++; break;
    case NEAP_DROPPED: stats->slices_dropped++; break;
    case NEAP_COLLECTED: stats->slices_collected++; break;
    }
}

/* Inlined where the ending is known: most slices end in neap_slice_release(). One that is watched
 * has left the ledger before. */
static inline __attribute__((always_inline)) void end(struct neap_slice *s,
                                                      enum neap_slice_ending ending, bool held)
{
    struct neap_buf *buf = s->buf;
    count_ending(buf->stats, ending);
    unlink_extent(s, buf);
    if (held) neap_buf_unhold(buf);
    neap_slots_give_item(&neap_here.slices, &s->head, neap_slice_slot(s));
    neap_buf_release(buf); /* buf and its pool may be gone after this call */
}

static __attribute__((noinline)) int end_watched(struct neap_slice *s,
                                                 enum neap_slice_ending ending)
{
    int wishes = s->track == NEAP_TRACK_KEPT ? NEAP_KEEP : neap_ledger_end(s, ending);
    end(s, ending, !s->owned);
    return wishes;
}

void neap_slice_end(struct neap_slice *s, enum neap_slice_ending ending)
{
    if (__builtin_expect(s->track, 0))
        end_watched(s, ending);
    else
        end(s, ending, !s->owned);
}

int neap_slice_stale(uint32_t slot)
{
    neap_here.stale_uses++;
    return neap_missing(slot);
}

static __attribute__((noinline)) int release_in_other(uint32_t slot, uint32_t gen)
{
    if (neap_visit(slot)) return neap_leave(neap_slice_release(slot, gen));
    struct neap_realm *owner = neap_realm_other(slot);
    if (owner) return neap_returns_add(owner, slot, gen);
    neap_here.double_releases++;
    return NEAP_E_STALE;
}

int neap_slice_release(uint32_t slot, uint32_t gen)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s) return release_in_other(slot, gen);
    if (__builtin_expect(s->track, 0)) return end_watched(s, NEAP_RELEASED);
    end(s, NEAP_RELEASED, true); /* a handle found it */
    return NEAP_OK;
}

static void forget(struct neap_slice *s)
{
    neap_ledger_forget(s);
    neap_slice_end(s, NEAP_COLLECTED);
}

void neap_slice_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    neap_collector_finalized();
    struct neap_slice *s = neap_slice_of(h->slot, h->gen);
    if (s) forget(s);
    if (!s && neap_realm_other(h->slot)) release_in_other(h->slot, h->gen);
}

static bool is_held(const struct neap_slice *s)
{
    return (s->head.gen & 1) && s->held && !s->owned;
}

uint32_t neap_slice_next_held(uint32_t slot)
{
    const struct neap_slots *t = &neap_here.slices;
    uint32_t nth = slot ? slot - t->first : 1; /* 0 is none */
    while (nth < t->count && !is_held(neap_slice_nth(nth))) nth++;
    return nth < t->count ? t->first + nth : 0;
}

void neap_slice_forget(uint32_t slot)
{
    uint32_t nth = slot - neap_here.slices.first;
    if (!slot || nth >= neap_here.slices.count || !is_held(neap_slice_nth(nth))) return;
    neap_collector_finalized();
    forget(neap_slice_nth(nth));
}

void neap_slice_stats(struct neap_slice_stats *stats)
{
    *stats = (struct neap_slice_stats){.live = neap_here.slices.live,
                                       .double_releases = neap_here.double_releases,
                                       .stale_uses = neap_here.stale_uses};
}

double neap_slices_bytes(void)
{
    double bytes = 0;
    for (uint32_t nth = 1; nth < neap_here.slices.count; nth++) {
        const struct neap_slice *s = neap_slice_nth(nth);
        if (s->head.gen & 1) bytes += s->bound - s->base;
    }
    return bytes;
}

/* ---- claims ---- */

static bool overlaps(uint32_t from, uint32_t to, uint32_t other_from, uint32_t other_to)
{
    return from < other_to && other_from < to;
}

bool neap_buf_claimed(const struct neap_buf *buf, const struct neap_slice *except, uint32_t from,
                      uint32_t to)
{
    if (overlaps(from, to, buf->unread_from, buf->unread_to)) return true;
    for (uint32_t slot = buf->extents; slot; slot = neap_slice_at(slot)->next) {
        const struct neap_slice *other = neap_slice_at(slot);
        if (other != except && overlaps(from, to, other->free, other->bound)) return true;
    }
    return false;
}

/* Prefixes are exclusive by birth; only a clone, or a reader that still holds the bytes, can
 * have a claim on the same ones. */
bool neap_slice_contested(const struct neap_slice *s, uint32_t from, uint32_t to)
{
    const struct neap_buf *buf = s->buf;
    if (overlaps(from, to, buf->unread_from, buf->unread_to)) return true;
    return buf->clones && neap_buf_claimed(buf, s, from, to);
}

/* ---- shape ---- */

int neap_slice_info(uint32_t slot, uint32_t gen, struct neap_slice_info *info)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_info(slot, gen, info))
                                : neap_slice_stale(slot);
    *info = (struct neap_slice_info){.free = s->free,
                                     .base = s->base,
                                     .bound = s->bound,
                                     .buf_bytes = s->buf->capacity,
                                     .read_only = !s->buf->slab};
    return NEAP_OK;
}

int neap_slice_size(uint32_t slot, uint32_t gen)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (s) return (int)neap_slice_bytes_count(s);
    return neap_visit(slot) ? neap_leave(neap_slice_size(slot, gen)) : neap_slice_stale(slot);
}

/* The slice passed a place: is that to be noted? */
static inline int passed(const struct neap_slice *s)
{
    bool has_track = s->track && s->track != NEAP_TRACK_KEPT;
    return __builtin_expect(has_track, 0) && neap_ledger_touches(s) ? NEAP_NOTE_PASS : NEAP_OK;
}

int neap_slice_retain(uint32_t slot, uint32_t gen, struct neap_handle *handle)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_retain(slot, gen, handle))
                                : neap_slice_stale(slot);
    struct neap_slice *clone = neap_slice_make(s->buf, s->base, s->base, s->bound);
    if (!clone) return NEAP_E_MEMORY;
    neap_slice_mark_clone(clone);
    *handle = neap_slice_handle(clone);
    return neap_slice_born(clone) | passed(s);
}

int neap_slice_split(uint32_t slot, uint32_t gen, uint32_t n, struct neap_handle *handle)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_split(slot, gen, n, handle))
                                : neap_slice_stale(slot);
    if (n > neap_slice_bytes_count(s)) return NEAP_E_RANGE;
    uint32_t cut = s->base + n;
    struct neap_slice *front = neap_slice_make(s->buf, s->free, s->base, cut);
    if (!front) return NEAP_E_MEMORY;
    if (s->clone) neap_slice_mark_clone(front);
    reshape(s, cut, cut, s->bound);
    *handle = neap_slice_handle(front);
    return neap_slice_born(front) | passed(s);
}

int neap_slice_move(uint32_t slot, uint32_t gen, struct neap_handle *handle)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_move(slot, gen, handle))
                                : neap_slice_stale(slot);
    if (__builtin_expect(s->track, 0)) neap_ledger_rename(s);
    neap_slots_rename(&s->head); /* from one handle to another: it stays held by one */
    *handle = neap_slice_handle(s);
    return passed(s) | neap_ledger_moved(s);
}

static uint32_t at_most(uint32_t n, uint32_t most)
{
    return n < most ? n : most;
}

int neap_slice_truncate_front(uint32_t slot, uint32_t gen, uint32_t n)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_truncate_front(slot, gen, n))
                                : neap_slice_stale(slot);
    reshape(s, s->free, s->base + at_most(n, neap_slice_bytes_count(s)), s->bound);
    return (int)neap_slice_bytes_count(s);
}

int neap_slice_truncate_back(uint32_t slot, uint32_t gen, uint32_t n)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_truncate_back(slot, gen, n))
                                : neap_slice_stale(slot);
    reshape(s, s->free, s->base, s->bound - at_most(n, neap_slice_bytes_count(s)));
    return (int)neap_slice_bytes_count(s);
}

int neap_slice_expand_front(uint32_t slot, uint32_t gen, uint32_t n)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_expand_front(slot, gen, n))
                                : neap_slice_stale(slot);
    if (n > s->base - s->free || (n && !s->buf->slab)) return 0;
    if (n && neap_slice_contested(s, s->base - n, s->base)) return 0;
    reshape(s, s->free, s->base - n, s->bound);
    return 1;
}

int neap_slice_free_entire_prefix(uint32_t slot, uint32_t gen)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_free_entire_prefix(slot, gen))
                                : neap_slice_stale(slot);
    if (!s->buf->slab) return NEAP_E_READ_ONLY;
    if (neap_buf_claimed(s->buf, s, 0, s->base)) return NEAP_E_OVERLAP;
    reshape(s, 0, s->base, s->bound);
    return NEAP_OK;
}

int neap_slice_release_previous(uint32_t slot, uint32_t gen, uint32_t prev_slot, uint32_t prev_gen)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    struct neap_slice *prev = neap_slice_of(prev_slot, prev_gen);
    if (!s && neap_visit(slot))
        return neap_leave(neap_slice_release_previous(slot, gen, prev_slot, prev_gen));
    if (!s || !prev) return neap_slice_stale(s ? prev_slot : slot);
    if (s == prev) return NEAP_E_RANGE;
    uint32_t from = prev->free;
    bool merges = s->buf == prev->buf && s->buf->slab && prev->bound == s->free;
    bool cloned = s->buf->clones > 0; /* prev may be the last clone, and its original live */
    neap_slice_end(prev, NEAP_RELEASED);
    if (merges && cloned) merges = !neap_buf_claimed(s->buf, s, from, s->free);
    if (merges && !cloned) merges = !neap_slice_contested(s, from, s->free);
    if (merges) reshape(s, from, s->base, s->bound);
    return merges;
}

void neap_slice_relocate(struct neap_slice *s, struct neap_buf *to, uint32_t at)
{
    struct neap_buf *from = s->buf;
    uint32_t size = s->bound - s->free;
    neap_assert(size <= to->capacity - at, "a slice moves to where there is room");
    memcpy(to->mem + at, from->mem + s->free, size);
    unlink_extent(s, from);
    s->clone = false;
    s->base = s->base - s->free + at;
    s->bound = at + size;
    s->free = at;
    link_extent(s, neap_slice_slot(s), to);
    neap_buf_unhold(from); /* only what a handle has moves */
    neap_buf_hold(to);
    neap_buf_release(from);
}

int neap_slice_detach(uint32_t slot, uint32_t gen)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_detach(slot, gen)) : neap_slice_stale(slot);
    if (!s->buf->slab) return 0;
    uint32_t before = s->buf->capacity;
    struct neap_buf *to;
    int taken = neap_pool_take_small(neap_buf_pool(s->buf), s->bound - s->free, &to);
    if (taken < 0) return taken;
    if (to->capacity >= before) {
        neap_buf_release(to);
        return 0;
    }
    neap_slice_relocate(s, to, 0);
    neap_buf_release(to); /* the slice has its own count */
    return (int)(before - to->capacity);
}
