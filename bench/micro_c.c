/* micro_c: what single operations of the library cost, called from C.
 *
 *     micro_c ROUNDS ROUND-MS     measures all; a line of tab-separated values for each:
 *                                 name, what, goal in ns, ns (the least of the rounds),
 *                                 bytes of garbage, operations of one unit
 *     micro_c --count NAME UNITS  runs so many units (1 or 2) of one of them, for callgrind:
 *                                 what is prepared is the same for 1 and for 2, so the
 *                                 difference is the cost of one unit
 *
 * It is linked with the library's objects, since what it measures is partly hidden.
 * Time is CPU time of the thread. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "iobuf/slice.h"

enum {
    BATCH = 100000, /* operations between two looks at the clock */
    LISTS = 4,      /* the same for coalesce, which needs lists made before */
    LIST_SLICES = 1000,
    SLICE_BYTES = 64,
    BUF_BYTES = 65536, /* a list lies in one buf */
    UNITS_MAX = 2,
    BATCH_LISTS = UNITS_MAX * LISTS,
};

_Static_assert(LIST_SLICES *SLICE_BYTES <= BUF_BYTES, "neighbours lie in one buf");

struct micro {
    const char *name, *what;
    double goal_ns;              /* 0: none */
    void (*run)(uint32_t n);     /* n operations, or n lists */
    void (*prepare)(uint32_t n); /* makes n lists; NULL: nothing is needed */
};

static struct neap_handle pool_handle, large_handle, allocator, large_allocator;
static struct neap_pool *pool;
static struct neap_handle lists[BATCH_LISTS][LIST_SLICES];
static uint32_t list_left[BATCH_LISTS]; /* slices of it that are live */

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "micro_c: %s failed\n", what);
    exit(1);
}

/* ---- operations ---- */

static void run_buf(uint32_t n)
{
    struct neap_buf *buf;
    while (n--) {
        must(neap_pool_take(pool, 0, &buf) == NEAP_OK, "neap_pool_take");
        neap_buf_release(buf);
    }
}

static void run_malloc(uint32_t n)
{
    while (n--) {
        void *p = malloc(SLICE_BYTES);
        __asm__ volatile("" : "+r"(p) : : "memory"); /* or the compiler drops the pair */
        free(p);
    }
}

static void run_alloc(uint32_t n)
{
    struct neap_handle s;
    while (n--) {
        must(neap_allocator_alloc(allocator.slot, allocator.gen, SLICE_BYTES, &s) == NEAP_OK,
             "neap_allocator_alloc");
        neap_slice_release(s.slot, s.gen);
    }
}

static void run_make(uint32_t n)
{
    struct neap_buf *buf;
    must(neap_pool_take(pool, 0, &buf) == NEAP_OK, "neap_pool_take");
    while (n--) {
        struct neap_slice *s = neap_slice_make(buf, 0, 0, SLICE_BYTES);
        must(s != NULL, "neap_slice_make");
        neap_slice_end(s, NEAP_RELEASED);
    }
    neap_buf_release(buf);
}

static void run_split(uint32_t n)
{
    struct neap_handle rest = {0, 0}, front;
    for (uint32_t left = 0; n--; left -= SLICE_BYTES) {
        if (!left) {
            neap_slice_release(rest.slot, rest.gen); /* the first time it is none */
            left = NEAP_BUF_MIN_BYTES;
            must(neap_allocator_alloc(allocator.slot, allocator.gen, left, &rest) == NEAP_OK,
                 "neap_allocator_alloc");
        }
        must(neap_slice_split(rest.slot, rest.gen, SLICE_BYTES, &front) == NEAP_OK,
             "neap_slice_split");
        neap_slice_release(front.slot, front.gen);
    }
    neap_slice_release(rest.slot, rest.gen);
}

/* ---- coalesce ---- */

/* The rest of the buf is used up, so that each list begins a new one. */
static void fill_list(struct neap_handle *list)
{
    struct neap_handle rest;
    uint32_t rest_bytes = BUF_BYTES - LIST_SLICES * SLICE_BYTES;
    uint32_t slot = large_allocator.slot, gen = large_allocator.gen;
    for (int i = 0; i < LIST_SLICES; i++)
        must(neap_allocator_alloc(slot, gen, SLICE_BYTES, &list[i]) == NEAP_OK,
             "neap_allocator_alloc");
    must(neap_allocator_alloc(slot, gen, rest_bytes, &rest) == NEAP_OK, "neap_allocator_alloc");
    neap_slice_release(rest.slot, rest.gen);
}

