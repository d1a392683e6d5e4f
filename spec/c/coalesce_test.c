/* coalesce_test.c - neighbours become one slice again, without a copy. */
#include <string.h>

#include "iobuf/slice.h"
#include "one_pool.h"

static int coalesce(struct neap_handle *list, uint32_t count, uint32_t max_size)
{
    uint32_t where;
    return neap_slice_coalesce(list, count, max_size, &where);
}

static void C1_a_list_of_0_or_1_comes_back_as_it_is(void **state)
{
    (void)state;
    start(2);
    assert_int_equal(coalesce(NULL, 0, 100), 0);
    struct neap_handle s = slice_text(allocator, "text"), list[] = {s};
    struct neap_pool_stats before = pool_stats(pool);
    assert_int_equal(coalesce(list, 1, 100), 1);
    assert_memory_equal(list, &s, sizeof s);
    slice_is(s, 0, 2, 6);
    pool_unchanged(pool, &before);
    slice_end(s);
    finish();
}

static void C2_five_neighbours_of_4_bytes_with_max_8_give_8_8_4(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle list[5];
    static const char *const texts[] = {"0123", "4567", "89ab", "cdef", "ghij"};
    for (int i = 0; i < 5; i++) list[i] = slice_text(allocator, texts[i]);
    const uint8_t *first = neap_slice_bytes(AT(list[0]));
    assert_int_equal(coalesce(list, 5, 8), 3);
    slice_reads(list[0], "01234567");
    slice_reads(list[1], "89abcdef");
    slice_reads(list[2], "ghij");
    assert_ptr_equal(neap_slice_bytes(AT(list[0])), first); /* no bytes are copied */
    assert_ptr_equal(neap_slice_bytes(AT(list[1])), first + 8);
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.slices_taken, 2);
    assert_int_equal(s.slices_live, 3);
    assert_int_equal(s.slices_released, 0);
    assert_int_equal(s.bytes_referenced, 20);
    for (int i = 0; i < 3; i++) slice_end(list[i]);
    finish();
}

static void C2_1000_slices_of_1024_with_max_4096_give_250(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(0);
    static struct neap_handle list[1000];
    static char bytes[1024];
    for (int i = 0; i < 1000; i++) {
        memset(bytes, i, sizeof bytes);
        assert_int_equal(neap_allocator_copy(AT(allocator), bytes, 1024, &list[i]), NEAP_OK);
    }
    assert_int_equal(coalesce(list, 1000, 4096), 250);
    for (int i = 0; i < 250; i++) {
        assert_int_equal(neap_slice_size(AT(list[i])), 4096);
        for (uint32_t at = 0; at < 4096; at++) {
            uint8_t byte = neap_slice_bytes(AT(list[i]))[at];
            if (byte != (uint8_t)(4 * i + (int)at / 1024)) fail_msg("slice %d, byte %u", i, at);
        }
        slice_end(list[i]);
    }
    finish();
}

static void C2_the_merged_slice_keeps_the_prefix_of_the_first(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    assert_int_equal(neap_slice_truncate_front(AT(a), 3), 1);
    struct neap_handle list[] = {a, b};
    assert_int_equal(coalesce(list, 2, 5), 1); /* the sum of the bytes, not of the prefix */
    slice_is(list[0], 0, 3, 8);
    assert_int_equal(neap_slice_expand_front(AT(list[0]), 3), 1);
    slice_reads(list[0], "aaaabbbb");
    slice_end(list[0]);
    finish();
}

/* The buf's list names so many slices, each of them live, the same ones in both directions. */
static void list_is_whole(struct neap_handle any, uint32_t count)
{
    uint32_t slot = neap_slice_of(AT(any))->buf->extents, before = 0, found = 0;
    for (; slot; slot = neap_slice_at(slot)->next) {
        assert_int_equal(neap_slice_at(slot)->head.gen & 1, 1);
        assert_int_equal(neap_slice_at(slot)->prev, before);
        before = slot;
        if (++found > count) fail_msg("more than %u slices", count);
    }
    assert_int_equal(found, count);
}

/* What must come of the list: greedy from the left. Returns how many are left. */
static uint32_t merged(const struct neap_handle *list, uint32_t count, uint32_t max_size,
                       struct neap_slice_info *left)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct neap_slice_info s = info_of(list[i]), *last = left + kept - 1;
        if (kept && s.free == last->bound && s.base == s.free && s.bound - last->base <= max_size)
            last->bound = s.bound;
        else
            left[kept++] = s;
    }
    return kept;
}

/* The only slice of a list is split, as its parts are, until there are `count`. */
static void cut_up(struct neap_handle *list, uint32_t count, struct random *random)
{
    for (uint32_t n = 1; n < count; n++) {
        uint32_t at = random_below(random, n);
        uint32_t size = (uint32_t)neap_slice_size(AT(list[at]));
        memmove(list + at + 1, list + at, (n - at) * sizeof *list);
        list[at] = slice_split(list[at + 1], random_below(random, size + 1));
    }
}

