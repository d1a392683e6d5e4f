/* pool_test.c - sizes, reuse, bounds, closing. */
#include <string.h>

#include "base/mem.h"
#include "base/poison.h"
#include "helper.h"
#include "iobuf/pool.h"
#include "iobuf/slice.h"

enum { KIB = 1024, MIB = 1024 * 1024, GIB = NEAP_BUF_MAX_BYTES };

static struct neap_handle pool;

static struct neap_buf *take(size_t size)
{
    struct neap_buf *buf;
    assert_int_equal(neap_pool_take(neap_pool_of(AT(pool)), size, &buf), NEAP_OK);
    assert_true(buf->capacity >= size);
    return buf;
}

static uint32_t capacity_for(size_t size)
{
    struct neap_buf *buf = take(size);
    uint32_t capacity = buf->capacity;
    neap_buf_release(buf);
    neap_pool_trim(AT(pool));
    return capacity;
}

static int try_take(size_t size)
{
    struct neap_buf *buf;
    int result = neap_pool_take(neap_pool_of(AT(pool)), size, &buf);
    if (result == NEAP_OK) neap_buf_release(buf);
    return result;
}

static void P1_minimum_0_is_16384(void **state)
{
    (void)state;
    needs_sizes();
    pool = pool_make(0);
    assert_int_equal(capacity_for(0), 16384);
    assert_int_equal(capacity_for(1), 16384);
    pool_end(pool);
}

static void P2_sizes_are_rounded_up_to_a_multiple_of_the_minimum(void **state)
{
    (void)state;
    pool = pool_make(8);
    const uint32_t sizes[][2] = {{0, 8}, {1, 8}, {8, 8}, {9, 16}, {16, 16}, {17, 24}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_int_equal(capacity_for(sizes[i][0]), sizes[i][1]);
    pool_end(pool);
}

static void P2_size_classes_waste_at_most_a_fifth(void **state)
{
    (void)state;
    struct neap_pool_options options = {.min_size = 1, .classes = true};
    pool = pool_make_with(&options);
    for (uint32_t size = 64; size < 3 * MIB; size += 1 + size / 9) {
        uint32_t capacity = capacity_for(size);
        assert_true(size >= capacity - capacity / 5);
    }
    pool_end(pool);
}

static void P2_above_1_gib_is_oversized_before_any_memory_is_taken(void **state)
{
    (void)state;
    for (int classes = 0; classes < 2; classes++) {
        struct neap_pool_options options = {.min_size = 24, .classes = classes};
        pool = pool_make_with(&options);
        uint64_t requests = neap_mem_requests();
        const size_t sizes[] = {(size_t)GIB + 1,       UINT32_MAX,   (size_t)1 << 32,
                                ((size_t)1 << 32) + 5, SIZE_MAX - 8, SIZE_MAX};
        for (int i = 0; i < 6; i++) assert_int_equal(try_take(sizes[i]), NEAP_E_OVERSIZED);
        assert_int_equal(try_take(GIB), NEAP_E_OVERSIZED); /* 24 does not divide it */
        assert_int_equal(neap_mem_requests(), requests);
        assert_int_equal(pool_stats(pool).bytes_held, 0);
        pool_end(pool);
    }
    pool = pool_make(0);
    assert_int_equal(try_take(GIB), NEAP_OK);
    pool_end(pool);
}

static void P2_options_out_of_range_are_refused(void **state)
{
    (void)state;
    const double bad[] = {-1, 0.5, 1073741825.0, 1e300, __builtin_nan("")};
    for (int i = 0; i < 5; i++) {
        struct neap_pool_options options = {.min_size = bad[i]};
        assert_int_equal(neap_pool_create(&options, &pool), NEAP_E_RANGE);
    }
    struct neap_pool_options limit = {.limit = -1}, retain = {.retain = 1.5};
    assert_int_equal(neap_pool_create(&limit, &pool), NEAP_E_RANGE);
    assert_int_equal(neap_pool_create(&retain, &pool), NEAP_E_RANGE);
}

static void P3_a_large_enough_free_buf_is_reused(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    pool = pool_make(8);
    struct neap_buf *small = take(24), *large = take(100 * KIB);
    neap_buf_release(large);
    neap_buf_release(small);
    struct neap_buf *again = take(20); /* the better one, not the very large one */
    assert_int_equal(again->capacity, 24);
    assert_int_equal(pool_stats(pool).bufs_reused, 1);
    struct neap_buf *next = take(64 * KIB + 8);
    assert_int_equal(next->capacity, 102400);
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.bufs_allocated, 2); /* P4: reuse does not count */
    assert_int_equal(s.bufs_reused, 2);
    neap_buf_release(again);
    neap_buf_release(next);
    pool_end(pool);
}

