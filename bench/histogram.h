/* histogram: counts of durations, in buckets whose width grows with the value.
 *
 * Log-linear: each power of two is cut into 64 equal buckets, so a quantile is
 * at most 1.6 % above the true value, from 1 ns to 2^64 ns, in 30 KiB and with no
 * allocation. Owner: whoever declares it (zeroed). One thread.
 *
 *     struct histogram h = {0};
 *     histogram_add(&h, 4711);
 *     uint64_t p99 = histogram_quantile(&h, 0.99);
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 6,
    HISTOGRAM_SUB = 1 << HISTOGRAM_SUB_BITS,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB,
};

struct histogram {
    uint64_t total;                     /* ro: values added */
    uint64_t counts[HISTOGRAM_BUCKETS]; /* private */
};

/* The first 64 values have a bucket each; above, the leading bit and the six
 * bits behind it choose the bucket. */
static inline unsigned histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_SUB) return (unsigned)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (shift << HISTOGRAM_SUB_BITS) + (unsigned)(value >> shift);
}

/* The largest value that falls into the bucket: a quantile is never understated. */
static inline uint64_t histogram_bucket_last(unsigned bucket)
{
    if (bucket < HISTOGRAM_SUB) return bucket;
    unsigned shift = bucket / HISTOGRAM_SUB - 1;
    uint64_t first = (uint64_t)(HISTOGRAM_SUB + bucket % HISTOGRAM_SUB) << shift;
    return first + ((UINT64_C(1) << shift) - 1);
}

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->counts[histogram_bucket(value)]++;
    h->total++;
}

/* The value that `share` (0..1) of all values do not exceed; 0 when empty. */
static inline uint64_t histogram_quantile(const struct histogram *h, double share)
{
    uint64_t rank = (uint64_t)(share * (double)h->total + 0.5), seen = 0;
    if (h->total == 0) return 0;
    if (rank == 0) rank = 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= rank) return histogram_bucket_last(i);
    }
    return UINT64_MAX;
}

#endif
