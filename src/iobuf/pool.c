#include "iobuf/pool.h"

#include <string.h>

#include "base/mem.h"
#include "iobuf/collector.h"
#include "iobuf/decay.h"
#include "iobuf/returns.h"
#include "iobuf/slab.h"

enum {
    RETAIN_BYTES = NEAP_TINY(64 << 20, 4 * NEAP_BUF_MIN_BYTES), /* default cap on free bytes */
    SOFT_PART = 4,    /* of a limit that is left to others where readers pause */
    RESERVE_PART = 4, /* of a limit that the reserve may be at most */
    POISON_BYTE = 0xdb,
    LOOK_AT = NEAP_TINY(8, 2),            /* free bufs of one bin that a request looks at */
    REUSE_CLASSES = 2 * NEAP_CLASS_STEPS, /* a free buf serves requests down to a fourth of it */
};

const struct neap_slots neap_no_pools = NEAP_SLOTS(struct neap_pool, NEAP_POOL_LIMIT);

struct neap_pool *neap_pool_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&neap_here.realm->pools, slot, gen);
}

uint32_t neap_pools_count(void)
{
    return neap_here.realm->pools.count;
}

struct neap_pool *neap_pool_nth(uint32_t nth)
{
    struct neap_pool *pool = neap_slots_nth(&neap_here.realm->pools, nth);
    return pool->head.gen & 1 ? pool : NULL;
}

static uint64_t bufs_live(const struct neap_pool *pool)
{
    return pool->taken_count - pool->put_count;
}

/* ---- bins ---- */

static void bin_push(struct neap_pool *pool, struct neap_buf *buf)
{
    uint32_t bin = buf->slab->class_index;
    buf->next = pool->bins[bin];
    pool->bins[bin] = buf;
    if (!buf->next) pool->bin_mask[bin / 64] |= 1ull << bin % 64;
    pool->stats.bytes_free += buf->capacity;
}

/* The first non-empty bin at or above `from`, or NEAP_CLASS_COUNT. */
static uint32_t bin_from(const struct neap_pool *pool, uint32_t from)
{
    for (uint32_t word = from / 64; word < NEAP_CLASS_COUNT / 64; word++) {
        uint64_t mask = pool->bin_mask[word];
        if (word == from / 64) mask &= ~0ull << from % 64;
        if (mask) return word * 64 + (uint32_t)__builtin_ctzll(mask);
    }
    return NEAP_CLASS_COUNT;
}

/* Without classes the bin that `size` falls into holds smaller and larger bufs. Bring a
 * large enough one to its front, if one is among the first few: looking at all would make
 * a miss as slow as the bin is long. */
static bool bring_fit(struct neap_pool *pool, uint32_t bin, uint32_t size)
{
    struct neap_buf **at = &pool->bins[bin];
    for (int looked = 0; *at && looked < LOOK_AT; looked++, at = &(*at)->next) {
        struct neap_buf *buf = *at;
        if (buf->capacity < size) continue;
        *at = buf->next;
        buf->next = pool->bins[bin];
        pool->bins[bin] = buf;
        return true;
    }
    return false;
}

/* A free buf of at least `size` bytes, the smallest class first, up to the bin `last`. */
static struct neap_buf *reuse(struct neap_pool *pool, uint32_t size, uint32_t last)
{
    uint32_t low = neap_class_below(size);
    if (bring_fit(pool, low, size)) return neap_bin_pop(pool, low);
    uint32_t bin = bin_from(pool, low + 1);
    return bin <= last && bin < NEAP_CLASS_COUNT ? neap_bin_pop(pool, bin) : NULL;
}

/* ---- held bytes ---- */

static void drop(struct neap_pool *pool, struct neap_buf *buf, uint64_t *reason)
{
    pool->stats.bytes_held -= buf->capacity;
    pool->bufs_held--;
    (*reason)++;
    neap_slab_drop(buf);
}

