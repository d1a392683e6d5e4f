#include "base/slots.h"

#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/panic.h"
#include "base/poison.h"

enum {
    GROW_BYTES = NEAP_TINY(64 * 1024, 16384), /* memory made usable at a time */
    COLOUR_BYTES = 64 * 1024,                 /* whole pages on every system */
    COLOURS = 255
};

/* Large tables are mapped one beside the other, or at multiples of 2 MiB. Of two at addresses that
 * are so alike, some processors keep but one in their nearest cache (AMD's looks a line up by a hash
 * of bits 12 to 27), and each use of one drives the other out: a slice took 11.6 ns or 15 to 30, by
 * chance. So there is room in front of each table, of another size each time, that is never used. */
static size_t next_colour(void)
{
    static _Atomic uint32_t made;
    uint32_t nth = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) % COLOURS;
    return (nth + 1) * (size_t)COLOUR_BYTES;
}

static size_t table_bytes(const struct neap_slots *t)
{
    return (size_t)t->limit * t->item_size;
}

static bool reserve(struct neap_slots *t)
{
    size_t ahead = next_colour(), bytes = table_bytes(t);
    uint8_t *p = neap_mem_reserve(ahead + bytes);
    if (!p) return false;
    t->ahead = (uint32_t)ahead;
    t->start = p + ahead;
    neap_root(t->start, bytes);
    t->items = t->start - (size_t)t->first * t->item_size;
    return true;
}

static bool grow(struct neap_slots *t)
{
    size_t from = (size_t)t->committed * t->item_size / NEAP_MEM_PAGE * NEAP_MEM_PAGE;
    size_t end = table_bytes(t);
    size_t to = from + GROW_BYTES < end ? from + GROW_BYTES : end;
    if (!neap_mem_commit(t->start + from, to - from)) return false;
    t->committed = (uint32_t)(to / t->item_size);
    return true;
}

/* The first slot is made with a generation that no handle has. */
static bool start(struct neap_slots *t)
{
    if (!t->start && !reserve(t)) return false;
    if (!grow(t)) return false;
    ((struct neap_slot *)neap_slots_nth(t, 0))->gen = UINT32_MAX - 1;
    t->count = 1;
    return true;
}

bool neap_slots_refill(struct neap_slots *t)
{
    if (t->free_head) return true;
    if (t->count == 0 && !start(t)) return false;
    if (t->count == t->limit) return false;
    if (t->count == t->committed && !grow(t)) return false;
    t->free_head = t->first + t->count++;
    return true;
}

void *neap_slots_take(struct neap_slots *t, uint32_t *slot)
{
    if (!neap_slots_refill(t)) return NULL;
    struct neap_slot *s = neap_slots_take_raw(t, t->item_size, slot);
    memset(s + 1, 0, t->item_size - sizeof *s);
    return s;
}

void neap_slots_give(struct neap_slots *t, uint32_t slot)
{
    neap_slots_give_item(t, neap_slots_at(t, slot), slot);
}

void neap_slots_end(struct neap_slots *t)
{
    neap_assert(t->live == 0, "a table ends when it is empty");
    if (t->start) {
        neap_no_root(t->start, table_bytes(t));
        neap_mem_unmap(t->start - t->ahead, t->ahead + table_bytes(t));
    }
    *t = (struct neap_slots){.first = t->first, .item_size = t->item_size, .limit = t->limit};
}
