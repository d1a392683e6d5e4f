/* view_test.c - bytes that a reader still holds, looked at where they lie. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "helper.h"

static struct neap_handle pool, reader;

static void start(const char *text)
{
    pool = pool_make(64);
    assert_int_equal(neap_reader_create(AT(pool), 1000, &reader), NEAP_OK);
    assert_int_equal(neap_reader_feed(AT(reader), text, (uint32_t)strlen(text)),
                     (uint32_t)strlen(text));
}

static void finish(void)
{
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    pool_end(pool);
}

static struct neap_view peek(uint32_t n)
{
    int epoch = neap_reader_peek(AT(reader), n);
    assert_true(epoch >= 0);
    return (struct neap_view){reader.slot, reader.gen, (uint32_t)epoch, 0, n};
}

static void is_stale(struct neap_view v)
{
    struct neap_handle slice;
    assert_null(neap_view_bytes(&v));
    assert_true(isnan(neap_view_get(v.slot, v.gen, v.epoch, v.size, 0, 1)));
    assert_true(neap_view_bits(v.slot, v.gen, v.epoch, v.size, 0, 1) == 0);
    struct neap_numbers none = {0};
    assert_int_equal(neap_view_unpack(v.slot, v.gen, v.epoch, v.size, 0, &none), NEAP_E_STALE);
    assert_int_equal(neap_view_find(&v, "x", 1, 0), NEAP_E_STALE);
    assert_int_equal(neap_view_equals(&v, "", 0), NEAP_E_STALE);
    assert_int_equal(neap_view_retain(&v, &slice), NEAP_E_STALE);
}

static void a_view_leaves_its_bytes_unread(void **state)
{
    (void)state;
    start("\1\2text");
    struct neap_view v = peek(6);
    assert_int_equal(neap_reader_buffered(AT(reader)), 6);
    assert_memory_equal(neap_view_bytes(&v), "\1\2text", 6);
    assert_true(neap_view_get(v.slot, v.gen, v.epoch, 6, 0, 2 | NEAP_BIG) == 0x0102);
    assert_true(neap_view_bits(v.slot, v.gen, v.epoch, 6, 0, 2) == 0x0201);
    struct neap_numbers two = {.count = 2, .number = {1, 1}};
    assert_int_equal(neap_view_unpack(v.slot, v.gen, v.epoch, 6, 0, &two), NEAP_OK);
    assert_true(two.value[0] == 1 && two.value[1] == 2);
    assert_int_equal(neap_view_unpack(v.slot, v.gen, v.epoch, 6, 5, &two), NEAP_E_RANGE);
    assert_int_equal(neap_view_unpack(v.slot, v.gen, v.epoch, UINT32_MAX, 5, &two), NEAP_E_RANGE);
    assert_int_equal(neap_view_unpack(v.slot, v.gen, v.epoch, 6, 7, &two), NEAP_E_RANGE);
    assert_int_equal(neap_view_find(&v, "text", 4, 0), 2);
    assert_int_equal(neap_view_find(&v, "text", 4, 3), NEAP_E_EOF);
    assert_int_equal(neap_view_find(&v, "t", 1, 7), NEAP_E_RANGE);
    assert_int_equal(neap_view_equals(&v, "\1\2text", 6), 1);
    assert_int_equal(neap_view_equals(&v, "\1\2tex", 5), 0);
    finish();
}

static void a_view_is_stale_after_the_next_read_peek_skip_and_close(void **state)
{
    (void)state;
    start("0123456789");
    struct neap_handle slice;
    struct neap_view v = peek(2), next = peek(2);
    is_stale(v);
    assert_int_equal(neap_reader_read(AT(reader), 1, &slice), NEAP_OK);
    slice_end(slice);
    is_stale(next);
    v = peek(2);
    assert_int_equal(neap_reader_skip(AT(reader), 1), 1);
    is_stale(v);
    v = peek(2);
    assert_int_equal(neap_reader_read_any(AT(reader), 1, &slice), NEAP_OK);
    slice_end(slice);
    is_stale(v);
    v = peek(2);
    assert_int_equal(neap_reader_close(AT(reader)), NEAP_OK);
    is_stale(v);
    finish();
    is_stale(v);
}

static void a_made_up_size_shows_no_number_and_finds_nothing(void **state)
{
    (void)state;
    start("12345678");
    struct neap_view v = peek(8), forged = v;
    forged.size = UINT32_MAX;
    struct neap_handle slice;
    assert_int_equal(neap_view_find(&forged, "x", 1, 0), NEAP_E_STALE);
    assert_int_equal(neap_view_equals(&forged, "x", 1), NEAP_E_STALE);
    assert_int_equal(neap_view_retain(&forged, &slice), NEAP_E_STALE);
    static const uint32_t offsets[] = {8, 9, 64, UINT32_MAX - 7, UINT32_MAX};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        assert_true(isnan(neap_view_get(v.slot, v.gen, v.epoch, UINT32_MAX, offsets[i], 1)));
        assert_true(neap_view_bits(v.slot, v.gen, v.epoch, UINT32_MAX, offsets[i], 8) == 0);
    }
    for (int number = -200; number < 200; number++) {
        bool known = number > 0 && number < 128 && (number & NEAP_WIDTH) >= 1;
        if (!known) assert_true(isnan(neap_view_get(v.slot, v.gen, v.epoch, 8, 0, number)));
    }
    finish();
}

static void a_view_may_begin_behind_the_first_unread_byte(void **state)
{
    (void)state;
    start("\1\2text");
    struct neap_view v = peek(6), part = v;
    part.at = 2;
    part.size = 4;
    assert_memory_equal(neap_view_bytes(&part), "text", 4);
    assert_int_equal(neap_view_find(&part, "xt", 2, 0), 2);
    assert_int_equal(neap_view_equals(&part, "text", 4), 1);
    struct neap_handle slice;
    assert_int_equal(neap_view_retain(&part, &slice), NEAP_OK);
    assert_int_equal(neap_slice_equals(AT(slice), "text", 4), 1);
    assert_int_equal(neap_slice_release(AT(slice)), NEAP_OK);
    part.size = 5; /* past the end, as is every place behind it */
    assert_null(neap_view_bytes(&part));
    part.at = UINT32_MAX;
    assert_null(neap_view_bytes(&part));
    finish();
    is_stale(v);
}