uint64_t neap_pool_shrink(struct neap_pool *pool, uint64_t keep, uint64_t budget, uint64_t *reason)
{
    uint64_t gone = 0;
    bool strict = reason != &pool->stats.dropped_decay;
    for (uint32_t bin = NEAP_CLASS_COUNT; bin-- > 0;) {
        while (pool->bins[bin] && pool->stats.bytes_free > keep && gone < budget) {
            uint64_t capacity = pool->bins[bin]->capacity;
            if (!strict && pool->stats.bytes_free - capacity < keep) break;
            drop(pool, neap_bin_pop(pool, bin), reason);
            gone += capacity;
        }
    }
    return gone;
}

/* Room for `bytes` more under the pool's limit, at the cost of free bufs. At most `most` bytes may
 * be live then, which is no more than the limit. */
static bool make_room(struct neap_pool *pool, uint64_t bytes, uint64_t most)
{
    uint64_t live = neap_pool_bytes_live(pool) + bytes;
    if (live > most) return false;
    if (!pool->limit || pool->stats.bytes_held + bytes <= pool->limit) return true;
    uint64_t keep = live < pool->limit ? pool->limit - live : 0;
    neap_pool_shrink(pool, keep, UINT64_MAX, &pool->stats.dropped_trim);
    return pool->stats.bytes_held + bytes <= pool->limit;
}

/* ---- taking and putting ---- */

static int make(struct neap_pool *pool, uint32_t size, bool classes, uint64_t most,
                struct neap_buf **buf)
{
    if (!make_room(pool, size, most)) return NEAP_E_LIMIT;
    *buf = neap_slab_cut(pool, size, classes && size <= NEAP_CLASS_MAX_BYTES);
    if (!*buf) return NEAP_E_MEMORY;
    neap_calibrate_made(pool, size);
    pool->stats.bufs_allocated++;
    pool->stats.bytes_allocated += size;
    pool->stats.bytes_held += size;
    pool->bufs_held++;
    return NEAP_OK;
}

/* Under a limit a free buf that is larger than asked for may be too large. */
static struct neap_buf *reuse_within(struct neap_pool *pool, uint32_t size, uint32_t last,
                                     uint64_t most)
{
    struct neap_buf *buf = reuse(pool, size, last);
    if (!buf || neap_pool_bytes_live(pool) <= most) return buf; /* it is live already */
    bin_push(pool, buf);
    return NULL;
}

/* What may be live but for the reserve. */
static uint64_t most_live(const struct neap_pool *pool)
{
    if (!pool->limit) return UINT64_MAX;
    return pool->limit > pool->reserve ? pool->limit - pool->reserve : 0;
}

static int take_rounded(struct neap_pool *pool, uint32_t size, bool classes, uint64_t most,
                        struct neap_buf **out)
{
    if (pool->closed) return NEAP_E_CLOSED;
    uint32_t last = classes ? neap_class_below(size) + REUSE_CLASSES : NEAP_CLASS_COUNT;
    struct neap_buf *buf = reuse_within(pool, size, last, most);
    int result = NEAP_OK;
    if (!buf) result = make(pool, size, classes, most, &buf);
    if (result < 0) return result;
    neap_calibrate_asked(pool, size);
    neap_pool_hand_out(pool, buf);
    *out = buf;
    return NEAP_OK;
}

static uint32_t class_rounded(size_t size)
{
    if (size > NEAP_CLASS_MAX_BYTES || NEAP_MODE_MALLOC) return (uint32_t)size;
    return neap_class_bytes(neap_class_above(size));
}

uint32_t neap_pool_rounded(const struct neap_pool *pool, size_t size)
{
    if (size <= pool->min_size) return pool->min_size;
    if (size > NEAP_BUF_MAX_BYTES) return 0;
    size_t rounded = (size + pool->min_size - 1) / pool->min_size * pool->min_size;
    return rounded <= NEAP_BUF_MAX_BYTES ? (uint32_t)rounded : 0;
}

uint32_t neap_pool_buf_bytes(const struct neap_pool *pool, size_t size)
{
    uint32_t rounded = neap_pool_rounded(pool, size);
    return rounded && pool->classes ? class_rounded(rounded) : rounded;
}

