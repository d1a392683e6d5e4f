/* sweep_test.c - slivers that move by themselves, and slices that do not. */
#include <string.h>

#include "helper.h"
#include "iobuf/sweep.h"

enum { KIB = 1024, MIB = 1024 * 1024, BUF = 64 * KIB, AFTER = 4, COUNT = 400 };

static struct neap_handle pool, slivers[COUNT];

static void start(uint32_t detach_after)
{
    struct neap_pool_options options = {
        .min_size = BUF, .classes = true, .detach_after = detach_after};
    pool = pool_make_with(&options);
}

/* A slice of ten bytes with a prefix of three, the only one of a buf. */
static struct neap_handle sliver(int i)
{
    struct neap_handle allocator = allocator_make(pool, 3);
    struct neap_handle s = slice_alloc(allocator, 10);
    assert_int_equal(neap_slice_set(AT(s), 0, 4 | NEAP_BIG, i), NEAP_OK);
    assert_int_equal(neap_slice_set(AT(s), 4, 4 | NEAP_BIG, 2.0 * i), NEAP_OK);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    return s;
}

static void make_slivers(void)
{
    for (int i = 0; i < COUNT; i++) slivers[i] = sliver(i);
}

static void turns(int n)
{
    for (int i = 0; i < n; i++) neap_slices_sweep();
}

static uint64_t detached(void)
{
    return pool_stats(pool).slices_detached;
}

static void finish(void)
{
    for (int i = 0; i < COUNT; i++) slice_end(slivers[i]);
    pool_end(pool);
}

static void W3_held_is_at_most_8_times_what_is_referenced_once_they_rest(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(AFTER);
    make_slivers();
    assert_int_equal(pool_stats(pool).bytes_live, COUNT * BUF);
    turns(50);
    struct neap_pool_stats s = pool_stats(pool);
    assert_true(s.bytes_live <= 8 * s.bytes_referenced);
    assert_true(s.slices_detached >= COUNT); /* more: on a slow machine some move twice */
    assert_true(s.bytes_detached >= (uint64_t)COUNT * (BUF - 13));
    pool_adds_up(pool);
    finish();
}

static void S11_what_moved_by_itself_is_as_before_with_its_prefix(void **state)
{
    (void)state;
    start(AFTER);
    make_slivers();
    turns(50);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(neap_slice_get(AT(slivers[i]), 0, 4 | NEAP_BIG), i);
        assert_int_equal(neap_slice_get(AT(slivers[i]), 4, 4 | NEAP_BIG), 2 * i);
        assert_int_equal(neap_slice_expand_front(AT(slivers[i]), 4), 0);
        assert_int_equal(neap_slice_expand_front(AT(slivers[i]), 3), 1);
        assert_int_equal(neap_slice_size(AT(slivers[i])), 13);
        assert_int_equal(neap_slice_set(AT(slivers[i]), 0, 1, 7), NEAP_OK);
    }
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(neap_slice_get(AT(slivers[i]), 3, 4 | NEAP_BIG), i);
    finish();
}

static void S11_nothing_moves_before_its_turns_or_after_a_touch(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(AFTER);
    make_slivers();
    turns(AFTER);
    assert_int_equal(detached(), 0);
    for (int i = 0; i < 30; i++) { /* touched in each turn */
        for (int k = 0; k < COUNT; k++) neap_slice_get(AT(slivers[k]), 0, 1);
        turns(1);
    }
    assert_int_equal(detached(), 0);
    turns(50);
    assert_true(detached() >= COUNT);
    finish();
}

static void S11_nothing_moves_in_a_pool_that_was_not_told_to(void **state)
{
    (void)state;
    start(0);
    make_slivers();
    turns(300);
    assert_int_equal(detached(), 0);
    finish();
}