static void a_failed_peek_leaves_the_view_of_before(void **state)
{
    (void)state;
    start("12345678");
    struct neap_view v = peek(8);
    assert_int_equal(neap_reader_peek(AT(reader), 9), NEAP_E_AGAIN);
    assert_int_equal(neap_reader_peek(AT(reader), 1001), NEAP_E_OVERSIZED);
    assert_int_equal(neap_view_equals(&v, "12345678", 8), 1);
    assert_int_equal(neap_reader_end(AT(reader), NEAP_E_EOF), NEAP_OK);
    assert_int_equal(neap_reader_peek(AT(reader), 9), NEAP_E_SHORT);
    assert_int_equal(neap_view_equals(&v, "12345678", 8), 1);
    finish();
}

/* The bytes may move to a larger buf meanwhile. */
static void a_view_stays_true_while_more_bytes_come(void **state)
{
    (void)state;
    start("12345678");
    struct neap_view v = peek(8);
    for (int i = 0; i < 90; i++) {
        assert_int_equal(neap_reader_feed(AT(reader), "0123456789", 10), 10);
        assert_int_equal(neap_view_equals(&v, "12345678", 8), 1);
    }
    finish();
}

static void S10_a_retained_view_overlaps_what_is_unread_and_what_is_read(void **state)
{
    (void)state;
    needs_neighbours();
    start("12345678");
    struct neap_view v = peek(4);
    struct neap_handle kept, read;
    assert_int_equal(neap_view_retain(&v, &kept), NEAP_OK);
    assert_int_equal(neap_slice_write(AT(kept), 0, "x", 1), NEAP_E_OVERLAP);
    assert_int_equal(neap_reader_read(AT(reader), 8, &read), NEAP_OK);
    assert_int_equal(neap_slice_write(AT(kept), 3, "x", 1), NEAP_E_OVERLAP);
    assert_int_equal(neap_slice_write(AT(read), 3, "x", 1), NEAP_E_OVERLAP);
    assert_int_equal(neap_slice_write(AT(read), 4, "x", 1), NEAP_OK);
    assert_int_equal(neap_slice_truncate_front(AT(read), 4), 4);
    assert_int_equal(neap_slice_expand_front(AT(read), 1), 0);
    assert_int_equal(neap_slice_free_entire_prefix(AT(read)), NEAP_E_OVERLAP);
    slice_reads(kept, "1234");
    slice_end(kept);
    assert_int_equal(neap_slice_expand_front(AT(read), 4), 1);
    slice_reads(read, "1234x678");
    slice_end(read);
    finish();
}

static void a_view_of_nothing_needs_no_buf(void **state)
{
    (void)state;
    start("");
    struct neap_view v = peek(0);
    assert_int_equal(pool_stats(pool).bufs_live, 0);
    assert_non_null(neap_view_bytes(&v));
    assert_int_equal(neap_view_equals(&v, "", 0), 1);
    assert_int_equal(neap_view_find(&v, "", 0, 0), 0);
    struct neap_handle slice;
    neap_mem_fail_after(0);
    assert_int_equal(neap_view_retain(&v, &slice), NEAP_E_MEMORY);
    neap_mem_fail_after(-1);
    assert_int_equal(neap_view_retain(&v, &slice), NEAP_OK);
    slice_reads(slice, "");
    slice_end(slice);
    finish();
}

static const struct CMUnitTest tests[] = {
    TEST(a_view_leaves_its_bytes_unread),
    TEST(a_view_is_stale_after_the_next_read_peek_skip_and_close),
    TEST(a_made_up_size_shows_no_number_and_finds_nothing),
    TEST(a_view_may_begin_behind_the_first_unread_byte),
    TEST(a_failed_peek_leaves_the_view_of_before),
    TEST(a_view_stays_true_while_more_bytes_come),
    TEST(S10_a_retained_view_overlaps_what_is_unread_and_what_is_read),
    TEST(a_view_of_nothing_needs_no_buf),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