int neap_pool_take_within(struct neap_pool *pool, size_t size, uint64_t most, struct neap_buf **buf)
{
    uint32_t rounded = neap_pool_buf_bytes(pool, size);
    if (!rounded) return NEAP_E_OVERSIZED;
    if (pool->limit && most > pool->limit) most = pool->limit;
    return take_rounded(pool, rounded, pool->classes, most, buf);
}

static int refused_at_limit(struct neap_pool *pool, int result)
{
    if (result != NEAP_E_LIMIT) return result;
    pool->stats.limit_hits++;
    return result;
}

int neap_pool_take_other(struct neap_pool *pool, size_t size, struct neap_buf **buf)
{
    return refused_at_limit(pool, neap_pool_take_within(pool, size, most_live(pool), buf));
}

int neap_pool_take_small_within(struct neap_pool *pool, size_t size, uint64_t most,
                                struct neap_buf **buf)
{
    if (size > NEAP_BUF_MAX_BYTES) return NEAP_E_OVERSIZED;
    return take_rounded(pool, class_rounded(size), true, most, buf);
}

int neap_pool_take_small(struct neap_pool *pool, size_t size, struct neap_buf **buf)
{
    return refused_at_limit(pool, neap_pool_take_small_within(pool, size, most_live(pool), buf));
}

static void count_pool(struct neap_pool_stats *sum, const struct neap_pool *pool);

static void maybe_destroy(struct neap_pool *pool)
{
    if (pool->keepers || !pool->handle_gone || bufs_live(pool)) return;
    count_pool(&neap_here.realm->ended_pools, pool);
    neap_assert(pool->stats.bytes_held == 0, "a pool without live bufs ends with none");
    neap_slots_give(&neap_here.realm->pools, pool->slot);
}

/* So it may be when the limit was lowered: nothing is kept until it is so no more (cap is 0). */
static bool above_limit(const struct neap_pool *pool)
{
    return pool->limit && pool->stats.bytes_held > pool->limit;
}

/* A buf that a pool does not simply keep. Its pool may be gone after this call. */
static __attribute__((noinline)) void put_other(struct neap_pool *pool, struct neap_buf *buf)
{
    if (pool->poison) memset(buf->mem, POISON_BYTE, buf->capacity);
    if (buf->account) neap_account_discharge(buf);
    if (!pool->cap && !above_limit(pool)) pool->cap = pool->retain;
    if (pool->closed) {
        drop(pool, buf, &pool->stats.dropped_closed);
        maybe_destroy(pool);
    } else if (buf->capacity > pool->keep_largest || NEAP_MODE_MALLOC) {
        drop(pool, buf, &pool->stats.dropped_large);
    } else if (!pool->cap) {
        drop(pool, buf, &pool->stats.dropped_trim);
    } else if (pool->stats.bytes_free + buf->capacity > pool->cap) {
        pool->dropped_bytes += buf->capacity;
        drop(pool, buf, &pool->stats.dropped_cap);
    } else {
        neap_poison(buf->mem, buf->capacity);
        bin_push(pool, buf);
    }
}

void neap_pool_put(struct neap_buf *buf)
{
    if (__builtin_expect(!buf->slab, 0)) {
        neap_foreign_put(buf);
        return;
    }
    struct neap_pool *pool = buf->slab->pool;
    neap_assert(!buf->extents, "a free buf has no slices");
    pool->put_count++;
    bool keep =
        buf->capacity <= pool->keep_largest && pool->stats.bytes_free + buf->capacity <= pool->cap;
    if (__builtin_expect(pool->closed || pool->poison || !keep || buf->account, 0) ||
        NEAP_MODE_MALLOC) {
        put_other(pool, buf);
        return;
    }
    neap_poison(buf->mem, buf->capacity);
    bin_push(pool, buf);
}

/* ---- the life of a pool ---- */

static bool whole(double n, double least, double most)
{
    return n >= least && n <= most && n == (double)(uint64_t)n;
}