static void P3_1000_free_bufs_that_are_too_small_are_not_walked(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    pool = pool_make(8);
    static struct neap_buf *bufs[1000];
    for (int i = 0; i < 1000; i++) bufs[i] = take(32);
    for (int i = 0; i < 1000; i++) neap_buf_release(bufs[i]);
    struct neap_pool *p = neap_pool_of(AT(pool));
    uint32_t bin = 0;
    while (!p->bins[bin]) bin++;
    struct neap_buf *at = p->bins[bin]; /* past the first hundred: who walks there dies */
    for (int i = 0; i < 100; i++) at = at->next;
    struct neap_buf *rest = at->next;
    at->next = (struct neap_buf *)8;
    struct neap_buf *miss = take(40);
    assert_int_equal(miss->capacity, 40);
    at->next = rest;
    neap_buf_release(miss);
    pool_end(pool);
}

static void P3_a_small_request_leaves_a_free_buf_above_four_times_its_size(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    struct neap_pool_options options = {.classes = true};
    pool = pool_make_with(&options);
    neap_buf_release(take(80 * KIB));
    struct neap_buf *small = take(16 * KIB);
    assert_int_equal(small->capacity, 16 * KIB);
    assert_int_equal(pool_stats(pool).bufs_reused, 0);
    neap_buf_release(take(64 * KIB)); /* the free one of 80 KiB */
    assert_int_equal(pool_stats(pool).bufs_reused, 1);
    neap_buf_release(small);
    pool_end(pool);
}

static void P4_memory_is_not_zeroed_on_reuse(void **state)
{
    (void)state;
    needs_neighbours();
    pool = pool_make(0);
    struct neap_buf *buf = take(0);
    memset(buf->mem, 'x', buf->capacity);
    neap_buf_release(buf);
    struct neap_buf *again = take(0);
    assert_ptr_equal(again, buf);
#ifndef NEAP_VALGRIND
    for (uint32_t i = 0; i < again->capacity && !NEAP_MODE_POISON; i++)
        assert_int_equal(again->mem[i], 'x');
#endif
    assert_int_equal(pool_stats(pool).bufs_allocated, 1);
    neap_buf_release(again);
    pool_end(pool);
}

static void burst(uint32_t count, uint32_t size)
{
    static struct neap_buf *bufs[10000];
    for (uint32_t i = 0; i < count; i++) bufs[i] = take(size);
    assert_int_equal(pool_stats(pool).bufs_live, count);
    for (uint32_t i = 0; i < count; i++) neap_buf_release(bufs[i]);
}

static void P5_free_bytes_are_capped_and_decay_after_a_burst(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    struct neap_pool_options options = {.classes = true};
    pool = pool_make_with(&options);
    neap_pool_decay(AT(pool), 1000, 1e12);
    burst(10000, 64 * KIB);
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.bytes_free, 64 * MIB); /* the default cap */
    assert_int_equal(s.dropped_cap, 10000 - 1024);
    for (double now = 1100; now < 4000; now += 100) neap_pool_decay(AT(pool), now, 1e12);
    assert_int_equal(pool_stats(pool).bytes_free, 64 * MIB); /* used in the last seconds */
    for (double now = 4000; now <= 5100; now += 100) neap_pool_decay(AT(pool), now, 1e12);
    s = pool_stats(pool);
    assert_int_equal(s.bytes_held, 0);
    assert_int_equal(s.dropped_decay, 1024);
    pool_end(pool);
}

