/* collector_test.c - the bytes that hang on handles, and when they ask for a step. */
#include <string.h>

#include "base/poison.h"
#include "helper.h"
#include "iobuf/slice.h"
#include "iobuf/writer.h"

enum { MIB = 1 << 20 };

static struct neap_handle pool, allocator;

static uint64_t held(void)
{
    struct neap_collector_stats stats;
    neap_collector_stats(&stats);
    return stats.bytes_held;
}

static struct neap_collector_stats stats_now(void)
{
    struct neap_collector_stats stats;
    neap_collector_stats(&stats);
    return stats;
}

static void start(void)
{
    pool = pool_make(0);
    allocator = allocator_make(pool, 0);
}

static void finish(void)
{
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
    assert_int_equal(held(), 0);
}

/* Made as an allocation that may or may not ask for a step. */
static struct neap_handle alloc(uint32_t n, int expected)
{
    struct neap_handle slice;
    assert_int_equal(neap_allocator_alloc(AT(allocator), n, &slice), expected);
    return slice;
}

/* ---- what is counted ---- */

static void E2_a_few_bytes_count_as_the_whole_buf_and_once(void **state)
{
    (void)state;
    start();
    assert_int_equal(held(), 0);
    struct neap_handle large = alloc(65536, 0);
    assert_int_equal(held(), 65536);
    struct neap_handle front = slice_split(large, 10), clone = slice_retain(front);
    slice_end(large);
    slice_end(front);
    assert_int_equal(neap_allocator_close(AT(allocator)), NEAP_OK);
    assert_int_equal(held(), 65536);
    assert_true(neap_slice_detach(AT(clone)) > 0);
    assert_int_equal(held(), info_of(clone).buf_bytes);
    neap_slice_finalize(&clone);
    assert_int_equal(held(), 0);
    finish();
}

static void E2_an_allocator_counts_with_its_current_buf(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start();
    slice_end(alloc(100, 0));
    assert_int_equal(held(), 16384);
    slice_end(alloc(12000, 0)); /* of its own size: not the current one */
    assert_int_equal(held(), 16384);
    finish();
}

static void lua_s_own_bytes_do_not_count(void **state)
{
    (void)state;
    static const char bytes[100] = "constant";
    struct neap_handle slice;
    assert_int_equal(neap_foreign_slice(bytes, sizeof bytes, 7, &slice), NEAP_OK);
    struct neap_handle clone = slice_retain(slice);
    assert_int_equal(held(), 0);
    slice_end(slice);
    slice_end(clone);
    assert_int_equal(held(), 0);
}

static void E2_what_is_unread_does_not_count_and_what_was_read_does(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start();
    struct neap_handle reader, slice, kept;
    assert_int_equal(neap_reader_create(AT(pool), MIB, &reader), NEAP_OK);
    assert_int_equal(neap_reader_feed(AT(reader), "0123456789", 10), 10);
    assert_int_equal(held(), 0);
    assert_int_equal(neap_reader_read(AT(reader), 4, &slice), NEAP_OK);
    assert_int_equal(held(), 16384);
    slice_end(slice);
    assert_int_equal(held(), 0);
    int epoch = neap_reader_peek(AT(reader), 4);
    struct neap_view view = {AT(reader), (uint32_t)epoch, 0, 4};
    assert_int_equal(neap_view_retain(&view, &kept), NEAP_OK);
    assert_int_equal(neap_reader_release(AT(reader)), NEAP_OK);
    assert_int_equal(held(), 16384);
    slice_end(kept);
    finish();
}

static void E2_a_buffer_counts_with_its_pieces_before_and_after_take(void **state)
{
    (void)state;
    needs_sizes();
    start();
    struct neap_handle buffer, piece;
    assert_int_equal(neap_buffer_create(AT(pool), &buffer), NEAP_OK);
    assert_true(neap_buffer_reserve(AT(buffer), 40000) >= 0);
    assert_int_equal(held(), 16384 + 32768);
    assert_int_equal(neap_buffer_take(AT(buffer), &piece), 1);
    assert_int_equal(held(), 16384 + 32768);
    slice_end(piece);
    assert_int_equal(held(), 32768);
    neap_buffer_finalize(&buffer);
    finish();
}

