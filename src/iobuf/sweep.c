#include "iobuf/sweep.h"

#include <time.h>

#include "base/panic.h"
#include "base/poison.h"

enum {
    BEGIN_BYTES = 1 << 17,            /* live in a pool, before it is worth a look */
    BEGIN_TIMES = 4,                  /* what its slices stand for, as much as that must be live */
    WASTE_TIMES = 8,                  /* the same for one buf */
    LOOK_SLICES = NEAP_TINY(4096, 8), /* in one turn */
    MOVE_BYTES = 128 << 10,
    MOVE_US = NEAP_LONGER(400, 400000), /* moving ends after this, but for one buf */
    REST_TURNS = 64                     /* after a look at all slices that found nothing to move */
};

static struct neap_sweep_state *state(void)
{
    return &neap_here.realm->sweep;
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static bool wasteful(const struct neap_pool *pool)
{
    uint64_t live = neap_pool_bytes_live(pool);
    return pool->detach_after && !pool->closed && live >= BEGIN_BYTES &&
           live > BEGIN_TIMES * pool->stats.bytes_referenced;
}

/* The next pool that wastes much, or NULL. */
static struct neap_pool *next_pool(void)
{
    struct neap_sweep_state *w = state();
    for (uint32_t i = 1; i < neap_pools_count(); i++) {
        if (++w->pool_nth >= neap_pools_count()) w->pool_nth = 1;
        struct neap_pool *pool = neap_pool_nth(w->pool_nth);
        if (pool && wasteful(pool)) return pool;
    }
    return NULL;
}

static uint8_t turns_to_wait(const struct neap_pool *pool)
{
    bool full = pool->soft && neap_pool_bytes_live(pool) >= pool->soft;
    return full ? 1 : pool->detach_after;
}

/* So many at least: after UINT16_MAX it is 0 again. */
static uint16_t idle_turns(const struct neap_slice *s)
{
    const struct neap_sweep_state *w = state();
    if (!s->idle_since) return 0;
    uint16_t turns = (uint16_t)(w->this_turn - s->idle_since);
    return w->this_turn < s->idle_since ? (uint16_t)(turns - 1) : turns; /* there is no turn 0 */
}

/* The slices of a buf go into the batch, if all of them may move now and it is worth it. */
static void consider(const struct neap_buf *buf, uint8_t turns)
{
    struct neap_sweep_state *w = state();
    uint32_t count = 0, most = NEAP_MOVE_SLICES - w->batch_count;
    uint64_t bytes = 0;
    bool idle = true;
    for (uint32_t slot = buf->extents; slot; slot = neap_slice_at(slot)->next) {
        const struct neap_slice *s = neap_slice_at(slot);
        bytes += s->bound - s->free;
        idle = idle && idle_turns(s) >= turns;
        if (s->owned || s->still || count == most || bytes * WASTE_TIMES >= buf->capacity) return;
        w->batch[w->batch_count + count++] = slot;
    }
    if (count != buf->refs) return;
    w->found = true; /* now or later */
    if (!idle || w->batch_bytes + bytes > MOVE_BYTES) return;
    w->batch_count += count;
    w->batch_bytes += (uint32_t)bytes;
}

/* Nobody touched it since the last look, or else it is idle from now on. Each buf is considered
 * once, at its first slice. */
static void look_at(struct neap_slice *s, const struct neap_pool *pool, uint8_t turns)
{
    if (!(s->head.gen & 1) || neap_buf_pool(s->buf) != pool) return;
    if (!s->idle_since) s->idle_since = state()->this_turn;
    if (s->buf->extents == neap_slice_slot(s)) consider(s->buf, turns);
}

static void look_at_some(const struct neap_pool *pool)
{
    struct neap_sweep_state *w = state();
    uint8_t turns = turns_to_wait(pool);
    for (int i = 0; i < LOOK_SLICES && w->cursor < neap_here.slices.count; i++)
        look_at(neap_slice_nth(w->cursor++), pool, turns);
    if (w->cursor < neap_here.slices.count) return;
    if (!w->found) w->rest_turns = REST_TURNS;
    w->cursor = 1;
    w->found = false;
}

/* All slices of one buf, so that it is free. Returns how many. */
static uint32_t move_buf(const uint32_t *slots, uint32_t count, struct neap_buf *to, uint32_t *at)
{
    struct neap_buf *from = neap_slice_at(slots[0])->buf;
    struct neap_pool_stats *stats = from->stats;
    uint32_t capacity = from->capacity, before = *at, moved = 0;
    for (; moved < count && neap_slice_at(slots[moved])->buf == from; moved++) {
        struct neap_slice *s = neap_slice_at(slots[moved]);
        uint32_t bytes = s->bound - s->free;
        neap_slice_relocate(s, to, *at);
        *at += bytes;
    }
    stats->slices_detached += moved;
    stats->bytes_detached += capacity - (*at - before);
    return moved;
}

static void move_batch(struct neap_pool *pool)
{
    struct neap_sweep_state *w = state();
    struct neap_buf *to;
    uint64_t most = pool->limit ? pool->limit : UINT64_MAX; /* more comes back than is taken */
    if (neap_pool_take_small_within(pool, w->batch_bytes, most, &to) < 0) return;
    uint64_t until_us = now_us() + MOVE_US;
    uint32_t at = 0;
    for (uint32_t i = 0; i < w->batch_count && now_us() < until_us;)
        i += move_buf(w->batch + i, w->batch_count - i, to, &at);
    neap_buf_release(to);
}

void neap_slices_sweep(void)
{
    if (!neap_realm_any()) return;
    struct neap_sweep_state *w = state();
    if (++w->this_turn == 0) w->this_turn = 1;
    if (w->rest_turns) {
        w->rest_turns--;
        return;
    }
    struct neap_pool *pool = next_pool();
    if (!pool) return;
    w->batch_count = w->batch_bytes = 0;
    look_at_some(pool);
    if (w->batch_count) move_batch(pool);
}
