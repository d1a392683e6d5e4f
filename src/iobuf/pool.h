/* pool.h - where bufs come from and go back to.
 *
 * A buf is a piece of memory with a count of its holders: its owner (an allocator
 * or a reader) and every slice of it. When the last one lets go it is free again
 * in its pool, which hands it to the next who asks.
 *
 *     struct neap_buf *buf;
 *     if (neap_pool_take(pool, 0, &buf) < 0) ...      // count 1: the caller's
 *     neap_buf_release(buf);
 *
 * Bufs of the same size class are cut from slabs; a buf above the largest class,
 * and every buf of a pool without classes, is a slab of its own. Free bufs wait in
 * one bin per class, so taking one does not depend on how many there are.
 *
 * Limits: bytes held (options.limit), free bytes kept (options.retain), and what
 * was not in use for DECAY_WINDOWS seconds is given back by neap_pool_decay(). Live
 * bytes have three bounds: readers pause at `soft`, others get no more from
 * limit - reserve on, and one reader may use the reserve (pause.h).
 * Thread: the pool's, for everything here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/panic.h"
#include "base/poison.h"
#include "base/slots.h"
#include "iobuf/realm.h"
#include "neap.h"

enum {
    NEAP_CLASS_STEPS = 4,   /* size classes between a size and its double */
    NEAP_LARGE_SIZES = 11,  /* doublings from the largest class to the largest buf */
    NEAP_CLASS_COUNT = 128, /* bins: 64 bytes to 1 GiB, in steps */
    NEAP_DECAY_WINDOWS = 3, /* a free buf unused for so many windows is given back */
    NEAP_DECAY_WINDOW_MS = 1000
};

struct neap_slab {
    struct neap_pool *pool;
    struct neap_slab *prev, *next;    /* private: slabs of the same class with room */
    struct neap_slab *before, *after; /* private: all slabs of the pool */
    uint8_t *mem;
    size_t mem_bytes;
    uint32_t class_index;
    uint32_t capacity; /* bytes of each buf */
    uint32_t count;    /* bufs it has room for */
    uint32_t carved;   /* … of which so many were ever cut */
    uint32_t held;     /* bufs of it that are live or free */
    bool listed;
    struct neap_buf *bare; /* cut, but without memory at the moment */
    struct neap_buf *bufs;
};

struct neap_buf {
    uint8_t *mem;         /* ro: `capacity` bytes */
    uint32_t capacity;    /* ro: bytes */
    uint32_t refs;        /* ro: holders; 0: free */
    uint32_t extents;     /* private to slice.c: slot of one of its live slices, 0: none */
    uint32_t clones;      /* private to slice.c: live slices that retain made */
    uint32_t unread_from; /* rw for its reader: bytes that are still to be read */
    uint32_t unread_to;
    struct neap_slab *slab;        /* private; NULL: memory that no pool owns */
    struct neap_pool_stats *stats; /* of the pool; memory that no pool owns has its own */
    struct neap_buf *next;         /* private: the next free or bare one */
    union {
        uint32_t anchor;  /* private to foreign.c, for memory that no pool owns */
        uint32_t account; /* private to pause.c: slot of the account it stands on; 0: none */
    };
    int32_t more_handles; /* of a script that hold it, but one (collector.h) */
};

/* Readers that wait for memory, who waits longest first: slots. */
struct neap_waiting {
    uint32_t first, last;
};

struct neap_pool {
    struct neap_slot head;
    uint32_t slot;
    uint32_t keepers; /* the handle, and allocators, readers and listeners */
    bool closed;
    bool handle_gone;
    bool classes;
    bool poison;
    bool fixed;           /* nothing follows the traffic */
    uint8_t detach_after; /* turns, after which a sliver may move; 0: none does (sweep.c) */
    uint32_t min_size;
    uint32_t usual_size;  /* min_size, rounded up to its class if there are classes */
    uint32_t usual_below; /* requests below it may take the fast path; 0: none, there is a limit */
    uint32_t usual_bin;
    uint64_t bufs_held;   /* live and free */
    uint64_t taken_count; /* bufs handed out, and given back: the others are live */
    uint64_t put_count;
    uint64_t limit;   /* bytes held at most; 0: none */
    uint64_t soft;    /* live bytes from which on reads pause; 0: none */
    uint64_t reserve; /* inside the limit, for the reader that finishes its message (pause.c) */
    uint64_t retain;
    struct neap_waiting waiting[2]; /* private to pause.c, up to parked_room */
    uint32_t ticket;
    uint32_t chosen; /* the reader that has the reserve; 0: none */
    struct neap_buf *parked;
    uint32_t parked_at;
    uint32_t parked_room;
    struct neap_buf *bins[NEAP_CLASS_COUNT];
    uint64_t bin_mask[NEAP_CLASS_COUNT / 64];  /* bins with a free buf */
    struct neap_slab *roomy[NEAP_CLASS_COUNT]; /* slabs with a buf to cut */
    struct neap_slab *slabs;                   /* all */
    double decay_at_ms;
    uint64_t live_peak; /* bytes, in this window */
    uint64_t live_peaks[NEAP_DECAY_WINDOWS];
    uint64_t cap;          /* on free bytes: `retain`, or more while that is too little */
    uint32_t keep_largest; /* a larger buf is not kept */
    uint64_t asked_bytes[NEAP_LARGE_SIZES]; /* private to decay.c, with the next five: lately, in
                                               bufs up to the largest class, its double, … */
    uint64_t asked_count;                   /* requests of this window, but for the fast path's */
    uint64_t taken_before;                  /* taken_count when it began */
    uint64_t dropped_bytes; /* over the cap, in this window, and not yet made again */
    uint64_t remade_bytes;
    struct neap_pool_stats stats;
};

