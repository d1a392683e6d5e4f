/* slice_test.c - what a slice is, its end, its prefix, splitting and truncating. */
#include <math.h>
#include <string.h>

#include "iobuf/slice.h"
#include "one_pool.h"

/* ---- stale handles ---- */

static struct neap_handle other; /* a live slice for the operations that need a second one */

static int do_info(uint32_t slot, uint32_t gen)
{
    struct neap_slice_info info;
    return neap_slice_info(slot, gen, &info);
}

static int do_retain(uint32_t slot, uint32_t gen)
{
    struct neap_handle h;
    return neap_slice_retain(slot, gen, &h);
}

static int do_split(uint32_t slot, uint32_t gen)
{
    struct neap_handle h;
    return neap_slice_split(slot, gen, 0, &h);
}

static int do_move(uint32_t slot, uint32_t gen)
{
    struct neap_handle h;
    return neap_slice_move(slot, gen, &h);
}

static int do_truncate_front(uint32_t slot, uint32_t gen)
{
    return neap_slice_truncate_front(slot, gen, 1);
}

static int do_truncate_back(uint32_t slot, uint32_t gen)
{
    return neap_slice_truncate_back(slot, gen, 1);
}

static int do_expand_nothing(uint32_t slot, uint32_t gen)
{
    return neap_slice_expand_front(slot, gen, 0);
}

static int do_release_previous(uint32_t slot, uint32_t gen)
{
    return neap_slice_release_previous(slot, gen, AT(other));
}

static int do_be_previous(uint32_t slot, uint32_t gen)
{
    return neap_slice_release_previous(AT(other), slot, gen);
}

static int do_coalesce(uint32_t slot, uint32_t gen)
{
    struct neap_handle list[] = {other, {slot, gen}};
    uint32_t where = 99;
    int result = neap_slice_coalesce(list, 2, 100, &where);
    assert_int_equal(where, 1);
    return result;
}

static int do_check(uint32_t slot, uint32_t gen)
{
    return neap_slice_check(slot, gen, 0, 0);
}

static int do_set(uint32_t slot, uint32_t gen)
{
    return neap_slice_set(slot, gen, 0, 1, 1);
}

static int do_set_bits(uint32_t slot, uint32_t gen)
{
    return neap_slice_set_bits(slot, gen, 0, 8 | NEAP_BIG, 1);
}

static int do_write(uint32_t slot, uint32_t gen)
{
    return neap_slice_write(slot, gen, 0, "x", 1);
}

static int do_copy_to(uint32_t slot, uint32_t gen)
{
    return neap_slice_copy(slot, gen, 0, AT(other), 0, 1);
}

static int do_copy_from(uint32_t slot, uint32_t gen)
{
    return neap_slice_copy(AT(other), 0, slot, gen, 0, 1);
}

static int do_find(uint32_t slot, uint32_t gen)
{
    return neap_slice_find(slot, gen, "o", 1, 0);
}

static int do_equals(uint32_t slot, uint32_t gen)
{
    return neap_slice_equals(slot, gen, "other", 5);
}

static int do_equals_slice(uint32_t slot, uint32_t gen)
{
    return neap_slice_equals_slice(slot, gen, AT(other));
}

static int do_be_equal(uint32_t slot, uint32_t gen)
{
    return neap_slice_equals_slice(AT(other), slot, gen);
}

static int (*const uses[])(uint32_t slot, uint32_t gen) = {
    do_info,
    neap_slice_size,
    do_retain,
    do_split,
    do_move,
    do_truncate_front,
    do_truncate_back,
    do_expand_nothing,
    neap_slice_free_entire_prefix,
    do_release_previous,
    do_be_previous,
    neap_slice_detach,
    do_coalesce,
    do_check,
    do_set,
    do_set_bits,
    do_write,
    do_copy_to,
    do_copy_from,
    do_find,
    do_equals,
    do_equals_slice,
    do_be_equal,
};

enum { USES = sizeof uses / sizeof uses[0] };

