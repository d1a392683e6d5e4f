#include "base/slots.h"

#include <string.h>

#include "base/mem.h"
#include "base/panic.h"
#include "base/poison.h"

enum { GROW_BYTES = NEAP_TINY(64 * 1024, 16384) }; /* memory made usable at a time */

static bool reserve(struct neap_slots *t)
{
    size_t bytes = (size_t)t->limit * t->item_size;
    t->start = neap_mem_reserve(bytes);
    if (!t->start) return false;
    neap_root(t->start, bytes);
    t->items = t->start - (size_t)t->first * t->item_size;
    return true;
}

static bool grow(struct neap_slots *t)
{
    size_t from = (size_t)t->committed * t->item_size / NEAP_MEM_PAGE * NEAP_MEM_PAGE;
    size_t end = (size_t)t->limit * t->item_size;
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
    size_t bytes = (size_t)t->limit * t->item_size;
    if (t->start) {
        neap_no_root(t->start, bytes);
        neap_mem_unmap(t->start, bytes);
    }
    *t = (struct neap_slots){.first = t->first, .item_size = t->item_size, .limit = t->limit};
}