/* own: returns borrowed.  err: NULL when the handle is stale. */
struct neap_pool *neap_pool_of(uint32_t slot, uint32_t gen);

/* Keep the pool open / let it go. */
void neap_pool_keep(struct neap_pool *pool);
void neap_pool_unkeep(struct neap_pool *pool);

/* The same from the size classes alone, below the pool's minimum: for exact copies. */
int neap_pool_take_small(struct neap_pool *pool, size_t size, struct neap_buf **buf);
int neap_pool_take_small_within(struct neap_pool *pool, size_t size, uint64_t most,
                                struct neap_buf **buf);

/* `size` rounded up to the pool's minimum, or 0 when it is above the largest buf; the buf
 * that neap_pool_take() gives is that large or, with size classes, larger. */
uint32_t neap_pool_rounded(const struct neap_pool *pool, size_t size);

/* As neap_pool_take(), but with at most so many bytes live afterwards; under the pool's limit as
 * a whole, the reserve included. */
int neap_pool_take_within(struct neap_pool *pool, size_t size, uint64_t most,
                          struct neap_buf **buf);

/* private: a buf that stands on an account is free again (pause.c). */
void neap_account_discharge(struct neap_buf *buf);

/* How large a buf neap_pool_take() makes for a request; 0: it is oversized. */
uint32_t neap_pool_buf_bytes(const struct neap_pool *pool, size_t size);

/* Give free bufs back, the largest first, until at most `keep` free bytes are left or
 * `budget` bytes went; for decay none that would leave less: a large one does not go for a small
 * excess. Returns the bytes that went. */
uint64_t neap_pool_shrink(struct neap_pool *pool, uint64_t keep, uint64_t budget, uint64_t *reason);

/* Connections that read up to `max_read` bytes at once come: set memory aside so that one of them
 * can end such a read while the pool is full. err: LIMIT, that is more than a fourth of it. */
int neap_pool_reserve(struct neap_pool *pool, uint32_t max_read);

/* The nth pool of this thread, or NULL; from 1 to neap_pools_count() - 1. */
struct neap_pool *neap_pool_nth(uint32_t nth);
uint32_t neap_pools_count(void);

/* private: what the fast path below leaves aside; the last holder of a buf is gone. */
int neap_pool_take_other(struct neap_pool *pool, size_t size, struct neap_buf **buf);
void neap_pool_put(struct neap_buf *buf);

/* private: the last holder of memory that no pool owns is gone (foreign.c). */
void neap_foreign_put(struct neap_buf *buf);

static inline struct neap_pool *neap_buf_pool(const struct neap_buf *buf)
{
    return buf->slab ? buf->slab->pool : NULL;
}

static inline uint64_t neap_pool_bytes_live(const struct neap_pool *pool)
{
    return pool->stats.bytes_held - pool->stats.bytes_free;
}

/* private: take the first free buf of a bin. */
static inline struct neap_buf *neap_bin_pop(struct neap_pool *pool, uint32_t bin)
{
    struct neap_buf *buf = pool->bins[bin];
    pool->bins[bin] = buf->next;
    if (!buf->next) pool->bin_mask[bin / 64] &= ~(1ull << bin % 64);
    pool->stats.bytes_free -= buf->capacity;
    return buf;
}

/* private: a buf that was free or is new has its first holder. */
static inline void neap_pool_hand_out(struct neap_pool *pool, struct neap_buf *buf)
{
    neap_unpoison(buf->mem, buf->capacity);
    buf->refs = 1;
    buf->unread_from = buf->unread_to = 0;
    pool->taken_count++;
    uint64_t live = neap_pool_bytes_live(pool);
    if (live > pool->live_peak) pool->live_peak = live;
}

/* A buf of at least `size` bytes (0: the pool's minimum), holding undefined bytes, count 1.
 * own: returns owned (neap_buf_release).  err: OVERSIZED, CLOSED, LIMIT, MEMORY.
 * The fast path, nearly always: a free buf of the usual size. A closed pool has none. */
static inline int neap_pool_take(struct neap_pool *pool, size_t size, struct neap_buf **buf)
{
    struct neap_buf *first = pool->bins[pool->usual_bin];
    bool usual = size < pool->usual_below && first && first->capacity >= pool->usual_size;
    if (__builtin_expect(!usual, 0)) return neap_pool_take_other(pool, size, buf);
    *buf = neap_bin_pop(pool, pool->usual_bin);
    neap_pool_hand_out(pool, *buf);
    return NEAP_OK;
}

static inline void neap_buf_retain(struct neap_buf *buf)
{
    buf->refs++;
}

/* own: takes one count. */
static inline void neap_buf_release(struct neap_buf *buf)
{
    if (--buf->refs == 0) neap_pool_put(buf);
}
