/* net.h - the counters that streams and listeners share. Thread: the loop's. */
#pragma once

#include "iobuf/pool.h"
#include "net/address.h"
#include "net/loop.h"

extern struct neap_net_stats neap_net_counts;

/* A stream over a connected (or, with `connecting`, soon connected) descriptor.
 * own: takes fd, also when it fails; returns owned.  err: MEMORY, CLOSED (the pool). */
int neap_stream_adopt(struct neap_loop *loop, struct neap_pool *pool, int fd,
                      const struct neap_address *peer, bool connecting,
                      struct neap_connection *connection);
