/* foreign_test.c - slices over memory that no pool owns. */
#include <string.h>

#include "helper.h"
#include "iobuf/writer.h"

static struct neap_handle foreign(const char *bytes, size_t size, uint32_t anchor)
{
    struct neap_handle slice;
    assert_int_equal(neap_foreign_slice(bytes, size, anchor, &slice), NEAP_OK);
    return slice;
}

static void S7_it_is_a_view_without_a_copy_that_never_expands(void **state)
{
    (void)state;
    static const char text[] = "static text";
    struct neap_handle s = foreign(text, 11, 7);
    assert_ptr_equal(neap_slice_bytes(AT(s)), text);
    slice_reads(s, text);
    slice_is(s, 0, 0, 11);
    assert_true(info_of(s).read_only);
    assert_int_equal(neap_slice_expand_front(AT(s), 1), 0);
    assert_int_equal(neap_slice_free_entire_prefix(AT(s)), NEAP_E_READ_ONLY);
    struct neap_handle front = slice_split(s, 6);
    assert_int_equal(neap_slice_expand_front(AT(s), 1), 0);
    slice_is(front, 0, 0, 6);
    slice_is(s, 6, 6, 11);
    assert_int_equal(neap_slice_truncate_front(AT(s), 2), 3);
    assert_int_equal(neap_slice_expand_front(AT(s), 1), 0);
    slice_reads(s, "ext");
    slice_end(front);
    slice_end(s);
    assert_int_equal(neap_foreign_next(), 7);
}

static void S7_a_size_above_1_gib_is_oversized(void **state)
{
    (void)state;
    struct neap_handle none;
    const size_t sizes[] = {(size_t)NEAP_BUF_MAX_BYTES + 1, (size_t)1 << 32, SIZE_MAX};
    for (int i = 0; i < 3; i++)
        assert_int_equal(neap_foreign_slice("", sizes[i], 1, &none), NEAP_E_OVERSIZED);
    assert_int_equal(neap_foreign_next(), 0);
    slice_end(foreign("", 0, 1));
}

static void S13_it_is_read_only(void **state)
{
    (void)state;
    static const char text[] = "0123456789"; /* in a page that cannot be written */
    struct neap_handle s = foreign(text, 10, 1), clone = slice_retain(s);
    struct neap_handle all[] = {s, clone, slice_split(clone, 0)};
    for (int i = 0; i < 2; i++) {
        struct neap_handle h = all[i];
        assert_int_equal(neap_slice_write(AT(h), 0, "x", 1), NEAP_E_READ_ONLY);
        assert_int_equal(neap_slice_set(AT(h), 0, 1, 1), NEAP_E_READ_ONLY);
        assert_int_equal(neap_slice_set_bits(AT(h), 0, 8, 1), NEAP_E_READ_ONLY);
        assert_int_equal(neap_slice_copy(AT(h), 0, AT(h), 1, 1), NEAP_E_READ_ONLY);
        slice_reads(h, text);
    }
    for (int i = 0; i < 3; i++) slice_end(all[i]);
}

static void S13_the_anchor_comes_back_with_the_last_owner_and_once(void **state)
{
    (void)state;
    char *text = guard_copy("0123456789", 10);
    struct neap_handle s = foreign(text, 10, 42), other = foreign(text, 10, 43);
    struct neap_handle clone = slice_retain(s), front = slice_split(s, 4);
    slice_end(s);
    assert_int_equal(neap_foreign_next(), 0);
    slice_end(clone);
    assert_int_equal(neap_foreign_next(), 0);
    slice_reads(front, "0123");
    neap_slice_finalize(&front);
    assert_int_equal(neap_foreign_next(), 42);
    assert_int_equal(neap_foreign_next(), 0);
    s = foreign(text, 10, 44);
    slice_end(other);
    slice_end(s);
    assert_int_equal(neap_foreign_next() + neap_foreign_next(), 43 + 44);
}

static void S13_a_queued_write_is_an_owner(void **state)
{
    (void)state;
    needs_sizes();
    static char large[NEAP_WRITE_COPY_BYTES];
    struct neap_handle pool = pool_make(0);
    struct neap_writer writer = {.pool = neap_pool_of(AT(pool))};
    struct neap_handle s = foreign(large, sizeof large, 5), small = foreign(large, 100, 6);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(s))), NEAP_OK);
    assert_int_equal(neap_slice_size(AT(s)), NEAP_E_STALE);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(small))), NEAP_OK);
    assert_int_equal(neap_foreign_next(), 6); /* copied: free at once */
    assert_int_equal(neap_foreign_next(), 0);
    neap_writer_sent(&writer, sizeof large - 1);
    assert_int_equal(neap_foreign_next(), 0);
    neap_writer_sent(&writer, 1);
    assert_int_equal(neap_foreign_next(), 5);
    assert_int_equal(neap_writer_clear(&writer), 100);
    pool_end(pool);
}

static void S7_find_and_equals_do_not_read_past_the_last_byte(void **state)
{
    (void)state;
    char bytes[40];
    for (uint32_t n = 0; n <= sizeof bytes; n++) {
        memset(bytes, 'a', sizeof bytes);
        struct neap_handle s = foreign(guard_copy(bytes, n), n, 1);
        for (uint32_t from = 0; from <= n; from++) {
            assert_int_equal(neap_slice_find(AT(s), "b", 1, from), NEAP_E_EOF);
            assert_int_equal(neap_slice_find(AT(s), "ab", 2, from), NEAP_E_EOF);
            assert_int_equal(neap_slice_find(AT(s), "aaaaaaaab", 9, from), NEAP_E_EOF);
            assert_int_equal(neap_slice_find(AT(s), "", 0, from), from);
            int whole = neap_slice_find(AT(s), bytes, n, from);
            assert_int_equal(whole, n == 0 || from == 0 ? (int)from : NEAP_E_EOF);
        }
        assert_int_equal(neap_slice_find(AT(s), "a", 1, n + 1), NEAP_E_RANGE);
        assert_int_equal(neap_slice_find(AT(s), "a", 1, UINT32_MAX), NEAP_E_RANGE);
        assert_int_equal(neap_slice_equals(AT(s), bytes, n), 1);
        assert_int_equal(neap_slice_equals(AT(s), bytes, n + 1), 0);
        slice_end(s);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(S7_it_is_a_view_without_a_copy_that_never_expands),
    TEST(S7_a_size_above_1_gib_is_oversized),
    TEST(S13_it_is_read_only),
    TEST(S13_the_anchor_comes_back_with_the_last_owner_and_once),
    TEST(S13_a_queued_write_is_an_owner),
    TEST(S7_find_and_equals_do_not_read_past_the_last_byte),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
