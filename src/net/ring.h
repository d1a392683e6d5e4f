/* ring.h - sends on many sockets in one system call: an io_uring, where the system has one.
 *
 *     struct neap_ring *ring = neap_ring_open();            // NULL: it has none
 *     neap_ring_add(ring, fd, bytes, n);                    // the bytes stay until the run is over
 *     neap_ring_run(ring);
 *     int64_t sent = neap_ring_sent(ring, 0);               // of the first that was added
 *
 * No send waits for room, so none outlives its run. Limits: NEAP_RING_SENDS a run.
 * Thread: the loop's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mode.h"

enum { NEAP_RING_SENDS = NEAP_TINY(64, 4) }; /* a power of two */

struct neap_ring;

/* own: returns owned (close).  err: NULL: the system has none, or refuses it. */
struct neap_ring *neap_ring_open(void);
void neap_ring_close(struct neap_ring *ring);

/* For the next run. False: it is full. own: borrows bytes, until the run is over. */
bool neap_ring_add(struct neap_ring *ring, int fd, const void *bytes, uint32_t n);

/* All that was added is sent, as far as sockets have room; or none, if the system has no time. */
void neap_ring_run(struct neap_ring *ring);

/* What came of the i-th send of the last run, as neap_socket_send() tells it, errno included. AGAIN
 * may also mean that it was not tried. */
int64_t neap_ring_sent(const struct neap_ring *ring, uint32_t i);