/* Every operation says STALE, counts it and changes nothing. */
static void all_stale(struct neap_handle stale)
{
    struct neap_slice_stats before = slice_stats();
    struct neap_pool_stats pool_before = pool_stats(pool);
    for (uint32_t i = 0; i < USES; i++) {
        if (uses[i](AT(stale)) != NEAP_E_STALE) fail_msg("use %u of a stale slice", i);
        assert_int_equal(slice_stats().stale_uses, before.stale_uses + i + 1);
    }
    assert_int_equal(neap_slice_release(AT(stale)), NEAP_E_STALE);
    assert_true(isnan(neap_slice_get(AT(stale), 0, 1)));
    assert_int_equal(neap_slice_get_bits(AT(stale), 0, 1), 0);
    assert_null(neap_slice_bytes(AT(stale)));
    neap_slice_finalize(&stale);
    struct neap_slice_stats after = slice_stats();
    assert_int_equal(after.double_releases, before.double_releases + 1);
    assert_int_equal(after.live, before.live);
    pool_unchanged(pool, &pool_before);
    slice_reads(other, "other");
}

static void S0_a_handle_that_names_nothing_is_stale(void **state)
{
    (void)state;
    start(4);
    other = slice_text(allocator, "other");
    struct neap_handle wrong[] = {
        {0, 0},
        {0, 1},
        {0, UINT32_MAX},
        {other.slot, other.gen + 1},
        {other.slot, other.gen - 1},
        {other.slot, other.gen + 2},
        {other.slot, other.gen - 2},
        {other.slot + 1, other.gen},
        {neap_here.slices.count, 1},
        {NEAP_SLICES_MAX, 1},
        {UINT32_MAX, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) all_stale(wrong[i]);
    slice_end(other);
    finish();
}

static void S0_a_handle_with_the_generation_of_a_free_slot_is_stale(void **state)
{
    (void)state;
    start(4);
    other = slice_text(allocator, "other");
    struct neap_handle gone = slice_text(allocator, "gone");
    slice_end(gone);
    all_stale((struct neap_handle){gone.slot, gone.gen + 1});
    all_stale((struct neap_handle){0, UINT32_MAX - 1});
    slice_end(other);
    finish();
}

static void S3_every_use_of_a_released_slice_is_an_error(void **state)
{
    (void)state;
    start(4);
    other = slice_text(allocator, "other");
    struct neap_handle gone = slice_text(allocator, "gone");
    slice_end(gone);
    all_stale(gone);
    struct neap_handle next = slice_text(allocator, "next");
    assert_int_equal(next.slot, gone.slot); /* the slot names another slice now */
    all_stale(gone);
    slice_reads(next, "next");
    slice_end(next);
    slice_end(other);
    finish();
}

static void S3_a_handle_stays_stale_over_5000_further_slices(void **state)
{
    (void)state;
    start(0);
    other = slice_text(allocator, "other");
    struct neap_handle gone = slice_text(allocator, "gone");
    slice_end(gone);
    for (int i = 0; i < 5000; i++) {
        struct neap_handle next = slice_text(allocator, "next");
        assert_int_equal(neap_slice_size(AT(gone)), NEAP_E_STALE);
        assert_int_equal(neap_slice_release(AT(gone)), NEAP_E_STALE);
        slice_end(next);
    }
    all_stale(gone);
    slice_end(other);
    finish();
}

static void S3_a_slice_that_was_taken_is_stale_for_who_had_it(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    other = slice_text(allocator, "other");
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    struct neap_handle list[] = {a, b};
    uint32_t where;
    assert_int_equal(neap_slice_coalesce(list, 2, 8, &where), 1);
    all_stale(b);
    assert_int_equal(neap_slice_release_previous(AT(other), AT(list[0])), 0);
    all_stale(list[0]);
    slice_end(other);
    finish();
}

/* ---- bounds ---- */

/* Nothing can be written from `offset` on that would end behind the bound. */
static void refuse_writes_at(struct neap_handle s, uint32_t offset, uint32_t size)
{
    char bytes[16] = "################";
    assert_int_equal(neap_slice_write(AT(s), offset, bytes, size), NEAP_E_RANGE);
    assert_int_equal(neap_slice_copy(AT(s), offset, AT(other), 0, size), NEAP_E_RANGE);
    assert_int_equal(neap_slice_check(AT(s), offset, size), NEAP_E_RANGE);
    if (offset <= 10 - 8) return; /* eight bytes fit there */
    assert_int_equal(neap_slice_set(AT(s), offset, 8 | NEAP_FLOAT, 1), NEAP_E_RANGE);
    assert_int_equal(neap_slice_set_bits(AT(s), offset, 8, 1), NEAP_E_RANGE);
    assert_true(isnan(neap_slice_get(AT(s), offset, 8 | NEAP_FLOAT)));
}

static void S1_no_write_reaches_past_the_bound(void **state)
{
    (void)state;
    start(0);
    struct neap_handle s = slice_text(allocator, "0123456789");
    other = slice_text(allocator, "0123456789abcdef");
    for (uint32_t offset = 0; offset <= 11; offset++)
        for (uint32_t size = 0; size <= 12; size++)
            if (offset + size > 10) refuse_writes_at(s, offset, size);
    const uint32_t huge[] = {UINT32_MAX, UINT32_MAX - 1, UINT32_MAX - 7, 1u << 31};
    for (int i = 0; i < 4; i++) refuse_writes_at(s, huge[i], 8);
    for (int i = 0; i < 4; i++)
        assert_int_equal(neap_slice_write(AT(s), 9, "", huge[i]), NEAP_E_RANGE);
    slice_reads(s, "0123456789");
    slice_reads(other, "0123456789abcdef");
    assert_int_equal(neap_slice_write(AT(s), 9, "x", 1), NEAP_OK); /* the last byte */
    assert_int_equal(neap_slice_write(AT(s), 10, "", 0), NEAP_OK);
    slice_reads(s, "012345678x");
    slice_reads(other, "0123456789abcdef");
    slice_end(s);
    slice_end(other);
    finish();
}

static void S1_a_fresh_slice_has_its_free_prefix_and_the_bytes_behind_it(void **state)
{
    (void)state;
    needs_neighbours();
    start(6);
    struct neap_handle s = slice_alloc(allocator, 10);
    slice_is(s, 0, 6, 16);
    struct neap_slice_info info = info_of(s);
    assert_int_equal(info.buf_bytes, NEAP_BUF_MIN_BYTES);
    assert_false(info.read_only);
    assert_int_equal(pool_stats(pool).bytes_referenced, 16);
    slice_end(s);
    finish();
}

/* ---- counts ---- */

static void B1_the_buf_goes_back_with_its_last_holder_whatever_the_order(void **state)
{
    (void)state;
    needs_neighbours();
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int o = 0; o < 6; o++) {
        start(0);
        struct neap_handle s[2] = {slice_alloc(allocator, 5), slice_alloc(allocator, 7)};
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pool_stats(pool).bufs_live, 1);
            assert_int_equal(pool_stats(pool).bufs_free, 0);
            if (orders[o][i] == 2)
                assert_int_equal(neap_allocator_close(AT(allocator)), NEAP_OK);
            else
                slice_end(s[orders[o][i]]);
        }
        assert_int_equal(pool_stats(pool).bufs_live, 0);
        assert_int_equal(pool_stats(pool).bufs_free, 1);
        finish();
    }
}

