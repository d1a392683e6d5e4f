/* claim_test.c - who may claim which bytes of a buf: clones, prefixes, detached copies. */
#include <string.h>

#include "iobuf/reader.h"
#include "one_pool.h"

static int release_previous(struct neap_handle slice, struct neap_handle previous)
{
    return neap_slice_release_previous(AT(slice), AT(previous));
}

/* ---- release_previous ---- */

static void S4_the_prefix_grows_to_take_a_neighbour_and_its_prefix(void **state)
{
    (void)state;
    needs_neighbours();
    start(3);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    slice_is(b, 7, 10, 14);
    assert_int_equal(release_previous(b, a), 1);
    slice_is(b, 0, 10, 14);
    slice_reads(b, "bbbb");
    assert_int_equal(neap_slice_size(AT(a)), NEAP_E_STALE);
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.slices_released, 1);
    assert_int_equal(s.slices_live, 1);
    assert_int_equal(s.bytes_referenced, 14);
    assert_int_equal(neap_slice_expand_front(AT(b), 10), 1);
    assert_int_equal(neap_slice_size(AT(b)), 14);
    slice_end(b);
    finish();
}

/* prev goes in every case; the slice stays as it is. */
static void gone_without_merging(struct neap_handle slice, struct neap_handle previous)
{
    struct neap_slice_info was = info_of(slice);
    uint64_t released = pool_stats(pool).slices_released;
    assert_int_equal(release_previous(slice, previous), 0);
    assert_int_equal(neap_slice_size(AT(previous)), NEAP_E_STALE);
    assert_int_equal(pool_stats(pool).slices_released, released + 1);
    slice_is(slice, was.free, was.base, was.bound);
}

static void S4_one_that_does_not_end_there_is_released_all_the_same(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle second = allocator_make(pool, 0);
    struct neap_handle a = slice_alloc(allocator, 4), b = slice_alloc(allocator, 4);
    struct neap_handle c = slice_alloc(allocator, 4), foreign, d = slice_alloc(second, 8);
    assert_int_equal(neap_foreign_slice("text", 4, 1, &foreign), NEAP_OK);
    gone_without_merging(c, a);                        /* a gap */
    assert_int_equal(release_previous(b, foreign), 0); /* no pool's memory */
    assert_int_equal(neap_slice_size(AT(foreign)), NEAP_E_STALE);
    slice_is(b, 4, 4, 8);
    gone_without_merging(c, d); /* another buf, though it ends at the same offset */
    gone_without_merging(b, c); /* the other way round */
    slice_end(b);
    assert_int_equal(neap_allocator_release(AT(second)), NEAP_OK);
    finish();
}

static void S4_a_prev_cut_to_nothing_from_the_front_still_ends_there(void **state)
{
    (void)state;
    needs_neighbours();
    start(2);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    assert_int_equal(neap_slice_truncate_front(AT(a), 4), 0);
    assert_int_equal(release_previous(b, a), 1);
    slice_is(b, 0, 8, 12);
    slice_end(b);
    finish();
}

static void S4_misuse_changes_nothing(void **state)
{
    (void)state;
    needs_neighbours();
    start(2);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    struct neap_handle gone = slice_text(allocator, "gone");
    slice_end(gone);
    struct neap_pool_stats before = pool_stats(pool);
    assert_int_equal(release_previous(b, b), NEAP_E_RANGE);
    assert_int_equal(release_previous(b, gone), NEAP_E_STALE);
    assert_int_equal(release_previous(gone, a), NEAP_E_STALE);
    slice_is(a, 0, 2, 6);
    slice_is(b, 6, 8, 12);
    pool_unchanged(pool, &before);
    slice_end(a);
    slice_end(b);
    finish();
}

static void S4_S10_bytes_that_a_clone_still_has_are_not_claimed(void **state)
{
    (void)state;
    start(0);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    struct neap_handle clone = slice_retain(a);
    gone_without_merging(b, a);
    slice_reads(clone, "aaaa");
    slice_end(clone);
    slice_end(b);
    finish();
}

static void S4_S10_bytes_that_the_original_of_a_released_clone_has_are_not_claimed(void **state)
{
    (void)state;
    start(0);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    struct neap_handle clone = slice_retain(a);
    gone_without_merging(b, clone);
    slice_reads(a, "aaaa");
    slice_end(a);
    slice_end(b);
    finish();
}

/* ---- split and truncate_back ---- */

