/* pause_test.c - readers at a pool's limit: who waits, who goes on, in what order. */
#include <string.h>

#include "helper.h"
#include "iobuf/pause.h"

enum { KIB = 1024, MAX_READ = 16 * KIB, READERS = 40 };

static struct neap_handle pool, readers[READERS];
static struct neap_reader *woken[READERS * 4];
static int woken_count;

static void note(struct neap_reader *r)
{
    assert_true(woken_count < READERS * 4);
    woken[woken_count++] = r;
}

/* What a stream's does when the system has no bytes. */
static int no_bytes(struct neap_reader *r, uint32_t want)
{
    (void)r;
    (void)want;
    return NEAP_E_AGAIN;
}

static struct neap_reader *at(int i)
{
    return neap_reader_of(AT(readers[i]));
}

static void start_with(double min_size, double limit, double soft, int count)
{
    struct neap_pool_options options = {
        .min_size = min_size, .classes = true, .limit = limit, .soft_limit = soft};
    pool = pool_make_with(&options);
    neap_pauses_on_wake(note);
    woken_count = 0;
    assert_int_equal(neap_pool_reserve(neap_pool_of(AT(pool)), MAX_READ), NEAP_OK);
    for (int i = 0; i < count; i++) {
        assert_int_equal(neap_reader_create(AT(pool), MAX_READ, &readers[i]), NEAP_OK);
        at(i)->fill = no_bytes;
    }
}

static void start(double limit, double soft, int count)
{
    start_with(0, limit, soft, count);
}

static void finish(int count)
{
    for (int i = 0; i < count; i++) neap_reader_release(AT(readers[i]));
    assert_false(neap_pauses_any());
    pool_end(pool);
}

/* n bytes come, as a fill would let them; or why not. */
static int come(int i, uint32_t want, uint32_t n)
{
    struct neap_room room;
    int result = neap_reader_make_room(at(i), want, &room);
    if (result < 0) return result;
    if (n > room.size) n = room.size;
    memset(room.at, 'a' + i % 26, n);
    neap_reader_got(at(i), n);
    return (int)n;
}

static int turn(void)
{
    woken_count = 0;
    neap_pauses_turn();
    return woken_count;
}

static uint64_t held(void)
{
    return pool_stats(pool).bytes_held;
}

static void P7_readers_wait_at_the_soft_limit_and_go_on_in_their_order(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(256 * KIB, 64 * KIB, 8);
    for (int i = 0; i < 4; i++) assert_int_equal(come(i, 1, 100), 100);
    for (int i = 4; i < 8; i++) assert_int_equal(come(i, 1, 100), NEAP_E_LIMIT);
    assert_int_equal(held(), 64 * KIB);
    assert_int_equal(pool_stats(pool).reads_paused, 4);
    for (int i = 4; i < 8; i++) assert_true(neap_reader_waits(AT(readers[i])));
    assert_int_equal(turn(), 0);
    struct neap_handle s[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(neap_reader_read(AT(readers[i]), 100, &s[i]), NEAP_OK);
        neap_reader_rest(at(i));
    }
    assert_int_equal(turn(), 0); /* the slices have the bufs */
    for (int i = 0; i < 2; i++) slice_end(s[i]);
    assert_int_equal(come(0, 1, 1), NEAP_E_LIMIT); /* nobody overtakes */
    assert_int_equal(turn(), 2);
    assert_ptr_equal(woken[0], at(4));
    assert_ptr_equal(woken[1], at(5));
    assert_int_equal(come(5, 1, 100), NEAP_E_LIMIT); /* not before the first */
    assert_int_equal(come(4, 1, 100), 100);
    assert_int_equal(come(5, 1, 100), 100);
    assert_false(neap_reader_waits(AT(readers[4])));
    assert_int_equal(turn(), 0);
    finish(8);
}