/* Slices stand in the buf's list as they were made, which a split or a clone changes. */
static void C2_neighbours_merge_in_whatever_order_they_were_made(void **state)
{
    (void)state;
    enum { PARTS = 12, BYTES = 40 };
    struct random random = {7};
    start(0);
    for (int round = 0; round < 2000; round++) {
        struct neap_handle list[PARTS] = {slice_alloc(allocator, BYTES)}, aside;
        struct neap_slice_info left[PARTS];
        uint32_t count = PARTS;
        cut_up(list, count, &random);
        uint32_t at = random_below(&random, PARTS), kind = random_below(&random, 3);
        aside = list[at];
        if (kind == 0) list[at] = slice_retain(aside);
        if (kind == 1) memmove(list + at, list + at + 1, (--count - at) * sizeof *list);
        uint32_t max_size = 1 + random_below(&random, BYTES);
        uint32_t kept = merged(list, count, max_size, left);
        assert_int_equal(coalesce(list, count, max_size), kept);
        list_is_whole(list[0], kept + (kind < 2));
        for (uint32_t i = 0; i < kept; i++) {
            slice_is(list[i], left[i].free, left[i].base, left[i].bound);
            slice_end(list[i]);
        }
        if (kind < 2) slice_end(aside);
        pool_adds_up(pool);
    }
    finish();
}

static void C2_a_merged_slice_whose_generations_are_used_up_retires(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle list[3];
    for (int i = 0; i < 3; i++) list[i] = slice_text(allocator, "text");
    uint32_t retired = list[1].slot, free_again = list[2].slot;
    neap_slice_of(AT(list[1]))->head.gen = NEAP_SLOT_LAST_GEN;
    list[1].gen = NEAP_SLOT_LAST_GEN;
    assert_int_equal(coalesce(list, 3, 100), 1);
    struct neap_handle next[] = {slice_alloc(allocator, 4), slice_alloc(allocator, 4)};
    assert_int_equal(next[0].slot, free_again);
    assert_int_not_equal(next[1].slot, retired);
    slice_end(next[0]);
    slice_end(next[1]);
    slice_end(list[0]);
    finish();
}

static void C3_slices_with_a_reserve_touch_once_expanded_over_it(void **state)
{
    (void)state;
    needs_neighbours();
    start(3);
    struct neap_handle list[] = {slice_text(allocator, "aaaa"), slice_text(allocator, "bbbb")};
    assert_int_equal(coalesce(list, 2, 100), 2);
    assert_int_equal(neap_slice_expand_front(AT(list[1]), 2), 1);
    assert_int_equal(coalesce(list, 2, 100), 2);
    assert_int_equal(neap_slice_expand_front(AT(list[1]), 1), 1);
    assert_int_equal(neap_slice_write(AT(list[1]), 0, "xyz", 3), NEAP_OK);
    assert_int_equal(coalesce(list, 2, 100), 1);
    slice_reads(list[0], "aaaaxyzbbbb");
    slice_is(list[0], 0, 3, 14);
    slice_end(list[0]);
    finish();
}

static void C4_what_does_not_touch_is_not_merged(void **state)
{
    (void)state;
    start(0);
    struct neap_handle second = allocator_make(pool, 0), foreign;
    struct neap_handle s[4];
    for (int i = 0; i < 3; i++) s[i] = slice_alloc(allocator, 4);
    slice_end(slice_alloc(second, 4));
    s[3] = slice_alloc(second, 4); /* [4, 8) of another buf */
    assert_int_equal(neap_foreign_slice("text", 4, 1, &foreign), NEAP_OK);
    struct neap_handle reverse[] = {s[1], s[0]}, gap[] = {s[0], s[2]}, bufs[] = {s[0], s[3]};
    struct neap_handle mixed[] = {s[0], foreign}, order[] = {s[0], s[1]};
    struct neap_pool_stats before = pool_stats(pool);
    assert_int_equal(coalesce(reverse, 2, 100), 2);
    assert_int_equal(coalesce(gap, 2, 100), 2);
    assert_int_equal(coalesce(bufs, 2, 100), 2);
    assert_int_equal(coalesce(mixed, 2, 100), 2);
    assert_int_equal(coalesce(order, 2, 0), 2);
    assert_int_equal(coalesce(order, 2, 3), 2); /* each above max_size is kept as it is */
    assert_int_equal(coalesce(order, 2, 7), 2); /* one byte too many */
    pool_unchanged(pool, &before);
    for (int i = 0; i < 4; i++) slice_end(s[i]);
    slice_end(foreign);
    assert_int_equal(neap_allocator_release(AT(second)), NEAP_OK);
    finish();
}

