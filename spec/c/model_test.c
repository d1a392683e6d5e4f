/* model_test.c - random operations of the buffers beside a plain model (spec/fuzz/model.h), which
 * libFuzzer runs too. MODEL_RUNS=100000 for more, MODEL_SEED to repeat one. */
#include <stdlib.h>

#include "helper.h"

extern uint64_t model_seed;
void model_run(const uint8_t *bytes, size_t size);
void model_counts(uint64_t *all, uint64_t *succeeded);
void model_print(void);

enum { RUN_BYTES = 6000 };

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void every_operation_does_what_the_model_does(void **state)
{
    (void)state;
    static uint8_t bytes[RUN_BYTES];
    uint64_t seed = number_of("MODEL_SEED", 1), end = seed + number_of("MODEL_RUNS", 100);
    for (; seed < end; seed++) {
        struct random rng = {.state = seed};
        uint32_t size = 1 + random_below(&rng, RUN_BYTES);
        for (uint32_t i = 0; i < size; i++) bytes[i] = (uint8_t)random_next(&rng);
        model_seed = seed;
        model_run(bytes, size);
    }
    uint64_t all, succeeded;
    model_counts(&all, &succeeded);
    model_print();
    assert_true(succeeded * 2 >= all);
}

static const struct CMUnitTest tests[] = {
    TEST(every_operation_does_what_the_model_does),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