static void S8_split_gives_the_front_and_keeps_the_rest_without_a_copy(void **state)
{
    (void)state;
    start(5);
    struct neap_handle s = slice_text(allocator, "headbody");
    const uint8_t *at = neap_slice_bytes(AT(s));
    struct neap_handle front = slice_split(s, 4);
    slice_is(front, 0, 5, 9);
    slice_is(s, 9, 9, 13);
    slice_reads(front, "head");
    slice_reads(s, "body");
    assert_ptr_equal(neap_slice_bytes(AT(front)), at);
    assert_ptr_equal(neap_slice_bytes(AT(s)), at + 4);
    assert_int_equal(pool_stats(pool).bytes_referenced, 13);
    struct neap_handle none;
    assert_int_equal(neap_slice_split(AT(s), 5, &none), NEAP_E_RANGE);
    assert_int_equal(neap_slice_split(AT(s), UINT32_MAX, &none), NEAP_E_RANGE);
    slice_is(s, 9, 9, 13);
    slice_end(front);
    slice_reads(s, "body");
    slice_end(s);
    finish();
}

static void S8_splitting_at_every_cut_and_coalescing_gives_the_original_back(void **state)
{
    (void)state;
    for (uint32_t cut = 0; cut <= 10; cut++) {
        start(3);
        struct neap_handle s = slice_text(allocator, "0123456789");
        struct neap_handle parts[2] = {slice_split(s, cut), s};
        assert_int_equal(neap_slice_size(AT(parts[0])), cut);
        assert_int_equal(neap_slice_size(AT(s)), 10 - cut);
        uint32_t where;
        assert_int_equal(neap_slice_coalesce(parts, 2, 10, &where), 1);
        slice_reads(parts[0], "0123456789");
        slice_is(parts[0], 0, 3, 13);
        slice_end(parts[0]);
        finish();
    }
}

static void S9_a_slice_outlives_what_it_was_made_from(void **state)
{
    (void)state;
    start(0);
    struct neap_handle reader, read;
    assert_int_equal(neap_reader_create(AT(pool), 100, &reader), NEAP_OK);
    assert_int_equal(neap_reader_feed(AT(reader), "read", 4), 4);
    assert_int_equal(neap_reader_read(AT(reader), 4, &read), NEAP_OK);
    struct neap_handle s = slice_text(allocator, "frontback");
    struct neap_handle front = slice_split(s, 5);
    slice_end(s);
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    allocator = allocator_make(pool, 0);
    struct neap_handle more = slice_text(allocator, "XXXXXXXXXXXX"); /* gets no buf in use */
    slice_reads(front, "front");
    slice_reads(read, "read");
    slice_end(more);
    slice_end(front);
    slice_end(read);
    finish();
}

static void S12_truncate_back_drops_for_good_and_neighbours_no_longer_touch(void **state)
{
    (void)state;
    start(2);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_alloc(allocator, 4);
    assert_int_equal(neap_slice_truncate_back(AT(a), 0), 4);
    slice_is(a, 0, 2, 6);
    assert_int_equal(neap_slice_truncate_back(AT(a), 1), 3);
    slice_is(a, 0, 2, 5);
    slice_reads(a, "aaa");
    assert_int_equal(pool_stats(pool).bytes_referenced, 11);
    assert_int_equal(neap_slice_expand_front(AT(b), 2), 1);
    struct neap_handle list[] = {a, b};
    uint32_t where;
    assert_int_equal(neap_slice_coalesce(list, 2, 100, &where), 2);
    gone_without_merging(b, a);
    slice_end(b);
    finish();
}

static void S12_n_beyond_the_size_drops_all(void **state)
{
    (void)state;
    const uint32_t most[] = {4, 5, 6, 1u << 31, UINT32_MAX};
    for (int i = 0; i < 5; i++) {
        start(2);
        struct neap_handle a = slice_text(allocator, "aaaa");
        assert_int_equal(neap_slice_truncate_back(AT(a), most[i]), 0);
        slice_is(a, 0, 2, 2);
        assert_int_equal(neap_slice_expand_front(AT(a), 3), 0);
        slice_end(a);
        finish();
    }
}

/* ---- retain ---- */