static void P5_decay_keeps_what_is_used_and_its_budget(void **state)
{
    (void)state;
    needs_neighbours();
    struct neap_pool_options options = {.retain = 10 * MIB};
    pool = pool_make_with(&options);
    burst(640, 16 * KIB);
    assert_int_equal(pool_stats(pool).bytes_free, 10 * MIB);
    double now = 0, gone = 0;
    for (; now < 20000 && gone == 0; now += 500) {
        burst(4, 16 * KIB); /* the steady use */
        gone = neap_pool_decay(AT(pool), now, MIB);
    }
    assert_true(gone >= MIB && gone < MIB + 16 * KIB);
    assert_int_equal(pool_stats(pool).bytes_free, 10 * MIB - (uint64_t)gone);
    for (int i = 0; i < 100; i++, now += 500) {
        burst(4, 16 * KIB);
        neap_pool_decay(AT(pool), now, MIB);
    }
    assert_int_equal(pool_stats(pool).bytes_free, 64 * KIB);
    assert_int_equal(pool_stats(pool).bufs_allocated, 640);
    pool_end(pool);
}

static void P6_a_closed_pool_refuses_and_its_slices_stay(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    pool = pool_make(0);
    struct neap_handle allocator = allocator_make(pool, 0);
    struct neap_handle s = slice_text(allocator, "bytes"), none;
    neap_buf_release(take(40 * KIB));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(neap_pool_close(AT(pool)), NEAP_OK);
        assert_int_equal(try_take(1), NEAP_E_CLOSED);
        assert_int_equal(neap_allocator_alloc(AT(allocator), 1, &none), NEAP_E_CLOSED);
        assert_int_equal(neap_allocator_create(AT(pool), 0, &none), NEAP_E_CLOSED);
        assert_int_equal(pool_stats(pool).bytes_free, 0);
        slice_reads(s, "bytes");
    }
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    const uint8_t *bytes = neap_slice_bytes(AT(s));
    assert_true(is_mapped(bytes));
    assert_int_equal(pool_stats(pool).bytes_held, 16384);
    slice_end(s);
    assert_int_equal(pool_stats(pool).bytes_held, 0);
    assert_int_equal(pool_stats(pool).dropped_closed, 2);
    assert_false(is_mapped(bytes));
    pool_end(pool);
}

static void P6_an_allocator_or_reader_keeps_the_pool_open(void **state)
{
    (void)state;
    struct neap_pool_options options = {.min_size = 0};
    assert_int_equal(neap_pool_create(&options, &pool), NEAP_OK);
    struct neap_handle allocator = allocator_make(pool, 0), reader, none;
    assert_int_equal(neap_reader_create(AT(pool), 100, &reader), NEAP_OK);
    const struct neap_pool *p = neap_pool_of(AT(pool));
    neap_pool_finalize(&pool); /* forgotten */
    assert_int_equal(neap_pool_close(AT(pool)), NEAP_E_STALE);
    assert_int_equal(neap_pool_release(AT(pool)), NEAP_E_STALE);
    struct neap_handle s = slice_text(allocator, "bytes");
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    assert_int_equal(neap_reader_feed(AT(reader), "x", 1), 1); /* still open */
    assert_false(p->closed);
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    assert_true(p->closed);
    assert_int_equal(neap_allocator_create(AT(pool), 0, &none), NEAP_E_STALE);
    slice_reads(s, "bytes");
    assert_true(p->head.gen & 1);
    slice_end(s);
    assert_false(p->head.gen & 1); /* the pool itself is gone with its last buf */
}

