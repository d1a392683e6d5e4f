/* reader_test.c - bytes as they come, cut into slices where they lie. */
#include <string.h>

#include "base/mem.h"
#include "helper.h"
#include "iobuf/reader.h"

static struct neap_handle pool, reader;

static void start_with(double min_size, uint32_t max_read)
{
    pool = pool_make(min_size);
    assert_int_equal(neap_reader_create(AT(pool), max_read, &reader), NEAP_OK);
}

static void start(void)
{
    start_with(0, NEAP_MAX_READ_BYTES);
}

static void finish(void)
{
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    pool_end(pool);
}

static void feed(const char *text)
{
    assert_int_equal(neap_reader_feed(AT(reader), text, (uint32_t)strlen(text)),
                     (uint32_t)strlen(text));
}

static int buffered(void)
{
    return neap_reader_buffered(AT(reader));
}

static struct neap_handle read_n(uint32_t n)
{
    struct neap_handle slice;
    assert_int_equal(neap_reader_read(AT(reader), n, &slice), NEAP_OK);
    return slice;
}

static void reads(uint32_t n, const char *text)
{
    struct neap_handle slice = read_n(n);
    slice_reads(slice, text);
    slice_end(slice);
}

static int try_read(uint32_t n)
{
    struct neap_handle slice;
    return neap_reader_read(AT(reader), n, &slice);
}

static int try_any(void)
{
    struct neap_handle slice;
    return neap_reader_read_any(AT(reader), 100, &slice);
}

static int try_until(const char *delimiter, uint32_t max)
{
    struct neap_handle slice;
    uint32_t size = (uint32_t)strlen(delimiter);
    return neap_reader_read_until(AT(reader), delimiter, size, max, false, &slice);
}

static void reads_until(const char *delimiter, bool inclusive, const char *text)
{
    struct neap_handle slice;
    uint32_t size = (uint32_t)strlen(delimiter);
    assert_int_equal(neap_reader_read_until(AT(reader), delimiter, size, 100, inclusive, &slice),
                     NEAP_OK);
    slice_reads(slice, text);
    slice_end(slice);
}

static struct neap_room room_for(uint32_t want)
{
    struct neap_room room;
    assert_int_equal(neap_reader_room(AT(reader), want, &room), NEAP_OK);
    assert_true(room.size > 0);
    return room;
}

static void fill(uint32_t n)
{
    assert_int_equal(neap_reader_filled(AT(reader), n), NEAP_OK);
}

/* ---- holding bufs ---- */

static void R1_a_reader_without_buffered_bytes_holds_no_buf(void **state)
{
    (void)state;
    start();
    assert_int_equal(pool_stats(pool).bufs_allocated, 0);
    feed("text");
    assert_int_equal(pool_stats(pool).bufs_live, 1);
    reads(3, "tex");
    assert_int_equal(neap_reader_idle(AT(reader)), NEAP_OK);
    assert_int_equal(pool_stats(pool).bufs_live, 1); /* one byte is still unread */
    reads(1, "t");
    assert_int_equal(neap_reader_idle(AT(reader)), NEAP_OK);
    assert_int_equal(pool_stats(pool).bufs_live, 0);
    room_for(1);
    assert_int_equal(neap_reader_idle(AT(reader)), NEAP_OK); /* nothing came */
    assert_int_equal(pool_stats(pool).bufs_live, 0);
    finish();
}

static void R1_10000_idle_readers_hold_next_to_nothing(void **state)
{
    (void)state;
    needs_neighbours();
    enum { COUNT = 10000 };
    static struct neap_handle readers[COUNT];
    pool = pool_make(0);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(neap_reader_create(AT(pool), 100, &readers[i]), NEAP_OK);
        struct neap_handle slice;
        assert_int_equal(neap_reader_feed(AT(readers[i]), "hello", 5), 5);
        assert_int_equal(neap_reader_read(AT(readers[i]), 5, &slice), NEAP_OK);
        slice_end(slice);
        assert_int_equal(neap_reader_idle(AT(readers[i])), NEAP_OK);
    }
    assert_int_equal(pool_stats(pool).bytes_live, 0);
    assert_int_equal(pool_stats(pool).bytes_held, NEAP_BUF_MIN_BYTES);
    for (int i = 0; i < COUNT; i++) assert_int_equal(neap_reader_release(AT(readers[i])), NEAP_OK);
    pool_end(pool);
}

