/* net.h - what streams and listeners share. Thread: the loop's. */
#pragma once

#include "iobuf/pool.h"
#include "net/address.h"
#include "net/loop.h"

extern struct neap_net_stats neap_net_counts;

/* A descriptor that is to become a stream. */
struct neap_arrival {
    int fd;
    bool connecting;             /* soon connected */
    bool file;                   /* no socket */
    struct neap_handle listener; /* that accepted it, or none */
    struct neap_address peer;
};

/* A stream over it. own: takes its fd, also when it fails; returns owned.
 * err: MEMORY, CLOSED (the pool). */
int neap_stream_adopt(struct neap_loop *loop, struct neap_pool *pool,
                      const struct neap_arrival *arrival, const struct neap_socket_options *options,
                      struct neap_connection *connection);

/* One of the listener's streams has ended. The handle may be stale. */
void neap_listener_left(struct neap_handle listener);
