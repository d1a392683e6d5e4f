/* slots_test.c - the table behind every handle. */
#include "base/slots.h"
#include "helper.h"

struct thing {
    struct neap_slot head;
    uint32_t value;
};

static void S0_a_slot_is_found_by_its_own_generation_only(void **state)
{
    (void)state;
    struct neap_slots things = NEAP_SLOTS(struct thing, 100);
    assert_null(neap_slots_find(&things, 0, 0)); /* before the first */
    uint32_t slot;
    struct thing *t = neap_slots_take(&things, &slot);
    assert_int_not_equal(slot, 0);
    uint32_t gen = t->head.gen;
    t->value = 7;
    assert_ptr_equal(neap_slots_find(&things, slot, gen), t);
    assert_null(neap_slots_find(&things, slot, gen + 2));
    assert_null(neap_slots_find(&things, 0, 0));
    assert_null(neap_slots_find(&things, slot + 1, gen));
    neap_slots_give(&things, slot);
    assert_null(neap_slots_find(&things, slot, gen));
    assert_null(neap_slots_find(&things, slot, gen + 1)); /* the free slot's own */
    assert_int_equal(things.live, 0);
    struct thing *again = neap_slots_take(&things, &slot);
    assert_ptr_equal(again, t); /* used again, zeroed, under another name */
    assert_int_equal(again->value, 0);
    assert_int_not_equal(again->head.gen, gen);
    assert_null(neap_slots_find(&things, slot, gen));
}

static void S0_a_renamed_item_stays_and_its_old_handles_are_stale(void **state)
{
    (void)state;
    struct neap_slots things = NEAP_SLOTS(struct thing, 100);
    uint32_t slot;
    struct thing *t = neap_slots_take(&things, &slot);
    uint32_t gen = t->head.gen, renamed = neap_slots_rename(&t->head);
    assert_null(neap_slots_find(&things, slot, gen));
    assert_ptr_equal(neap_slots_find(&things, slot, renamed), t);
}

static void S0_a_slot_whose_generations_are_used_up_retires(void **state)
{
    (void)state;
    struct neap_slots things = NEAP_SLOTS(struct thing, 100);
    uint32_t slot, last = 0;
    struct thing *t = neap_slots_take(&things, &slot);
    t->head.gen = UINT32_MAX - 80;
    if (!(t->head.gen & 1)) t->head.gen++;
    uint32_t first = slot;
    for (int i = 0; i < 100; i++) {
        neap_slots_give(&things, slot);
        t = neap_slots_take(&things, &slot);
        if (slot != first) break;
        assert_true(t->head.gen > last); /* no handle ever means two things */
        last = t->head.gen;
    }
    assert_int_not_equal(slot, first);
}

static void S0_a_full_table_gives_no_more_until_one_is_given_back(void **state)
{
    (void)state;
    enum { LIMIT = 20000 };
    struct neap_slots things = NEAP_SLOTS(struct thing, LIMIT);
    uint32_t slot, count = 0;
    struct thing *t, *first = NULL;
    while ((t = neap_slots_take(&things, &slot))) {
        if (!first) first = t;
        t->value = slot;
        assert_int_equal(++count, slot);
    }
    assert_int_equal(count, LIMIT - 1); /* slot 0 is never handed out */
    assert_int_equal(first->value, 1);  /* the table has not moved */
    neap_slots_give(&things, 77);
    assert_non_null(neap_slots_take(&things, &slot));
    assert_int_equal(slot, 77);
    assert_null(neap_slots_take(&things, &slot));
}

/* What is at the same place of 2 MiB is at the same one of the nearest cache. The first test: it sees
 * the first tables. */
static void S0_large_tables_do_not_begin_at_addresses_alike(void **state)
{
    (void)state;
    enum { TABLES = 8 };
    struct neap_slots tables[TABLES];
    uintptr_t begins[TABLES];
    for (int i = 0; i < TABLES; i++) {
        tables[i] = (struct neap_slots)NEAP_SLOTS(struct thing, 1 << 20);
        uint32_t slot;
        begins[i] = (uintptr_t)neap_slots_take(&tables[i], &slot) % (1 << 21);
        for (int k = 0; k < i; k++) assert_int_not_equal(begins[i], begins[k]);
        neap_slots_give(&tables[i], slot);
    }
    for (int i = 0; i < TABLES; i++) neap_slots_end(&tables[i]);
}

static const struct CMUnitTest tests[] = {
    TEST(S0_large_tables_do_not_begin_at_addresses_alike),
    TEST(S0_a_slot_is_found_by_its_own_generation_only),
    TEST(S0_a_renamed_item_stays_and_its_old_handles_are_stale),
    TEST(S0_a_slot_whose_generations_are_used_up_retires),
    TEST(S0_a_full_table_gives_no_more_until_one_is_given_back),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