static void P7_the_limit_is_never_exceeded_by_a_byte(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    struct neap_pool_options options = {.min_size = 8, .limit = 1000};
    pool = pool_make_with(&options);
    struct neap_buf *a = take(600), *b = take(400);
    assert_int_equal(pool_stats(pool).bytes_held, 1000);
    assert_int_equal(try_take(1), NEAP_E_LIMIT);
    assert_int_equal(pool_stats(pool).limit_hits, 1);
    neap_buf_release(b);
    assert_int_equal(try_take(401), NEAP_E_LIMIT); /* 408 with 600 live */
    assert_int_equal(pool_stats(pool).limit_hits, 2);
    assert_int_equal(pool_stats(pool).bytes_free, 400); /* nothing changed */
    struct neap_buf *c = take(8);                       /* the free one */
    assert_int_equal(try_take(8), NEAP_E_LIMIT);
    assert_int_equal(pool_stats(pool).bytes_held, 1000);
    neap_buf_release(c);
    neap_buf_release(a);
    b = take(1000); /* free bufs of other sizes go first */
    assert_int_equal(pool_stats(pool).bytes_held, 1000);
    assert_true(pool_stats(pool).dropped_trim > 0);
    neap_buf_release(b);
    assert_int_equal(try_take(1001), NEAP_E_LIMIT);
    pool_end(pool);
    options.min_size = 1;
    pool = pool_make_with(&options);
    a = take(999);
    assert_int_equal(try_take(2), NEAP_E_LIMIT);
    b = take(1);
    assert_int_equal(try_take(1), NEAP_E_LIMIT);
    neap_buf_release(a);
    neap_buf_release(b);
    neap_pool_trim(AT(pool));
    a = take(701);
    neap_buf_release(take(100));
    b = take(200); /* with the free one it would be a byte too much */
    assert_int_equal(pool_stats(pool).bytes_held, 901);
    neap_buf_release(a);
    neap_buf_release(b);
    pool_end(pool);
}

static void W2_a_buf_above_the_largest_class_is_not_kept(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    struct neap_pool_options options = {.classes = true};
    pool = pool_make_with(&options);
    neap_buf_release(take(MIB + 1));
    assert_int_equal(pool_stats(pool).dropped_large, 1);
    assert_int_equal(pool_stats(pool).bytes_held, 0);
    neap_buf_release(take(MIB));
    assert_int_equal(pool_stats(pool).bufs_free, 1);
    assert_int_equal(neap_pool_trim(AT(pool)), MIB);
    assert_int_equal(pool_stats(pool).dropped_trim, 1);
    pool_end(pool);
}

static void W1_a_burst_is_given_back_within_5_s(void **state)
{
    (void)state;
    struct neap_pool_options options = {.classes = true};
    pool = pool_make_with(&options);
    double now = 0;
    for (; now < 10000; now += 100) neap_pool_decay(AT(pool), now, 4 * MIB);
    burst(10000, 64 * KIB);
    uint64_t free = pool_stats(pool).bytes_free;
    for (double end = now + 5000; now <= end; now += 5) {
        neap_pool_decay(AT(pool), now, 4 * MIB);
        assert_true(free - pool_stats(pool).bytes_free <= 5 * MIB); /* a step is short */
        free = pool_stats(pool).bytes_free;
    }
    assert_true(pool_stats(pool).bytes_held <= MIB);
    pool_end(pool);
}

/* 1 - asked / held of slices of some sizes, in turns. */
static double waste_of(const uint32_t *sizes, int count, struct neap_handle *slices,
                       int slice_count)
{
    struct neap_handle allocator = allocator_make(pool, 0);
    double asked = 0;
    for (int i = 0; i < slice_count; i++) {
        slices[i] = slice_alloc(allocator, sizes[i % count]);
        asked += sizes[i % count];
    }
    double waste = 1 - asked / (double)pool_stats(pool).bytes_held;
    for (int i = 0; i < slice_count; i++) slice_end(slices[i]);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    neap_pool_trim(AT(pool));
    return waste;
}