static void E1_what_waits_to_be_sent_does_not_count(void **state)
{
    (void)state;
    start();
    struct neap_writer writer = {.pool = neap_pool_of(AT(pool))};
    struct neap_handle whole = alloc(65536, 0), other = slice_split(whole, 30000);
    assert_int_equal(neap_writer_add_bytes(&writer, (const uint8_t *)"copied", 6), NEAP_OK);
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(whole))), NEAP_OK);
    assert_int_equal(held(), 65536); /* the other half */
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(other))), NEAP_OK);
    assert_int_equal(neap_allocator_close(AT(allocator)), NEAP_OK);
    assert_int_equal(held(), 0);
    neap_writer_sent(&writer, 10000);
    neap_writer_clear(&writer);
    assert_int_equal(held(), 0);
    finish();
}

/* ---- any order ---- */

enum { MOST = 60 };
static struct neap_handle live[MOST];
static uint32_t count;

static uint64_t really_held(void)
{
    const struct neap_buf *bufs[4 * MOST];
    int found = 0;
    uint64_t bytes = 0;
    for (uint32_t slot = 1; slot < neap_here.slices.count; slot++) {
        const struct neap_slice *s = neap_slice_at(slot);
        if (!(s->head.gen & 1) || s->owned) continue;
        bool again = false;
        for (int i = 0; i < found; i++) again = again || bufs[i] == s->buf;
        if (again) continue;
        bufs[found++] = s->buf;
        bytes += s->buf->capacity;
    }
    return bytes;
}

static struct neap_handle take_any(struct random *r)
{
    uint32_t i = random_below(r, count);
    struct neap_handle slice = live[i];
    live[i] = live[--count];
    return slice;
}

static void make_one(struct random *r)
{
    uint32_t n = random_below(r, random_below(r, 3) ? 3000 : 40000);
    if (count && random_below(r, 3) == 0)
        live[count] = slice_retain(live[random_below(r, count)]);
    else if (count && random_below(r, 3) == 0)
        live[count] = slice_split(live[random_below(r, count)], 0);
    else
        live[count] = alloc(n, 0);
    count++;
}

static void end_one(struct random *r, struct neap_writer *writer)
{
    struct neap_handle slice = take_any(r), prev;
    switch (random_below(r, 5)) {
    case 0: neap_slice_finalize(&slice); return;
    case 1: neap_writer_add(writer, neap_slice_of(AT(slice))); return;
    case 2:
        if (!count) break;
        prev = take_any(r);
        assert_true(neap_slice_release_previous(AT(slice), AT(prev)) >= 0);
        break;
    default: break;
    }
    slice_end(slice);
}

static void change_one(struct random *r, struct neap_writer *writer)
{
    uint32_t where;
    if (random_below(r, 2)) {
        neap_writer_sent(writer, random_below(r, (uint32_t)writer->queued + 1));
    } else if (random_below(r, 2) && count) {
        struct neap_handle slice = live[random_below(r, count)];
        assert_true(neap_slice_detach(AT(slice)) >= 0);
    } else {
        int left = neap_slice_coalesce(live, count, random_below(r, 10000), &where);
        assert_true(left >= 0);
        count = (uint32_t)left;
    }
}

static void E2_the_count_is_exact_whatever_is_done(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct random random = {seed};
        start();
        struct neap_writer writer = {.pool = neap_pool_of(AT(pool))};
        count = 0;
        for (int i = 0; i < 100; i++) {
            uint32_t what = random_below(&random, 5);
            if (what < 2 && count < MOST)
                make_one(&random);
            else if (what < 4 && count)
                end_one(&random, &writer);
            else
                change_one(&random, &writer);
        }
        neap_allocator_close(AT(allocator)); /* its buf counts, too */
        assert_int_equal(held(), really_held());
        neap_writer_clear(&writer);
        while (count) slice_end(take_any(&random));
        finish();
    }
}

/* ---- when a step is due ---- */

