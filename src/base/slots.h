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
 * The first member of an item is a struct neap_slot. Slot 0 is never handed out,
 * so 0 can mean "none" and the handle {0, 0} is always stale.
 * Limits: as many items as the table says. Thread: one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/panic.h"

enum { NEAP_SLOT_LAST_GEN = UINT32_MAX - 64 }; /* retires here: the last user's renames fit */

struct neap_slot {
    uint32_t gen;  /* ro: odd while in use */
    uint32_t next; /* private: the next free slot */
};

struct neap_slots {
    uint8_t *items;     /* ro: the table; NULL until the first take */
    uint32_t item_size; /* ro: bytes */
    uint32_t limit;     /* ro: items at most, slot 0 included */
    uint32_t count;     /* ro: slots ever used, slot 0 included */
    uint32_t committed; /* private: slots whose memory is usable */
    uint32_t free_head; /* private: the slot given back last */
    uint32_t live;      /* ro: slots in use */
};

#define NEAP_SLOTS(type, max)                                                                      \
    {                                                                                              \
        .item_size = sizeof(type), .limit = (max)                                                  \
    }

static inline void *neap_slots_at(const struct neap_slots *t, uint32_t slot)
{
    return t->items + (size_t)slot * t->item_size;
}

/* own: returns borrowed, until the slot is given back.  err: NULL when the handle is stale. */
static inline void *neap_slots_find(const struct neap_slots *t, uint32_t slot, uint32_t gen)
{
    if (slot >= t->count) return NULL;
    struct neap_slot *s = neap_slots_at(t, slot);
    return s->gen == gen && (gen & 1) ? s
                                      : NULL; /* a made-up handle may have the gen of a free slot */
}

/* err: NULL when the table is full or there is no memory. */
void *neap_slots_take(struct neap_slots *t, uint32_t *slot);

void neap_slots_give(struct neap_slots *t, uint32_t slot);

/* Make sure that a slot is free. err: false when the table is full or there is no memory. */
bool neap_slots_refill(struct neap_slots *t);

/* As neap_slots_take(), for a hot table in which a slot is free: `item_size` is a constant, and
 * the caller sets every field behind the head, since nothing is zeroed. */
static inline void *neap_slots_take_raw(struct neap_slots *t, size_t item_size, uint32_t *slot)
{
    struct neap_slot *s = (struct neap_slot *)(t->items + t->free_head * item_size);
    *slot = t->free_head;
    t->free_head = s->next;
    t->live++;
    neap_assert(!(s->gen & 1), "a free slot has an even generation");
    s->gen++;
    s->next = 0;
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