static void W4_no_size_wastes_a_fifth_and_no_mix_a_tenth(void **state)
{
    (void)state;
    enum { MOST = 1500 };
    static struct neap_handle slices[MOST];
    struct neap_pool_options options = {.classes = true};
    pool = pool_make_with(&options);
    assert_true(waste_of((uint32_t[]){100, 100, 4000}, 3, slices, MOST) <= 0.10);
    assert_true(waste_of((uint32_t[]){2100}, 1, slices, MOST) <= 0.20);
    for (uint32_t size = 256; size < 20000; size += 61)
        assert_true(waste_of(&size, 1, slices, MOST) <= 0.20);
    pool_end(pool);
}

static uint32_t keep_largest(void)
{
    struct neap_pool_settings settings;
    assert_int_equal(neap_pool_settings(AT(pool), &settings), NEAP_OK);
    return (uint32_t)settings.keep_largest;
}

static void W2_W5_what_is_kept_follows_the_bytes_unless_it_is_fixed(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    for (int fixed = 0; fixed < 2; fixed++) {
        struct neap_pool_options options = {.classes = true, .fixed = fixed};
        pool = pool_make_with(&options);
        double now = 0;
        for (int i = 0; i < 3; i++, now += 1000) {
            for (int k = 0; k < 96; k++) neap_buf_release(take(100));
            for (int k = 0; k < 4; k++) neap_buf_release(take(3 * MIB));
            neap_pool_decay(AT(pool), now, 1e12);
        }
        assert_int_equal(keep_largest(), fixed ? MIB : 4 * MIB);
        uint64_t dropped = pool_stats(pool).dropped_large;
        neap_buf_release(take(3 * MIB));
        assert_int_equal(pool_stats(pool).dropped_large - dropped, fixed);
        for (int i = 0; i < 12; i++, now += 1000) {
            for (int k = 0; k < 1000; k++) neap_buf_release(take(100));
            neap_pool_decay(AT(pool), now, 1e12);
        }
        assert_int_equal(keep_largest(), MIB);
        pool_end(pool);
    }
}

static void W5_the_cap_rises_where_what_it_drops_is_made_again(void **state)
{
    (void)state;
    needs_neighbours();
    struct neap_pool_options options = {.classes = true, .retain = 4 * MIB};
    pool = pool_make_with(&options);
    struct neap_pool_settings settings;
    neap_pool_decay(AT(pool), 0, 1e12);
    for (int i = 0; i < 3; i++) burst(10, MIB);
    neap_pool_decay(AT(pool), 1000, 1e12);
    neap_pool_settings(AT(pool), &settings);
    assert_int_equal(settings.retain_now, 10 * MIB);
    burst(40, MIB);
    burst(40, MIB);
    neap_pool_decay(AT(pool), 2000, 1e12);
    neap_pool_settings(AT(pool), &settings);
    assert_int_equal(settings.retain_now, 16 * MIB); /* four times as much at most */
    for (double now = 3000; now < 9000; now += 1000) neap_pool_decay(AT(pool), now, 1e12);
    neap_pool_settings(AT(pool), &settings);
    assert_int_equal(settings.retain_now, 4 * MIB);
    pool_end(pool);
}

