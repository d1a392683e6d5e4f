#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct model model;
uint64_t model_seed;

/* ---- what the string of bytes chooses ---- */

static const uint8_t *input, *input_end;

static uint32_t next_byte(void)
{
    return input < input_end ? *input++ : 0;
}

uint32_t choose(uint32_t below)
{
    uint32_t n = next_byte();
    if (below > 256) n = n << 8 | next_byte();
    return n % below;
}

uint32_t choose_bits(void)
{
    uint32_t bits = next_byte();
    for (int i = 0; i < 3; i++) bits = bits << 8 | next_byte();
    return bits;
}

uint32_t choose_size(void)
{
    uint32_t kind = next_byte();
    if (kind < 200) return kind % 40;
    if (kind < 240) return choose(600);
    if (kind < 252) return choose(9000);
    return kind == 255 ? UINT32_MAX - choose(40) : choose(LARGE_BYTES);
}

const uint8_t *choose_text(uint32_t size)
{
    static uint8_t text[LARGE_BYTES];
    CHECK(size <= sizeof text);
    uint32_t state = next_byte() * 2654435761u + 1;
    for (uint32_t i = 0; i < size; i++) {
        state = state * 1664525 + 1013904223;
        text[i] = "aaab"[state >> 30];
        if (i % 7 == 3) text[i] = (uint8_t)(state >> 24);
    }
    return text;
}

struct neap_handle choose_stale(enum kind kind)
{
    uint32_t i = choose(STALE);
    if (i < model.stale_count[kind] && i < STALE) return model.stale[kind][i];
    return (struct neap_handle){choose(8), choose(4) * 2};
}

void forget_handle(enum kind kind, struct neap_handle handle)
{
    model.stale[kind][model.stale_count[kind]++ % STALE] = handle;
}

/* ---- counting ---- */

enum { OPS = 128, OUTCOMES = 12 };
static struct counts {
    const char *name;
    uint64_t ok, refused[OUTCOMES + 1]; /* refused[-code]; [0]: any other */
} counts[OPS];
static struct counts *op;

_Noreturn void model_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: in %s%s, with %zd bytes of the input left: %s\n", file, line,
            op ? op->name : "the beginning", model.armed ? " (with failing memory)" : "",
            (ptrdiff_t)(input_end - input), what);
    if (model_seed) fprintf(stderr, "seed %llu\n", (unsigned long long)model_seed);
    abort();
}

void model_op(const char *name)
{
    for (op = counts; op->name && op->name != name;) CHECK(++op < counts + OPS);
    op->name = name;
}

static void count(int result)
{
    if (result >= 0)
        op->ok++;
    else
        op->refused[-result <= OUTCOMES ? -result : 0]++;
}

static bool excused(int result, const struct model_pool *pool)
{
    return (result == NEAP_E_MEMORY && model.armed) ||
           (result == NEAP_E_LIMIT && pool && pool->options.limit > 0);
}

bool is(int result, int want, const struct model_pool *pool)
{
    count(result);
    if (result != want && !excused(result, pool)) {
        fprintf(stderr, "the result is %d, and should be %d\n", result, want);
        CHECK(result == want);
    }
    return result == want && result >= 0;
}

bool is_ok(int result, const struct model_pool *pool)
{
    count(result);
    CHECK(result >= 0 || excused(result, pool));
    return result >= 0;
}

void model_counts(uint64_t *all, uint64_t *succeeded)
{
    *all = *succeeded = 0;
    for (struct counts *c = counts; c->name; c++) {
        *succeeded += c->ok;
        *all += c->ok;
        for (int i = 0; i <= OUTCOMES; i++) *all += c->refused[i];
    }
}