static void S11_a_buf_that_others_use_stays(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(AFTER);
    make_slivers();
    struct neap_handle reader, buffer, allocator = allocator_make(pool, 0);
    assert_int_equal(neap_reader_create(AT(pool), 100, &reader), NEAP_OK);
    assert_int_equal(neap_reader_feed(AT(reader), "headtail", 8), 8);
    struct neap_handle head, piece, first = slice_text(allocator, "one");
    assert_int_equal(neap_reader_read(AT(reader), 4, &head), NEAP_OK);
    int epoch = neap_reader_peek(AT(reader), 4);
    struct neap_view tail = {AT(reader), (uint32_t)epoch, 0, 4};
    const uint8_t *view = neap_view_bytes(&tail);
    assert_int_equal(neap_buffer_create(AT(pool), &buffer), NEAP_OK);
    assert_int_equal(neap_buffer_put(AT(buffer), "bytes", 5), NEAP_OK);
    turns(50);
    assert_true(detached() >= COUNT);
    slice_is(head, 0, 0, 4);
    assert_ptr_equal(view, neap_view_bytes(&tail));
    assert_memory_equal(view, "tail", 4);
    slice_is(first, 0, 0, 3);
    assert_int_equal(info_of(first).buf_bytes, BUF); /* the allocator's buf */
    assert_int_equal(neap_buffer_put(AT(buffer), "more", 4), NEAP_OK);
    assert_int_equal(neap_buffer_take(AT(buffer), &piece), 1);
    slice_reads(piece, "bytesmore");
    assert_int_equal(info_of(piece).buf_bytes, BUF);
    slice_end(piece);
    slice_end(head);
    slice_end(first);
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    assert_int_equal(neap_buffer_release(AT(buffer)), NEAP_OK);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    finish();
}

/* All slices of a buf move, or none; clones become copies of their own. */
static void S11_S10_several_slices_of_one_buf_move_together(void **state)
{
    (void)state;
    needs_neighbours();
    start(AFTER);
    make_slivers();
    struct neap_handle clone = slice_retain(slivers[0]);
    struct neap_handle front = slice_split(slivers[1], 4);
    turns(AFTER);
    /* a turn moves for a time, which is not much under valgrind */
    for (int i = 0; i < 30 || (detached() < COUNT && i < 3000); i++) {
        neap_slice_size(AT(front));
        turns(1);
    }
    assert_true(detached() >= COUNT); /* all but both parts of one */
    assert_int_equal(info_of(slivers[1]).buf_bytes, BUF);
    assert_int_equal(neap_slice_get(AT(clone), 0, 4 | NEAP_BIG), 0);
    assert_int_equal(neap_slice_set(AT(clone), 0, 1, 5), NEAP_OK);
    assert_int_equal(neap_slice_get(AT(slivers[0]), 0, 4 | NEAP_BIG), 0);
    turns(300); /* one buf of 64 KiB is too little to look at again */
    slice_end(clone);
    slice_end(front);
    finish();
}

/* Whether they touch by then is as they come to lie; what they say is not. */
static void C2_S4_slices_that_moved_join_and_claim_with_the_right_bytes(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(AFTER);
    make_slivers();
    struct neap_handle all[COUNT];
    memcpy(all, slivers, sizeof all);
    struct neap_handle early[2] = {slice_split(all[0], 4), all[0]};
    uint32_t wrong;
    turns(AFTER - 1); /* not yet */
    assert_int_equal(neap_slice_coalesce(early, 2, 100, &wrong), 1);
    all[0] = early[0];
    turns(50);
    assert_true(detached() >= COUNT - 1); /* the last one alone is no waste */
    int left = neap_slice_coalesce(all, COUNT, 4096, &wrong);
    int i = 0;
    for (int k = 0; k < left; k++) {
        int size = neap_slice_size(AT(all[k]));
        for (int at = 0; at < size; at += 10)
            assert_int_equal(neap_slice_get(AT(all[k]), (uint32_t)at, 4 | NEAP_BIG), i++);
        if (k > 0)
            assert_int_equal(neap_slice_release_previous(AT(all[k]), AT(all[k - 1])) & ~1, 0);
    }
    assert_int_equal(i, COUNT);
    slice_end(all[left - 1]);
    pool_end(pool);
}

static void S11_a_full_pool_moves_them_after_one_turn(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    struct neap_pool_options options = {.min_size = BUF,
                                        .classes = true,
                                        .detach_after = 200,
                                        .limit = (double)COUNT * BUF + MIB,
                                        .soft_limit = (double)COUNT * BUF};
    pool = pool_make_with(&options);
    make_slivers();
    turns(20);
    assert_true(detached() > 0);
    assert_true(pool_stats(pool).bytes_held <= (uint64_t)options.limit);
    finish();
}

static const struct CMUnitTest tests[] = {
    TEST(W3_held_is_at_most_8_times_what_is_referenced_once_they_rest),
    TEST(S11_what_moved_by_itself_is_as_before_with_its_prefix),
    TEST(S11_nothing_moves_before_its_turns_or_after_a_touch),
    TEST(S11_nothing_moves_in_a_pool_that_was_not_told_to),
    TEST(S11_a_buf_that_others_use_stays),
    TEST(S11_S10_several_slices_of_one_buf_move_together),
    TEST(C2_S4_slices_that_moved_join_and_claim_with_the_right_bytes),
    TEST(S11_a_full_pool_moves_them_after_one_turn),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
