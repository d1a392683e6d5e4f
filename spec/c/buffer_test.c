/* buffer_test.c - bytes put behind one another, and what is left when there is no room. */
#include <string.h>

#include "base/mem.h"
#include "helper.h"

static struct neap_handle pool, buffer;

static void start_with(const struct neap_pool_options *options)
{
    pool = pool_make_with(options);
    assert_int_equal(neap_buffer_create(AT(pool), &buffer), NEAP_OK);
}

static void start(void)
{
    start_with(&(struct neap_pool_options){.min_size = 64});
}

static void finish(void)
{
    assert_int_equal(neap_buffer_release(AT(buffer)), NEAP_OK);
    pool_end(pool);
}

static int put(const void *bytes, uint32_t n)
{
    return neap_buffer_put(AT(buffer), bytes, n);
}

/* What is in it, which is taken. Returns the size. */
static uint32_t take_all(uint8_t *room, uint32_t most)
{
    struct neap_handle piece;
    uint32_t size = 0;
    while (neap_buffer_take(AT(buffer), &piece) == 1) {
        uint32_t n = (uint32_t)neap_slice_size(AT(piece));
        assert_true(n > 0 && n <= most - size);
        memcpy(room + size, neap_slice_bytes(AT(piece)), n);
        size += n;
        slice_end(piece);
    }
    assert_int_equal(neap_buffer_size(AT(buffer)), 0);
    return size;
}

static void holds(const void *bytes, uint32_t n)
{
    static uint8_t room[65536];
    assert_int_equal(neap_buffer_size(AT(buffer)), n);
    assert_int_equal(take_all(room, sizeof room), n);
    if (n) assert_memory_equal(room, bytes, n);
}

static void bytes_of_random_sizes_stay_in_order(void **state)
{
    (void)state;
    static uint8_t model[65536];
    struct random random = {42};
    start();
    for (int round = 0; round < 100; round++) {
        uint32_t size = 0;
        for (int i = 0; i < 30; i++) {
            uint32_t n = random_below(&random, 600);
            for (uint32_t k = 0; k < n; k++) model[size + k] = (uint8_t)random_next(&random);
            assert_int_equal(put(model + size, n), NEAP_OK);
            size += n;
        }
        for (int i = 0; i < 30 && size >= 8; i++) {
            uint32_t at = random_below(&random, size - 7);
            assert_int_equal(neap_buffer_set_bits(AT(buffer), at, 8, 0x6867666564636261), NEAP_OK);
            memcpy(model + at, "abcdefgh", 8);
        }
        holds(model, size);
    }
    finish();
}

static void varints_are_leb128(void **state)
{
    (void)state;
    static const struct {
        uint64_t value;
        uint32_t size;
        const char *bytes;
    } vectors[] = {
        {0, 1, "\0"},
        {127, 1, "\x7f"},
        {128, 2, "\x80\x01"},
        {300, 2, "\xac\x02"},
        {16383, 2, "\xff\x7f"},
        {16384, 3, "\x80\x80\x01"},
        {624485, 3, "\xe5\x8e\x26"},
        {UINT32_MAX, 5, "\xff\xff\xff\xff\x0f"},
        {INT64_MAX, 9, "\xff\xff\xff\xff\xff\xff\xff\xff\x7f"},
        {UINT64_MAX, 10, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"},
    };
    start();
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        assert_int_equal(neap_buffer_put_varint(AT(buffer), vectors[i].value), NEAP_OK);
        holds(vectors[i].bytes, vectors[i].size);
    }
    finish();
}

static void unknown_numbers_and_places_outside_are_refused(void **state)
{
    (void)state;
    start();
    assert_int_equal(put("12345678", 8), NEAP_OK);
    static const int unknown[] = {0, -1, 9, 15, 128, 4 | NEAP_FLOAT | NEAP_SIGNED, 2 | NEAP_FLOAT};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_int_equal(neap_buffer_put_number(AT(buffer), unknown[i], 0), NEAP_E_RANGE);
        assert_int_equal(neap_buffer_put_bits(AT(buffer), unknown[i], 0), NEAP_E_RANGE);
        assert_int_equal(neap_buffer_set(AT(buffer), 0, unknown[i], 0), NEAP_E_RANGE);
        assert_int_equal(neap_buffer_set_bits(AT(buffer), 0, unknown[i], 0), NEAP_E_RANGE);
    }
    static const uint32_t outside[] = {5, 8, 9, 1u << 31, UINT32_MAX - 3, UINT32_MAX};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++)
        assert_int_equal(neap_buffer_set(AT(buffer), outside[i], 4, 0), NEAP_E_RANGE);
    assert_int_equal(neap_buffer_put_number(AT(buffer), 1, 256), NEAP_E_RANGE);
    assert_int_equal(neap_buffer_set(AT(buffer), 0, 1, -1), NEAP_E_RANGE);
    holds("12345678", 8);
    finish();
}

static void more_than_1_gib_is_oversized_and_takes_nothing(void **state)
{
    (void)state;
    start();
    assert_int_equal(neap_buffer_reserve(AT(buffer), NEAP_BUF_MAX_BYTES + 1u), NEAP_E_OVERSIZED);
    assert_int_equal(neap_buffer_reserve(AT(buffer), UINT32_MAX), NEAP_E_OVERSIZED);
    assert_int_equal(pool_stats(pool).bufs_allocated, 0);
    assert_int_equal(put("x", 1), NEAP_OK);
    assert_int_equal(neap_buffer_reserve(AT(buffer), NEAP_BUF_MAX_BYTES), NEAP_E_OVERSIZED);
    holds("x", 1);
    finish();
}