void model_print(void)
{
    static const char *const names[] = {"other",   "again",  "eof",   "short", "closed",
                                        "limit",   "memory", "large", "stale", "range",
                                        "overlap", "const",  "busy"};
    printf("%-22s%10s", "operation", "ok");
    for (int i = 0; i <= OUTCOMES; i++) printf("%9s", names[i]);
    for (struct counts *c = counts; c->name; c++) {
        printf("\n%-22s%10llu", c->name, (unsigned long long)c->ok);
        for (int i = 0; i <= OUTCOMES; i++)
            if (c->refused[i])
                printf("%9llu", (unsigned long long)c->refused[i]);
            else
                printf("%9s", ".");
    }
    uint64_t all, succeeded;
    model_counts(&all, &succeeded);
    printf("\n%llu operations, %.0f %% of them succeeded\n", (unsigned long long)all,
           all ? 100.0 * (double)succeeded / (double)all : 0);
}

/* ---- bytes ---- */

void bytes_add(struct model_bytes *b, const uint8_t *bytes, uint32_t n)
{
    if (b->size + n > b->room) {
        b->room = 2 * (b->size + n);
        b->at = realloc(b->at, b->room);
    }
    if (n) memcpy(b->at + b->size, bytes, n);
    b->size += n;
}

void bytes_drop(struct model_bytes *b, uint32_t n)
{
    CHECK(n <= b->size);
    if (n) memmove(b->at, b->at + n, b->size - n);
    b->size -= n;
}

void bytes_free(struct model_bytes *b)
{
    free(b->at);
    *b = (struct model_bytes){0};
}

/* ---- one run ---- */

static model_step *choose_step(void)
{
    static const struct {
        model_step *const *steps;
        const uint32_t *count;
        uint32_t weight;
    } groups[] = {
        {slice_steps, &slice_step_count, 80},   {byte_steps, &byte_step_count, 50},
        {reader_steps, &reader_step_count, 48}, {pool_steps, &pool_step_count, 44},
        {buffer_steps, &buffer_step_count, 20}, {writer_steps, &writer_step_count, 14},
    };
    uint32_t n = next_byte();
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (n < groups[i].weight) return groups[i].steps[choose(*groups[i].count)];
        n -= groups[i].weight;
    }
    return slice_steps[0];
}

/* A byte below 8 lets a request for memory fail, of those that the operation makes. */
static void one_step(void)
{
    uint32_t fails_after = next_byte();
    model_step *step = choose_step();
    model.armed = fails_after < 8;
    if (model.armed) neap_mem_fail_after(fails_after / 2);
    step();
    neap_mem_fail_after(-1);
    model.armed = false;
    bufs_sweep();
    model_audit();
}

static void end_all(void)
{
    static void (*const ends[])(void) = {slices_end, buffers_end, readers_end, writers_end,
                                         pools_end};
    uint32_t first = choose(5);
    for (uint32_t i = 0; i < 5; i++) {
        ends[(first + i) % 5]();
        bufs_sweep();
        model_audit();
    }
    for (uint32_t i = 0; i < model.pool_count; i++) CHECK(model.pools[i].gone);
    while (neap_foreign_next()) continue;
    struct neap_pool_stats sum;
    neap_pools_stats(&sum);
    CHECK(sum.bytes_held == 0 && sum.bufs_live == 0 && sum.slices_live == 0);
    CHECK(neap_here.slices.live == 0 && neap_here.held_by_handles == 0);
}

/* A table that cannot grow is memory_test's: an allocator has moved on then, unseen from here. */
static void make_tables(void)
{
    struct neap_handle s;
    CHECK(neap_foreign_slice("", 0, 1, &s) == NEAP_OK && neap_slice_release(AT(s)) == NEAP_OK);
    CHECK(neap_foreign_next() == 1);
}

void model_run(const uint8_t *bytes, size_t size)
{
    input = bytes;
    input_end = bytes + size;
    model = (struct model){0};
    make_tables();
    while (!model.pool_count) pool_steps[0](); /* with nothing there, nothing can be done */
    while (input < input_end) one_step();
    end_all();
}
