/* sweep.h - slivers: slices that keep a buf many times their size from its pool.
 *
 * Where a pool has 4 times the live bytes that its slices stand for, some of its slices are looked
 * at in each turn. If a buf is more than 8 times what its slices stand for, nobody but they has
 * it (no reader, no allocator, no queue), and no call has touched any of them for `detach_after`
 * turns (1 while the pool is at its soft limit), all of them move into a buf with others like
 * them, with their prefixes. Handles stay, and what a call returns is as before.
 * Limits: a turn's work is over in a millisecond. Thread: the pool's. */
#pragma once

#include "iobuf/slice.h"

/* A turn has passed. A loop calls this; it holds no pointer to bytes of slices meanwhile. */
void neap_slices_sweep(void);
