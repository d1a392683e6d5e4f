/* number_test.c - numbers in bytes: every width, order and sign, up to the edges. */
#include "scan/number.h"

#include <math.h>
#include <string.h>

#include "helper.h"

static uint64_t mask_of(int width)
{
    return width == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * width) - 1;
}

static void only_known_numbers_are_known(void **state)
{
    (void)state;
    for (int number = -300; number < 300; number++) {
        int width = number & NEAP_WIDTH;
        bool expected = false;
        if (number >= 0 && number < 128) {
            expected = width >= 1 && width <= 8;
            if (number & NEAP_FLOAT)
                expected = (width == 4 || width == 8) && !(number & NEAP_SIGNED);
        }
        assert_int_equal(neap_number_known(number), expected);
    }
    assert_false(neap_number_known(INT32_MIN));
    assert_false(neap_number_known(INT32_MAX));
    assert_false(neap_number_known(256 + 4));
}

static void bits_stand_in_the_order_of_their_kind(void **state)
{
    (void)state;
    for (int width = 1; width <= 8; width++) {
        uint8_t at[10];
        uint64_t bits = 0x0807060504030201;
        memset(at, 0xee, sizeof at);
        neap_number_store(at + 1, width, bits);
        assert_int_equal(at[0], 0xee);
        assert_int_equal(at[1 + width], 0xee);
        for (int i = 0; i < width; i++) assert_int_equal(at[1 + i], i + 1);
        assert_true(neap_number_bits(at + 1, width) == (bits & mask_of(width)));
        neap_number_store(at + 1, width | NEAP_BIG, bits);
        for (int i = 0; i < width; i++) assert_int_equal(at[1 + i], width - i);
        assert_int_equal(at[1 + width], 0xee);
        assert_true(neap_number_bits(at + 1, width | NEAP_BIG) == (bits & mask_of(width)));
    }
}

/* Nothing behind the number is read, nor written. */
static void numbers_stand_before_an_unreadable_page(void **state)
{
    (void)state;
    for (int width = 1; width <= 8; width++) {
        for (int kind = 0; kind < 128; kind += NEAP_BIG) {
            if (!neap_number_known(width | kind)) continue;
            uint8_t *at = (uint8_t *)guard_copy("\1\2\3\4\5\6\7\10", (size_t)width);
            uint64_t bits = neap_number_bits(at, width | kind);
            (void)neap_number_get(at, width | kind);
            neap_number_store(at, width | kind, bits);
            assert_memory_equal(at, "\1\2\3\4\5\6\7\10", width);
        }
    }
}

static void writes(int number, double value)
{
    uint8_t at[8] = {0};
    uint64_t bits;
    assert_true(neap_number_encode(number, value, &bits));
    neap_number_store(at, number, bits);
    assert_true(neap_number_get(at, number) == value);
}

static void refuses(int number, double value)
{
    uint64_t bits = 77;
    assert_false(neap_number_encode(number, value, &bits));
    assert_true(bits == 77);
}

static void integers_fit_up_to_their_edges(void **state)
{
    (void)state;
    for (int width = 1; width <= 8; width++) {
        for (int order = 0; order <= NEAP_BIG; order += NEAP_BIG) {
            int plain = width | order, sign = plain | NEAP_SIGNED;
            double span = width > 6 ? 0x1p53 + 1 : ldexp(1, 8 * width);
            double half = width > 6 ? 0x1p53 : ldexp(1, 8 * width - 1);
            writes(plain, 0);
            writes(plain, 1);
            writes(plain, width > 6 ? 0x1p53 : span - 1);
            writes(sign, -half);
            writes(sign, width > 6 ? 0x1p53 : half - 1);
            writes(sign, -1);
            refuses(plain, -1);
            refuses(plain, width > 6 ? 0x1p53 + 2 : span);
            refuses(sign, width > 6 ? 0x1p53 + 2 : half);
            refuses(sign, width > 6 ? -0x1p53 - 2 : -half - 1);
            refuses(plain, 0.5);
            refuses(sign, -0.5);
            refuses(plain, NAN);
            refuses(sign, NAN);
            refuses(plain, INFINITY);
            refuses(sign, -INFINITY);
            refuses(sign, 1e300);
        }
    }
}

static void signed_bits_are_extended(void **state)
{
    (void)state;
    for (int width = 1; width <= 8; width++) {
        uint8_t at[8];
        memset(at, 0xff, sizeof at);
        assert_true(neap_number_bits(at, width | NEAP_SIGNED) == UINT64_MAX);
        assert_true(neap_number_bits(at, width) == mask_of(width));
        assert_true(neap_number_get(at, width | NEAP_BIG | NEAP_SIGNED) == -1);
        memset(at, 0, sizeof at);
        at[0] = 0x80;
        double low = -ldexp(1, 8 * width - 1);
        assert_true(neap_number_get(at, width | NEAP_BIG | NEAP_SIGNED) == low);
        assert_true(neap_number_get(at, width | NEAP_BIG) == -low);
    }
}

static void floats_are_ieee_754(void **state)
{
    (void)state;
    static const uint8_t one[] = {0x3f, 0x80, 0, 0}, half[] = {0, 0, 0, 0, 0, 0, 0xe0, 0xbf};
    assert_true(neap_number_get(one, 4 | NEAP_FLOAT | NEAP_BIG) == 1);
    assert_true(neap_number_get(half, 8 | NEAP_FLOAT) == -0.5);
    for (int width = 4; width <= 8; width += 4) {
        int number = width | NEAP_FLOAT;
        writes(number, 1.5);
        writes(number, -INFINITY);
        writes(number | NEAP_BIG, INFINITY);
        uint8_t at[8];
        uint64_t bits;
        assert_true(neap_number_encode(number, -0.0, &bits));
        neap_number_store(at, number, bits);
        assert_true(signbit(neap_number_get(at, number)));
        assert_true(neap_number_encode(number, NAN, &bits));
        neap_number_store(at, number, bits);
        assert_true(isnan(neap_number_get(at, number)));
    }
}

/* LuaJIT takes other bits than these for its own tags and pointers. */
static void each_nan_has_the_same_bits(void **state)
{
    (void)state;
    static const uint32_t ends[] = {0, 1, 0x12345678, UINT32_MAX};
    for (uint32_t top = 0; top <= UINT16_MAX; top++) {
        for (int i = 0; i < 4; i++) {
            for (int width = 4; width <= 8; width += 4) {
                uint64_t bits = (uint64_t)top << (8 * width - 16) | (width == 8 ? ends[i] : 0);
                uint8_t at[8];
                neap_number_store(at, width | NEAP_BIG, bits);
                double value = neap_number_get(at, width | NEAP_BIG | NEAP_FLOAT);
                const double canonical = NAN;
                if (isnan(value)) assert_memory_equal(&value, &canonical, sizeof value);
            }
        }
    }
}

static const struct CMUnitTest tests[] = {
    TEST(only_known_numbers_are_known),
    TEST(bits_stand_in_the_order_of_their_kind),
    TEST(numbers_stand_before_an_unreadable_page),
    TEST(integers_fit_up_to_their_edges),
    TEST(signed_bits_are_extended),
    TEST(floats_are_ieee_754),
    TEST(each_nan_has_the_same_bits),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