static void R4_the_only_holder_begins_again_at_the_front_of_the_same_buf(void **state)
{
    (void)state;
    needs_neighbours();
    start();
    const uint8_t *front = room_for(1).at;
    for (int i = 0; i < 100; i++) {
        feed("0123456789");
        reads(4, "0123");
        reads(6, "456789");
        assert_ptr_equal(room_for(1).at, front);
    }
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.bufs_allocated, 1);
    assert_int_equal(s.bufs_reused, 0);
    assert_int_equal(s.bytes_moved, 0);
    finish();
}

static void R4_bytes_that_a_slice_holds_are_not_written_over(void **state)
{
    (void)state;
    start_with(64, 1000);
    feed("0123456789");
    struct neap_handle slice = read_n(10);
    for (int i = 0; i < 20; i++) {
        feed("XXXXXXXXXXXXXXX");
        reads(15, "XXXXXXXXXXXXXXX");
        slice_reads(slice, "0123456789");
    }
    slice_end(slice);
    finish();
}

/* ---- read ---- */

static void R2_read_gives_exactly_n_bytes_in_place(void **state)
{
    (void)state;
    needs_neighbours();
    start();
    struct neap_room room = room_for(1);
    memcpy(room.at, "headerpayload", 13);
    fill(13);
    struct neap_handle header = read_n(6), payload = read_n(7);
    slice_reads(header, "header");
    slice_reads(payload, "payload");
    assert_ptr_equal(neap_slice_bytes(AT(header)), room.at);
    assert_ptr_equal(neap_slice_bytes(AT(payload)), room.at + 6);
    slice_is(header, 0, 0, 6);
    slice_is(payload, 6, 6, 13);
    assert_int_equal(pool_stats(pool).bytes_moved, 0);
    slice_end(header);
    slice_end(payload);
    finish();
}

static void R2_read_0_is_an_empty_slice_at_any_time(void **state)
{
    (void)state;
    start();
    reads(0, "");
    assert_int_equal(pool_stats(pool).bufs_live, 0);
    feed("x");
    reads(0, "");
    assert_int_equal(buffered(), 1);
    reads(1, "x");
    assert_int_equal(neap_reader_end(AT(reader), NEAP_E_EOF), NEAP_OK);
    reads(0, "");
    finish();
}

static void R2_read_any_gives_what_is_there_up_to_max(void **state)
{
    (void)state;
    start();
    feed("0123456789");
    struct neap_handle a, b;
    assert_int_equal(neap_reader_read_any(AT(reader), 4, &a), NEAP_OK);
    assert_int_equal(neap_reader_read_any(AT(reader), UINT32_MAX, &b), NEAP_OK);
    slice_reads(a, "0123");
    slice_reads(b, "456789");
    assert_int_equal(try_any(), NEAP_E_AGAIN);
    slice_end(a);
    slice_end(b);
    finish();
}

static void R2_read_until_consumes_the_delimiter_and_gives_it_only_if_asked(void **state)
{
    (void)state;
    start();
    feed("one\r\ntwo\r\n\r\nrest\r");
    reads_until("\r\n", false, "one");
    reads_until("\r\n", true, "two\r\n");
    reads_until("\r\n", false, "");
    assert_int_equal(try_until("\r\n", 100), NEAP_E_AGAIN);
    assert_int_equal(buffered(), 5);
    feed("\nmore");
    reads_until("\r\n", false, "rest");
    assert_int_equal(try_until("", 100), NEAP_E_RANGE);
    reads(4, "more");
    finish();
}