static void B1_every_slice_of_a_buf_counts(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle s = slice_alloc(allocator, 8);
    const struct neap_buf *buf = neap_slice_of(AT(s))->buf;
    assert_int_equal(buf->refs, 2);
    struct neap_handle clone = slice_retain(s);
    assert_int_equal(buf->refs, 3);
    struct neap_handle front = slice_split(s, 3);
    assert_int_equal(buf->refs, 4);
    slice_end(s);
    slice_end(clone);
    assert_int_equal(buf->refs, 2);
    slice_end(front);
    assert_int_equal(buf->refs, 1);
    finish();
}

static void B2_a_failed_slicing_leaves_everything_as_it_was(void **state)
{
    (void)state;
    needs_neighbours();
    start(3);
    struct neap_handle s = slice_alloc(allocator, 8), front = {77, 78};
    const struct neap_buf *buf = neap_slice_of(AT(s))->buf;
    struct neap_pool_stats before = pool_stats(pool);
    const uint32_t bad[] = {9, 12, 1u << 31, UINT32_MAX};
    for (int i = 0; i < 4; i++)
        assert_int_equal(neap_slice_split(AT(s), bad[i], &front), NEAP_E_RANGE);
    assert_int_equal(buf->refs, 2);
    assert_int_equal(front.slot, 77);
    slice_is(s, 0, 3, 11);
    pool_unchanged(pool, &before);
    slice_end(s);
    finish();
}