static void P7_who_was_woken_and_reads_no_more_stops_nobody(void **state)
{
    (void)state;
    needs_sizes();
    start(256 * KIB, 16 * KIB, 3);
    assert_int_equal(come(0, 1, 1), 1);
    assert_int_equal(come(1, 1, 1), NEAP_E_LIMIT);
    assert_int_equal(come(2, 1, 1), NEAP_E_LIMIT);
    assert_int_equal(neap_reader_skip(AT(readers[0]), 1), 1);
    neap_reader_rest(at(0));
    assert_int_equal(turn(), 1);
    assert_ptr_equal(woken[0], at(1)); /* its task has given up meanwhile */
    turn();
    assert_int_equal(turn(), 1);
    assert_ptr_equal(woken[0], at(2));
    assert_int_equal(come(2, 1, 1), 1);
    finish(3);
}

static void P7_a_reader_without_a_source_that_waits_is_told(void **state)
{
    (void)state;
    needs_sizes();
    start(256 * KIB, 16 * KIB, 2);
    at(1)->fill = NULL;
    assert_int_equal(come(0, 1, 1), 1);
    assert_int_equal(neap_reader_feed(AT(readers[1]), "x", 1), NEAP_E_LIMIT);
    assert_false(neap_reader_waits(AT(readers[1])));
    finish(2);
}

static void P7_a_pool_too_small_for_what_is_read_at_once_says_so(void **state)
{
    (void)state;
    needs_sizes();
    start(256 * KIB, 0, 0);
    struct neap_pool *p = neap_pool_of(AT(pool));
    assert_int_equal(p->reserve, 32 * KIB);
    assert_int_equal(neap_pool_reserve(p, 64 * KIB), NEAP_E_LIMIT);
    assert_int_equal(neap_pool_reserve(p, 48 * KIB), NEAP_OK);
    assert_int_equal(p->reserve, 64 * KIB);
    struct neap_pool_options options = {.limit = 256 * KIB - 1};
    assert_int_equal(neap_pool_configure(AT(pool), &options), NEAP_E_LIMIT);
    assert_int_equal(p->limit, 256 * KIB);
    finish(0);
}

static void P7_the_reserve_is_for_readers_alone(void **state)
{
    (void)state;
    needs_sizes();
    start(256 * KIB, 0, 0);
    struct neap_pool *p = neap_pool_of(AT(pool));
    struct neap_buf *bufs[16];
    int count = 0;
    while (neap_pool_take(p, 0, &bufs[count]) == NEAP_OK) count++;
    assert_int_equal(count, 14);
    assert_int_equal(held(), 256 * KIB - p->reserve);
    while (count) neap_buf_release(bufs[--count]);
    finish(0);
}

/* All of them are in the middle of a message, and nothing is left. */
static void P7_half_read_messages_are_ended_in_the_reserve_one_at_a_time(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(256 * KIB, 192 * KIB, 12);
    for (int i = 0; i < 12; i++) assert_int_equal(come(i, MAX_READ, 16 * KIB), 16 * KIB);
    struct neap_handle s[12];
    neap_reader_read(AT(readers[0]), 1, &s[0]); /* its message does not lie at the front */
    for (int i = 1; i < 12; i++) neap_reader_skip(AT(readers[i]), 10);
    assert_int_equal(held(), 192 * KIB);
    for (int i = 0; i < 12; i++) {
        uint32_t left = neap_reader_buffered(AT(readers[i]));
        int n = come(i, MAX_READ, 16 * KIB);
        if (i == 0) {
            assert_true(at(0)->chosen);
            assert_int_equal(n, MAX_READ - left); /* not a byte beyond: its old buf has no room */
        } else if (n < 0) {
            assert_int_equal(n, NEAP_E_LIMIT);
        }
        assert_true(held() <= 256 * KIB);
    }
    assert_int_equal(neap_reader_read(AT(readers[0]), MAX_READ, &s[1]), NEAP_OK);
    assert_false(at(0)->chosen);
    slice_end(s[1]);
    slice_end(s[0]);
    assert_int_equal(pool_stats(pool).reserve_used, 1);
    finish(12);
}

