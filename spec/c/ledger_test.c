/* ledger_test.c - who made what is live, where it passed, how it ended, what was forgotten. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "helper.h"
#include "iobuf/ledger.h"
#include "iobuf/writer.h"

static struct neap_handle pool, allocator;

static void start(int level)
{
    pool = pool_make(0);
    allocator = allocator_make(pool, 0);
    assert_int_equal(neap_ledger_set_level(level), NEAP_OK);
}

static void finish(void)
{
    assert_int_equal(neap_ledger_set_level(NEAP_LEAKS_OFF), NEAP_OK);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

static uint32_t site(const char *text)
{
    uint32_t number = neap_site_add(text, (uint32_t)strlen(text));
    assert_true(number > 0);
    return number;
}

/* A slice whose maker is wanted, and told. */
static struct neap_handle make(uint32_t n, uint32_t born)
{
    struct neap_handle s;
    assert_int_equal(neap_allocator_alloc(AT(allocator), n, &s) & NEAP_NOTE, NEAP_NOTE);
    neap_ledger_born(AT(s), born);
    return s;
}

static struct neap_ledger_stats totals(void)
{
    struct neap_ledger_stats stats;
    neap_ledger_stats(&stats);
    return stats;
}

static void forget(struct neap_handle s)
{
    neap_slice_finalize(&s);
}

/* What was forgotten of one origin. */
static struct neap_forgotten forgotten_of(uint32_t born)
{
    struct neap_forgotten kind;
    for (uint32_t i = 0; neap_ledger_forgotten(i, &kind) == NEAP_OK; i++)
        if (kind.born == born) return kind;
    fail_msg("nothing that was born there was forgotten");
    return kind;
}

static void levels_are_four(void **state)
{
    (void)state;
    assert_int_equal(neap_ledger_set_level(-1), NEAP_E_RANGE);
    assert_int_equal(neap_ledger_set_level(NEAP_LEAKS_ALL + 1), NEAP_E_RANGE);
    for (int level = NEAP_LEAKS_OFF; level <= NEAP_LEAKS_ALL; level++) {
        assert_int_equal(neap_ledger_set_level(level), NEAP_OK);
        assert_int_equal(neap_ledger_level(), level);
    }
    assert_int_equal(neap_ledger_set_level(NEAP_LEAKS_OFF), NEAP_OK);
}

static void at_off_nothing_is_watched_and_what_is_forgotten_is_counted(void **state)
{
    (void)state;
    start(NEAP_LEAKS_OFF);
    struct neap_ledger_stats before = totals();
    struct neap_handle s;
    assert_int_equal(neap_allocator_alloc(AT(allocator), 5000, &s), NEAP_OK);
    forget(s);
    struct neap_ledger_stats after = totals();
    assert_int_equal(after.slices, before.slices + 1);
    assert_int_equal(after.bytes, before.bytes + 5000);
    assert_int_equal(after.watched, before.watched);
    assert_true(neap_ledger_news());
    assert_false(neap_ledger_news());
    finish();
}

static void E2_what_is_forgotten_is_counted_by_the_line_that_made_it(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(NEAP_LEAKS_ALL);
    uint32_t one = site("one.lua:1 (f)"), two = site("two.lua:2 (g)");
    struct neap_ledger_stats before = totals();
    struct neap_handle first = make(100, one), second = make(200, one), other = make(30, two);
    assert_int_equal(totals().live, before.live + 3);
    slice_end(other);
    forget(first);
    forget(second); /* the allocator holds their buf, too */
    struct neap_forgotten kind = forgotten_of(one);
    assert_int_equal(kind.watched, 2);
    assert_float_equal(kind.slices, 2, 0);
    assert_float_equal(kind.bytes, 300, 0);
    assert_float_equal(kind.pinned, 0, 0);
    assert_int_equal(totals().live, before.live);
    assert_int_equal(totals().watched, before.watched + 2);
    assert_int_equal(totals().bytes, before.bytes + 300);
    struct neap_site_stats stats;
    assert_int_equal(neap_site_stats(one, &stats), NEAP_OK);
    assert_float_equal(stats.slices_made, 2, 0);
    assert_float_equal(stats.bytes_made, 300, 0);
    assert_float_equal(stats.slices_live, 0, 0);
    assert_float_equal(stats.bytes_live, 0, 0);
    finish();
}

