/* idle.c - streams without traffic. One alarm for all of a loop: it rings when the first of them
 * may have been idle for too long, so that traffic costs no more than a note of its time.
 * Thread: the loop's. */
#include <stddef.h>

#include "net/stream.h"

enum { SWEEP_STREAMS = NEAP_TINY(4096, 2) }; /* looked at in one go */

static void idle_out(struct neap_stream *s)
{
    neap_net_counts.closed_idle++;
    neap_stream_fail(s, neap_reader_paused(s->reader) ? NEAP_E_LIMIT : NEAP_E_IDLE);
}

/* Ticks until it has been idle for too long; UINT32_MAX: it is not looked at. */
static uint32_t idle_in(const struct neap_stream *s, uint32_t now)
{
    bool failed = s->write_result == NEAP_E_IDLE || s->write_result == NEAP_E_LIMIT;
    if (!s->idle_ticks || s->closing || failed) return UINT32_MAX;
    uint32_t idle = now - s->active_at;
    return idle < s->idle_ticks ? s->idle_ticks - idle : 0;
}

static void sweep_in(struct neap_loop *loop, uint32_t ticks)
{
    neap_alarm_set(loop, &loop->idle_sweep, (double)ticks / NEAP_TICKS_PER_SECOND);
}

/* Looks at some streams, and comes again: for the others at once, for the first that may be idle
 * for too long when that is so. */
static void on_idle_sweep(struct neap_alarm *alarm)
{
    struct neap_loop *loop = neap_owner_of(alarm, struct neap_loop, idle_sweep);
    uint32_t now = neap_loop_ticks(loop);
    uint32_t last = loop->idle_slot + SWEEP_STREAMS;
    for (; loop->idle_slot < neap_streams.count && loop->idle_slot < last; loop->idle_slot++) {
        struct neap_stream *s = neap_slots_at(&neap_streams, loop->idle_slot);
        if (!(s->head.gen & 1) || s->loop != loop) continue;
        uint32_t in = idle_in(s, now);
        if (in == 0)
            idle_out(s);
        else if (in < loop->idle_next)
            loop->idle_next = in;
    }
    uint32_t next = loop->idle_slot < neap_streams.count ? 0 : loop->idle_next;
    if (loop->idle_slot >= neap_streams.count) {
        loop->idle_slot = 0;
        loop->idle_next = UINT32_MAX;
    }
    if (next < UINT32_MAX) sweep_in(loop, next);
}

void neap_idle_watch(struct neap_stream *s, uint32_t seconds)
{
    struct neap_loop *loop = s->loop;
    s->born_at = s->active_at = neap_loop_ticks(loop);
    s->idle_ticks = seconds * NEAP_TICKS_PER_SECOND;
    if (!seconds) return;
    loop->idle_sweep.ring = on_idle_sweep;
    if (!loop->idle_sweep.link.next || neap_alarm_left(loop, &loop->idle_sweep) > seconds)
        sweep_in(loop, s->idle_ticks);
}
