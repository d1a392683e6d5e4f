/* collector.h - when Lua's collector shall work for the bytes that it cannot see.
 *
 * To that collector a slice is a handle of 8 bytes, whatever hangs on it. So neap counts the
 * bytes of all bufs that handles hold (slices, the pieces of buffers, allocators), and lets the
 * collector take a step when they have grown by so much since its last cycle ended:
 *
 *     base             base + room/4             base + room        room = max(16 MiB, base)
 *      |  nothing        |  a step for each MiB     |  a step for each turn of the loop
 *
 * What is released is counted no more, so who releases all causes no step, however much it is.
 * The bytes of a Lua string (foreign.c) are none of these: the collector sees them itself. Nor
 * are unread bytes and queued writes, which go with their connection.
 *
 * C never calls Lua: whoever makes handles is told that a step is due, and calls
 * collectgarbage("step") between neap_collector_begin() and neap_collector_goes_on().
 *
 * Limits: none. Thread: the one of the Lua state. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "iobuf/pool.h"

/* The collector has run the finalizer of a handle. */
static inline void neap_collector_finalized(void)
{
    neap_here.finalizers_run++;
}

/* A handle begins to hold the buf, or does so no longer. This is done for each slice, so the
 * count begins at -1: that the first one came, or the last one went, is then a flag that the
 * processor sets by itself. */
static inline void neap_buf_hold(struct neap_buf *buf)
{
    if (++buf->more_handles == 0) neap_here.held_by_handles += buf->capacity;
}

static inline void neap_buf_unhold(struct neap_buf *buf)
{
    if (--buf->more_handles < 0) neap_here.held_by_handles -= buf->capacity;
}

/* A pool is at its limit: what was forgotten shall come back now, in a step for each turn. */
void neap_collector_hurry(void);

/* A buf that no handle ever counts for, from its making on. */
static inline void neap_buf_hold_uncounted(struct neap_buf *buf)
{
    buf->more_handles = 0;
}
