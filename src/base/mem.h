/* mem.h - the only place that asks the system for memory.
 *
 * Everything neap allocates comes from here, so that it can be counted and so
 * that a test can make the n-th request fail. (libev is exempt: it aborts when
 * its own small tables cannot grow.)
 *
 *     struct thing *t = neap_mem_calloc(1, sizeof *t);   // NULL: no memory
 *     neap_mem_free(t);
 *
 * Limits: none of its own. Thread: any for the calls; neap_mem_fail_after() is
 * for single-threaded tests. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NEAP_MEM_PAGE = 4096 }; /* the granule in which memory goes back to the system */

/* own: returns owned (neap_mem_free).  err: NULL when there is no memory. */
void *neap_mem_calloc(size_t count, size_t size);
void neap_mem_free(void *p);

/* Whole pages, zeroed by the system on first touch. own: returns owned (unmap). err: NULL. */
void *neap_mem_map(size_t bytes);
void neap_mem_unmap(void *p, size_t bytes);

/* Address space without memory; neap_mem_commit() makes [p, p + bytes) usable. err: NULL/false. */
void *neap_mem_reserve(size_t bytes);
bool neap_mem_commit(void *p, size_t bytes);

/* Give the pages inside [p, p + bytes) back to the system; the addresses stay usable. */
void neap_mem_discard(void *p, size_t bytes);

/* Let the next `count` requests succeed and fail the one after; negative: never fail. */
void neap_mem_fail_after(int64_t count);

/* Requests made so far, failed ones included. */
uint64_t neap_mem_requests(void);