static void E2_the_last_holder_of_a_buf_is_charged_with_all_of_it(void **state)
{
    (void)state;
    needs_neighbours();
    start(NEAP_LEAKS_ALL);
    uint32_t born = site("pin.lua:1 (f)");
    struct neap_handle first = make(10, born), second = make(10, born);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    forget(first);
    assert_float_equal(forgotten_of(born).pinned, 0, 0);
    forget(second);
    assert_float_equal(forgotten_of(born).pinned, NEAP_BUF_MIN_BYTES, 0);
    allocator = allocator_make(pool, 0);
    finish();
}

static void E2_the_maker_stays_after_10000_touches_and_the_last_places_are_known(void **state)
{
    (void)state;
    start(NEAP_LEAKS_ALL);
    uint32_t born = site("born.lua:1 (f)"), place = site("t.lua:1 (g)"), last = site("t.lua:2 (h)");
    struct neap_handle s = make(10, born);
    for (int i = 0; i < 10000; i++) {
        struct neap_handle front;
        assert_int_equal(neap_slice_split(AT(s), 0, &front),
                         NEAP_NOTE | NEAP_NOTE_PASS | NEAP_HOLD);
        neap_ledger_born(AT(front), place);
        neap_ledger_pass(AT(s), i == 9999 ? last : place, NEAP_DEED_SPLIT);
        slice_end(front);
        neap_ledger_born(AT(s), place); /* it was born before */
    }
    forget(s);
    struct neap_forgotten kind = forgotten_of(born);
    assert_int_equal(kind.last[0].site, last);
    for (int i = 1; i < NEAP_PLACES; i++) assert_int_equal(kind.last[i].site, place);
    for (int i = 0; i < NEAP_PLACES; i++) assert_int_equal(kind.last[i].deed, NEAP_DEED_SPLIT);
    assert_string_equal(neap_site_text(kind.born), "born.lua:1 (f)");
    finish();
}

/* 20,000 slices of 10,000 bytes: some 370 are sampled, and stand for the others. */
static void E2_a_sample_stands_for_all(void **state)
{
    (void)state;
    enum { COUNT = 20000, SIZE = 10000, SMALL = 64 };
    start(NEAP_LEAKS_SAMPLE);
    uint32_t born = site("sample.lua:1 (f)");
    uint64_t watched = 0;
    for (int i = 0; i < COUNT; i++) {
        struct neap_handle s, small;
        int wishes = neap_allocator_alloc(AT(allocator), SIZE, &s);
        assert_true(wishes == NEAP_OK || wishes == NEAP_NOTE);
        if (wishes) neap_ledger_born(AT(s), born);
        watched += wishes == NEAP_NOTE;
        assert_true(neap_allocator_alloc(AT(allocator), SMALL, &small) >= 0); /* a pattern */
        forget(s);
        assert_true(neap_slice_release(AT(small)) >= 0);
    }
    struct neap_forgotten kind = forgotten_of(born);
    assert_int_equal(kind.watched, watched);
    double error = 4 / sqrt((double)watched); /* four standard deviations */
    assert_true(watched > 250 && watched < 500);
    assert_true(fabs(kind.slices / COUNT - 1) < error);
    assert_true(fabs(kind.bytes / ((double)COUNT * SIZE) - 1) < error);
    finish();
}