static void R2_read_until_max_counts_the_bytes_before_the_delimiter(void **state)
{
    (void)state;
    for (int cut = 0; cut <= 6; cut++) { /* "12345\n" fits 5 and not 4, wherever it is cut */
        start();
        assert_int_equal(neap_reader_feed(AT(reader), "12345\n", (uint32_t)cut), (uint32_t)cut);
        int result = try_until("\n", 4);
        assert_int_equal(result, cut < 5 ? NEAP_E_AGAIN : NEAP_E_OVERSIZED);
        feed(&"12345\n"[cut]);
        assert_int_equal(try_until("\n", 4), NEAP_E_OVERSIZED);
        assert_int_equal(buffered(), 6);
        struct neap_handle line;
        assert_int_equal(neap_reader_read_until(AT(reader), "\n", 1, 5, false, &line), NEAP_OK);
        slice_reads(line, "12345");
        slice_end(line);
        finish();
    }
}

static void R2_read_until_finds_another_delimiter_in_bytes_searched_before(void **state)
{
    (void)state;
    start();
    feed("key:value\n");
    assert_int_equal(try_until("#", 100), NEAP_E_AGAIN);
    reads_until(":", false, "key");
    assert_int_equal(try_until("##", 100), NEAP_E_AGAIN);
    reads_until("lue\n", false, "va");
    finish();
}

/* ---- large messages ---- */

static void R3_the_rest_moves_to_a_larger_buf_and_slices_stay_valid(void **state)
{
    (void)state;
    start_with(64, 1000);
    feed("0123456789");
    struct neap_handle first = read_n(6);
    struct neap_room room = room_for(200); /* four bytes are unread */
    while (buffered() < 200) {
        memset(room.at, 'x', room.size);
        fill(room.size < 50 ? room.size : 50);
        room = room_for(200);
    }
    struct neap_handle message = read_n(200);
    assert_memory_equal(neap_slice_bytes(AT(message)), "6789xxxxxxxxxx", 14);
    assert_int_equal(neap_slice_bytes(AT(message))[199], 'x');
    slice_reads(first, "012345");
    assert_true(pool_stats(pool).bytes_moved >= 4);
    slice_end(first);
    slice_end(message);
    finish();
}

static void R3_the_rest_does_not_move_over_a_slice(void **state)
{
    (void)state;
    start_with(64, 1000);
    feed("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0123456789");
    struct neap_handle slice = read_n(50), rest;
    for (int i = 0; i < 2; i++) { /* 40 bytes would fit into the buf */
        feed("ABCDEFGHIJKLMNO");
        slice_holds(slice, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 50);
    }
    rest = read_n(40);
    slice_reads(rest, "0123456789ABCDEFGHIJKLMNOABCDEFGHIJKLMNO");
    slice_end(rest);
    slice_end(slice);
    finish();
}

static void R3_afterwards_the_reader_returns_to_normal_bufs(void **state)
{
    (void)state;
    start();
    static char large[300000];
    assert_int_equal(neap_reader_feed(AT(reader), large, sizeof large), sizeof large);
    slice_end(read_n(sizeof large));
    feed("small");
    assert_true(pool_stats(pool).bytes_live <= 4 * NEAP_BUF_MIN_BYTES);
    reads(5, "small");
    feed("small");
    assert_true(pool_stats(pool).bytes_live <= 2 * NEAP_BUF_MIN_BYTES);
    reads(5, "small");
    finish();
}

static void fill_all_of(uint32_t size)
{
    assert_int_equal(room_for(1).size, size);
    fill(size);
    slice_end(read_n(size));
    assert_int_equal(neap_reader_idle(AT(reader)), NEAP_OK);
}

static void fill_small(uint32_t room_size)
{
    assert_int_equal(room_for(1).size, room_size);
    fill(NEAP_BUF_MIN_BYTES - 1);
    slice_end(read_n(NEAP_BUF_MIN_BYTES - 1));
    assert_int_equal(neap_reader_idle(AT(reader)), NEAP_OK);
}

