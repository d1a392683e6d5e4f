#include "iobuf/collector.h"

#include <time.h>

enum {
    ROOM_BYTES = 16 << 20, /* at least */
    BEGIN_PART = 4,        /* of the room, which is filled when collecting begins */
    STEP_BYTES = 1 << 20,  /* between two steps */
    STEP_US = 900,         /* … of which each is over by then, but for its last part */
    HURRY_PART = 3         /* of the time, at most, for cycles that a full pool asks for */
};

uint64_t neap_held_by_handles;
uint64_t neap_finalizers_run;
static uint64_t next_at = UINT64_MAX; /* bytes held at which a step is due; no Lua: never */
static uint64_t end_by = UINT64_MAX;  /* … and at which the cycle was to have ended */
static uint64_t began_us;
static uint64_t hurried_spent_us, hurry_again_us; /* such a cycle: spent before it; not before */
static bool hurried;
static struct neap_collector_stats counts;

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void plan_cycle(void)
{
    uint64_t base = neap_held_by_handles;
    uint64_t room = base > ROOM_BYTES ? base : ROOM_BYTES;
    counts.bytes_base = base;
    next_at = base + room / BEGIN_PART;
    end_by = base + room;
}

void neap_collector_start(void)
{
    plan_cycle();
}

/* A cycle that was to have ended gets every turn, but not every allocation. */
bool neap_collector_due(bool between_turns)
{
    if (NEAP_MODE_COLLECT && next_at != UINT64_MAX) return true;
    return neap_held_by_handles >= (between_turns && end_by < next_at ? end_by : next_at);
}

void neap_collector_hurry(void)
{
    if (hurried || next_at == UINT64_MAX || now_us() < hurry_again_us) return;
    hurried = true;
    hurried_spent_us = counts.spent_us;
    end_by = 0;
}

static void hurry_ends(void)
{
    if (!hurried) return;
    hurried = false;
    hurry_again_us = now_us() + (HURRY_PART - 1) * (counts.spent_us - hurried_spent_us);
}

void neap_collector_begin(void)
{
    began_us = now_us();
}

bool neap_collector_goes_on(bool cycle_ended)
{
    uint64_t spent_us = now_us() - began_us;
    if (!cycle_ended && spent_us < STEP_US) return true;
    counts.steps++;
    counts.spent_us += spent_us;
    if (spent_us > counts.longest_us) counts.longest_us = spent_us;
    next_at = neap_held_by_handles + STEP_BYTES;
    if (!cycle_ended) return false;
    counts.cycles++;
    hurry_ends();
    plan_cycle();
    return false;
}

void neap_collector_stats(struct neap_collector_stats *stats)
{
    *stats = counts;
    stats->bytes_held = neap_held_by_handles;
    stats->finalizers = neap_finalizers_run;
}
