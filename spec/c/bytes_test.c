/* bytes_test.c - numbers and bytes in slices. */
#include <math.h>
#include <string.h>

#include "helper.h"
#include "scan/find.h"

static struct neap_handle pool, allocator, slice;

static void start(const char *text)
{
    pool = pool_make(0);
    allocator = allocator_make(pool, 0);
    slice = slice_text(allocator, text);
}

static void finish(void)
{
    slice_end(slice);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

static void S1_numbers_of_every_width_order_and_sign_at_every_offset(void **state)
{
    (void)state;
    start("0123456789abcdef");
    for (int width = 1; width <= 8; width++) {
        for (uint32_t at = 0; at + (uint32_t)width <= 16; at++) {
            uint64_t pattern = 0xf1e2d3c4b5a69788 & (~0ull >> (64 - 8 * width));
            int big = width | NEAP_BIG;
            assert_int_equal(neap_slice_set_bits(AT(slice), at, big, pattern), NEAP_OK);
            const uint8_t *bytes = neap_slice_bytes(AT(slice)) + at;
            uint64_t be = 0, le = 0;
            for (int i = 0; i < width; i++) {
                be = be << 8 | bytes[i];
                le = le << 8 | bytes[width - 1 - i];
            }
            assert_true(be == pattern);
            assert_true(neap_slice_get_bits(AT(slice), at, big) == be);
            assert_true(neap_slice_get_bits(AT(slice), at, width) == le);
            uint64_t sign = width < 8 && be >> (8 * width - 1) ? ~0ull << 8 * width : 0;
            assert_true(neap_slice_get_bits(AT(slice), at, big | NEAP_SIGNED) == (be | sign));
            if (width < 7) assert_true(neap_slice_get(AT(slice), at, big) == (double)be);
        }
        assert_true(isnan(neap_slice_get(AT(slice), 17 - (uint32_t)width, width)));
    }
    finish();
}

static void S1_numbers_side_by_side_are_written_and_read_in_one_call(void **state)
{
    (void)state;
    start("0123456789");
    struct neap_numbers numbers = {.count = 3,
                                   .number = {4 | NEAP_BIG, 1 | NEAP_SIGNED, 3},
                                   .value = {0x41424344, -1, 0x434241}};
    assert_int_equal(neap_slice_pack(AT(slice), 1, &numbers), NEAP_OK);
    slice_reads(slice, "0ABCD\377ABC9");
    memset(numbers.value, 0, sizeof numbers.value);
    assert_int_equal(neap_slice_unpack(AT(slice), 1, &numbers), NEAP_OK);
    assert_true(numbers.value[0] == 0x41424344 && numbers.value[1] == -1);
    assert_true(numbers.value[2] == 0x434241);
    finish();
}

static void S1_S10_numbers_side_by_side_of_which_one_is_wrong_write_nothing(void **state)
{
    (void)state;
    start("0123456789");
    struct neap_numbers good = {.count = 2, .number = {4, 4}};
    struct neap_numbers large = {.count = 2, .number = {4, 1}, .value = {1, 256}};
    struct neap_numbers none = {.count = 2, .number = {4, 0}};
    struct neap_numbers many = {.count = NEAP_NUMBERS_MAX + 1};
    assert_int_equal(neap_slice_pack(AT(slice), 3, &good), NEAP_E_RANGE);
    assert_int_equal(neap_slice_unpack(AT(slice), 3, &good), NEAP_E_RANGE);
    assert_int_equal(neap_slice_pack(AT(slice), UINT32_MAX, &good), NEAP_E_RANGE);
    assert_int_equal(neap_slice_unpack(AT(slice), UINT32_MAX, &good), NEAP_E_RANGE);
    assert_int_equal(neap_slice_pack(AT(slice), 0, &large), NEAP_E_RANGE);
    assert_int_equal(neap_slice_pack(AT(slice), 0, &none), NEAP_E_RANGE);
    assert_int_equal(neap_slice_pack(AT(slice), 0, &many), NEAP_E_RANGE);
    assert_int_equal(neap_slice_unpack(AT(slice), 0, &many), NEAP_E_RANGE);
    struct neap_handle clone;
    assert_int_equal(neap_slice_retain(AT(slice), &clone), NEAP_OK);
    assert_int_equal(neap_slice_pack(AT(slice), 0, &good), NEAP_E_OVERLAP);
    slice_end(clone);
    assert_int_equal(neap_slice_pack(slice.slot, slice.gen + 2, 0, &good), NEAP_E_STALE);
    assert_int_equal(neap_slice_unpack(slice.slot, slice.gen + 2, 0, &good), NEAP_E_STALE);
    slice_reads(slice, "0123456789");
    finish();
}

static void S1_a_value_that_does_not_fit_is_refused_and_nothing_is_written(void **state)
{
    (void)state;
    start("01234567");
    const struct {
        int number;
        double value;
    } bad[] = {
        {1, 256},
        {1, -1},
        {1, 0.5},
        {1, NAN},
        {1, INFINITY},
        {1 | NEAP_SIGNED, 128},
        {1 | NEAP_SIGNED, -129},
        {2, 65536},
        {3 | NEAP_BIG, 16777216},
        {4, 4294967296.0},
        {4 | NEAP_SIGNED, -2147483649.0},
        {8, -1},
        {8, 0x1p64},
        {0, 0},
        {9, 0},
        {3 | NEAP_FLOAT, 0},
        {-1, 0},
        {1 | 128, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (neap_slice_set(AT(slice), 0, bad[i].number, bad[i].value) != NEAP_E_RANGE)
            fail_msg("value %zu was taken", i);
    slice_reads(slice, "01234567");
    assert_int_equal(neap_slice_set(AT(slice), 0, 1 | NEAP_SIGNED, -128), NEAP_OK);
    assert_true(neap_slice_get(AT(slice), 0, 1 | NEAP_SIGNED) == -128);
    assert_int_equal(neap_slice_set(AT(slice), 0, 8 | NEAP_FLOAT, 0.1), NEAP_OK);
    assert_true(neap_slice_get(AT(slice), 0, 8 | NEAP_FLOAT) == 0.1);
    assert_int_equal(neap_slice_set(AT(slice), 0, 4 | NEAP_FLOAT | NEAP_BIG, 1.5), NEAP_OK);
    assert_memory_equal(neap_slice_bytes(AT(slice)), "\x3f\xc0\0\0", 4);
    finish();
}

static void copies_may_overlap_within_one_slice(void **state)
{
    (void)state;
    start("0123456789");
    assert_int_equal(neap_slice_copy(AT(slice), 2, AT(slice), 0, 6), NEAP_OK);
    slice_reads(slice, "0101234589");
    assert_int_equal(neap_slice_copy(AT(slice), 0, AT(slice), 2, 6), NEAP_OK);
    slice_reads(slice, "0123454589");
    assert_int_equal(neap_slice_copy(AT(slice), 0, AT(slice), 9, 2), NEAP_E_RANGE);
    finish();
}

/* Against the plain search, with the input before an unreadable page. */
static void find_agrees_with_a_plain_search(void **state)
{
    (void)state;
    struct random random = {5};
    for (int round = 0; round < 20000; round++) {
        char in[40], wanted[4];
        uint32_t have = random_below(&random, 40), size = random_below(&random, 4);
        uint32_t from = random_below(&random, 42);
        for (uint32_t i = 0; i < have; i++) in[i] = "ab"[random_below(&random, 2)];
        for (uint32_t i = 0; i < size; i++) wanted[i] = "ab"[random_below(&random, 2)];
        int64_t expected = -1;
        for (uint32_t i = from; expected < 0 && i + size <= have; i++)
            if (memcmp(in + i, wanted, size) == 0) expected = i;
        const uint8_t *at = (const uint8_t *)guard_copy(in, have);
        assert_int_equal(neap_find(at, have, wanted, size, from), expected);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(S1_numbers_of_every_width_order_and_sign_at_every_offset),
    TEST(S1_numbers_side_by_side_are_written_and_read_in_one_call),
    TEST(S1_S10_numbers_side_by_side_of_which_one_is_wrong_write_nothing),
    TEST(S1_a_value_that_does_not_fit_is_refused_and_nothing_is_written),
    TEST(copies_may_overlap_within_one_slice),
    TEST(find_agrees_with_a_plain_search),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