static void S10_retain_gives_a_second_owner_without_a_prefix(void **state)
{
    (void)state;
    start(4);
    struct neap_handle a = slice_text(allocator, "aaaa"), clone = slice_retain(a);
    slice_is(clone, 4, 4, 8);
    assert_ptr_equal(neap_slice_bytes(AT(clone)), neap_slice_bytes(AT(a)));
    assert_int_equal(neap_slice_expand_front(AT(clone), 1), 0);
    assert_int_equal(neap_slice_free_entire_prefix(AT(clone)), NEAP_E_OVERLAP);
    slice_is(clone, 4, 4, 8);
    assert_int_equal(neap_slice_expand_front(AT(a), 4), 1); /* only a's own bytes */
    slice_end(a);
    slice_reads(clone, "aaaa");
    assert_int_equal(neap_slice_write(AT(clone), 0, "cccc", 4), NEAP_OK); /* alone now */
    slice_end(clone);
    finish();
}

static void S10_dropped_bytes_that_another_has_do_not_come_back(void **state)
{
    (void)state;
    start(0);
    struct neap_handle a = slice_text(allocator, "0123456789"), clone = slice_retain(a);
    assert_int_equal(neap_slice_truncate_front(AT(a), 6), 4);
    assert_int_equal(neap_slice_truncate_back(AT(clone), 7), 3);
    assert_int_equal(neap_slice_expand_front(AT(a), 4), 0); /* [2, 6): the clone has 2 */
    slice_is(a, 0, 6, 10);
    assert_int_equal(neap_slice_expand_front(AT(a), 3), 1); /* [3, 6): nobody's */
    assert_int_equal(neap_slice_expand_front(AT(a), 1), 0);
    slice_is(a, 0, 3, 10);
    slice_end(clone);
    assert_int_equal(neap_slice_expand_front(AT(a), 3), 1);
    slice_reads(a, "0123456789");
    slice_end(a);
    finish();
}

static void all_writes(struct neap_handle s, uint32_t offset, int expected)
{
    struct neap_handle from = slice_text(allocator, "ABCDEFGH");
    assert_int_equal(neap_slice_write(AT(s), offset, "ABCDEFGH", 2), expected);
    assert_int_equal(neap_slice_copy(AT(s), offset, AT(from), 0, 2), expected);
    assert_int_equal(neap_slice_set(AT(s), offset, 2 | NEAP_BIG, 0x4142), expected);
    assert_int_equal(neap_slice_set_bits(AT(s), offset, 2 | NEAP_BIG, 0x4142), expected);
    slice_end(from);
}

static void S10_writing_where_another_extent_overlaps_is_refused(void **state)
{
    (void)state;
    start(0);
    struct neap_handle a = slice_text(allocator, "0123456789"), clone = slice_retain(a);
    assert_int_equal(neap_slice_truncate_back(AT(clone), 4), 6); /* a has [0, 10), it [0, 6) */
    for (uint32_t at = 0; at < 5; at++) all_writes(clone, at, NEAP_E_OVERLAP);
    for (uint32_t at = 0; at < 6; at++) all_writes(a, at, NEAP_E_OVERLAP);
    slice_reads(a, "0123456789");
    all_writes(a, 6, NEAP_OK);
    slice_reads(a, "012345AB89");
    assert_int_equal(neap_slice_write(AT(a), 3, "", 0), NEAP_OK); /* nothing overlaps nothing */
    slice_end(clone);
    all_writes(a, 0, NEAP_OK);
    slice_reads(a, "AB2345AB89");
    slice_end(a);
    finish();
}

static void S10_the_parts_of_a_split_clone_still_overlap(void **state)
{
    (void)state;
    start(0);
    struct neap_handle a = slice_text(allocator, "0123456789"), back = slice_retain(a);
    struct neap_handle front = slice_split(back, 5);
    slice_end(back);
    all_writes(a, 4, NEAP_E_OVERLAP);
    all_writes(a, 5, NEAP_OK);
    struct neap_handle a_front = slice_split(a, 2);
    all_writes(a_front, 0, NEAP_E_OVERLAP);
    slice_end(front);
    all_writes(a_front, 0, NEAP_OK);
    slice_end(a_front);
    slice_end(a);
    finish();
}

