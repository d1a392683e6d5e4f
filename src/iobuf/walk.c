/* walk.c - what is live, listed for tools: slices with their origin, bufs of a pool. */
#include "iobuf/ledger.h"
#include "iobuf/slab.h"

static uint32_t detached_bytes(const struct neap_slice *s)
{
    size_t size = s->bound - s->free;
    if (!s->buf->slab || size > NEAP_CLASS_MAX_BYTES) return 0;
    uint32_t bytes = neap_class_bytes(neap_class_above(size));
    return bytes < s->buf->capacity ? bytes : 0;
}

static struct neap_extent extent_of(const struct neap_slice *s, uint32_t slot)
{
    const struct neap_buf *buf = s->buf;
    struct neap_extent extent = {.slot = slot,
                                 .gen = s->head.gen,
                                 .free = s->free,
                                 .base = s->base,
                                 .bound = s->bound,
                                 .buf = buf->extents,
                                 .buf_bytes = buf->capacity,
                                 .holders = buf->refs,
                                 .detached = detached_bytes(s),
                                 .owned = s->owned,
                                 .read_only = !buf->slab};
    neap_ledger_places(s, &extent.born, &extent.last);
    return extent;
}

uint32_t neap_slices_walk(struct neap_extent *extents, uint32_t most)
{
    uint32_t found = 0;
    for (uint32_t nth = 1; nth < neap_here.slices.count; nth++) {
        const struct neap_slice *s = neap_slice_nth(nth);
        if (!(s->head.gen & 1)) continue;
        if (found < most) extents[found] = extent_of(s, neap_slice_slot(s));
        found++;
    }
    return found;
}

static uint64_t payload_of(const struct neap_buf *buf, uint64_t *referenced)
{
    uint64_t payload = 0;
    for (uint32_t at = buf->extents; at; at = neap_slice_at(at)->next) {
        const struct neap_slice *s = neap_slice_at(at);
        payload += s->bound - s->base;
        *referenced += s->bound - s->free;
    }
    return payload;
}

int neap_pool_use(uint32_t slot, uint32_t gen, uint64_t *bytes_payload, uint64_t *bytes_pinned)
{
    const struct neap_pool *pool = neap_pool_of(slot, gen);
    if (!pool)
        return neap_visit(slot) ? neap_leave(neap_pool_use(slot, gen, bytes_payload, bytes_pinned))
                                : neap_missing(slot);
    *bytes_payload = *bytes_pinned = 0;
    for (const struct neap_slab *slab = pool->slabs; slab; slab = slab->after) {
        for (uint32_t i = 0; i < slab->carved; i++) {
            const struct neap_buf *buf = &slab->bufs[i];
            uint64_t referenced = 0;
            if (!buf->refs || !buf->extents) continue;
            *bytes_payload += payload_of(buf, &referenced);
            if (referenced < buf->capacity) *bytes_pinned += buf->capacity - referenced;
        }
    }
    return NEAP_OK;
}

int neap_pool_walk(uint32_t slot, uint32_t gen, struct neap_live_buf *bufs, uint32_t most)
{
    const struct neap_pool *pool = neap_pool_of(slot, gen);
    if (!pool)
        return neap_visit(slot) ? neap_leave(neap_pool_walk(slot, gen, bufs, most))
                                : neap_missing(slot);
    uint32_t found = 0;
    for (const struct neap_slab *slab = pool->slabs; slab; slab = slab->after) {
        for (uint32_t i = 0; i < slab->carved; i++) {
            const struct neap_buf *buf = &slab->bufs[i];
            if (!buf->refs) continue;
            if (found < most)
                bufs[found] = (struct neap_live_buf){buf->extents, buf->capacity, buf->refs,
                                                     buf->unread_from, buf->unread_to};
            found++;
        }
    }
    return (int)found;
}