static void nothing_is_due_where_nobody_collects(void **state)
{
    (void)state;
    start();
    struct neap_handle many[64];
    for (int i = 0; i < 64; i++) many[i] = alloc(MIB, 0);
    assert_false(neap_collector_due(true));
    for (int i = 0; i < 64; i++) slice_end(many[i]);
    finish();
}

/* From here on somebody does. */
static struct neap_handle slices[125];

static void fill(int from, int to, int expected)
{
    for (int i = from; i < to; i++) slices[i] = alloc(MIB, expected);
}

static void step(bool cycle_ended)
{
    neap_collector_begin();
    while (neap_collector_goes_on(cycle_ended)) continue;
}

static void E2_steps_begin_at_a_quarter_of_the_room_and_come_with_each_mebibyte(void **state)
{
    if (NEAP_MODE_COLLECT) skip(); /* a step is always due */
    (void)state;
    start();
    neap_collector_start();
    struct neap_collector_stats before = stats_now();
    fill(0, 3, 0);
    assert_false(neap_collector_due(true));
    fill(3, 4, 1);
    assert_true(neap_collector_due(true));
    step(false);
    assert_false(neap_collector_due(true));
    slice_end(alloc(100, 0));
    slice_end(slices[3]);
    fill(3, 4, 0); /* no more than there were */
    assert_false(neap_collector_due(true));
    for (int i = 4; i < 15; i++) {
        fill(i, i + 1, 1);
        step(false);
        assert_false(neap_collector_due(true));
    }
    fill(15, 16, 1); /* all of the room: each turn is one too many, each allocation is not */
    step(false);
    assert_true(neap_collector_due(true));
    assert_false(neap_collector_due(false));
    struct neap_collector_stats after = stats_now();
    assert_int_equal(after.steps - before.steps, 13);
    assert_int_equal(after.cycles, before.cycles);
    assert_true(after.longest_us >= 900);
    assert_true(after.spent_us - before.spent_us >= 13 * 900);
    for (int i = 0; i < 16; i++) slice_end(slices[i]);
    finish();
}

static void E1_what_is_released_asks_for_no_step(void **state)
{
    if (NEAP_MODE_COLLECT) skip(); /* a step is always due */
    (void)state;
    start();
    neap_collector_start();
    for (int i = 0; i < 10000; i++) slice_end(alloc(30000, 0));
    assert_false(neap_collector_due(true));
    finish();
}

static void E2_the_room_grows_with_what_a_cycle_left(void **state)
{
    if (NEAP_MODE_COLLECT) skip(); /* a step is always due */
    (void)state;
    start();
    neap_collector_start();
    fill(0, 3, 0);
    fill(3, 100, 1);
    step(true);
    assert_int_equal(stats_now().bytes_base, held());
    fill(100, 124, 0); /* a quarter of 100 MiB, but one */
    assert_false(neap_collector_due(true));
    fill(124, 125, 1);
    assert_true(neap_collector_due(true));
    for (int i = 0; i < 125; i++) slice_end(slices[i]);
    assert_false(neap_collector_due(true));
    fill(0, 123, 0); /* and again, beside the allocator's buf: all released, no step */
    for (int i = 0; i < 123; i++) slice_end(slices[i]);
    finish();
}

static const struct CMUnitTest tests[] = {
    TEST(E2_a_few_bytes_count_as_the_whole_buf_and_once),
    TEST(E2_an_allocator_counts_with_its_current_buf),
    TEST(lua_s_own_bytes_do_not_count),
    TEST(E2_what_is_unread_does_not_count_and_what_was_read_does),
    TEST(E2_a_buffer_counts_with_its_pieces_before_and_after_take),
    TEST(E1_what_waits_to_be_sent_does_not_count),
    TEST(E2_the_count_is_exact_whatever_is_done),
    TEST(nothing_is_due_where_nobody_collects),
    TEST(E2_steps_begin_at_a_quarter_of_the_room_and_come_with_each_mebibyte),
    TEST(E1_what_is_released_asks_for_no_step),
    TEST(E2_the_room_grows_with_what_a_cycle_left),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