static void B3_a_second_release_is_counted_and_harmless(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    const struct neap_buf *buf = neap_slice_of(AT(a))->buf;
    slice_end(a);
    struct neap_pool_stats before = pool_stats(pool);
    uint64_t doubles = slice_stats().double_releases;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(neap_slice_release(AT(a)), NEAP_E_STALE);
        neap_slice_finalize(&a);
    }
    assert_int_equal(slice_stats().double_releases, doubles + 5);
    assert_int_equal(buf->refs, 2);
    pool_unchanged(pool, &before);
    slice_reads(b, "bbbb");
    slice_end(b);
    finish();
}

static void B3_no_buf_is_handed_out_twice_after_double_releases(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    pool = pool_make(64);
    struct neap_handle s[8];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++) {
            allocator = allocator_make(pool, 0);
            s[i] = slice_alloc(allocator, 64);
            assert_int_equal(neap_slice_set(AT(s[i]), 0, 1, i), NEAP_OK);
            assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
        }
        for (int i = 0; i < 8; i++) assert_int_equal(neap_slice_get(AT(s[i]), 0, 1), i);
        for (int i = 0; i < 8; i++) slice_end(s[i]);
        for (int i = 0; i < 8; i++) assert_int_equal(neap_slice_release(AT(s[i])), NEAP_E_STALE);
        assert_int_equal(pool_stats(pool).bufs_free, 8);
    }
    pool_end(pool);
}

/* ---- free_entire_prefix ---- */

static void S2_free_entire_prefix_sets_free_to_0(void **state)
{
    (void)state;
    needs_neighbours();
    start(2);
    struct neap_handle a = slice_alloc(allocator, 8), b = slice_text(allocator, "bytes");
    slice_end(a);
    slice_is(b, 10, 12, 17);
    assert_int_equal(neap_slice_free_entire_prefix(AT(b)), NEAP_OK);
    slice_is(b, 0, 12, 17);
    assert_int_equal(pool_stats(pool).bytes_referenced, 17);
    slice_reads(b, "bytes");
    assert_int_equal(neap_slice_expand_front(AT(b), 12), 1);
    slice_is(b, 0, 0, 17);
    slice_end(b);
    finish();
}

static void S2_a_live_slice_in_the_region_refuses_it_and_nothing_changes(void **state)
{
    (void)state;
    needs_neighbours();
    for (int which = 0; which < 3; which++) { /* each of three before it, alone */
        start(2);
        struct neap_handle s[4];
        for (int i = 0; i < 4; i++) s[i] = slice_alloc(allocator, 1);
        for (int i = 0; i < 3; i++)
            if (i != which) slice_end(s[i]);
        struct neap_pool_stats before = pool_stats(pool);
        assert_int_equal(neap_slice_free_entire_prefix(AT(s[3])), NEAP_E_OVERLAP);
        slice_is(s[3], 9, 11, 12);
        pool_unchanged(pool, &before);
        slice_end(s[which]);
        assert_int_equal(neap_slice_free_entire_prefix(AT(s[3])), NEAP_OK);
        slice_is(s[3], 0, 11, 12);
        slice_end(s[3]);
        finish();
    }
}

static void S2_a_prefix_of_another_slice_counts_as_occupied(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle a = slice_alloc(allocator, 4), b = slice_alloc(allocator, 4);
    assert_int_equal(neap_slice_truncate_front(AT(a), 4), 0);
    assert_int_equal(neap_slice_free_entire_prefix(AT(b)), NEAP_E_OVERLAP);
    slice_is(b, 4, 4, 8);
    slice_end(a);
    assert_int_equal(neap_slice_free_entire_prefix(AT(b)), NEAP_OK);
    slice_end(b);
    finish();
}

/* ---- truncate, expand ---- */

static void S5_the_example_of_the_contract(void **state)
{
    (void)state;
    start(8);
    struct neap_handle s = slice_text(allocator, "ABCDEFGHIJ");
    assert_int_equal(neap_slice_expand_front(AT(s), 8), 1);
    assert_int_equal(neap_slice_size(AT(s)), 18);
    assert_int_equal(neap_slice_truncate_front(AT(s), 11), 7);
    assert_int_equal(neap_slice_expand_front(AT(s), 3), 1);
    slice_reads(s, "ABCDEFGHIJ");
    slice_is(s, 0, 8, 18);
    slice_end(s);
    finish();
}

