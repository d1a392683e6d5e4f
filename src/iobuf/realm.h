/* realm.h - all that the buffers of one thread remember.
 *
 * Pools, slices, allocators, readers and buffers, the tables that their handles name and the
 * counters, are in a realm. A thread has one of its own, made with the first thing that it makes,
 * and nobody else looks into it: plain counts, no locks. What every call looks at first is in
 * thread-local memory (neap_here), the rest one pointer further.
 *
 * A slot's upper bits are the number of its realm, so the handle of another realm finds nothing in
 * the tables of this one, like a stale one. What then? If it is of another thread, a slice can be
 * released (returns.h), and all else is NEAP_E_THREAD. If it is of a pool that was made shared, which
 * has a realm of its own with a lock, the thread *visits* that: it has the lock, and neap_here is the
 * visited realm's, until it leaves. So whatever works on slices is written once:
 *
 *     struct neap_slice *s = neap_slice_of(slot, gen);
 *     if (!s) return neap_visit(slot) ? neap_leave(neap_slice_x(slot, gen)) : neap_slice_stale(slot);
 *
 * When a thread ends, what it made is released but for its slices: those stay until whoever has
 * them releases them (returns.h). A realm in which nothing is left is the next one's that needs one;
 * its tables stay, so no old handle ever names a new thing.
 * Limits: NEAP_REALMS_MAX at once. Thread: any; what is in a realm, who is in it. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mode.h"
#include "base/slots.h"
#include "neap.h"

enum {
    NEAP_REALM_SHIFT = 24, /* of its number in a slot */
    NEAP_REALMS_MAX = 1 << (32 - NEAP_REALM_SHIFT),
    NEAP_SLICES_MAX = 1 << NEAP_REALM_SHIFT,
    NEAP_POOL_LIMIT = 65536,
    NEAP_ALLOCATORS_MAX = 1 << 20,
    NEAP_BUFFERS_MAX = 1 << 20,
    NEAP_READERS_MAX = 1 << 21,
    NEAP_GROUP_HEADS =
        NEAP_TINY(4096, 4), /* of the chains that groups of forgotten slices are searched in */
    NEAP_MOVE_SLICES = NEAP_TINY(512, 2) /* slivers that move in one turn */
};

struct neap_here {
    struct neap_slots slices;
    struct neap_slots allocators;
    struct neap_slots readers;
    uint64_t held_by_handles; /* bytes; private to collector.h, with the next */
    uint64_t finalizers_run;
    int64_t ledger_left; /* private to ledger.h: bytes of slices until the next one is looked at */
    uint64_t double_releases;
    uint64_t stale_uses;
    struct neap_realm *realm; /* the rest; never NULL, but maybe one that nobody may write to */
};

extern __attribute__((visibility("hidden"),
                      tls_model("initial-exec"))) _Thread_local struct neap_here neap_here;

/* private to ledger.c */
struct neap_ledger_state {
    int level;
    int64_t sample_left; /* at the level touch, where all slices come by */
    uint64_t random_state;
    uint32_t sample_bytes; /* of the slice that was sampled last, and for how many it stands */
    double sample_weight;
    bool news;
    struct neap_ledger_stats counts;
    struct neap_slots tracks;
    struct neap_slots groups;
    uint32_t group_heads[NEAP_GROUP_HEADS];
    struct end *ends; /* by a hash of the handle; the latest stays */
};

/* private to collector.c */
struct neap_collector_state {
    uint64_t next_at; /* bytes held at which a step is due; no Lua: never */
    uint64_t end_by;  /* … and at which the cycle was to have ended */
    uint64_t began_us;
    uint64_t hurried_spent_us, hurry_again_us; /* such a cycle: spent before it; not before */
    bool hurried;
    struct neap_collector_stats counts;
};

/* private to sweep.c */
struct neap_sweep_state {
    uint32_t batch[NEAP_MOVE_SLICES]; /* what shall move in this turn: slots, those of one buf
                                         behind each other */
    uint32_t batch_count, batch_bytes;
    uint16_t this_turn; /* 1 to UINT16_MAX, and then 1 again: far longer than a look at all */
    uint32_t cursor;    /* the slot that is looked at next, counted from the table's first */
    uint32_t pool_nth;  /* the pool whose slices are */
    uint32_t rest_turns;
    bool found; /* something, since the cursor was at the beginning */
};

enum neap_realm_state {
    NEAP_REALM_FREE,   /* nothing is in it */
    NEAP_REALM_OWNED,  /* a thread's */
    NEAP_REALM_ENDED,  /* that thread is gone; who has the lock may be in it */
    NEAP_REALM_SHARED, /* a pool's; who has the lock may be in it */
};

struct neap_realm {
    struct neap_here here; /* while nobody is in it; while somebody visits, what that thread left */
    uint32_t number;
    _Atomic enum neap_realm_state state; /* changes under the lock */
    pthread_mutex_t lock;
    _Atomic(struct neap_batch *) returned; /* private to returns.c */
    struct neap_slots pools;
    struct neap_slots buffers;
    struct neap_slots accounts;
    struct neap_slots sites;
    struct neap_pool_stats ended_pools;
    struct neap_buf *released_foreign;    /* wait for neap_foreign_next() */
    struct neap_pool_stats foreign_stats; /* counted, not shown */
    uint32_t waiting_readers;
    struct neap_ledger_state ledger;
    struct neap_collector_state collector;
    struct neap_sweep_state sweep;
};

/* The tables as they begin, each from the file that knows what is in it. */
extern const struct neap_slots neap_no_slices, neap_no_allocators, neap_no_readers, neap_no_pools,
    neap_no_buffers, neap_no_accounts, neap_no_tracks, neap_no_groups, neap_no_sites;

/* The realm that this thread is in; it gets one of its own if it had none. err: NULL: no memory, or
 * all are in use. */
struct neap_realm *neap_realm_mine(void);

/* Is it in one? If not, only what it reads is of any use: nothing is there. */
bool neap_realm_any(void);

/* The realm that a slot names, if it is in use and this thread is not in it; else NULL. */
struct neap_realm *neap_realm_other(uint32_t slot);

/* A handle found nothing here: STALE, or THREAD. */
__attribute__((cold)) int neap_missing(uint32_t slot);

/* Go to where this slot belongs, if that is a shared realm and this thread is in none of them. */
__attribute__((cold)) bool neap_visit(uint32_t slot);

/* … to a new one. err: MEMORY, also when all are in use. */
int neap_visit_new(void);

/* Go back. Returns the result, so that it can be had before. */
__attribute__((cold)) int neap_leave(int result);

/* private to returns.c: something is to be done when this thread ends. err: false: no memory. */
bool neap_realm_note_thread(void);

/* private to returns.c: go to a realm, if its thread has ended. */
bool neap_visit_ended(struct neap_realm *r);
