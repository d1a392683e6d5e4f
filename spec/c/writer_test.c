/* writer_test.c - what waits to be sent comes out in order, and holds no memory once sent. */
#include <string.h>

#include "helper.h"
#include "iobuf/writer.h"

static struct neap_handle pool, allocator;
static struct neap_writer writer;

static void start(void)
{
    pool = pool_make(0);
    allocator = allocator_make(pool, 0);
    writer = (struct neap_writer){.pool = neap_pool_of(AT(pool))};
}

static void finish(void)
{
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

/* Send up to n bytes, in the parts that the writer gives, to `to`. */
static size_t send_some(uint8_t *to, size_t n)
{
    struct iovec parts[4];
    size_t sent = 0;
    int count = neap_writer_parts(&writer, parts, 4);
    for (int i = 0; i < count && sent < n; i++) {
        size_t part = parts[i].iov_len < n - sent ? parts[i].iov_len : n - sent;
        memcpy(to + sent, parts[i].iov_base, part);
        sent += part;
    }
    neap_writer_sent(&writer, sent);
    return sent;
}

static void what_was_queued_comes_out_in_order_however_it_is_cut(void **state)
{
    (void)state;
    enum { BYTES = 200000 };
    static uint8_t in[BYTES], out[BYTES];
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct random random = {seed};
        start();
        for (size_t i = 0; i < BYTES; i++) in[i] = (uint8_t)random_next(&random);
        uint32_t queued = 0;
        size_t sent = 0;
        while (sent < BYTES) {
            uint32_t n = random_below(&random, random_below(&random, 3) ? 500 : 9000);
            if (n > BYTES - queued) n = BYTES - queued;
            struct neap_handle s;
            const char *bytes = (const char *)in + queued;
            assert_int_equal(neap_allocator_copy(AT(allocator), bytes, n, &s), NEAP_OK);
            if (random_below(&random, 2)) {
                assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(s))), NEAP_OK);
                assert_int_equal(neap_slice_release(AT(s)), NEAP_E_STALE);
            } else {
                assert_int_equal(neap_writer_add_bytes(&writer, in + queued, n), NEAP_OK);
                slice_end(s);
            }
            queued += n;
            if (random_below(&random, 2))
                sent += send_some(out + sent, random_below(&random, 9000));
            assert_int_equal(writer.queued, queued - sent);
        }
        assert_memory_equal(in, out, BYTES);
        assert_null(writer.small);
        assert_int_equal(pool_stats(pool).slices_live, 0);
        finish();
    }
}

static void small_pieces_leave_together_and_large_ones_are_not_copied(void **state)
{
    (void)state;
    start();
    struct neap_handle first = slice_text(allocator, "first");
    const uint8_t *first_at = neap_slice_bytes(AT(first));
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(first))), NEAP_OK);
    assert_int_equal(neap_slice_size(AT(first)), NEAP_E_STALE);
    slice_end(slice_text(allocator, "no neighbours"));
    struct neap_handle small = slice_text(allocator, "small");
    struct neap_handle large = slice_alloc(allocator, NEAP_WRITE_COPY_BYTES);
    const uint8_t *at = neap_slice_bytes(AT(large));
    struct iovec parts[8];
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(small))), NEAP_OK);
    assert_int_equal(neap_writer_add_bytes(&writer, (const uint8_t *)" bytes", 6), NEAP_OK);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(large))), NEAP_OK);
    assert_int_equal(neap_writer_add_bytes(&writer, (const uint8_t *)"last", 4), NEAP_OK);
    assert_int_equal(neap_writer_parts(&writer, parts, 8), 4);
    assert_ptr_equal(parts[0].iov_base, first_at); /* alone, it stays where it lies */
    assert_int_equal(parts[1].iov_len, 11);
    assert_memory_equal(parts[1].iov_base, "small bytes", 11);
    assert_ptr_equal(parts[2].iov_base, at);
    assert_memory_equal(parts[3].iov_base, "last", 4);
    assert_int_equal(neap_writer_parts(&writer, parts, 2), 2);
    assert_int_equal(pool_stats(pool).slices_taken, 1); /* `small`; the rest waits */
    assert_int_equal(neap_writer_clear(&writer), 5 + 11 + NEAP_WRITE_COPY_BYTES + 4);
    assert_int_equal(pool_stats(pool).slices_dropped, 4);
    finish();
}

static void neighbours_leave_as_one_piece_without_a_copy(void **state)
{
    (void)state;
    start();
    struct neap_handle rest = slice_text(allocator, "one two three four");
    const uint8_t *at = neap_slice_bytes(AT(rest));
    struct iovec parts[NEAP_WRITER_PARTS];
    struct neap_handle one = slice_split(rest, 4), two = slice_split(rest, 4);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(one))), NEAP_OK);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(two))), NEAP_OK);
    assert_int_equal(neap_slice_size(AT(two)), NEAP_E_STALE);
    assert_int_equal(neap_writer_parts(&writer, parts, NEAP_WRITER_PARTS), 1);
    assert_ptr_equal(parts[0].iov_base, at);
    assert_int_equal(parts[0].iov_len, 8);
    neap_writer_sent(&writer, 6); /* what is left of it still grows */
    struct neap_handle three = slice_split(rest, 6);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(three))), NEAP_OK);
    assert_int_equal(neap_writer_parts(&writer, parts, NEAP_WRITER_PARTS), 1);
    assert_memory_equal(parts[0].iov_base, "o three ", 8);
    assert_int_equal(writer.queued, 8);
    struct neap_handle clone = slice_retain(rest);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(clone))), NEAP_OK);
    assert_int_equal(neap_writer_parts(&writer, parts, NEAP_WRITER_PARTS), 2); /* copied */
    slice_reads(rest, "four");
    slice_end(rest);
    assert_int_equal(neap_writer_clear(&writer), 12);
    assert_int_equal(pool_stats(pool).slices_live, 0);
    finish();
}

static void in_a_closed_pool_a_slice_is_taken_though_it_fails(void **state)
{
    (void)state;
    start();
    struct neap_handle first = slice_text(allocator, "first");
    slice_end(slice_text(allocator, "no neighbours"));
    struct neap_handle small = slice_text(allocator, "small");
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(first))), NEAP_OK);
    assert_int_equal(neap_pool_close(AT(pool)), NEAP_OK);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(small))), NEAP_E_CLOSED);
    assert_int_equal(neap_slice_size(AT(small)), NEAP_E_STALE);
    assert_int_equal(neap_writer_add_bytes(&writer, (const uint8_t *)"x", 1), NEAP_E_CLOSED);
    assert_int_equal(pool_stats(pool).slices_dropped, 1);
    assert_int_equal(writer.queued, 5); /* what was queued before still is */
    assert_int_equal(neap_writer_clear(&writer), 5);
    finish();
}

static const struct CMUnitTest tests[] = {
    TEST(what_was_queued_comes_out_in_order_however_it_is_cut),
    TEST(small_pieces_leave_together_and_large_ones_are_not_copied),
    TEST(neighbours_leave_as_one_piece_without_a_copy),
    TEST(in_a_closed_pool_a_slice_is_taken_though_it_fails),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
