#include "iobuf/collector.h"

#include <time.h>

enum {
    ROOM_BYTES = 16 << 20, /* at least */
    BEGIN_PART = 4,        /* of the room, which is filled when collecting begins */
    STEP_BYTES = 1 << 20,  /* between two steps */
    STEP_US = NEAP_MODE_COLLECT ? 50 : 900, /* … each is over by then, but for its last part */
    HURRY_PART = 3 /* of the time, at most, for cycles that a full pool asks for */
};

static struct neap_collector_state *state(void)
{
    return &neap_here.realm->collector;
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void plan_cycle(void)
{
    struct neap_collector_state *c = state();
    uint64_t base = neap_here.held_by_handles;
    uint64_t room = base > ROOM_BYTES ? base : ROOM_BYTES;
    c->counts.bytes_base = base;
    c->next_at = base + room / BEGIN_PART;
    c->end_by = base + room;
}

void neap_collector_start(void)
{
    if (neap_realm_mine()) plan_cycle();
}

/* A cycle that was to have ended gets every turn, but not every allocation. */
bool neap_collector_due(bool between_turns)
{
    const struct neap_collector_state *c = state();
    if (NEAP_MODE_COLLECT && c->next_at != UINT64_MAX) return true;
    return neap_here.held_by_handles >=
           (between_turns && c->end_by < c->next_at ? c->end_by : c->next_at);
}

void neap_collector_hurry(void)
{
    struct neap_collector_state *c = state();
    if (c->hurried || c->next_at == UINT64_MAX || now_us() < c->hurry_again_us) return;
    c->hurried = true;
    c->hurried_spent_us = c->counts.spent_us;
    c->end_by = 0;
}

static void hurry_ends(void)
{
    struct neap_collector_state *c = state();
    if (!c->hurried) return;
    c->hurried = false;
    c->hurry_again_us = now_us() + (HURRY_PART - 1) * (c->counts.spent_us - c->hurried_spent_us);
}

void neap_collector_begin(void)
{
    if (neap_realm_any()) state()->began_us = now_us();
}

bool neap_collector_goes_on(bool cycle_ended)
{
    struct neap_collector_state *c = state();
    if (!neap_realm_any()) return false;
    uint64_t spent_us = now_us() - c->began_us;
    if (!cycle_ended && spent_us < STEP_US) return true;
    c->counts.steps++;
    c->counts.spent_us += spent_us;
    if (spent_us > c->counts.longest_us) c->counts.longest_us = spent_us;
    c->next_at = neap_here.held_by_handles + STEP_BYTES;
    if (!cycle_ended) return false;
    c->counts.cycles++;
    hurry_ends();
    plan_cycle();
    return false;
}

void neap_collector_stats(struct neap_collector_stats *stats)
{
    *stats = state()->counts;
    stats->bytes_held = neap_here.held_by_handles;
    stats->finalizers = neap_here.finalizers_run;
}