static void R12_who_fills_a_buf_gets_large_ones_until_a_usual_one_would_do(void **state)
{
    (void)state;
    start();
    fill_small(NEAP_BUF_MIN_BYTES);
    fill_all_of(NEAP_BUF_MIN_BYTES);
    fill_all_of(4 * NEAP_BUF_MIN_BYTES);
    assert_int_equal(room_for(1).size, 4 * NEAP_BUF_MIN_BYTES);
    fill(NEAP_BUF_MIN_BYTES + 1); /* enough to stay */
    slice_end(read_n(NEAP_BUF_MIN_BYTES + 1));
    assert_int_equal(neap_reader_idle(AT(reader)), NEAP_OK);
    fill_small(4 * NEAP_BUF_MIN_BYTES);
    /* the pool may give a large buf that is free for a usual one: another holder takes it */
    struct neap_handle other, slice;
    assert_int_equal(neap_allocator_create(AT(pool), 0, &other), NEAP_OK);
    assert_int_equal(neap_allocator_alloc(AT(other), 4 * NEAP_BUF_MIN_BYTES, &slice), NEAP_OK);
    fill_small(NEAP_BUF_MIN_BYTES);
    slice_end(slice);
    assert_int_equal(neap_allocator_release(AT(other)), NEAP_OK);
    finish();
}

static void R12_messages_of_just_a_usual_buf_get_few_large_ones(void **state)
{
    (void)state;
    start();
    int large = 0, messages = 100;
    for (int i = 0; i < messages; i++) {
        large += room_for(1).size > NEAP_BUF_MIN_BYTES;
        fill(NEAP_BUF_MIN_BYTES);
        slice_end(read_n(NEAP_BUF_MIN_BYTES));
        assert_int_equal(neap_reader_idle(AT(reader)), NEAP_OK);
        neap_pool_trim(AT(pool)); /* or a large one that is free is given for a usual one */
    }
    assert_in_range(large, messages / 20, messages / 10);
    finish();
}

static void gives_usual_bufs(double limit, double retain)
{
    pool = pool_make_with(
        &(struct neap_pool_options){.limit = limit, .classes = true, .retain = retain});
    assert_int_equal(neap_reader_create(AT(pool), NEAP_MAX_READ_BYTES, &reader), NEAP_OK);
    fill_all_of(NEAP_BUF_MIN_BYTES);
    fill_all_of(NEAP_BUF_MIN_BYTES);
    finish();
}

static void R12_a_pool_without_room_for_a_large_buf_gives_a_usual_one(void **state)
{
    (void)state;
    gives_usual_bufs(3 * NEAP_BUF_MIN_BYTES, 1 << 20);
    gives_usual_bufs(10 * NEAP_BUF_MIN_BYTES, 1 << 20); /* there is, but for few of them */
}

static void R12_a_pool_with_more_live_than_it_would_keep_gives_usual_bufs(void **state)
{
    (void)state;
    gives_usual_bufs(0, 4 * NEAP_BUF_MIN_BYTES - 1);
}

static void R10_memory_follows_what_came_and_not_what_was_asked(void **state)
{
    (void)state;
    const double sizes[] = {64, 1000, 16384};
    for (int i = 0; i < 3; i++) {
        start_with(sizes[i], NEAP_MAX_READ_BYTES);
        struct random random = {7};
        while (buffered() < NEAP_MAX_READ_BYTES) {
            struct neap_room room = room_for(NEAP_MAX_READ_BYTES);
            uint64_t came = (uint64_t)buffered();
            /* + 4 of the pool's bufs, when it was filled before; rounded up to whole ones */
            uint64_t more = 4 * (uint64_t)sizes[i] > 16384 ? 4 * (uint64_t)sizes[i] : 16384;
            assert_true(pool_stats(pool).bytes_live <= 2 * came + more + (uint64_t)sizes[i] - 1);
            uint32_t n = 1 + random_below(&random, 40000);
            fill(n < room.size ? n : room.size);
        }
        slice_end(read_n(NEAP_MAX_READ_BYTES));
        finish();
    }
}

static void R10_a_read_above_the_limit_is_oversized_at_once(void **state)
{
    (void)state;
    start_with(0, 100);
    uint64_t requests = neap_mem_requests();
    assert_int_equal(try_read(101), NEAP_E_OVERSIZED);
    assert_int_equal(try_read(UINT32_MAX), NEAP_E_OVERSIZED);
    assert_int_equal(neap_mem_requests(), requests);
    assert_int_equal(try_read(100), NEAP_E_AGAIN);
    feed("text");
    assert_int_equal(try_read(101), NEAP_E_OVERSIZED);
    assert_int_equal(buffered(), 4);
    reads(4, "text");
    finish();
}