static void P7_a_put_that_meets_the_limit_leaves_all_as_it_was(void **state)
{
    (void)state;
    start_with(&(struct neap_pool_options){.min_size = 64, .limit = 512});
    static uint8_t many[1000];
    for (int before = 0; before < 130; before++) {
        for (int i = 0; i < before; i++) assert_int_equal(put("x", 1), NEAP_OK);
        struct neap_pool_stats was = pool_stats(pool);
        assert_int_equal(put(many, sizeof many), NEAP_E_LIMIT);
        assert_int_equal(neap_buffer_reserve(AT(buffer), sizeof many), NEAP_E_LIMIT);
        struct neap_pool_stats is = pool_stats(pool);
        assert_int_equal(neap_buffer_size(AT(buffer)), before);
        assert_int_equal(is.bytes_live, was.bytes_live);
        assert_int_equal(is.bytes_referenced, was.bytes_referenced);
        assert_int_equal(is.slices_live, was.slices_live);
        assert_true(is.bytes_held <= 512);
        uint8_t room[130], x[130];
        memset(x, 'x', sizeof x);
        assert_int_equal(take_all(room, sizeof room), before);
        assert_memory_equal(room, x, (size_t)before);
    }
    finish();
}

/* The n-th request for memory fails: nothing was appended, and the next call works. */
static void memory_that_fails_leaves_all_as_it_was(void **state)
{
    (void)state;
    static uint8_t many[2 * NEAP_CLASS_MAX_BYTES];
    int failures = 0;
    for (int64_t nth = 0; nth < 50; nth++) {
        start();
        assert_int_equal(put("before", 6), NEAP_OK);
        neap_mem_fail_after(nth);
        int result = put(many, sizeof many);
        neap_mem_fail_after(-1);
        if (result == NEAP_OK) {
            assert_int_equal(neap_buffer_size(AT(buffer)), 6 + sizeof many);
        } else {
            failures++;
            assert_int_equal(result, NEAP_E_MEMORY);
            assert_int_equal(pool_stats(pool).slices_live, 1);
            assert_int_equal(put("after", 5), NEAP_OK);
            holds("beforeafter", 11);
        }
        finish();
        if (result == NEAP_OK) break;
    }
    assert_true(failures > 0);
}

static void reset_keeps_one_usual_buf(void **state)
{
    (void)state;
    static uint8_t many[100000];
    start();
    assert_int_equal(put(many, sizeof many), NEAP_OK);
    assert_true(pool_stats(pool).bufs_live > 4);
    assert_int_equal(neap_buffer_reset(AT(buffer)), NEAP_OK);
    assert_int_equal(pool_stats(pool).bufs_live, 1);
    assert_int_equal(pool_stats(pool).bytes_live, 64);
    assert_int_equal(pool_stats(pool).bytes_referenced, 0);
    struct neap_handle none;
    assert_int_equal(neap_buffer_take(AT(buffer), &none), 0);
    assert_int_equal(pool_stats(pool).bufs_live, 0);
    finish();
}

static void a_released_buffer_is_stale_in_every_call(void **state)
{
    (void)state;
    start();
    assert_int_equal(put("x", 1), NEAP_OK);
    struct neap_handle piece, gone = buffer;
    assert_int_equal(neap_buffer_release(AT(gone)), NEAP_OK);
    assert_int_equal(neap_buffer_release(AT(gone)), NEAP_E_STALE);
    assert_int_equal(neap_buffer_size(AT(gone)), NEAP_E_STALE);
    assert_int_equal(neap_buffer_put(AT(gone), "x", 1), NEAP_E_STALE);
    assert_int_equal(neap_buffer_put_number(AT(gone), 1, 1), NEAP_E_STALE);
    assert_int_equal(neap_buffer_put_bits(AT(gone), 1, 1), NEAP_E_STALE);
    assert_int_equal(neap_buffer_put_varint(AT(gone), 1), NEAP_E_STALE);
    assert_int_equal(neap_buffer_reserve(AT(gone), 1), NEAP_E_STALE);
    assert_int_equal(neap_buffer_set(AT(gone), 0, 1, 1), NEAP_E_STALE);
    assert_int_equal(neap_buffer_set_bits(AT(gone), 0, 1, 1), NEAP_E_STALE);
    assert_int_equal(neap_buffer_take(AT(gone), &piece), NEAP_E_STALE);
    assert_int_equal(neap_buffer_reset(AT(gone)), NEAP_E_STALE);
    neap_buffer_finalize(&gone);
    pool_end(pool);
}

static const struct CMUnitTest tests[] = {
    TEST(bytes_of_random_sizes_stay_in_order),
    TEST(varints_are_leb128),
    TEST(unknown_numbers_and_places_outside_are_refused),
    TEST(more_than_1_gib_is_oversized_and_takes_nothing),
    TEST(P7_a_put_that_meets_the_limit_leaves_all_as_it_was),
    TEST(memory_that_fails_leaves_all_as_it_was),
    TEST(reset_keeps_one_usual_buf),
    TEST(a_released_buffer_is_stale_in_every_call),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