static void S5_truncate_front_keeps_the_prefix_and_drops_all_beyond_the_size(void **state)
{
    (void)state;
    const uint32_t most[] = {10, 11, 1u << 31, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        start(3);
        struct neap_handle s = slice_text(allocator, "ABCDEFGHIJ");
        assert_int_equal(neap_slice_truncate_front(AT(s), 0), 10);
        slice_is(s, 0, 3, 13);
        assert_int_equal(neap_slice_truncate_front(AT(s), most[i]), 0);
        slice_is(s, 0, 13, 13);
        assert_int_equal(pool_stats(pool).bytes_referenced, 13);
        assert_int_equal(neap_slice_expand_front(AT(s), 10), 1);
        slice_reads(s, "ABCDEFGHIJ");
        slice_end(s);
        finish();
    }
}

static void S6_expand_front_past_the_headroom_changes_nothing(void **state)
{
    (void)state;
    needs_neighbours();
    start(8);
    slice_end(slice_alloc(allocator, 100)); /* room in the buf that is not the slice's */
    struct neap_handle s = slice_text(allocator, "bytes");
    struct neap_pool_stats before = pool_stats(pool);
    const uint32_t over[] = {9, 100, 116, 117, 1u << 31, UINT32_MAX - 4, UINT32_MAX};
    for (size_t i = 0; i < sizeof over / sizeof over[0]; i++) {
        assert_int_equal(neap_slice_expand_front(AT(s), over[i]), 0);
        slice_is(s, 108, 116, 121);
    }
    pool_unchanged(pool, &before);
    assert_int_equal(neap_slice_expand_front(AT(s), 5), 1);
    assert_int_equal(neap_slice_expand_front(AT(s), 4), 0);
    slice_is(s, 108, 111, 121);
    assert_int_equal(neap_slice_expand_front(AT(s), 3), 1);
    slice_is(s, 108, 108, 121);
    pool_unchanged(pool, &before);
    slice_end(s);
    finish();
}

static void S6_expand_front_by_0_is_true_on_any_live_slice(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle a = slice_alloc(allocator, 4), empty = slice_alloc(allocator, 0);
    struct neap_handle clone = slice_retain(a), foreign;
    assert_int_equal(neap_foreign_slice("text", 4, 1, &foreign), NEAP_OK);
    assert_int_equal(neap_slice_expand_front(AT(a), 0), 1);
    assert_int_equal(neap_slice_expand_front(AT(empty), 0), 1);
    assert_int_equal(neap_slice_expand_front(AT(clone), 0), 1);
    assert_int_equal(neap_slice_expand_front(AT(foreign), 0), 1);
    slice_is(a, 0, 0, 4);
    slice_is(empty, 4, 4, 4);
    slice_is(clone, 0, 0, 4);
    slice_end(a);
    slice_end(empty);
    slice_end(clone);
    slice_end(foreign);
    finish();
}

static const struct CMUnitTest tests[] = {
    TEST(S0_a_handle_that_names_nothing_is_stale),
    TEST(S0_a_handle_with_the_generation_of_a_free_slot_is_stale),
    TEST(S3_every_use_of_a_released_slice_is_an_error),
    TEST(S3_a_handle_stays_stale_over_5000_further_slices),
    TEST(S3_a_slice_that_was_taken_is_stale_for_who_had_it),
    TEST(S1_no_write_reaches_past_the_bound),
    TEST(S1_a_fresh_slice_has_its_free_prefix_and_the_bytes_behind_it),
    TEST(B1_the_buf_goes_back_with_its_last_holder_whatever_the_order),
    TEST(B1_every_slice_of_a_buf_counts),
    TEST(B2_a_failed_slicing_leaves_everything_as_it_was),
    TEST(B3_a_second_release_is_counted_and_harmless),
    TEST(B3_no_buf_is_handed_out_twice_after_double_releases),
    TEST(S2_free_entire_prefix_sets_free_to_0),
    TEST(S2_a_live_slice_in_the_region_refuses_it_and_nothing_changes),
    TEST(S2_a_prefix_of_another_slice_counts_as_occupied),
    TEST(S5_the_example_of_the_contract),
    TEST(S5_truncate_front_keeps_the_prefix_and_drops_all_beyond_the_size),
    TEST(S6_expand_front_past_the_headroom_changes_nothing),
    TEST(S6_expand_front_by_0_is_true_on_any_live_slice),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