static void R10_at_the_limit_of_unread_bytes_no_room_is_given_until_some_are_read(void **state)
{
    (void)state;
    needs_sizes();
    enum { MOST = 1000 + NEAP_BUF_MIN_BYTES };
    start_with(0, 1000);
    struct neap_room room;
    int result = NEAP_OK;
    for (int rounds = 0; result == NEAP_OK && rounds < 100; rounds++) {
        result = neap_reader_room(AT(reader), 1000, &room);
        if (result == NEAP_OK) fill(room.size < 1000 ? room.size : 1000);
    }
    assert_int_equal(result, NEAP_E_LIMIT);
    int most = buffered();
    assert_true(most >= MOST && most < MOST + 1000);
    assert_int_equal(neap_reader_room(AT(reader), 1, &room), NEAP_E_LIMIT);
    struct neap_handle slices[2] = {read_n(1000), read_n(1000)};
    assert_int_equal(neap_reader_room(AT(reader), 1, &room), NEAP_OK); /* though both are held */
    slice_end(slices[0]);
    slice_end(slices[1]);
    finish();
}

static void R10_only_reading_moves_unread_bytes(void **state)
{
    (void)state;
    needs_neighbours();
    start();
    feed("0123456789");
    reads(2, "01");
    const uint8_t *at = neap_reader_of(AT(reader))->buf->mem + 2;
    struct neap_handle other;
    assert_int_equal(neap_reader_create(AT(pool), 100, &other), NEAP_OK);
    assert_int_equal(neap_reader_feed(AT(other), "other", 5), 5);
    assert_true(neap_pool_trim(AT(pool)) >= 0);
    assert_true(neap_pool_decay(AT(pool), 1e6, 1e9) >= 0);
    assert_int_equal(neap_reader_idle(AT(reader)), NEAP_OK);
    assert_int_equal(neap_reader_end(AT(reader), NEAP_E_EOF), NEAP_OK);
    assert_int_equal(neap_reader_release(AT(other)), NEAP_OK);
    struct neap_handle slice = read_n(8);
    assert_ptr_equal(neap_slice_bytes(AT(slice)), at);
    slice_reads(slice, "23456789");
    slice_end(slice);
    finish();
}

static void R5_all_the_room_of_the_buf_is_offered_and_what_was_not_asked_is_kept(void **state)
{
    (void)state;
    start();
    struct neap_room room = room_for(4);
    assert_int_equal(room.size, NEAP_BUF_MIN_BYTES);
    memset(room.at, 'a', room.size);
    fill(room.size);
    reads(4, "aaaa");
    assert_int_equal(buffered(), NEAP_BUF_MIN_BYTES - 4);
    slice_end(read_n(NEAP_BUF_MIN_BYTES - 4));
    assert_int_equal(pool_stats(pool).bytes_moved, 0);
    room = room_for(4);
    fill(10);
    assert_int_equal(room_for(4).size, NEAP_BUF_MIN_BYTES - 10);
    assert_int_equal(neap_reader_filled(AT(reader), NEAP_BUF_MIN_BYTES - 9), NEAP_E_RANGE);
    assert_int_equal(neap_reader_filled(AT(reader), UINT32_MAX), NEAP_E_RANGE);
    assert_int_equal(buffered(), 10);
    finish();
}

/* ---- the end ---- */

static void R6_eof_short_and_the_bytes_that_stay(void **state)
{
    (void)state;
    start();
    feed("0123456789");
    assert_int_equal(neap_reader_end(AT(reader), NEAP_E_EOF), NEAP_OK);
    reads(3, "012");
    assert_int_equal(try_read(8), NEAP_E_SHORT);
    assert_int_equal(try_until("x", 100), NEAP_E_SHORT);
    assert_int_equal(buffered(), 7);
    reads(7, "3456789");
    assert_int_equal(try_read(1), NEAP_E_EOF);
    assert_int_equal(try_any(), NEAP_E_EOF);
    assert_int_equal(try_until("x", 100), NEAP_E_EOF);
    assert_int_equal(buffered(), 0);
    finish();
}

