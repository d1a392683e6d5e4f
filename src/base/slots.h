/* slots.h - a table of things that scripts name by slot and generation.
 *
 * The table never moves: its address space is reserved once and made usable as
 * it grows. A handle is (slot, gen); a slot's generation is odd while it is in
 * use and moves on when it is given back, so an old handle finds nothing. A slot
 * whose generation is used up is retired, so no handle ever means two things.
 *
 *     struct neap_slots things = NEAP_SLOTS(struct thing, THING_LIMIT);
 *     uint32_t slot;
 *     struct thing *t = neap_slots_take(&things, &slot);    // zeroed behind its head
 *     ... neap_slots_find(&things, slot, gen) ...            // NULL: stale
 *     neap_slots_give(&things, slot);
 *
 * The first member of an item is a struct neap_slot. The first slot is never handed
 * out, so 0 can mean "none" and the handle {0, 0} is always stale. Slots are numbered from
 * `first` on, so that the handles of several tables can be told apart (iobuf/realm.h).
 * Limits: as many items as the table says. Thread: one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/panic.h"

enum { NEAP_CACHE_LINE = 64 }; /* bytes, on most machines: for items of a hot table */
enum { NEAP_SLOT_LAST_GEN = UINT32_MAX - 64 }; /* retires here: the last user's renames fit */

struct neap_slot {
    uint32_t gen;  /* ro: odd while in use */
    uint32_t next; /* ro: its own slot while in use; else private: the next free one */
};

struct neap_slots {
    uint8_t *items; /* private: where slot 0 stands, or would stand; NULL until the first take */
    uint8_t *start; /* private: where the first slot of the table stands */
    uint32_t first; /* ro: its number */
    uint32_t count; /* ro: slots ever used, the first included */
    uint32_t item_size; /* ro: bytes */
    uint32_t free_head; /* private: the slot given back last */
    uint32_t limit;     /* ro: items at most, the first slot included */
    uint32_t live;      /* ro: slots in use */
    uint32_t committed; /* private: slots whose memory is usable */
    uint32_t ahead;     /* private: bytes in front of `start`, reserved and never used */
};

#define NEAP_SLOTS(type, max)                                                                      \
    {                                                                                              \
        .item_size = sizeof(type), .limit = (max)                                                  \
    }

static inline void *neap_slots_at(const struct neap_slots *t, uint32_t slot)
{
    return t->items + (size_t)slot * t->item_size;
}

/* The nth slot of the table, in use or not; from 1 to t->count - 1. */
static inline void *neap_slots_nth(const struct neap_slots *t, uint32_t nth)
{
    return t->start + (size_t)nth * t->item_size;
}

/* own: returns borrowed, until the slot is given back.  err: NULL when the handle is stale. */
static inline void *neap_slots_find(const struct neap_slots *t, uint32_t slot, uint32_t gen)
{
    uint32_t nth = slot - t->first;
    if (nth >= t->count) return NULL;
    struct neap_slot *s = neap_slots_nth(t, nth);
    return s->gen == gen && (gen & 1) ? s
                                      : NULL; /* a made-up handle may have the gen of a free slot */
}

/* err: NULL when the table is full or there is no memory. */
void *neap_slots_take(struct neap_slots *t, uint32_t *slot);

void neap_slots_give(struct neap_slots *t, uint32_t slot);

/* Give the memory of an empty table back. Handles made so far may find something again. */
void neap_slots_end(struct neap_slots *t);

/* Make sure that a slot is free. err: false when the table is full or there is no memory. */
bool neap_slots_refill(struct neap_slots *t);

/* As neap_slots_take(), for a hot table in which a slot is free: `item_size` is a constant, and
 * the caller sets every field behind the head, since nothing is zeroed. */
static inline void *neap_slots_take_raw(struct neap_slots *t, size_t item_size, uint32_t *slot)
{
    struct neap_slot *s = (struct neap_slot *)(t->items + t->free_head * item_size);
    *slot = t->free_head;
    t->free_head = s->next;
    s->next = *slot;
    t->live++;
    neap_assert(!(s->gen & 1), "a free slot has an even generation");
    s->gen++;
    return s;
}

/* For who looks at many items before it gives some of them back: a hidden one is in use, but no
 * handle finds it. Shown again, it has its old name. */
static inline void neap_slots_hide(struct neap_slot *s)
{
    s->gen++;
}

static inline void neap_slots_show(struct neap_slot *s)
{
    s->gen--;
}

/* Put a hidden item in front of the free slots that begin at `chain`, unless it retires.
 * Returns where they begin then. */
static inline uint32_t neap_slots_chain(struct neap_slot *s, uint32_t slot, uint32_t chain)
{
    if (__builtin_expect(s->gen >= NEAP_SLOT_LAST_GEN, 0)) return chain;
    s->next = chain;
    return slot;
}

/* `count` items were given back, in a chain that ends in front of t->free_head. */
static inline void neap_slots_give_chain(struct neap_slots *t, uint32_t chain, uint32_t count)
{
    t->live -= count;
    t->free_head = chain;
}

/* As neap_slots_give(), for who has the item and its slot at hand. */
static inline void neap_slots_give_item(struct neap_slots *t, struct neap_slot *s, uint32_t slot)
{
    neap_assert(s->gen & 1, "a slot is given back once");
    neap_slots_hide(s);
    neap_slots_give_chain(t, neap_slots_chain(s, slot, t->free_head), 1);
}

/* The item stays, but handles made so far are stale. own: returns the new generation. */
static inline uint32_t neap_slots_rename(struct neap_slot *s)
{
    return s->gen += 2;
}
