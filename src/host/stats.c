/* stats.c - the counters of the library, printed at exit: also after os.exit(), which is why
 * this is C's atexit and not Lua. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/host.h"
#include "neap.h"

struct counter {
    const char *name;
    size_t offset;
};

#define COUNTER(struct_name, field)                                                                \
    {                                                                                              \
#field, offsetof(struct struct_name, field)                                                \
    }

static const struct counter of_pools[] = {
    COUNTER(neap_pool_stats, bufs_allocated),   COUNTER(neap_pool_stats, bufs_reused),
    COUNTER(neap_pool_stats, bufs_free),        COUNTER(neap_pool_stats, bufs_live),
    COUNTER(neap_pool_stats, bytes_allocated),  COUNTER(neap_pool_stats, bytes_held),
    COUNTER(neap_pool_stats, bytes_free),       COUNTER(neap_pool_stats, bytes_live),
    COUNTER(neap_pool_stats, bytes_referenced), COUNTER(neap_pool_stats, bytes_wasted),
    COUNTER(neap_pool_stats, bytes_moved),      COUNTER(neap_pool_stats, slices_made),
    COUNTER(neap_pool_stats, slices_live),      COUNTER(neap_pool_stats, slices_released),
    COUNTER(neap_pool_stats, slices_taken),     COUNTER(neap_pool_stats, slices_dropped),
    COUNTER(neap_pool_stats, slices_collected), COUNTER(neap_pool_stats, dropped_large),
    COUNTER(neap_pool_stats, dropped_cap),      COUNTER(neap_pool_stats, dropped_decay),
    COUNTER(neap_pool_stats, dropped_trim),     COUNTER(neap_pool_stats, dropped_closed),
    COUNTER(neap_pool_stats, limit_hits),       COUNTER(neap_pool_stats, reads_paused),
    COUNTER(neap_pool_stats, reserve_used),     COUNTER(neap_pool_stats, slices_detached),
    COUNTER(neap_pool_stats, bytes_detached),   COUNTER(neap_pool_stats, slices_returned),
    COUNTER(neap_pool_stats, strings_made),
};

static const struct counter of_slices[] = {
    COUNTER(neap_slice_stats, live),
    COUNTER(neap_slice_stats, double_releases),
    COUNTER(neap_slice_stats, stale_uses),
};

static const struct counter of_connections[] = {
    COUNTER(neap_net_stats, accepted),         COUNTER(neap_net_stats, connected),
    COUNTER(neap_net_stats, streams_live),     COUNTER(neap_net_stats, listeners_live),
    COUNTER(neap_net_stats, read_bytes),       COUNTER(neap_net_stats, written_bytes),
    COUNTER(neap_net_stats, closed_forgotten), COUNTER(neap_net_stats, closed_cut),
    COUNTER(neap_net_stats, closed_idle),      COUNTER(neap_net_stats, unsent_bytes),
    COUNTER(neap_net_stats, accept_pauses),    COUNTER(neap_net_stats, accept_limited),
    COUNTER(neap_net_stats, stop_cut),         COUNTER(neap_net_stats, runaways),
    COUNTER(neap_net_stats, unwatched),        COUNTER(neap_net_stats, batched),
};

static const struct counter of_collector[] = {
    COUNTER(neap_collector_stats, bytes_held), COUNTER(neap_collector_stats, bytes_base),
    COUNTER(neap_collector_stats, steps),      COUNTER(neap_collector_stats, cycles),
    COUNTER(neap_collector_stats, spent_us),   COUNTER(neap_collector_stats, longest_us),
    COUNTER(neap_collector_stats, finalizers),
};

static const struct counter of_leaks[] = {
    COUNTER(neap_ledger_stats, slices), COUNTER(neap_ledger_stats, bytes),
    COUNTER(neap_ledger_stats, pinned), COUNTER(neap_ledger_stats, watched),
    COUNTER(neap_ledger_stats, live),   COUNTER(neap_ledger_stats, missed),
};

static void print(const char *group, const struct counter *counters, size_t count,
                  const void *stats)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)stats + counters[i].offset, sizeof value);
        fprintf(stderr, "%s.%s %llu\n", group, counters[i].name, (unsigned long long)value);
    }
}

static void print_all(void)
{
    struct neap_pool_stats pools;
    struct neap_slice_stats slices;
    struct neap_net_stats net;
    struct neap_collector_stats collector;
    struct neap_ledger_stats ledger;
    neap_pools_stats(&pools);
    neap_slice_stats(&slices);
    neap_net_stats(&net);
    neap_collector_stats(&collector);
    neap_ledger_stats(&ledger);
    print("pools", of_pools, sizeof of_pools / sizeof of_pools[0], &pools);
    print("slices", of_slices, sizeof of_slices / sizeof of_slices[0], &slices);
    print("collector", of_collector, sizeof of_collector / sizeof of_collector[0], &collector);
    print("leaks", of_leaks, sizeof of_leaks / sizeof of_leaks[0], &ledger);
    print("connections", of_connections, sizeof of_connections / sizeof of_connections[0], &net);
}

void neap_host_stats_at_exit(void)
{
    static bool asked;
    if (!asked) atexit(print_all);
    asked = true;
}