static void C4_halves_of_foreign_memory_never_merge(void **state)
{
    (void)state;
    struct neap_handle back, list[2];
    assert_int_equal(neap_foreign_slice("text", 4, 1, &back), NEAP_OK);
    list[0] = slice_split(back, 2);
    list[1] = back;
    assert_int_equal(coalesce(list, 2, 100), 2);
    assert_int_equal(neap_slice_release_previous(AT(back), AT(list[0])), 0);
    slice_is(back, 2, 2, 4);
    struct neap_handle empty[] = {slice_split(back, 0), slice_split(back, 0)};
    assert_int_equal(coalesce(empty, 2, 100), 2);
    slice_end(empty[0]);
    slice_end(empty[1]);
    slice_end(back);
}

static void C4_max_0_does_not_merge_empty_slices(void **state)
{
    (void)state;
    start(0);
    struct neap_handle list[] = {slice_alloc(allocator, 0), slice_alloc(allocator, 0)};
    assert_int_equal(coalesce(list, 2, 0), 2);
    slice_end(list[0]);
    slice_end(list[1]);
    finish();
}

static void C5_a_stale_one_anywhere_consumes_nothing(void **state)
{
    (void)state;
    needs_neighbours();
    for (uint32_t bad = 0; bad < 4; bad++) {
        start(0);
        struct neap_handle list[4], as_given[4];
        for (int i = 0; i < 4; i++) list[i] = slice_text(allocator, "text");
        slice_end(list[bad]);
        memcpy(as_given, list, sizeof list);
        struct neap_pool_stats before = pool_stats(pool);
        uint32_t where = 99;
        assert_int_equal(neap_slice_coalesce(list, 4, 100, &where), NEAP_E_STALE);
        assert_int_equal(where, bad);
        assert_memory_equal(list, as_given, sizeof list);
        pool_unchanged(pool, &before);
        for (uint32_t i = 0; i < 4; i++)
            if (i != bad) slice_is(list[i], 4 * i, 4 * i, 4 * i + 4);
        list[bad] = list[(bad + 1) % 4]; /* the same slice twice */
        uint32_t later = bad == 3 ? 3 : bad + 1;
        assert_int_equal(neap_slice_coalesce(list, 4, 100, &where), NEAP_E_RANGE);
        assert_int_equal(where, later);
        pool_unchanged(pool, &before);
        for (uint32_t i = 0; i < 4; i++)
            if (i != bad) slice_end(list[i]);
        finish();
    }
}

static void C5_a_refused_list_can_be_given_again(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle a = slice_text(allocator, "aa"), b = slice_text(allocator, "bb");
    struct neap_handle twice[] = {a, b, a}, once[] = {a, b};
    assert_int_equal(coalesce(twice, 3, 100), NEAP_E_RANGE);
    assert_int_equal(coalesce(once, 2, 100), 1);
    slice_reads(once[0], "aabb");
    slice_end(once[0]);
    finish();
}

static void C5_a_made_up_generation_names_none_of_the_list(void **state)
{
    (void)state;
    start(0);
    struct neap_handle a = slice_text(allocator, "aa"), b = slice_text(allocator, "bb");
    for (uint32_t other = 1; other <= 2; other++) {
        struct neap_handle list[] = {a, b, {a.slot, a.gen + other}};
        struct neap_pool_stats before = pool_stats(pool);
        uint64_t stale_uses = slice_stats().stale_uses;
        uint32_t where = 99;
        assert_int_equal(neap_slice_coalesce(list, 3, 100, &where), NEAP_E_STALE);
        assert_int_equal(where, 2);
        assert_int_equal(slice_stats().stale_uses, stale_uses + 1);
        pool_unchanged(pool, &before);
    }
    slice_reads(a, "aa");
    slice_reads(b, "bb");
    slice_end(a);
    slice_end(b);
    finish();
}

static const struct CMUnitTest tests[] = {
    TEST(C1_a_list_of_0_or_1_comes_back_as_it_is),
    TEST(C2_five_neighbours_of_4_bytes_with_max_8_give_8_8_4),
    TEST(C2_1000_slices_of_1024_with_max_4096_give_250),
    TEST(C2_the_merged_slice_keeps_the_prefix_of_the_first),
    TEST(C2_neighbours_merge_in_whatever_order_they_were_made),
    TEST(C2_a_merged_slice_whose_generations_are_used_up_retires),
    TEST(C3_slices_with_a_reserve_touch_once_expanded_over_it),
    TEST(C4_what_does_not_touch_is_not_merged),
    TEST(C4_halves_of_foreign_memory_never_merge),
    TEST(C4_max_0_does_not_merge_empty_slices),
    TEST(C5_a_stale_one_anywhere_consumes_nothing),
    TEST(C5_a_refused_list_can_be_given_again),
    TEST(C5_a_made_up_generation_names_none_of_the_list),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
