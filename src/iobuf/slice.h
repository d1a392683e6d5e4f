/* slice.h - counted views of bufs; the inside of what scripts hold as handles.
 *
 * A struct neap_slice is the descriptor: [base, bound) of a buf, with the free
 * prefix [free, base) that no other slice may claim. It lives in a table that
 * never moves. Scripts name it by slot and generation; C code of neap holds the
 * pointer. All live slices of a buf are linked, so a claim on bytes can be checked
 * against every other one; the walk is made only where an overlap is possible.
 *
 *     struct neap_slice *s = neap_slice_make(buf, free, base, bound);   // NULL: no memory
 *     neap_slice_end(s, &stats->slices_released);
 *
 * Limits: NEAP_SLICES_MAX live at once in a realm. Thread: the pool's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slots.h"
#include "iobuf/collector.h"
#include "iobuf/pool.h"

struct neap_slice {
    struct neap_slot head;
    struct neap_buf *buf;
    uint32_t free; /* offsets in the buf: free <= base <= bound <= capacity */
    uint32_t base;
    uint32_t bound;
    uint32_t prev; /* private: slots of its neighbours in the buf's list, 0: none */
    uint32_t next;
    uint32_t queued;      /* for whoever owns it: slot of the next slice in a queue */
    uint32_t track;       /* private to ledger.c: who watches it, 0: nobody */
    uint16_t clone : 1;   /* made by retain: may overlap another slice */
    uint16_t owned : 1;   /* by a queue of C: no handle holds it */
    uint16_t still : 1;   /* for whoever owns it: it must not move to another buf by itself */
    uint16_t held : 1;    /* private to ledger.c: its handle has no finalizer, but is held weakly */
    uint16_t unused : 12; /* 0; named, so that all is set at once */
    uint16_t
        idle_since; /* private to sweep.c: the turn; 0: a handle found it since its last look */
};

enum { NEAP_TRACK_KEPT = INT32_MAX }; /* nobody watches it, but its handle is not used again */

static inline struct neap_slice *neap_slice_of(uint32_t slot, uint32_t gen)
{
    uint32_t nth = slot - neap_here.slices.first;
    if (__builtin_expect(nth >= neap_here.slices.count, 0)) return NULL;
    struct neap_slice *s = (struct neap_slice *)neap_here.slices.start + nth;
    if (__builtin_expect(s->head.gen != gen || !(gen & 1), 0)) return NULL;
    s->idle_since = 0;
    return s;
}

static inline struct neap_slice *neap_slice_at(uint32_t slot)
{
    return (struct neap_slice *)neap_here.slices.items + slot;
}

static inline uint32_t neap_slice_slot(const struct neap_slice *s)
{
    return s->head.next;
}

static inline uint32_t neap_slice_bytes_count(const struct neap_slice *s)
{
    return s->bound - s->base;
}

static inline uint8_t *neap_slice_data(const struct neap_slice *s)
{
    return s->buf->mem + s->base;
}

/* A compiler would load both at once, and the processor then wait for the two stores that have just
 * made them (5 ns). */
static inline struct neap_handle neap_slice_handle(const struct neap_slice *s)
{
    uint32_t slot = neap_slice_slot(s);
    __asm__("" : "+r"(slot));
    return (struct neap_handle){slot, s->head.gen};
}

/* A live slice of [base, bound), retaining the buf. err: NULL, no memory. */
struct neap_slice *neap_slice_make(struct neap_buf *buf, uint32_t free, uint32_t base,
                                   uint32_t bound);

/* The slice may overlap another one from now on. */
static inline void neap_slice_mark_clone(struct neap_slice *s)
{
    s->buf->clones += !s->clone;
    s->clone = true;
}

/* How a slice ended; says which counter of its pool grows. */
enum neap_slice_ending { NEAP_RELEASED, NEAP_TAKEN, NEAP_DROPPED, NEAP_COLLECTED };

/* End the slice and release its buf. own: takes.  s may be another slice after this call. */
void neap_slice_end(struct neap_slice *s, enum neap_slice_ending ending);

/* For queues, whose slices lie in bufs that nobody else fills: n more bytes at the back; n
 * bytes fewer at the front; no bytes behind `bound`. */
static inline void neap_slice_grow(struct neap_slice *s, uint32_t n)
{
    neap_assert(n <= s->buf->capacity - s->bound, "a slice ends in its buf");
    s->buf->stats->bytes_referenced += n;
    s->bound += n;
}

void neap_slice_shift(struct neap_slice *s, uint32_t n);
void neap_slice_shrink_to(struct neap_slice *s, uint32_t bound);

/* private to ledger.c: a slice with a track is about to get another name. */
void neap_ledger_rename(const struct neap_slice *s);

/* private to ledger.c: it has got another handle. Returns NEAP_OK or NEAP_HOLD. */
int neap_ledger_moved(struct neap_slice *s);

/* Private to slice.c and coalesce.c: the buf's list of slices goes on at `slot` behind `prev`, or
 * begins there if that is 0. */
static inline void neap_buf_set_next(struct neap_buf *buf, uint32_t prev, uint32_t slot)
{
    if (prev)
        neap_slice_at(prev)->next = slot;
    else
        buf->extents = slot;
}

static inline void neap_slice_leave_list(struct neap_slice *s, struct neap_buf *buf)
{
    neap_buf_set_next(buf, s->prev, s->next);
    if (s->next) neap_slice_at(s->next)->prev = s->prev;
}

/* The caller becomes the owner: the handle that named it is stale from now on. */
static inline void neap_slice_own(struct neap_slice *s)
{
    if (__builtin_expect(s->track && s->track != NEAP_TRACK_KEPT, 0)) neap_ledger_rename(s);
    neap_slots_rename(&s->head);
    s->owned = true;
    neap_buf_unhold(s->buf);
}

/* Prefix and bytes move to offset `at` of another buf, which has room there; same handle. */
void neap_slice_relocate(struct neap_slice *s, struct neap_buf *to, uint32_t at);

/* The nth slot of the table, in use or not; from 1 to neap_here.slices.count - 1. */
static inline struct neap_slice *neap_slice_nth(uint32_t nth)
{
    return (struct neap_slice *)neap_here.slices.start + nth;
}

/* Count, and return NEAP_E_STALE or NEAP_E_THREAD. */
__attribute__((cold)) int neap_slice_stale(uint32_t slot);

/* Does a live slice other than `except`, or a reader's unread bytes, touch [from, to)? */
bool neap_buf_claimed(const struct neap_buf *buf, const struct neap_slice *except, uint32_t from,
                      uint32_t to);

/* The same question, answered without a walk where no overlap is possible. */
bool neap_slice_contested(const struct neap_slice *s, uint32_t from, uint32_t to);