static void R6_a_read_error_is_not_swallowed_though_bytes_came_with_it(void **state)
{
    (void)state;
    start();
    feed("0123");
    assert_int_equal(neap_reader_end(AT(reader), NEAP_E_RESET), NEAP_OK);
    assert_int_equal(neap_reader_end(AT(reader), NEAP_E_EOF), NEAP_OK); /* the first one counts */
    assert_int_equal(try_read(5), NEAP_E_RESET);
    assert_int_equal(try_until("x", 100), NEAP_E_RESET);
    assert_int_equal(buffered(), 4);
    struct neap_handle slice;
    assert_int_equal(neap_reader_read_any(AT(reader), 100, &slice), NEAP_OK);
    slice_reads(slice, "0123");
    slice_end(slice);
    assert_int_equal(try_read(1), NEAP_E_RESET);
    assert_int_equal(try_any(), NEAP_E_RESET);
    finish();
}

static void R7_again_keeps_the_bytes_that_are_there(void **state)
{
    (void)state;
    start();
    assert_int_equal(try_read(1), NEAP_E_AGAIN);
    assert_int_equal(try_any(), NEAP_E_AGAIN);
    feed("01");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(try_read(4), NEAP_E_AGAIN);
        assert_int_equal(try_until("x", 100), NEAP_E_AGAIN);
        assert_int_equal(buffered(), 2);
    }
    feed("23");
    reads(4, "0123");
    finish();
}

static void R8_an_absurd_size_is_an_error_before_anything_happens(void **state)
{
    (void)state;
    start();
    feed("0123");
    struct neap_pool_stats before = pool_stats(pool);
    const uint32_t absurd[] = {NEAP_MAX_READ_BYTES + 1, (uint32_t)-1, 1u << 31};
    for (int i = 0; i < 3; i++) assert_int_equal(try_read(absurd[i]), NEAP_E_OVERSIZED);
    pool_unchanged(pool, &before);
    assert_int_equal(buffered(), 4);
    finish();
}

static void R9_close_is_idempotent_and_slices_stay(void **state)
{
    (void)state;
    start();
    feed("0123456789");
    struct neap_handle slice = read_n(4);
    struct neap_room room;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(neap_reader_close(AT(reader)), NEAP_OK);
        assert_int_equal(try_read(1), NEAP_E_CLOSED);
        assert_int_equal(try_read(0), NEAP_E_CLOSED);
        assert_int_equal(try_any(), NEAP_E_CLOSED);
        assert_int_equal(try_until("x", 100), NEAP_E_CLOSED);
        assert_int_equal(neap_reader_peek(AT(reader), 0), NEAP_E_CLOSED);
        assert_int_equal(neap_reader_skip(AT(reader), 0), NEAP_E_CLOSED);
        assert_int_equal(neap_reader_room(AT(reader), 1, &room), NEAP_E_CLOSED);
        assert_int_equal(neap_reader_feed(AT(reader), "x", 1), NEAP_E_CLOSED);
        assert_int_equal(buffered(), 0);
    }
    slice_reads(slice, "0123");
    slice_end(slice);
    assert_int_equal(pool_stats(pool).bufs_live, 0);
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_E_STALE);
    assert_int_equal(try_read(1), NEAP_E_STALE);
    assert_int_equal(buffered(), NEAP_E_STALE);
    neap_reader_finalize(&reader);
    pool_end(pool);
}

static void R9_a_read_in_a_closed_pool_gives_what_is_there_and_then_closed(void **state)
{
    (void)state;
    start();
    feed("0123");
    assert_int_equal(neap_pool_close(AT(pool)), NEAP_OK);
    reads(4, "0123");
    struct neap_room room;
    assert_int_equal(neap_reader_room(AT(reader), 1, &room), NEAP_E_CLOSED);
    assert_int_equal(neap_reader_feed(AT(reader), "x", 1), NEAP_E_CLOSED);
    struct neap_handle none;
    assert_int_equal(neap_reader_create(AT(pool), 1, &none), NEAP_E_CLOSED);
    finish();
}