static void prepare_lists(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < list_left[i]; j++)
            neap_slice_release(lists[i][j].slot, lists[i][j].gen);
        fill_list(lists[i]);
        list_left[i] = LIST_SLICES;
    }
}

static void coalesce(uint32_t n, uint32_t max_bytes)
{
    uint32_t where, in_one = max_bytes / SLICE_BYTES;
    uint32_t expected = (LIST_SLICES + in_one - 1) / in_one;
    for (uint32_t i = 0; i < n; i++) {
        int left = neap_slice_coalesce(lists[i], LIST_SLICES, max_bytes, &where);
        must(left == (int)expected, "neap_slice_coalesce");
        list_left[i] = (uint32_t)left;
    }
}

static void run_coalesce(uint32_t n)
{
    coalesce(n, NEAP_BUF_MAX_BYTES);
}

static void run_coalesce_4096(uint32_t n)
{
    coalesce(n, 4096);
}

/* ---- measuring ---- */

static const struct micro micros[] = {
    {"c.buf", "a buf of the usual size, taken and given back", 10, run_buf, NULL},
    {"c.malloc", "malloc(64) and free, of the C library", 0, run_malloc, NULL},
    {"c.alloc", "a slice of 64 bytes, allocated and released", 0, run_alloc, NULL},
    {"c.make", "a slice of a buf, made and ended", 0, run_make, NULL},
    {"c.split", "64 bytes split off a slice, and released", 0, run_split, NULL},
    {"c.coalesce", "coalesce 1000 neighbours into one, for each", 5, run_coalesce, prepare_lists},
    {"c.coalesce_4096", "coalesce 1000 neighbours up to 4096 bytes, for each", 5, run_coalesce_4096,
     prepare_lists},
};

static const struct micro *const micros_end = micros + sizeof micros / sizeof micros[0];

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint32_t batch_of(const struct micro *m)
{
    return m->prepare ? LISTS : BATCH;
}

static uint32_t operations_of(const struct micro *m)
{
    return m->prepare ? LISTS * LIST_SLICES : BATCH;
}

static double round_ns(const struct micro *m, double least_ns)
{
    double spent = 0, count = 0;
    while (spent < least_ns) {
        if (m->prepare) m->prepare(batch_of(m));
        double before = now_ns();
        m->run(batch_of(m));
        spent += now_ns() - before;
        count += operations_of(m);
    }
    return spent / count;
}

static void measure(const struct micro *m, int rounds, double least_ns)
{
    double least = round_ns(m, least_ns / 4); /* to warm up */
    for (int i = 0; i < rounds; i++) {
        double ns = round_ns(m, least_ns);
        if (ns < least) least = ns;
    }
    printf("%s\t%s\t%g\t%.3f\t-\t%u\n", m->name, m->what, m->goal_ns, least, operations_of(m));
    fflush(stdout);
}

static void count(const char *name, int units)
{
    const struct micro *m = micros;
    while (m < micros_end && strcmp(m->name, name) != 0) m++;
    must(m < micros_end && units >= 1 && units <= UNITS_MAX, "--count NAME 1 or 2");
    if (m->prepare) m->prepare(BATCH_LISTS);
    m->run((uint32_t)units * batch_of(m));
}

static void set_up(void)
{
    struct neap_pool_options usual = {.classes = true};
    struct neap_pool_options large = {.classes = true, .min_size = BUF_BYTES};
    must(neap_pool_create(&usual, &pool_handle) == NEAP_OK, "neap_pool_create");
    must(neap_pool_create(&large, &large_handle) == NEAP_OK, "neap_pool_create");
    pool = neap_pool_of(pool_handle.slot, pool_handle.gen);
    must(neap_allocator_create(pool_handle.slot, pool_handle.gen, 0, &allocator) == NEAP_OK,
         "neap_allocator_create");
    must(neap_allocator_create(large_handle.slot, large_handle.gen, 0, &large_allocator) == NEAP_OK,
         "neap_allocator_create");
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: micro_c ROUNDS ROUND-MS | --count NAME UNITS\n", stderr);
        return 2;
    }
    set_up();
    if (strcmp(argv[1], "--count") == 0) {
        count(argv[2], argc > 3 ? atoi(argv[3]) : 1);
        return 0;
    }
    for (const struct micro *m = micros; m < micros_end; m++)
        measure(m, atoi(argv[1]), atof(argv[2]) * 1e6);
    return 0;
}