static void P7_what_was_read_beyond_the_message_goes_back_with_its_reader(void **state)
{
    (void)state;
    needs_sizes();
    start(256 * KIB, 16 * KIB, 2);
    assert_int_equal(come(0, 10, 16 * KIB), 16 * KIB);
    assert_int_equal(come(0, MAX_READ + 100, 1000), 1000);
    assert_true(at(0)->chosen);
    assert_int_equal(come(1, 1, 1), NEAP_E_LIMIT);
    struct neap_handle message, rest;
    assert_int_equal(neap_reader_read(AT(readers[0]), 16 * KIB, &message), NEAP_OK);
    assert_false(at(0)->chosen);
    assert_int_equal(neap_reader_buffered(AT(readers[0])), 1000);
    assert_int_equal(neap_reader_read(AT(readers[0]), 1000, &rest), NEAP_OK);
    for (int i = 0; i < 1000; i++) assert_int_equal(neap_slice_bytes(AT(rest))[i], 'a');
    slice_end(message); /* the reserve is whole again */
    slice_end(rest);
    neap_reader_rest(at(0));
    assert_int_equal(pool_stats(pool).bytes_live, 0);
    assert_int_equal(turn(), 1);
    finish(2);
}

static void P7_a_chosen_reader_that_closes_gives_all_back(void **state)
{
    (void)state;
    needs_sizes();
    start(256 * KIB, 16 * KIB, 1);
    assert_int_equal(come(0, 10, 16 * KIB), 16 * KIB);
    assert_int_equal(come(0, MAX_READ + 1, 10), 10);
    assert_true(at(0)->chosen);
    neap_reader_close(AT(readers[0]));
    assert_int_equal(pool_stats(pool).bytes_live, 0);
    assert_int_equal(neap_pool_of(AT(pool))->chosen, 0);
    finish(1);
}

static void P7_a_limit_that_sinks_keeps_what_is_live_and_adds_nothing(void **state)
{
    (void)state;
    needs_sizes();
    start(0, 0, 0);
    struct neap_pool *p = neap_pool_of(AT(pool));
    struct neap_buf *bufs[10], *more;
    for (int i = 0; i < 10; i++) assert_int_equal(neap_pool_take(p, 0, &bufs[i]), NEAP_OK);
    neap_buf_release(bufs[9]);
    struct neap_pool_options options = {.limit = 128 * KIB};
    assert_int_equal(neap_pool_configure(AT(pool), &options), NEAP_OK);
    assert_int_equal(held(), 9 * 16 * KIB); /* the free one went */
    assert_int_equal(neap_pool_take(p, 0, &more), NEAP_E_LIMIT);
    for (int i = 0; i < 4; i++) neap_buf_release(bufs[i]);
    assert_int_equal(neap_pool_take(p, 0, &more), NEAP_OK);
    assert_true(held() <= 128 * KIB);
    neap_buf_release(more);
    for (int i = 4; i < 9; i++) neap_buf_release(bufs[i]);
    finish(0);
}

static void P7_an_account_pauses_its_reader_alone_until_its_bufs_go(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(0, 0, 2);
    assert_int_equal(neap_account_open(at(0), 48 * KIB), NEAP_OK);
    struct neap_handle s[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(come(0, 1, 16 * KIB), 16 * KIB);
        assert_int_equal(neap_reader_read(AT(readers[0]), 16 * KIB, &s[i]), NEAP_OK);
    }
    assert_int_equal(come(0, 1, 1), NEAP_E_LIMIT);
    assert_true(neap_reader_waits(AT(readers[0])));
    assert_int_equal(come(1, 1, 1), 1); /* another is not stopped */
    assert_int_equal(woken_count, 0);
    slice_end(s[1]);
    assert_int_equal(woken_count, 1);
    assert_ptr_equal(woken[0], at(0));
    assert_int_equal(come(0, 1, 1), 1);
    assert_false(neap_reader_waits(AT(readers[0])));
    neap_reader_close(AT(readers[0])); /* the account outlives it */
    slice_end(s[0]);
    slice_end(s[2]);
    finish(2);
}