/* ---- input cut everywhere, before an unreadable page ---- */

static void R11_a_message_cut_at_every_two_bytes_comes_out_whole(void **state)
{
    (void)state;
    static const char input[] = "\4bodyline one\r\n\r\nrest";
    uint32_t size = sizeof input - 1;
    for (uint32_t a = 0; a <= size; a++) {
        for (uint32_t b = a; b <= size; b++) {
            start_with(8, 1000);
            const uint32_t cuts[] = {0, a, b, size};
            for (int i = 0; i < 3; i++) {
                uint32_t n = cuts[i + 1] - cuts[i];
                char *part = guard_copy(input + cuts[i], n);
                assert_int_equal(neap_reader_feed(AT(reader), part, n), n);
                if (i < 2) assert_true(try_read(999) < 0);
            }
            reads(1, "\4");
            reads(4, "body");
            reads_until("\r\n", false, "line one");
            reads_until("\r\n", true, "\r\n");
            reads(4, "rest");
            finish();
        }
    }
}

static void R11_a_pool_of_tiny_bufs_still_gives_room(void **state)
{
    (void)state;
    for (int min = 1; min <= 4; min++) {
        start_with(min, 1000);
        for (int i = 0; i < 10; i++) {
            room_for((uint32_t)buffered() + 1);
            fill(1);
        }
        slice_end(read_n(10));
        finish();
    }
}

static const struct CMUnitTest tests[] = {
    TEST(R1_a_reader_without_buffered_bytes_holds_no_buf),
    TEST(R1_10000_idle_readers_hold_next_to_nothing),
    TEST(R4_the_only_holder_begins_again_at_the_front_of_the_same_buf),
    TEST(R4_bytes_that_a_slice_holds_are_not_written_over),
    TEST(R2_read_gives_exactly_n_bytes_in_place),
    TEST(R2_read_0_is_an_empty_slice_at_any_time),
    TEST(R2_read_any_gives_what_is_there_up_to_max),
    TEST(R2_read_until_consumes_the_delimiter_and_gives_it_only_if_asked),
    TEST(R2_read_until_max_counts_the_bytes_before_the_delimiter),
    TEST(R2_read_until_finds_another_delimiter_in_bytes_searched_before),
    TEST(R3_the_rest_moves_to_a_larger_buf_and_slices_stay_valid),
    TEST(R3_the_rest_does_not_move_over_a_slice),
    TEST(R3_afterwards_the_reader_returns_to_normal_bufs),
    TEST(R12_who_fills_a_buf_gets_large_ones_until_a_usual_one_would_do),
    TEST(R12_messages_of_just_a_usual_buf_get_few_large_ones),
    TEST(R12_a_pool_without_room_for_a_large_buf_gives_a_usual_one),
    TEST(R12_a_pool_with_more_live_than_it_would_keep_gives_usual_bufs),
    TEST(R10_memory_follows_what_came_and_not_what_was_asked),
    TEST(R10_a_read_above_the_limit_is_oversized_at_once),
    TEST(R10_at_the_limit_of_unread_bytes_no_room_is_given_until_some_are_read),
    TEST(R10_only_reading_moves_unread_bytes),
    TEST(R5_all_the_room_of_the_buf_is_offered_and_what_was_not_asked_is_kept),
    TEST(R6_eof_short_and_the_bytes_that_stay),
    TEST(R6_a_read_error_is_not_swallowed_though_bytes_came_with_it),
    TEST(R7_again_keeps_the_bytes_that_are_there),
    TEST(R8_an_absurd_size_is_an_error_before_anything_happens),
    TEST(R9_close_is_idempotent_and_slices_stay),
    TEST(R9_a_read_in_a_closed_pool_gives_what_is_there_and_then_closed),
    TEST(R11_a_message_cut_at_every_two_bytes_comes_out_whole),
    TEST(R11_a_pool_of_tiny_bufs_still_gives_room),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
