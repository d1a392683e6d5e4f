/* decay.h - what a pool tells decay.c, which sets how much of its free bufs is kept.
 * Thread: the pool's. */
#pragma once

#include "iobuf/pool.h"

/* A buf of so many bytes was asked for, and not of the usual size by the fast path. */
void neap_calibrate_asked(struct neap_pool *pool, uint32_t size);

/* One was made: was it dropped not long ago? */
void neap_calibrate_made(struct neap_pool *pool, uint32_t size);