static void a_slice_of_many_sample_intervals_is_always_watched(void **state)
{
    (void)state;
    start(NEAP_LEAKS_SAMPLE);
    for (int i = 0; i < 20; i++) {
        struct neap_handle s = make(20 * NEAP_LEAKS_BYTES, site("large.lua:1 (f)"));
        assert_int_equal(neap_slice_release(AT(s)), NEAP_NOTE);
    }
    finish();
}

static void B3_an_end_is_remembered_with_both_places(void **state)
{
    (void)state;
    start(NEAP_LEAKS_ALL);
    uint32_t born = site("end.lua:1 (f)"), at = site("end.lua:2 (f)");
    struct neap_end end;
    struct neap_handle s = make(10, born);
    assert_int_equal(neap_ledger_ended(AT(s), &end), 0);
    assert_int_equal(neap_slice_release(AT(s)), NEAP_NOTE | NEAP_KEEP);
    neap_ledger_end_at(AT(s), at, NEAP_DEED_RELEASE);
    assert_int_equal(neap_slice_release(AT(s)), NEAP_E_STALE);
    assert_int_equal(neap_ledger_ended(AT(s), &end), 1);
    assert_int_equal(end.born, born);
    assert_int_equal(end.how.site, at);
    assert_int_equal(end.how.deed, NEAP_DEED_RELEASE);
    struct neap_handle again = make(10, at); /* in the same slot */
    assert_int_equal(again.slot, s.slot);
    assert_int_equal(neap_ledger_ended(AT(again), &end), 0);
    slice_end(again);
    assert_int_equal(neap_ledger_ended(AT(s), &end), 1); /* and the first end is still known */
    assert_int_equal(end.how.site, at);
    finish();
}

/* To look at the stack would cost more than all else that is done for a small one. */
static void B3_at_sample_the_place_of_an_end_is_wanted_of_large_slices_alone(void **state)
{
    (void)state;
    start(NEAP_LEAKS_SAMPLE);
    struct neap_end end;
    struct neap_handle large = make(20 * NEAP_LEAKS_BYTES, site("large.lua:1 (f)")), small;
    assert_int_equal(neap_slice_release(AT(large)), NEAP_NOTE);
    uint32_t born = site("small.lua:1 (f)");
    while (neap_allocator_alloc(AT(allocator), 20000, &small) != NEAP_NOTE) slice_end(small);
    neap_ledger_born(AT(small), born);
    assert_int_equal(neap_slice_release(AT(small)), NEAP_OK);
    assert_int_equal(neap_ledger_ended(AT(small), &end), 1);
    assert_int_equal(end.born, born);
    assert_int_equal(end.how.site, 0);
    assert_int_equal(end.how.deed, NEAP_DEED_RELEASE);
    finish();
}

static void S3_a_handle_whose_slice_was_taken_is_remembered_too(void **state)
{
    (void)state;
    needs_neighbours();
    start(NEAP_LEAKS_ALL);
    uint32_t born = site("taken.lua:1 (f)");
    struct neap_end end;
    struct neap_handle moved, first = make(10, born);
    assert_int_equal(neap_slice_move(AT(first), &moved), NEAP_NOTE_PASS | NEAP_HOLD);
    assert_int_equal(neap_ledger_ended(AT(first), &end), 1);
    assert_int_equal(end.born, born);
    struct neap_handle list[2] = {moved, make(10, born)}, second = list[1];
    uint32_t where;
    assert_int_equal(neap_slice_coalesce(list, 2, 100, &where), 1);
    assert_int_equal(neap_ledger_ended(AT(second), &end), 1);
    assert_int_equal(end.how.deed, NEAP_DEED_MERGE);
    struct neap_writer writer = {.pool = neap_pool_of(AT(pool))};
    assert_int_equal(neap_writer_add(&writer, neap_slice_of(AT(list[0]))), NEAP_OK);
    assert_int_equal(neap_ledger_ended(AT(list[0]), &end), 1);
    assert_int_equal(neap_writer_clear(&writer), 20);
    finish();
}