static void S10_a_merge_with_a_clone_still_overlaps(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle a = slice_text(allocator, "aaaa"), b = slice_text(allocator, "bbbb");
    struct neap_handle list[] = {a, slice_retain(b)};
    uint32_t where;
    assert_int_equal(neap_slice_coalesce(list, 2, 100, &where), 1);
    slice_reads(list[0], "aaaabbbb");
    all_writes(list[0], 3, NEAP_E_OVERLAP);
    all_writes(b, 0, NEAP_E_OVERLAP);
    all_writes(list[0], 0, NEAP_OK);
    slice_end(b);
    all_writes(list[0], 4, NEAP_OK);
    slice_end(list[0]);
    finish();
}

static void S10_the_unread_bytes_of_a_reader_are_a_claim(void **state)
{
    (void)state;
    start(0);
    struct neap_handle handle;
    assert_int_equal(neap_reader_create(AT(pool), 100, &handle), NEAP_OK);
    assert_int_equal(neap_reader_feed(AT(handle), "0123456789", 10), 10);
    struct neap_reader *r = neap_reader_of(AT(handle));
    struct neap_slice *slice = neap_slice_make(r->buf, 0, 4, 12); /* [0, 10) is unread */
    struct neap_handle s = neap_slice_handle(slice);
    assert_int_equal(neap_slice_expand_front(AT(s), 1), 0);
    assert_int_equal(neap_slice_free_entire_prefix(AT(s)), NEAP_E_OVERLAP);
    all_writes(s, 5, NEAP_E_OVERLAP); /* 9 and 10 */
    all_writes(s, 6, NEAP_OK);
    slice_is(s, 0, 4, 12);
    struct neap_handle read;
    assert_int_equal(neap_reader_read(AT(handle), 4, &read), NEAP_OK); /* [4, 10) is left */
    slice_end(read);
    assert_int_equal(neap_slice_expand_front(AT(s), 4), 1);
    all_writes(s, 3, NEAP_E_OVERLAP);
    assert_int_equal(neap_reader_close(AT(handle)), NEAP_OK);
    all_writes(s, 3, NEAP_OK);
    slice_end(s);
    assert_int_equal(neap_reader_release(AT(handle)), NEAP_OK);
    finish();
}

static void S10_a_view_that_is_kept_overlaps_what_is_read_out_later(void **state)
{
    (void)state;
    needs_neighbours();
    start(0);
    struct neap_handle reader, kept, read;
    assert_int_equal(neap_reader_create(AT(pool), 100, &reader), NEAP_OK);
    assert_int_equal(neap_reader_feed(AT(reader), "0123456789", 10), 10);
    int epoch = neap_reader_peek(AT(reader), 6);
    struct neap_view view = {AT(reader), (uint32_t)epoch, 0, 6};
    assert_int_equal(neap_view_retain(&view, &kept), NEAP_OK);
    all_writes(kept, 0, NEAP_E_OVERLAP); /* still unread */
    assert_int_equal(neap_reader_read(AT(reader), 8, &read), NEAP_OK);
    slice_reads(kept, "012345");
    slice_reads(read, "01234567");
    all_writes(kept, 0, NEAP_E_OVERLAP);
    all_writes(read, 5, NEAP_E_OVERLAP);
    all_writes(read, 6, NEAP_OK);
    slice_end(kept);
    all_writes(read, 0, NEAP_OK);
    slice_end(read);
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    finish();
}

/* ---- detach ---- */

static void S11_detach_copies_prefix_and_bytes_and_lets_the_large_buf_go(void **state)
{
    (void)state;
    needs_neighbours();
    start(8);
    struct neap_handle s = slice_text(allocator, "ABCDEFGHIJ");
    assert_int_equal(neap_slice_expand_front(AT(s), 8), 1);
    assert_int_equal(neap_slice_write(AT(s), 0, "12345678", 8), NEAP_OK);
    assert_int_equal(neap_slice_truncate_front(AT(s), 11), 7);
    struct neap_handle keep = s;
    assert_int_equal(neap_allocator_close(AT(allocator)), NEAP_OK);
    assert_int_equal(neap_slice_detach(AT(s)), NEAP_BUF_MIN_BYTES - NEAP_CLASS_MIN_BYTES);
    assert_memory_equal(&keep, &s, sizeof s); /* the same handle */
    slice_is(s, 0, 11, 18);
    assert_int_equal(info_of(s).buf_bytes, NEAP_CLASS_MIN_BYTES);
    slice_reads(s, "DEFGHIJ");
    assert_int_equal(neap_slice_expand_front(AT(s), 11), 1);
    slice_reads(s, "12345678ABCDEFGHIJ");
    struct neap_pool_stats stats = pool_stats(pool);
    assert_int_equal(stats.bytes_live, NEAP_CLASS_MIN_BYTES);
    assert_int_equal(stats.bytes_free, NEAP_BUF_MIN_BYTES); /* it went back at once */
    assert_int_equal(stats.bytes_referenced, 18);
    assert_int_equal(stats.slices_live, 1);
    slice_end(s);
    finish();
}

