/* reader_model_test.c - R11: what comes out of a reader is what went in, in order, against a
 * plain model (an array and two positions), for random streams, cuts, bufs and reads. */
#include <stdio.h>
#include <string.h>

#include "helper.h"

enum { STREAMS = 20000, STREAM_BYTES = 600, HELD = 6, MAX_READ = 256 };

static struct random rng;
static uint64_t seed;
static struct neap_handle pool, reader;
static char input[STREAM_BYTES];
static uint32_t input_size, fed, out; /* the model: [out, fed) is unread */
static bool ended;

/* Slices that are kept for a while: their bytes must stay. */
static struct {
    struct neap_handle slice;
    uint32_t at, size;
} held[HELD];
static uint32_t held_count;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("seed %llu, out %u of %u: %s", (unsigned long long)seed, out, fed,            \
                     #condition);                                                                  \
    } while (0)

static void drop_held(uint32_t i)
{
    CHECK(memcmp(neap_slice_bytes(AT(held[i].slice)), input + held[i].at, held[i].size) == 0);
    CHECK(neap_slice_release(AT(held[i].slice)) == NEAP_OK);
    held[i] = held[--held_count];
}

/* `size` bytes came out, and the model moves on by `consumed`. */
static void came_out(struct neap_handle slice, uint32_t size, uint32_t consumed)
{
    CHECK(neap_slice_size(AT(slice)) == (int)size);
    CHECK(memcmp(neap_slice_bytes(AT(slice)), input + out, size) == 0);
    if (held_count == HELD) drop_held(random_below(&rng, HELD));
    held[held_count].slice = slice;
    held[held_count].at = out;
    held[held_count++].size = size;
    out += consumed;
    if (random_below(&rng, 2)) drop_held(random_below(&rng, held_count));
}

static int lacking(void)
{
    if (!ended) return NEAP_E_AGAIN;
    return out < fed ? NEAP_E_SHORT : NEAP_E_EOF;
}

static void read_exactly(uint32_t n)
{
    struct neap_handle slice;
    int result = neap_reader_read(AT(reader), n, &slice);
    if (n > MAX_READ)
        CHECK(result == NEAP_E_OVERSIZED);
    else if (n > fed - out)
        CHECK(result == lacking());
    else
        CHECK(result == NEAP_OK);
    if (result == NEAP_OK) came_out(slice, n, n);
}

static void read_any(uint32_t max)
{
    struct neap_handle slice;
    int result = neap_reader_read_any(AT(reader), max, &slice);
    if (out == fed) {
        CHECK(result == lacking());
        return;
    }
    CHECK(result == NEAP_OK);
    uint32_t n = max < fed - out ? max : fed - out;
    came_out(slice, n, n);
}

/* The plain search: the first place within the unread bytes, or STREAM_BYTES. */
static uint32_t model_find(const char *delimiter, uint32_t size)
{
    for (uint32_t i = out; i + size <= fed; i++)
        if (memcmp(input + i, delimiter, size) == 0) return i - out;
    return STREAM_BYTES;
}

static void read_until(const char *delimiter, uint32_t max, bool inclusive)
{
    struct neap_handle slice;
    uint32_t size = (uint32_t)strlen(delimiter), at = model_find(delimiter, size);
    int result = neap_reader_read_until(AT(reader), delimiter, size, max, inclusive, &slice);
    if (at == STREAM_BYTES) {
        bool hopeless = fed - out >= max + size;
        CHECK(result == (hopeless ? NEAP_E_OVERSIZED : lacking()));
    } else if (at > max) {
        CHECK(result == NEAP_E_OVERSIZED);
    } else {
        CHECK(result == NEAP_OK);
        came_out(slice, at + (inclusive ? size : 0), at + size);
    }
}

/* Some of the room is filled, as a short read(2) does, or the bytes are fed. */
static void more(void)
{
    uint32_t n = 1 + random_below(&rng, random_below(&rng, 4) ? 12 : 200);
    if (n > input_size - fed) n = input_size - fed;
    if (n > MAX_READ + NEAP_BUF_MIN_BYTES - (fed - out))
        n = MAX_READ + NEAP_BUF_MIN_BYTES - (fed - out);
    if (n == 0) { /* the reader is full */
        CHECK(neap_reader_feed(AT(reader), input, 1) == NEAP_E_LIMIT);
        return;
    }
    if (random_below(&rng, 3) == 0) {
        char *part = guard_copy(input + fed, n);
        CHECK(neap_reader_feed(AT(reader), part, n) == (int)n);
        fed += n;
        return;
    }
    struct neap_room room;
    CHECK(neap_reader_room(AT(reader), random_below(&rng, MAX_READ + 1), &room) == NEAP_OK);
    CHECK(room.size > 0);
    if (n > room.size) n = room.size;
    memcpy(room.at, input + fed, n);
    CHECK(neap_reader_filled(AT(reader), n) == NEAP_OK);
    fed += n;
}

static void step(void)
{
    /* one delimiter a stream: see R2_read_until_finds_another_delimiter… */
    static const char *const delimiters[] = {"a", "ab", "aab", "aaaa"};
    const char *delimiter = delimiters[seed % 4];
    uint32_t max = random_below(&rng, 64);
    switch (random_below(&rng, 8)) {
    case 0: read_exactly(random_below(&rng, 20)); break;
    case 1: read_exactly(random_below(&rng, MAX_READ + 10)); break;
    case 2: read_any(1 + random_below(&rng, 30)); break;
    case 3:
    case 4: read_until(delimiter, max, random_below(&rng, 2)); break;
    case 5: CHECK(neap_reader_idle(AT(reader)) == NEAP_OK); break;
    default:
        if (fed < input_size) {
            more();
        } else if (!ended) {
            ended = true;
            CHECK(neap_reader_end(AT(reader), NEAP_E_EOF) == NEAP_OK);
        }
    }
    CHECK(neap_reader_buffered(AT(reader)) == (int)(fed - out));
}

static void one_stream(void)
{
    static const uint16_t pool_sizes[] = {4, 7, 8, 64, 100, 500};
    rng.state = seed;
    struct neap_pool_options options = {.min_size = pool_sizes[random_below(&rng, 6)],
                                        .classes = random_below(&rng, 2),
                                        .poison = random_below(&rng, 2)};
    pool = pool_make_with(&options);
    CHECK(neap_reader_create(AT(pool), MAX_READ, &reader) == NEAP_OK);
    input_size = random_below(&rng, STREAM_BYTES + 1) >> random_below(&rng, 4);
    for (uint32_t i = 0; i < input_size; i++) input[i] = "aaab"[random_below(&rng, 4)];
    fed = out = held_count = 0;
    ended = false;
    while (!ended || out < fed) {
        step();
        if (ended && random_below(&rng, 4) == 0) read_any(50);
    }
    while (held_count) drop_held(0);
    CHECK(neap_reader_release(AT(reader)) == NEAP_OK);
    pool_end(pool);
}

static void R11_what_comes_out_is_what_went_in(void **state)
{
    (void)state;
    print_message("seeds 1 to %d\n", STREAMS);
    for (seed = 1; seed <= STREAMS; seed++) one_stream();
}

static const struct CMUnitTest tests[] = {
    TEST(R11_what_comes_out_is_what_went_in),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
