/* allocator_test.c - slices cut out of bufs, one behind the other. */
#include <string.h>

#include "helper.h"
#include "iobuf/slice.h"

static struct neap_handle pool, allocator;

static void start(double min_size, uint32_t reserve)
{
    pool = pool_make(min_size);
    allocator = allocator_make(pool, reserve);
}

static void finish(void)
{
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

static const void *buf_of(struct neap_handle slice)
{
    return neap_slice_of(AT(slice))->buf;
}

static int try_alloc(uint32_t n)
{
    struct neap_handle none;
    return neap_allocator_alloc(AT(allocator), n, &none);
}

static void A1_no_buf_is_taken_before_the_first_allocation(void **state)
{
    (void)state;
    start(0, 10);
    assert_int_equal(pool_stats(pool).bufs_allocated, 0);
    slice_end(slice_alloc(allocator, 1));
    assert_int_equal(pool_stats(pool).bufs_allocated, 1);
    finish();
}

static void A2_n_and_reserve_are_taken_and_their_sum_is_checked(void **state)
{
    (void)state;
    start(64, 4);
    struct neap_handle s = slice_alloc(allocator, 60); /* just fits */
    assert_int_equal(info_of(s).buf_bytes, 64);
    assert_int_equal(pool_stats(pool).bytes_referenced, 64);
    slice_end(s);
    finish();
}

static void A2_an_overflow_is_an_error_and_changes_nothing(void **state)
{
    (void)state;
    const uint32_t reserves[] = {1, 8, NEAP_BUF_MAX_BYTES};
    for (int i = 0; i < 3; i++) {
        start(64, reserves[i]);
        struct neap_pool_stats before = pool_stats(pool);
        const uint32_t sizes[] = {UINT32_MAX, UINT32_MAX - reserves[i] + 1, NEAP_BUF_MAX_BYTES,
                                  NEAP_BUF_MAX_BYTES - reserves[i] + 1, 1u << 31};
        for (int k = 0; k < 5; k++) assert_int_equal(try_alloc(sizes[k]), NEAP_E_OVERSIZED);
        pool_unchanged(pool, &before);
        finish();
    }
    struct neap_handle none;
    pool = pool_make(0);
    assert_int_equal(neap_allocator_create(AT(pool), NEAP_BUF_MAX_BYTES + 1u, &none), NEAP_E_RANGE);
    pool_end(pool);
}

static void A3_the_tail_left_behind_is_counted_as_waste(void **state)
{
    (void)state;
    needs_neighbours();
    start(100, 0);
    struct neap_handle a = slice_alloc(allocator, 40), b = slice_alloc(allocator, 30);
    assert_ptr_equal(buf_of(a), buf_of(b));
    struct neap_handle c = slice_alloc(allocator, 31); /* 30 are left */
    assert_ptr_not_equal(buf_of(b), buf_of(c));
    slice_is(c, 0, 0, 31);
    assert_int_equal(pool_stats(pool).bytes_wasted, 30);
    assert_int_equal(neap_allocator_close(AT(allocator)), NEAP_OK);
    assert_int_equal(pool_stats(pool).bytes_wasted, 30 + 69);
    slice_end(a);
    slice_end(b);
    slice_end(c);
    finish();
}

static void A3_one_larger_than_half_a_buf_gets_its_own_and_the_current_one_stays(void **state)
{
    (void)state;
    needs_neighbours();
    start(100, 1);
    struct neap_handle a = slice_alloc(allocator, 59), large = slice_alloc(allocator, 50);
    struct neap_handle b = slice_alloc(allocator, 39), half;
    assert_ptr_not_equal(buf_of(a), buf_of(large));
    slice_is(large, 0, 1, 51);
    assert_ptr_equal(buf_of(a), buf_of(b)); /* up to its very end */
    slice_is(b, 60, 61, 100);
    assert_int_equal(pool_stats(pool).bytes_wasted, 49); /* of the large one's own buf */
    half = slice_alloc(allocator, 49);                   /* half a buf is not larger than half */
    struct neap_handle next = slice_alloc(allocator, 10);
    assert_ptr_equal(buf_of(half), buf_of(next));
    slice_end(a);
    slice_end(b);
    slice_end(large);
    slice_end(half);
    slice_end(next);
    finish();
}

static void A3_a_buf_begins_anew_when_all_that_was_cut_from_it_is_gone(void **state)
{
    (void)state;
    needs_neighbours();
    start(100, 10);
    struct neap_handle a = slice_alloc(allocator, 60), b = slice_alloc(allocator, 5);
    const void *first = buf_of(a);
    slice_end(a);
    struct neap_handle c = slice_alloc(allocator, 30); /* b is there, and 15 are left */
    assert_ptr_not_equal(buf_of(c), first);
    slice_end(b);
    const void *second = buf_of(c);
    slice_end(c);
    for (int i = 0; i < 10; i++) {
        struct neap_handle whole = slice_alloc(allocator, 90);
        assert_ptr_equal(buf_of(whole), second);
        slice_is(whole, 0, 10, 100);
        slice_end(whole);
    }
    assert_int_equal(pool_stats(pool).bufs_allocated, 2);
    assert_int_equal(pool_stats(pool).bytes_wasted, 15);
    struct neap_handle larger = slice_alloc(allocator, 91);
    assert_ptr_not_equal(buf_of(larger), second);
    slice_end(larger);
    finish();
}

static void A4_the_bound_of_one_is_the_free_of_the_next(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(0, 7);
    struct neap_handle s[20];
    uint32_t at = 0;
    for (uint32_t i = 0; i < 20; i++) {
        s[i] = slice_alloc(allocator, i);
        slice_is(s[i], at, at + 7, at + 7 + i);
        at += 7 + i;
    }
    for (int i = 0; i < 20; i++) slice_end(s[i]);
    finish();
}

static void A5_expand_front_has_the_reserve_and_not_a_byte_more(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {50, 1000}, reserves[] = {0, 10, 100};
    static struct neap_handle s[1000];
    for (int k = 0; k < 6; k++) {
        uint32_t n = sizes[k / 3], reserve = reserves[k % 3];
        start(0, reserve);
        for (int i = 0; i < 1000; i++) s[i] = slice_alloc(allocator, n);
        for (int i = 0; i < 1000; i++) {
            assert_int_equal(neap_slice_expand_front(AT(s[i]), reserve + 1), 0);
            assert_int_equal(neap_slice_size(AT(s[i])), n);
            assert_int_equal(neap_slice_expand_front(AT(s[i]), reserve), 1);
            assert_int_equal(neap_slice_size(AT(s[i])), n + reserve);
        }
        for (int i = 0; i < 1000; i++) slice_end(s[i]);
        finish();
    }
}

static void A6_an_empty_slice_is_legal_also_at_the_end_of_the_buf(void **state)
{
    (void)state;
    needs_neighbours();
    start(100, 0);
    struct neap_handle first = slice_alloc(allocator, 0), all = slice_alloc(allocator, 100);
    struct neap_handle last = slice_alloc(allocator, 0);
    slice_is(first, 0, 0, 0);
    slice_is(last, 100, 100, 100);
    assert_ptr_equal(buf_of(last), buf_of(all));
    assert_int_equal(pool_stats(pool).bufs_allocated, 1);
    slice_reads(last, "");
    slice_end(first);
    slice_end(all);
    slice_end(last);
    finish();
}

static void A7_copy_allocates_and_copies(void **state)
{
    (void)state;
    start(0, 5);
    char text[] = {'b', 'y', 't', 'e', 's', 0, 'a', 'n', 'd', ' ', 'm', 'o', 'r', 'e'};
    struct neap_handle s, empty;
    assert_int_equal(neap_allocator_copy(AT(allocator), text, sizeof text, &s), NEAP_OK);
    assert_int_equal(neap_allocator_copy(AT(allocator), NULL, 0, &empty), NEAP_OK);
    text[0] = 'X';
    slice_holds(s, "bytes\0and more", sizeof text);
    slice_is(s, 0, 5, 5 + sizeof text);
    slice_reads(empty, "");
    slice_end(s);
    slice_end(empty);
    finish();
}

static void A8_close_is_idempotent_and_nothing_of_the_slices_is_lost(void **state)
{
    (void)state;
    start(0, 2);
    struct neap_handle s = slice_text(allocator, "bytes"), none = {0, 0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(neap_allocator_close(AT(allocator)), NEAP_OK);
        assert_int_equal(try_alloc(1), NEAP_E_CLOSED);
        assert_int_equal(try_alloc(UINT32_MAX), NEAP_E_CLOSED);
        assert_int_equal(neap_allocator_copy(AT(allocator), "x", 1, &none), NEAP_E_CLOSED);
        assert_int_equal(pool_stats(pool).bufs_live, 1);
    }
    slice_is(s, 0, 2, 7);
    slice_reads(s, "bytes");
    slice_end(s);
    assert_int_equal(pool_stats(pool).bufs_live, 0);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_E_STALE);
    assert_int_equal(neap_allocator_close(AT(allocator)), NEAP_E_STALE);
    assert_int_equal(try_alloc(1), NEAP_E_STALE);
    neap_allocator_finalize(&allocator);
    pool_end(pool);
}