static void B4_a_recycled_buf_is_overwritten(void **state)
{
    (void)state;
    needs_neighbours();
    struct neap_pool_options options = {.min_size = 256, .poison = true};
    pool = pool_make_with(&options);
    struct neap_buf *buf = take(0), *kept = take(0);
    memset(buf->mem, 'x', 256);
    memset(kept->mem, 'y', 256);
    neap_buf_release(buf);
#ifdef NEAP_ASAN
    assert_true(__asan_address_is_poisoned(buf->mem));
    assert_true(__asan_address_is_poisoned(buf->mem + 255));
    assert_false(__asan_address_is_poisoned(kept->mem));
#endif
    struct neap_buf *again = take(0);
    assert_ptr_equal(again, buf);
#ifndef NEAP_VALGRIND
    for (int i = 0; i < 256; i++) assert_int_equal(again->mem[i], 0xdb);
#endif
    for (int i = 0; i < 256; i++) assert_int_equal(kept->mem[i], 'y');
    neap_buf_release(again);
    neap_buf_release(kept);
    pool_end(pool);
}

static void referenced_are(const struct neap_handle *slices, uint32_t count)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct neap_slice_info info = info_of(slices[i]);
        bytes += info.bound - info.free;
    }
    assert_int_equal(pool_stats(pool).bytes_referenced, bytes);
}

static void counters_add_up_at_every_moment(void **state)
{
    (void)state;
    enum { MOST = 64 };
    struct random random = {11};
    struct neap_pool_options options = {.min_size = 256, .classes = true, .retain = 8192};
    pool = pool_make_with(&options);
    struct neap_handle allocator = allocator_make(pool, 3), slices[MOST];
    uint32_t count = 0;
    for (int i = 0; i < 20000; i++) {
        if (count == 0 || (count < MOST && random_below(&random, 2))) {
            slices[count++] = slice_alloc(allocator, random_below(&random, 700));
        } else {
            uint32_t which = random_below(&random, count);
            struct neap_handle s = slices[which];
            slices[which] = slices[--count];
            if (i % 3 == 0)
                neap_slice_finalize(&s);
            else
                slice_end(s);
        }
        if (i % 977 == 0) neap_pool_decay(AT(pool), i, 1e9);
        if (count) neap_slice_truncate_front(AT(slices[0]), random_below(&random, 9));
        if (count) neap_slice_truncate_back(AT(slices[count / 2]), random_below(&random, 9));
        if (i % 50 == 0) referenced_are(slices, count);
        pool_adds_up(pool);
        assert_int_equal(pool_stats(pool).slices_live, count);
    }
    assert_true(pool_stats(pool).slices_collected > 0);
    while (count) slice_end(slices[--count]);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

static const struct CMUnitTest tests[] = {
    TEST(P1_minimum_0_is_16384),
    TEST(P2_sizes_are_rounded_up_to_a_multiple_of_the_minimum),
    TEST(P2_size_classes_waste_at_most_a_fifth),
    TEST(P2_above_1_gib_is_oversized_before_any_memory_is_taken),
    TEST(P2_options_out_of_range_are_refused),
    TEST(P3_a_large_enough_free_buf_is_reused),
    TEST(P3_1000_free_bufs_that_are_too_small_are_not_walked),
    TEST(P3_a_small_request_leaves_a_free_buf_above_four_times_its_size),
    TEST(P4_memory_is_not_zeroed_on_reuse),
    TEST(P5_free_bytes_are_capped_and_decay_after_a_burst),
    TEST(P5_decay_keeps_what_is_used_and_its_budget),
    TEST(P6_a_closed_pool_refuses_and_its_slices_stay),
    TEST(P6_an_allocator_or_reader_keeps_the_pool_open),
    TEST(P7_the_limit_is_never_exceeded_by_a_byte),
    TEST(W2_a_buf_above_the_largest_class_is_not_kept),
    TEST(W1_a_burst_is_given_back_within_5_s),
    TEST(W4_no_size_wastes_a_fifth_and_no_mix_a_tenth),
    TEST(W2_W5_what_is_kept_follows_the_bytes_unless_it_is_fixed),
    TEST(W5_the_cap_rises_where_what_it_drops_is_made_again),
    TEST(B4_a_recycled_buf_is_overwritten),
    TEST(counters_add_up_at_every_moment),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
