/* loop.h - what streams and listeners ask of the loop. loop.c is the only file that
 * knows libev.
 *
 * Everything here is a member of its owner, so that waiting allocates nothing:
 *  - a watch calls back when its descriptor is ready, and the owner only marks;
 *  - a mark tells Lua, once a turn, which stream or listener is ready for what;
 *  - a chore runs at the next flush, once, however often it was asked for;
 *  - an alarm calls back after a time.
 * Thread: the loop's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mode.h"
#include "neap.h"

enum { NEAP_WATCH_READ = 1, NEAP_WATCH_WRITE = 2 };
enum { NEAP_TICKS_PER_SECOND = 8 }; /* a coarse clock, for what streams are many of */

struct neap_watch {
    uint64_t room[6]; /* an ev_io; loop.c checks the size */
};

struct neap_link {
    struct neap_link *prev, *next; /* NULL: in no list */
};

struct neap_mark {
    struct neap_link link;
    uint32_t slot;
    uint32_t what; /* enum neap_readiness, or-ed */
};

struct neap_chore {
    struct neap_link link;
};

struct neap_alarm {
    struct neap_link link;
    double due; /* the loop's seconds */
    void (*ring)(struct neap_alarm *alarm);
};

struct neap_loop {
    struct neap_loop *next; /* private: loops of the process */
    void *ev;
    struct neap_link marks, chores, alarms;
    void (*run_chore)(struct neap_chore *chore); /* rw: by streams, the only ones that have any */
    struct neap_ring *ring;                      /* ro: NULL: each send is a call of its own */
    uint32_t mark_count;
    uint32_t ahead_count; /* of the first marks, for which was read */
    uint32_t chore_count;
    uint64_t queued_bytes; /* rw: by streams, since the last flush */
    uint32_t listener_count;
    uint32_t finishing_count;     /* streams with something to finish by themselves */
    uint32_t unsent_count;        /* streams with queued bytes */
    bool refusing;                /* private to listener.c: who comes waits in the kernel */
    struct neap_alarm idle_sweep; /* private to stream.c, with the next two */
    uint32_t idle_slot;
    uint32_t idle_next; /* ticks until the first stream may be idle for too long */
    bool frozen;        /* private: the clock stands, at frozen_at */
    double frozen_at;   /* private */
    double ahead;       /* private: of the system's clock, since it was moved */
    double polled_at;   /* private: the clock when the last poll ended, or alarms rang, and … */
    uint32_t ticks;     /* private: … the same for neap_loop_ticks() */
    double poll_due;    /* private: the clock when the last poll was to end, if its timer runs */
    double decay_at;    /* private: the clock when pools are looked at next */
    void *timers;       /* private to loop.c */
};

typedef void neap_watch_ready(struct neap_watch *watch, int events);

void neap_watch_init(struct neap_watch *watch, int fd, neap_watch_ready *ready);
/* Watch for `events` from now on; 0: nothing. */
void neap_watch_set(struct neap_loop *loop, struct neap_watch *watch, int events);
int neap_watch_events(const struct neap_watch *watch);

void neap_mark_set(struct neap_loop *loop, struct neap_mark *mark, uint32_t what);
void neap_mark_clear(struct neap_loop *loop, struct neap_mark *mark);

void neap_chore_set(struct neap_loop *loop, struct neap_chore *chore);
void neap_chore_clear(struct neap_chore *chore);

void neap_alarm_set(struct neap_loop *loop, struct neap_alarm *alarm, double seconds);
void neap_alarm_clear(struct neap_loop *loop, struct neap_alarm *alarm);

/* Seconds until it rings. */
double neap_alarm_left(const struct neap_loop *loop, const struct neap_alarm *alarm);

/* The loop's clock when the last poll ended, or alarms rang; differences are right across its overflow. */
static inline uint32_t neap_loop_ticks(const struct neap_loop *loop)
{
    return loop->ticks;
}

/* Find a member's owner. */
#define neap_owner_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* How many have to have something to send before a batch gains anything. */
enum { NEAP_BATCH_STREAMS = NEAP_TINY(4, 2) };

/* Will a flush of this turn be a batch, most likely? Who is ready has something to send soon. */
static inline bool neap_loop_batches(const struct neap_loop *loop)
{
    return loop->ring && loop->chore_count + loop->mark_count >= NEAP_BATCH_STREAMS;
}

/* Read for the first marks, before the first of them is taken (batch.c). Returns for how many. */
uint32_t neap_streams_read(struct neap_loop *loop);

/* Send, in one system call, what chores would send one by one (batch.c). They run all the same. */
void neap_streams_send(struct neap_loop *loop);

/* What the end of a loop ends (stream.c, listener.c). */
void neap_streams_end(struct neap_loop *loop);
void neap_listeners_end(struct neap_loop *loop);