static void A8_in_a_closed_pool_alloc_and_copy_fail_with_closed(void **state)
{
    (void)state;
    start(0, 0);
    struct neap_handle s = slice_text(allocator, "bytes"), none;
    assert_int_equal(neap_pool_close(AT(pool)), NEAP_OK);
    assert_int_equal(try_alloc(1), NEAP_E_CLOSED);
    assert_int_equal(neap_allocator_copy(AT(allocator), "x", 1, &none), NEAP_E_CLOSED);
    slice_reads(s, "bytes");
    slice_end(s);
    finish();
}

static const struct CMUnitTest tests[] = {
    TEST(A1_no_buf_is_taken_before_the_first_allocation),
    TEST(A2_n_and_reserve_are_taken_and_their_sum_is_checked),
    TEST(A2_an_overflow_is_an_error_and_changes_nothing),
    TEST(A3_the_tail_left_behind_is_counted_as_waste),
    TEST(A3_one_larger_than_half_a_buf_gets_its_own_and_the_current_one_stays),
    TEST(A3_a_buf_begins_anew_when_all_that_was_cut_from_it_is_gone),
    TEST(A4_the_bound_of_one_is_the_free_of_the_next),
    TEST(A5_expand_front_has_the_reserve_and_not_a_byte_more),
    TEST(A6_an_empty_slice_is_legal_also_at_the_end_of_the_buf),
    TEST(A7_copy_allocates_and_copies),
    TEST(A8_close_is_idempotent_and_nothing_of_the_slices_is_lost),
    TEST(A8_in_a_closed_pool_alloc_and_copy_fail_with_closed),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