static void S3_at_touch_no_handle_is_used_again_and_few_are_watched(void **state)
{
    (void)state;
    start(NEAP_LEAKS_TOUCH);
    int watched = 0;
    for (int i = 0; i < 1000; i++) {
        struct neap_handle s, clone;
        int wishes = neap_allocator_alloc(AT(allocator), 5243, &s);
        assert_int_equal(wishes & ~NEAP_NOTE, NEAP_HOLD);
        bool noted = wishes & NEAP_NOTE;
        if (noted) neap_ledger_born(AT(s), site("touch.lua:1 (f)"));
        watched += noted;
        assert_int_equal(neap_ledger_wants(AT(s)), noted);
        int more = neap_slice_retain(AT(s), &clone);
        assert_int_equal(more & NEAP_NOTE_PASS, noted ? NEAP_NOTE_PASS : 0);
        assert_int_equal(neap_slice_release(AT(clone)) & NEAP_KEEP, NEAP_KEEP);
        assert_int_equal(neap_slice_release(AT(s)) & NEAP_KEEP, NEAP_KEEP);
    }
    assert_true(watched > 0 && watched < 50);
    finish();
}

static void what_is_held_is_asked_for_by_slot_and_forgotten_by_slot(void **state)
{
    (void)state;
    start(NEAP_LEAKS_TOUCH);
    struct neap_handle first, second, third, after;
    assert_int_equal(neap_allocator_alloc(AT(allocator), 1, &first) & NEAP_HOLD, NEAP_HOLD);
    assert_int_equal(neap_allocator_alloc(AT(allocator), 1, &second) & NEAP_HOLD, NEAP_HOLD);
    assert_int_equal(neap_ledger_set_level(NEAP_LEAKS_OFF), NEAP_OK);
    assert_int_equal(neap_allocator_alloc(AT(allocator), 1, &third), NEAP_OK);
    assert_int_equal(neap_slice_move(AT(second), &after), NEAP_HOLD); /* it stays held */
    uint32_t low = first.slot < second.slot ? first.slot : second.slot;
    uint32_t high = first.slot < second.slot ? second.slot : first.slot;
    assert_int_equal(neap_slice_next_held(0), low);
    assert_int_equal(neap_slice_next_held(low + 1), high);
    assert_int_equal(neap_slice_next_held(high + 1), 0);
    assert_int_equal(neap_slice_next_held(UINT32_MAX), 0);
    uint64_t before = totals().slices;
    neap_slice_forget(third.slot); /* that one has a finalizer */
    neap_slice_forget(0);
    neap_slice_forget(UINT32_MAX);
    assert_int_equal(totals().slices, before);
    neap_slice_forget(first.slot);
    neap_slice_forget(first.slot);
    assert_int_equal(totals().slices, before + 1);
    assert_int_equal(neap_slice_size(AT(first)), NEAP_E_STALE);
    assert_int_equal(neap_slice_release(AT(after)), NEAP_KEEP);
    assert_int_equal(neap_slice_release(AT(third)), NEAP_OK);
    assert_int_equal(neap_slice_next_held(0), 0);
    finish();
}

static void without_memory_a_slice_is_made_all_the_same_and_the_miss_is_counted(void **state)
{
    (void)state;
    needs_neighbours();
    start(NEAP_LEAKS_ALL);
    struct neap_handle kept[4000];
    uint64_t missed = totals().missed, live = totals().live;
    int count = 0;
    for (; count < 4000 && totals().missed == missed; count++) {
        neap_mem_fail_after(0); /* what is there suffices at first */
        int wishes = neap_allocator_alloc(AT(allocator), 1, &kept[count]);
        neap_mem_fail_after(-1);
        if (wishes == NEAP_E_MEMORY) { /* the slice's own table had to grow */
            wishes = neap_allocator_alloc(AT(allocator), 1, &kept[count]);
            assert_int_equal(wishes, NEAP_NOTE | NEAP_HOLD);
        }
    }
    assert_int_equal(totals().missed, missed + 1);
    assert_int_equal(totals().live, live + (uint64_t)count - 1);
    for (int i = 0; i < count; i++) slice_end(kept[i]);
    finish();
}

