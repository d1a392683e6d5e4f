/* model_audit.c - what must hold between two operations: each slice is where the model has it and
 * shows the model's bytes, each buf is held by just those who hold it, and the counters add up. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { HOLDERS = 4096, SHOWN = 64 };

/* Who holds a buf: a slice, an allocator, a reader, a writer. */
static struct holder {
    struct neap_buf *buf;
    bool handle; /* of a script, as the collector counts it */
} holders[HOLDERS];
static uint32_t holder_count;

static void hold(struct neap_buf *buf, bool handle)
{
    CHECK(holder_count < HOLDERS);
    holders[holder_count++] = (struct holder){buf, handle};
}

static bool same(const struct model_buf *buf, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        if (buf->known[i] && buf->bytes[i] != buf->real->mem[i]) return false;
    return true;
}

static void audit_slice(const struct model_slice *s)
{
    struct neap_slice_info info;
    CHECK(neap_slice_info(AT(s->handle), &info) == NEAP_OK);
    CHECK(info.free == s->free && info.base == s->base && info.bound == s->bound);
    CHECK(info.buf_bytes == s->buf->capacity && info.read_only == !s->buf->pool);
    CHECK(neap_slice_of(AT(s->handle))->buf == s->buf->real);
    if (s->bound - s->free <= 2 * SHOWN) {
        CHECK(same(s->buf, s->free, s->bound));
    } else { /* the ends: all of it is compared when it goes */
        CHECK(same(s->buf, s->free, s->free + SHOWN));
        CHECK(same(s->buf, s->bound - SHOWN, s->bound));
    }
}

static void audit_reader(struct model_reader *m)
{
    struct neap_reader *r = neap_reader_of(AT(m->handle));
    CHECK(r && r->end - r->start == m->unread.size);
    CHECK(neap_reader_buffered(AT(m->handle)) == (int)m->unread.size);
    if (!r->buf) {
        CHECK(m->unread.size == 0);
        return;
    }
    hold(r->buf, false);
    CHECK(r->buf->unread_from == r->start && r->buf->unread_to == r->end);
    CHECK(!m->unread.size || memcmp(r->buf->mem + r->start, m->unread.at, m->unread.size) == 0);
}

static void audit_writer(struct model_writer *m)
{
    CHECK(m->real.queued == m->queued.size);
    if (m->real.small) hold(m->real.small, false);
    uint32_t at = 0;
    for (uint32_t slot = m->real.first; slot; slot = neap_slice_at(slot)->queued) {
        const struct neap_slice *s = neap_slice_at(slot);
        uint32_t n = neap_slice_bytes_count(s);
        CHECK(at + n <= m->queued.size);
        CHECK(!n || memcmp(neap_slice_data(s), m->queued.at + at, n) == 0);
        at += n;
    }
    CHECK(at == m->queued.size);
}

static int by_buf(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct holder *)a)->buf;
    uintptr_t y = (uintptr_t)((const struct holder *)b)->buf;
    return (x > y) - (x < y);
}

/* The slices in a buf's own list. */
static uint32_t extents_of(const struct neap_buf *buf)
{
    uint32_t n = 0, clones = 0, before = 0;
    for (uint32_t slot = buf->extents; slot; slot = neap_slice_at(slot)->next) {
        const struct neap_slice *s = neap_slice_at(slot);
        CHECK(s->buf == buf && s->prev == before && (s->head.gen & 1));
        CHECK(s->free <= s->base && s->base <= s->bound && s->bound <= buf->capacity);
        clones += s->clone;
        before = slot;
        n++;
    }
    CHECK(clones == buf->clones);
    return n;
}

/* All slices that there are, the model's and those that C owns. Returns how many have a handle
 * of the model. */
static void audit_table(uint64_t *piece_bytes)
{
    uint32_t live = 0, others = 0;
    for (uint32_t slot = 1; slot < neap_here.slices.count; slot++) {
        const struct neap_slice *s = neap_slice_at(slot);
        if (!(s->head.gen & 1)) continue;
        live++;
        hold(s->buf, !s->owned);
        others += !s->owned;
        if (!s->owned) *piece_bytes += neap_slice_bytes_count(s);
    }
    CHECK(live == neap_here.slices.live && others >= model.slice_count);
    for (uint32_t i = 0; i < model.slice_count; i++) *piece_bytes -= slice_size(&model.slices[i]);
}

/* One buf and all who hold it. */
static uint64_t audit_holders(const struct holder *first, uint32_t count)
{
    const struct neap_buf *buf = first->buf;
    bool handle = false;
    for (uint32_t i = 0; i < count; i++) handle |= first[i].handle;
    CHECK(buf->refs == count && extents_of(buf) <= count);
    return handle && buf->slab ? buf->capacity : 0;
}

static void audit_pool(struct model_pool *pool, uint64_t live_bytes)
{
    if (pool->gone) return;
    struct neap_pool_stats s;
    CHECK(neap_pool_stats(AT(pool->handle), &s) == NEAP_OK);
    CHECK(s.bytes_live == live_bytes && s.bytes_held == s.bytes_free + s.bytes_live);
    CHECK(s.slices_made == s.slices_released + s.slices_taken + s.slices_dropped +
                               s.slices_collected + s.slices_live);
    CHECK(s.bufs_allocated == s.bufs_free + s.bufs_live + s.dropped_large + s.dropped_cap +
                                  s.dropped_decay + s.dropped_trim + s.dropped_closed);
    CHECK(!pool->options.limit || s.bytes_held <= (uint64_t)pool->options.limit);
    CHECK(!pool->closed || s.bytes_free == 0);
    uint64_t referenced = 0, slices = 0;
    for (uint32_t slot = 1; slot < neap_here.slices.count; slot++) {
        const struct neap_slice *one = neap_slice_at(slot);
        if (!(one->head.gen & 1) || !one->buf->slab || one->buf->slab->pool != pool->real) continue;
        referenced += one->bound - one->free;
        slices++;
    }
    CHECK(s.bytes_referenced == referenced && s.slices_live == slices);
}

/* Each buf by itself, and the live bytes of each pool. */
static void audit_bufs(uint64_t *held, uint64_t live[POOLS])
{
    qsort(holders, holder_count, sizeof *holders, by_buf);
    for (uint32_t i = 0, end; i < holder_count; i = end) {
        for (end = i; end < holder_count && holders[end].buf == holders[i].buf;) end++;
        *held += audit_holders(holders + i, end - i);
        for (uint32_t p = 0; p < model.pool_count && holders[i].buf->slab; p++)
            if (!model.pools[p].gone && model.pools[p].real == holders[i].buf->slab->pool)
                live[p] += holders[i].buf->capacity;
    }
}

void model_audit(void)
{
    uint64_t held = 0, pieces = 0, live[POOLS] = {0};
    holder_count = 0;
    for (uint32_t i = 0; i < model.slice_count; i++) audit_slice(&model.slices[i]);
    for (uint32_t i = 0; i < model.reader_count; i++) audit_reader(&model.readers[i]);
    for (uint32_t i = 0; i < model.writer_count; i++) audit_writer(&model.writers[i]);
    for (uint32_t i = 0; i < model.allocator_count; i++)
        if (model.allocators[i].buf) hold(model.allocators[i].buf->real, true);
    audit_table(&pieces);
    for (uint32_t i = 0; i < model.buffer_count; i++) pieces -= model.buffers[i].bytes.size;
    CHECK(pieces == 0);
    audit_bufs(&held, live);
    CHECK(held == neap_here.held_by_handles);
    for (uint32_t i = 0; i < model.pool_count; i++) audit_pool(&model.pools[i], live[i]);
}
