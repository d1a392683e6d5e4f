/* helper.h - what the C tests share: pools that must end clean, random numbers with a seed,
 * memory that ends before an unreadable page.
 *
 *     static void S6_something(void **state) { ... pool_end(pool); }
 *     const struct CMUnitTest tests[] = {TEST(S6_something)};
 *
 * A test fails when a slice, or a pool it made, is still there after it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "neap.h"

#define AT(handle) (handle).slot, (handle).gen
#define TEST(function) cmocka_unit_test_setup_teardown(function, test_begin, test_end)

int test_begin(void **state);
int test_end(void **state);

/* ---- what a mode of the library (src/base/mode.h) cannot pass by its nature ---- */

/* First in a test: it is left out where no two slices share a buf, and none is used again … */
void needs_neighbours(void);
/* … or where the contract's constants, or those of its implementation, are tiny. */
void needs_sizes(void);

/* ---- pools ---- */

/* Exact arithmetic: no size classes. min 0: the default. */
struct neap_handle pool_make(double min_size);
struct neap_handle pool_make_with(const struct neap_pool_options *options);
struct neap_pool_stats pool_stats(struct neap_handle pool);

/* held = free + live; made = released + taken + dropped + collected + live. */
void pool_adds_up(struct neap_handle pool);

/* All live counters must be 0; then the pool is closed and let go. */
void pool_end(struct neap_handle pool);

/* The counters are those of before, but for the listed moment's own. */
void pool_unchanged(struct neap_handle pool, const struct neap_pool_stats *before);

/* ---- slices ---- */

struct neap_handle allocator_make(struct neap_handle pool, uint32_t reserve);
struct neap_handle slice_alloc(struct neap_handle allocator, uint32_t n);
struct neap_handle slice_text(struct neap_handle allocator, const char *text);
struct neap_handle slice_retain(struct neap_handle slice);
struct neap_handle slice_split(struct neap_handle slice, uint32_t n);
struct neap_slice_info info_of(struct neap_handle slice);
struct neap_slice_stats slice_stats(void);
void slice_end(struct neap_handle slice);
void slice_is(struct neap_handle slice, uint32_t free, uint32_t base, uint32_t bound);
void slice_reads(struct neap_handle slice, const char *text);
void slice_holds(struct neap_handle slice, const void *bytes, size_t size);

/* ---- bytes ---- */

/* Is the page at this address mapped? */
bool is_mapped(const void *address);

/* A copy whose last byte stands before an unreadable page; n at most 64 KiB, the copies of
 * before are gone. */
enum { GUARD_BYTES = 65536 };
char *guard_copy(const void *bytes, size_t n);

struct random {
    uint64_t state;
};
uint32_t random_next(struct random *r);
uint32_t random_below(struct random *r, uint32_t limit);