static void sites_are_numbers_with_a_text(void **state)
{
    (void)state;
    char text[300];
    memset(text, 'x', sizeof text);
    uint32_t number = neap_site_add(text, sizeof text);
    assert_int_equal(strlen(neap_site_text(number)), 200);
    assert_string_equal(neap_site_text(0), "?");
    assert_string_equal(neap_site_text(UINT32_MAX), "?");
    struct neap_site_stats stats;
    assert_int_equal(neap_site_stats(0, &stats), NEAP_E_RANGE);
    neap_mem_fail_after(0);
    number = neap_site_add("y", 1);
    neap_mem_fail_after(-1);
    assert_int_equal(number, 1); /* the one that stands for others */
}

static void a_walk_lists_slices_and_bufs(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    start(NEAP_LEAKS_ALL);
    uint32_t born = site("walk.lua:1 (f)");
    struct neap_handle small = make(10, born), rest = make(5000, born);
    struct neap_extent extents[8];
    uint32_t count = neap_slices_walk(NULL, 0);
    assert_int_equal(count, 2);
    assert_int_equal(neap_slices_walk(extents, 1), 2);
    assert_int_equal(neap_slices_walk(extents, 8), 2);
    const struct neap_extent *e = extents[0].slot == small.slot ? &extents[0] : &extents[1];
    assert_int_equal(e->gen, small.gen);
    assert_int_equal(e->bound - e->base, 10);
    assert_int_equal(e->buf_bytes, NEAP_BUF_MIN_BYTES);
    assert_int_equal(e->holders, 3); /* and the allocator */
    assert_int_equal(e->detached, NEAP_CLASS_MIN_BYTES);
    assert_int_equal(e->born, born);
    assert_int_equal(extents[0].buf, extents[1].buf);
    struct neap_live_buf bufs[2];
    assert_int_equal(neap_pool_walk(AT(pool), bufs, 2), 1);
    assert_int_equal(bufs[0].buf, e->buf);
    assert_int_equal(bufs[0].bytes, NEAP_BUF_MIN_BYTES);
    assert_int_equal(bufs[0].holders, 3);
    slice_end(small);
    slice_end(rest);
    assert_int_equal(neap_pool_walk(AT(pool), bufs, 2), 1); /* the allocator's */
    assert_int_equal(bufs[0].buf, 0);
    assert_int_equal(neap_pool_walk(0, 0, bufs, 2), NEAP_E_STALE);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(levels_are_four),
        TEST(at_off_nothing_is_watched_and_what_is_forgotten_is_counted),
        TEST(E2_what_is_forgotten_is_counted_by_the_line_that_made_it),
        TEST(E2_the_last_holder_of_a_buf_is_charged_with_all_of_it),
        TEST(E2_the_maker_stays_after_10000_touches_and_the_last_places_are_known),
        TEST(E2_a_sample_stands_for_all),
        TEST(a_slice_of_many_sample_intervals_is_always_watched),
        TEST(B3_an_end_is_remembered_with_both_places),
        TEST(B3_at_sample_the_place_of_an_end_is_wanted_of_large_slices_alone),
        TEST(S3_a_handle_whose_slice_was_taken_is_remembered_too),
        TEST(S3_at_touch_no_handle_is_used_again_and_few_are_watched),
        TEST(what_is_held_is_asked_for_by_slot_and_forgotten_by_slot),
        TEST(without_memory_a_slice_is_made_all_the_same_and_the_miss_is_counted),
        TEST(sites_are_numbers_with_a_text),
        TEST(a_walk_lists_slices_and_bufs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
