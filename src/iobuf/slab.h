/* slab.h - memory of a pool, cut into bufs of one size.
 *
 * A slab maps its memory once; a buf costs nothing until it is cut and touched. A
 * buf whose memory went back to the system is *bare* and is cut anew before a new
 * slab is made. A slab with neither live nor free bufs is unmapped.
 * Thread: the pool's. */
#pragma once

#include "iobuf/pool.h"

/* The size classes: four steps between a size and its double. */
uint32_t neap_class_above(size_t size); /* the smallest class that holds `size` */
uint32_t neap_class_below(size_t size); /* the largest class that `size` fills */
uint32_t neap_class_bytes(uint32_t class_index);

/* A buf that was not held before. own: returns owned, count 0.  err: NULL, no memory. */
struct neap_buf *neap_slab_cut(struct neap_pool *pool, uint32_t capacity, bool classes);

/* The buf is held no longer: its memory goes back, as far as whole pages do. */
void neap_slab_drop(struct neap_buf *buf);