static bool settings_valid(const struct neap_pool_options *options)
{
    return whole(options->limit, 0, 0x1p53) && whole(options->soft_limit, 0, 0x1p53) &&
           whole(options->retain, 0, 0x1p53) && whole(options->detach_after, 0, UINT8_MAX);
}

/* What may change later. */
static void set(struct neap_pool *pool, const struct neap_pool_options *options)
{
    pool->limit = (uint64_t)options->limit;
    pool->soft = options->soft_limit > 0 ? (uint64_t)options->soft_limit
                                         : pool->limit - pool->limit / SOFT_PART;
    if (pool->limit && pool->soft > pool->limit) pool->soft = pool->limit;
    pool->retain = options->retain > 0 ? (uint64_t)options->retain : RETAIN_BYTES;
    pool->keep_largest = NEAP_CLASS_MAX_BYTES;
    pool->fixed = options->fixed;
    pool->detach_after = (uint8_t)options->detach_after;
    pool->usual_below = pool->limit ? 0 : pool->min_size + 1;
    make_room(pool, 0, UINT64_MAX);
    pool->cap = above_limit(pool) ? 0 : pool->retain;
}

static int create(const struct neap_pool_options *options, struct neap_handle *handle)
{
    uint32_t slot;
    struct neap_pool *pool = neap_slots_take(&neap_here.realm->pools, &slot);
    if (!pool) return NEAP_E_MEMORY;
    pool->slot = slot;
    pool->keepers = 1;
    pool->min_size = options->min_size > 0 ? (uint32_t)options->min_size : NEAP_BUF_MIN_BYTES;
    pool->classes = options->classes;
    pool->usual_size = options->classes ? class_rounded(pool->min_size) : pool->min_size;
    pool->usual_bin = neap_class_below(pool->usual_size);
    pool->poison = options->poison || NEAP_MODE_POISON;
    set(pool, options);
    *handle = (struct neap_handle){slot, pool->head.gen};
    return NEAP_OK;
}

int neap_pool_create(const struct neap_pool_options *options, struct neap_handle *handle)
{
    if (!whole(options->min_size, 0, NEAP_BUF_MAX_BYTES)) return NEAP_E_RANGE;
    if (!settings_valid(options)) return NEAP_E_RANGE;
    if (!options->shared) return neap_realm_mine() ? create(options, handle) : NEAP_E_MEMORY;
    int result = neap_visit_new();
    return result < 0 ? result : neap_leave(create(options, handle));
}

static bool fits_limit(uint64_t reserve, uint64_t limit)
{
    return !limit || reserve <= limit / RESERVE_PART;
}

int neap_pool_reserve(struct neap_pool *pool, uint32_t max_read)
{
    uint32_t reserve = neap_pool_buf_bytes(pool, (size_t)max_read + NEAP_BUF_MIN_BYTES);
    if (!reserve) reserve = NEAP_BUF_MAX_BYTES;
    if (!fits_limit(reserve, pool->limit)) return NEAP_E_LIMIT;
    if (reserve > pool->reserve) pool->reserve = reserve;
    return NEAP_OK;
}

int neap_pool_configure(uint32_t slot, uint32_t gen, const struct neap_pool_options *options)
{
    struct neap_pool *pool = neap_pool_of(slot, gen);
    if (!pool)
        return neap_visit(slot) ? neap_leave(neap_pool_configure(slot, gen, options))
                                : neap_missing(slot);
    if (!settings_valid(options)) return NEAP_E_RANGE;
    if (!fits_limit(pool->reserve, (uint64_t)options->limit)) return NEAP_E_LIMIT;
    set(pool, options);
    return NEAP_OK;
}

