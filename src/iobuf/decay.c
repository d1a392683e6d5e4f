/* decay.c - what a pool keeps of its free bufs, and for how long.
 *
 * Time is cut into windows of a second. What was in use at the busiest moment of the last few is
 * kept; the rest goes back to the system, a step at a time. Unless a pool is `fixed`, two bounds
 * follow the traffic, by bytes and not by calls:
 *
 *  - the largest buf that is kept is the smallest size such that 95 % of the bytes asked for lately
 *    were asked for in bufs up to it: at least the largest class, at most a fourth of the cap;
 *  - the cap on free bytes rises, to four times `retain` at most, where bufs that were dropped over
 *    it had to be made again within a window, and falls with the use. */
#include <string.h>

#include "iobuf/decay.h"

enum {
    DECAY_STEP_MS = 5, /* between two steps of one decay */
    COVERED_PERCENT = 95,
    LARGEST_PART = 4, /* of the cap, which a buf that is kept may be at most */
    CAP_TIMES = 4,    /* retain, at most */
    CHURN_PART = 8    /* of the cap, made anew in a window: it is too low */
};

/* ---- calibration ---- */

static uint32_t doubling_of(uint32_t size)
{
    if (size <= NEAP_CLASS_MAX_BYTES) return 0;
    return 32 - (uint32_t)__builtin_clz((size - 1) / NEAP_CLASS_MAX_BYTES);
}

_Static_assert((uint64_t)NEAP_CLASS_MAX_BYTES << (NEAP_LARGE_SIZES - 1) == NEAP_BUF_MAX_BYTES,
               "the last doubling is the largest buf");

void neap_calibrate_asked(struct neap_pool *pool, uint32_t size)
{
    pool->asked_bytes[doubling_of(size)] += size;
    pool->asked_count++;
}

void neap_calibrate_made(struct neap_pool *pool, uint32_t size)
{
    uint64_t again = size < pool->dropped_bytes ? size : pool->dropped_bytes;
    pool->dropped_bytes -= again;
    pool->remade_bytes += again;
}

/* The fast path counts its requests and no sizes: they are all of the usual one. */
static void count_usual(struct neap_pool *pool)
{
    uint64_t usual = pool->taken_count - pool->taken_before - pool->asked_count;
    pool->asked_bytes[doubling_of(pool->usual_size)] += usual * pool->usual_size;
    pool->taken_before = pool->taken_count;
    pool->asked_count = 0;
}

static uint32_t largest_kept(const struct neap_pool *pool)
{
    uint64_t all = 0, covered = 0;
    for (int i = 0; i < NEAP_LARGE_SIZES; i++) all += pool->asked_bytes[i];
    uint32_t i = 0;
    for (; i < NEAP_LARGE_SIZES - 1; i++) {
        covered += pool->asked_bytes[i];
        if (covered >= all / 100 * COVERED_PERCENT) break;
    }
    uint64_t largest = (uint64_t)NEAP_CLASS_MAX_BYTES << i;
    if (largest > pool->cap / LARGEST_PART) largest = pool->cap / LARGEST_PART;
    return largest > NEAP_CLASS_MAX_BYTES ? (uint32_t)largest : NEAP_CLASS_MAX_BYTES;
}

static uint64_t clamped(uint64_t n, uint64_t least, uint64_t most)
{
    if (n < least) return least;
    return n < most ? n : most;
}

static void calibrate(struct neap_pool *pool, uint64_t peak)
{
    count_usual(pool);
    bool churned = pool->remade_bytes > pool->cap / CHURN_PART;
    if (!pool->fixed && pool->cap) {
        if (churned || pool->cap > pool->retain)
            pool->cap = clamped(peak, pool->retain, CAP_TIMES * pool->retain);
        pool->keep_largest = largest_kept(pool);
    }
    for (int i = 0; i < NEAP_LARGE_SIZES; i++) pool->asked_bytes[i] /= 2; /* lately */
    pool->dropped_bytes = pool->remade_bytes = 0;
}

/* ---- windows ---- */

static uint64_t recent_peak(struct neap_pool *pool)
{
    uint64_t peak = pool->live_peak;
    for (int i = 0; i < NEAP_DECAY_WINDOWS; i++)
        if (pool->live_peaks[i] > peak) peak = pool->live_peaks[i];
    return peak;
}

/* A new window: forget the oldest one. */
static void next_window(struct neap_pool *pool, double now_ms)
{
    calibrate(pool, recent_peak(pool));
    memmove(pool->live_peaks + 1, pool->live_peaks,
            sizeof pool->live_peaks - sizeof pool->live_peaks[0]);
    pool->live_peaks[0] = pool->live_peak;
    pool->live_peak = neap_pool_bytes_live(pool);
    pool->decay_at_ms = now_ms + NEAP_DECAY_WINDOW_MS;
}

static uint64_t decay(struct neap_pool *pool, double now_ms, uint64_t budget)
{
    if (now_ms >= pool->decay_at_ms) next_window(pool, now_ms);
    uint64_t keep = recent_peak(pool) - neap_pool_bytes_live(pool);
    return neap_pool_shrink(pool, keep, budget, &pool->stats.dropped_decay);
}

double neap_pool_decay(uint32_t slot, uint32_t gen, double now_ms, double budget_bytes)
{
    struct neap_pool *pool = neap_pool_of(slot, gen);
    if (pool) return (double)decay(pool, now_ms, (uint64_t)budget_bytes);
    if (!neap_visit(slot)) return -1;
    double gone = neap_pool_decay(slot, gen, now_ms, budget_bytes);
    neap_leave(NEAP_OK);
    return gone;
}

/* Free bufs may go later, when a window of more use is forgotten; or now, but for the budget. */
static double decay_again_ms(const struct neap_pool *pool, uint64_t left)
{
    if (pool->stats.bytes_free == 0) return -1;
    return left ? NEAP_DECAY_WINDOW_MS : DECAY_STEP_MS;
}

double neap_pools_decay(double now_ms, double budget_bytes)
{
    uint64_t left = (uint64_t)budget_bytes;
    double again_ms = -1;
    for (uint32_t nth = 1; nth < neap_pools_count(); nth++) {
        struct neap_pool *pool = neap_pool_nth(nth);
        if (!pool) continue;
        uint64_t gone = decay(pool, now_ms, left);
        left -= gone < left ? gone : left;
        double pool_ms = decay_again_ms(pool, left);
        if (pool_ms >= 0 && (again_ms < 0 || pool_ms < again_ms)) again_ms = pool_ms;
    }
    return again_ms;
}