static void S11_a_detached_clone_no_longer_overlaps(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(0);
    struct neap_handle a = slice_text(allocator, "0123456789"), clone = slice_retain(a);
    assert_true(neap_slice_detach(AT(clone)) > 0);
    all_writes(a, 0, NEAP_OK);
    all_writes(clone, 2, NEAP_OK);
    slice_reads(a, "AB23456789");
    slice_reads(clone, "01AB456789");
    slice_end(a);
    slice_end(clone);
    finish();
}

static void S11_detach_that_saves_nothing_changes_nothing(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(0);
    struct neap_handle large = slice_alloc(allocator, NEAP_BUF_MIN_BYTES), foreign;
    struct neap_handle small = slice_text(allocator, "small");
    assert_int_equal(neap_foreign_slice("text", 4, 1, &foreign), NEAP_OK);
    assert_true(neap_slice_detach(AT(small)) > 0);
    const uint8_t *at[] = {neap_slice_bytes(AT(small)), neap_slice_bytes(AT(large)),
                           neap_slice_bytes(AT(foreign))};
    assert_int_equal(neap_slice_detach(AT(small)), 0); /* again */
    assert_int_equal(neap_slice_detach(AT(large)), 0);
    assert_int_equal(neap_slice_detach(AT(foreign)), 0);
    assert_ptr_equal(neap_slice_bytes(AT(small)), at[0]);
    assert_ptr_equal(neap_slice_bytes(AT(large)), at[1]);
    assert_ptr_equal(neap_slice_bytes(AT(foreign)), at[2]);
    slice_end(small);
    slice_end(large);
    slice_end(foreign);
    finish();
}

static void S11_detach_in_a_closed_pool_fails_and_changes_nothing(void **state)
{
    (void)state;
    start(2);
    struct neap_handle s = slice_text(allocator, "small");
    assert_int_equal(neap_pool_close(AT(pool)), NEAP_OK);
    struct neap_pool_stats before = pool_stats(pool);
    assert_int_equal(neap_slice_detach(AT(s)), NEAP_E_CLOSED);
    slice_is(s, 0, 2, 7);
    slice_reads(s, "small");
    pool_unchanged(pool, &before);
    slice_end(s);
    finish();
}

static const struct CMUnitTest tests[] = {
    TEST(S4_the_prefix_grows_to_take_a_neighbour_and_its_prefix),
    TEST(S4_one_that_does_not_end_there_is_released_all_the_same),
    TEST(S4_a_prev_cut_to_nothing_from_the_front_still_ends_there),
    TEST(S4_misuse_changes_nothing),
    TEST(S4_S10_bytes_that_a_clone_still_has_are_not_claimed),
    TEST(S4_S10_bytes_that_the_original_of_a_released_clone_has_are_not_claimed),
    TEST(S8_split_gives_the_front_and_keeps_the_rest_without_a_copy),
    TEST(S8_splitting_at_every_cut_and_coalescing_gives_the_original_back),
    TEST(S9_a_slice_outlives_what_it_was_made_from),
    TEST(S12_truncate_back_drops_for_good_and_neighbours_no_longer_touch),
    TEST(S12_n_beyond_the_size_drops_all),
    TEST(S10_retain_gives_a_second_owner_without_a_prefix),
    TEST(S10_dropped_bytes_that_another_has_do_not_come_back),
    TEST(S10_writing_where_another_extent_overlaps_is_refused),
    TEST(S10_the_parts_of_a_split_clone_still_overlap),
    TEST(S10_a_merge_with_a_clone_still_overlaps),
    TEST(S10_the_unread_bytes_of_a_reader_are_a_claim),
    TEST(S10_a_view_that_is_kept_overlaps_what_is_read_out_later),
    TEST(S11_detach_copies_prefix_and_bytes_and_lets_the_large_buf_go),
    TEST(S11_a_detached_clone_no_longer_overlaps),
    TEST(S11_detach_that_saves_nothing_changes_nothing),
    TEST(S11_detach_in_a_closed_pool_fails_and_changes_nothing),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