int neap_pool_settings(uint32_t slot, uint32_t gen, struct neap_pool_settings *settings)
{
    struct neap_pool *pool = neap_pool_of(slot, gen);
    if (!pool)
        return neap_visit(slot) ? neap_leave(neap_pool_settings(slot, gen, settings))
                                : neap_missing(slot);
    *settings = (struct neap_pool_settings){
        .min_size = pool->min_size,
        .limit = (double)pool->limit,
        .soft_limit = (double)pool->soft,
        .reserve = (double)pool->reserve,
        .retain = (double)pool->retain,
        .retain_now = (double)pool->cap,
        .keep_largest = pool->keep_largest,
        .detach_after = pool->detach_after,
        .fixed = pool->fixed,
    };
    return NEAP_OK;
}

static void shut(struct neap_pool *pool)
{
    pool->closed = true;
    neap_pool_shrink(pool, 0, UINT64_MAX, &pool->stats.dropped_closed);
}

void neap_pool_keep(struct neap_pool *pool)
{
    pool->keepers++;
}

void neap_pool_unkeep(struct neap_pool *pool)
{
    neap_assert(pool->keepers > 0, "a pool is let go as often as it was kept");
    if (--pool->keepers) return;
    shut(pool);
    maybe_destroy(pool);
}

int neap_pool_close(uint32_t slot, uint32_t gen)
{
    struct neap_pool *pool = neap_pool_of(slot, gen);
    if (!pool)
        return neap_visit(slot) ? neap_leave(neap_pool_close(slot, gen)) : neap_missing(slot);
    shut(pool);
    return NEAP_OK;
}

int neap_pool_release(uint32_t slot, uint32_t gen)
{
    struct neap_pool *pool = neap_pool_of(slot, gen);
    if (!pool)
        return neap_visit(slot) ? neap_leave(neap_pool_release(slot, gen)) : neap_missing(slot);
    neap_slots_rename(&pool->head);
    pool->handle_gone = true;
    neap_pool_unkeep(pool);
    return NEAP_OK;
}

void neap_pool_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    neap_collector_finalized();
    neap_pool_release(h->slot, h->gen);
}

static void read_stats(const struct neap_pool *pool, struct neap_pool_stats *stats)
{
    *stats = pool->stats;
    stats->bufs_live = bufs_live(pool);
    stats->bufs_free = pool->bufs_held - bufs_live(pool);
    stats->bufs_reused = pool->taken_count - pool->stats.bufs_allocated;
    stats->bytes_live = neap_pool_bytes_live(pool);
    stats->slices_live = stats->slices_made - stats->slices_released - stats->slices_taken -
                         stats->slices_dropped - stats->slices_collected;
}

int neap_pool_stats(uint32_t slot, uint32_t gen, struct neap_pool_stats *stats)
{
    neap_returns_take();
    struct neap_pool *pool = neap_pool_of(slot, gen);
    if (!pool)
        return neap_visit(slot) ? neap_leave(neap_pool_stats(slot, gen, stats))
                                : neap_missing(slot);
    read_stats(pool, stats);
    return NEAP_OK;
}

enum { COUNTERS = sizeof(struct neap_pool_stats) / sizeof(uint64_t) };

static void count_pool(struct neap_pool_stats *sum, const struct neap_pool *pool)
{
    struct neap_pool_stats stats;
    read_stats(pool, &stats);
    const uint64_t *from = (const uint64_t *)&stats;
    uint64_t *to = (uint64_t *)sum;
    for (int i = 0; i < COUNTERS; i++) to[i] += from[i]; /* counters are all there is in it */
}

void neap_pools_stats(struct neap_pool_stats *stats)
{
    *stats = neap_here.realm->ended_pools;
    for (uint32_t nth = 1; nth < neap_pools_count(); nth++) {
        const struct neap_pool *pool = neap_pool_nth(nth);
        if (pool) count_pool(stats, pool);
    }
}

double neap_pool_trim(uint32_t slot, uint32_t gen)
{
    struct neap_pool *pool = neap_pool_of(slot, gen);
    if (pool) return (double)neap_pool_shrink(pool, 0, UINT64_MAX, &pool->stats.dropped_trim);
    if (!neap_visit(slot)) return -1;
    double gone = neap_pool_trim(slot, gen);
    neap_leave(NEAP_OK);
    return gone;
}