/* Messages of random sizes come in random parts to many readers, whose slices are kept for a
 * while. What comes out is what went in; the limit holds at every moment; all get done. */
static void P7_R11_many_readers_under_a_small_limit_all_get_all_their_bytes(void **state)
{
    (void)state;
    needs_neighbours();
    enum { LIMIT = 256 * KIB, MESSAGES = 30, KEPT = 10 };
    struct random random = {5};
    start_with(KIB, LIMIT, 0, READERS);
    struct neap_handle kept[KEPT];
    int kept_count = 0, done = 0;
    static uint32_t messages[READERS], size[READERS], sent[READERS], read[READERS];
    for (int i = 0; i < READERS; i++) size[i] = 1 + random_below(&random, MAX_READ);
    for (int rounds = 0; done < READERS * MESSAGES; rounds++) {
        assert_true(rounds < 1000000);
        int i = (int)random_below(&random, READERS);
        if (rounds % 64 == 0) turn();
        if (kept_count && random_below(&random, 3) == 0) slice_end(kept[--kept_count]);
        if (messages[i] == MESSAGES) continue;
        struct neap_handle s;
        int result = neap_reader_read(AT(readers[i]), size[i], &s);
        if (result == NEAP_E_AGAIN) {
            neap_reader_rest(at(i)); /* as one that waits for its peer */
            struct neap_room room;
            if (neap_reader_make_room(at(i), size[i], &room) == NEAP_OK) {
                uint32_t n = 1 + random_below(&random, room.size);
                for (uint32_t b = 0; b < n; b++) room.at[b] = (uint8_t)(sent[i]++ * 7 + i);
                neap_reader_got(at(i), n);
            }
            assert_true(held() <= LIMIT);
            continue;
        }
        assert_int_equal(result, NEAP_OK);
        const uint8_t *bytes = neap_slice_bytes(AT(s));
        for (uint32_t b = 0; b < size[i]; b++)
            assert_int_equal(bytes[b], (uint8_t)(read[i]++ * 7 + i));
        if (kept_count == KEPT) slice_end(kept[--kept_count]);
        kept[kept_count++] = s;
        size[i] = 1 + random_below(&random, MAX_READ);
        if (++messages[i] == MESSAGES) neap_reader_close(AT(readers[i]));
        done++;
    }
    while (kept_count) slice_end(kept[--kept_count]);
    assert_true(pool_stats(pool).reads_paused > 100);
    assert_true(pool_stats(pool).reserve_used > 10);
    finish(READERS);
}

static const struct CMUnitTest tests[] = {
    TEST(P7_readers_wait_at_the_soft_limit_and_go_on_in_their_order),
    TEST(P7_who_was_woken_and_reads_no_more_stops_nobody),
    TEST(P7_a_reader_without_a_source_that_waits_is_told),
    TEST(P7_a_pool_too_small_for_what_is_read_at_once_says_so),
    TEST(P7_the_reserve_is_for_readers_alone),
    TEST(P7_half_read_messages_are_ended_in_the_reserve_one_at_a_time),
    TEST(P7_what_was_read_beyond_the_message_goes_back_with_its_reader),
    TEST(P7_a_chosen_reader_that_closes_gives_all_back),
    TEST(P7_a_limit_that_sinks_keeps_what_is_live_and_adds_nothing),
    TEST(P7_an_account_pauses_its_reader_alone_until_its_bufs_go),
    TEST(P7_R11_many_readers_under_a_small_limit_all_get_all_their_bytes),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
