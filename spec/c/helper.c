#define _GNU_SOURCE /* mincore() */
#include "helper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "base/mode.h"
#include "base/slots.h"

static uint64_t live_before;
static int pools_open;

/* TEST_FILTER='*S6_*' runs the tests of that name only. */
__attribute__((constructor)) static void choose_tests(void)
{
    const char *filter = getenv("TEST_FILTER");
    if (filter) cmocka_set_test_filter(filter);
}

/* ---- before and after each test ---- */

int test_begin(void **state)
{
    (void)state;
    live_before = slice_stats().live;
    pools_open = 0;
    return 0;
}

int test_end(void **state)
{
    (void)state;
    neap_mem_fail_after(-1);
    while (neap_foreign_next() != 0) continue;
    if (slice_stats().live != live_before) {
        print_error("slices still live after the test: %llu\n",
                    (unsigned long long)(slice_stats().live - live_before));
        return -1;
    }
    struct neap_collector_stats collector;
    neap_collector_stats(&collector);
    if (collector.bytes_held) {
        print_error("bytes still held by handles after the test\n");
        return -1;
    }
    if (pools_open) print_error("pools not ended: %d\n", pools_open);
    return pools_open ? -1 : 0;
}

/* tools/test counts and lists them: what is behind the colon, and the test's name. */
static void leave_out(const char *why)
{
    print_message("left out: %s\n", why);
    skip();
}

void needs_neighbours(void)
{
    if (NEAP_MODE_MALLOC) leave_out("needs slices that share a buf, or bufs that are used again");
}

void needs_sizes(void)
{
    if (NEAP_MODE_TINY) leave_out("needs bufs, or limits, of their usual size");
}

/* ---- pools ---- */

struct neap_handle pool_make_with(const struct neap_pool_options *options)
{
    struct neap_handle pool;
    assert_int_equal(neap_pool_create(options, &pool), NEAP_OK);
    pools_open++;
    return pool;
}

struct neap_handle pool_make(double min_size)
{
    struct neap_pool_options options = {.min_size = min_size};
    return pool_make_with(&options);
}

struct neap_pool_stats pool_stats(struct neap_handle pool)
{
    struct neap_pool_stats stats;
    assert_int_equal(neap_pool_stats(AT(pool), &stats), NEAP_OK);
    return stats;
}

void pool_adds_up(struct neap_handle pool)
{
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.bytes_held, s.bytes_free + s.bytes_live);
    assert_int_equal(s.slices_made, s.slices_released + s.slices_taken + s.slices_dropped +
                                        s.slices_collected + s.slices_live);
    uint64_t dropped =
        s.dropped_large + s.dropped_cap + s.dropped_decay + s.dropped_trim + s.dropped_closed;
    assert_int_equal(s.bufs_allocated, s.bufs_free + s.bufs_live + dropped);
}

void pool_end(struct neap_handle pool)
{
    pool_adds_up(pool);
    assert_int_equal(neap_pool_close(AT(pool)), NEAP_OK);
    pool_adds_up(pool);
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.slices_live, 0);
    assert_int_equal(s.bufs_live, 0);
    assert_int_equal(s.bufs_free, 0);
    assert_int_equal(s.bytes_held, 0);
    assert_int_equal(s.bytes_live, 0);
    assert_int_equal(s.bytes_referenced, 0);
    assert_int_equal(neap_pool_release(AT(pool)), NEAP_OK);
    pools_open--;
}

void pool_unchanged(struct neap_handle pool, const struct neap_pool_stats *before)
{
    struct neap_pool_stats now = pool_stats(pool);
    assert_memory_equal(&now, before, sizeof now);
}

/* ---- slices ---- */

struct neap_handle allocator_make(struct neap_handle pool, uint32_t reserve)
{
    struct neap_handle allocator;
    assert_int_equal(neap_allocator_create(AT(pool), reserve, &allocator), NEAP_OK);
    return allocator;
}

struct neap_handle slice_alloc(struct neap_handle allocator, uint32_t n)
{
    struct neap_handle slice;
    assert_int_equal(neap_allocator_alloc(AT(allocator), n, &slice), NEAP_OK);
    return slice;
}

struct neap_handle slice_text(struct neap_handle allocator, const char *text)
{
    struct neap_handle slice;
    uint32_t size = (uint32_t)strlen(text);
    assert_int_equal(neap_allocator_copy(AT(allocator), text, size, &slice), NEAP_OK);
    return slice;
}

struct neap_handle slice_retain(struct neap_handle slice)
{
    struct neap_handle clone;
    assert_int_equal(neap_slice_retain(AT(slice), &clone), NEAP_OK);
    return clone;
}

struct neap_handle slice_split(struct neap_handle slice, uint32_t n)
{
    struct neap_handle front;
    assert_int_equal(neap_slice_split(AT(slice), n, &front), NEAP_OK);
    return front;
}

struct neap_slice_info info_of(struct neap_handle slice)
{
    struct neap_slice_info info;
    assert_int_equal(neap_slice_info(AT(slice), &info), NEAP_OK);
    return info;
}

struct neap_slice_stats slice_stats(void)
{
    struct neap_slice_stats stats;
    neap_slice_stats(&stats);
    return stats;
}

void slice_end(struct neap_handle slice)
{
    assert_true(neap_slice_release(AT(slice)) >= 0); /* or with a wish, if it is watched */
}

void slice_is(struct neap_handle slice, uint32_t free, uint32_t base, uint32_t bound)
{
    struct neap_slice_info info = info_of(slice);
    assert_int_equal(info.free, free);
    assert_int_equal(info.base, base);
    assert_int_equal(info.bound, bound);
}

void slice_holds(struct neap_handle slice, const void *bytes, size_t size)
{
    assert_int_equal(neap_slice_size(AT(slice)), size);
    if (size) assert_memory_equal(neap_slice_bytes(AT(slice)), bytes, size);
}

void slice_reads(struct neap_handle slice, const char *text)
{
    slice_holds(slice, text, strlen(text));
}

/* ---- bytes ---- */

bool is_mapped(const void *address)
{
    unsigned char seen;
    uintptr_t page = (uintptr_t)address & ~(uintptr_t)(NEAP_MEM_PAGE - 1);
    return mincore((void *)page, 1, &seen) == 0 || errno != ENOMEM;
}

char *guard_copy(const void *bytes, size_t n)
{
    static char *area;
    if (!area) {
        area = mmap(NULL, GUARD_BYTES + NEAP_MEM_PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(area != MAP_FAILED);
        assert_int_equal(mprotect(area + GUARD_BYTES, NEAP_MEM_PAGE, PROT_NONE), 0);
    }
    assert_true(n <= GUARD_BYTES);
    char *at = area + GUARD_BYTES - n;
    if (n) memcpy(at, bytes, n);
    return at;
}

/* splitmix64 */
uint32_t random_next(struct random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

uint32_t random_below(struct random *r, uint32_t limit)
{
    return (uint32_t)((uint64_t)random_next(r) * limit >> 32);
}
