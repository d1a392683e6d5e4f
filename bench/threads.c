/* threads: what it costs that a slice is released by another thread than the one that made it.
 *
 *     threads [--check] [ROUNDS]
 *
 * One thread allocates 10,000 slices of 64 bytes, another releases them, the first takes them back;
 * the CPU time of each part is what its thread used. The least of the rounds (50) counts. Beside
 * it, in the same run: malloc(64) and free of the C library, in one thread and in two; a slice
 * that its own thread releases; and one of a pool that is shared. --check fails when all three parts
 * together are more than 4 × malloc and free in one thread; before it does so it goes on to 1,000
 * rounds, for what else the machine does may be in the way of all of them. */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "neap.h"

enum { SLICES = 10000, SLICE_BYTES = 64, GOAL_TIMES = 4, ROUNDS_MAX = 1000 };

struct times {
    double malloc_free, malloc_there, free_there; /* ns */
    double own, shared, across, made, released, taken_back;
};

static struct neap_handle allocator, shared_allocator;
static struct neap_handle slices[SLICES];
static void *blocks[SLICES];
static pthread_barrier_t barrier;
static bool over;
static double other_ns; /* what the other thread used */

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "threads: %s failed\n", what);
    exit(1);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- the parts ---- */

static void make_slices(struct neap_handle from)
{
    for (int i = 0; i < SLICES; i++)
        must(neap_allocator_alloc(from.slot, from.gen, SLICE_BYTES, &slices[i]) == NEAP_OK,
             "neap_allocator_alloc");
}

static void release_slices(void)
{
    for (int i = 0; i < SLICES; i++)
        must(neap_slice_release(slices[i].slot, slices[i].gen) == NEAP_OK, "neap_slice_release");
    neap_thread_turn();
}

static void take_back(void)
{
    must(neap_thread_turn() == SLICES, "neap_thread_turn");
}

static void make_blocks(void)
{
    for (int i = 0; i < SLICES; i++) must((blocks[i] = malloc(SLICE_BYTES)) != NULL, "malloc");
}

static void free_blocks(void)
{
    for (int i = 0; i < SLICES; i++) free(blocks[i]);
}

static void malloc_and_free(void)
{
    for (int i = 0; i < SLICES; i++) {
        void *p = malloc(SLICE_BYTES);
        __asm__ volatile("" : "+r"(p) : : "memory"); /* or the compiler drops the pair */
        free(p);
    }
}

static void make_and_release(struct neap_handle from)
{
    struct neap_handle s;
    for (int i = 0; i < SLICES; i++) {
        must(neap_allocator_alloc(from.slot, from.gen, SLICE_BYTES, &s) == NEAP_OK,
             "neap_allocator_alloc");
        must(neap_slice_release(s.slot, s.gen) == NEAP_OK, "neap_slice_release");
    }
}

static void own(void)
{
    make_and_release(allocator);
}

static void shared(void)
{
    make_and_release(shared_allocator);
}

static void make_own(void)
{
    make_slices(allocator);
}

/* ---- measuring ---- */

static double spent_ns(void (*part)(void))
{
    double before = now_ns();
    part();
    return now_ns() - before;
}

static void least(double *ns, double spent)
{
    spent /= SLICES;
    if (*ns == 0 || spent < *ns) *ns = spent;
}

/* Twice in a round it does its part: slices, and blocks. */
static void *other(void *unused)
{
    void (*const parts[])(void) = {release_slices, free_blocks};
    for (int i = 0;; i++) {
        pthread_barrier_wait(&barrier);
        if (over) return unused;
        other_ns = spent_ns(parts[i % 2]);
        pthread_barrier_wait(&barrier);
    }
}

static double there_ns(void)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return other_ns;
}

static void run_across(struct times *t)
{
    double made = spent_ns(make_own), released = there_ns(), taken_back = spent_ns(take_back);
    least(&t->across, made + released + taken_back);
    least(&t->made, made);
    least(&t->released, released);
    least(&t->taken_back, taken_back);
}

static bool is_over(const struct times *t)
{
    return t->across > GOAL_TIMES * t->malloc_free;
}

static void run_round(struct times *t)
{
    least(&t->malloc_free, spent_ns(malloc_and_free));
    least(&t->own, spent_ns(own));
    least(&t->shared, spent_ns(shared));
    run_across(t);
    least(&t->malloc_there, spent_ns(make_blocks));
    least(&t->free_there, there_ns());
}

static void print_row(const char *what, double ns, const struct times *t)
{
    printf("| %s | %.1f | %.2f |\n", what, ns, ns / t->malloc_free);
}

static double print_table(const struct times *t)
{
    puts("| 64 bytes | ns | × malloc and free |\n|---|---:|---:|");
    print_row("malloc and free, one thread", t->malloc_free, t);
    print_row("malloc, and free in another thread", t->malloc_there + t->free_there, t);
    print_row("a slice, made and released in one thread", t->own, t);
    print_row("a slice, made, and released in another thread", t->across, t);
    print_row("… made", t->made, t);
    print_row("… released there", t->released, t);
    print_row("… taken back", t->taken_back, t);
    print_row("a slice of a shared pool, made and released", t->shared, t);
    return t->across / t->malloc_free;
}

static struct neap_handle make_allocator(bool of_shared)
{
    struct neap_pool_options options = {.classes = true, .shared = of_shared};
    struct neap_handle pool, a;
    must(neap_pool_create(&options, &pool) == NEAP_OK, "neap_pool_create");
    must(neap_allocator_create(pool.slot, pool.gen, 0, &a) == NEAP_OK, "neap_allocator_create");
    return a;
}

int main(int argc, char **argv)
{
    bool check = argc > 1 && strcmp(argv[1], "--check") == 0;
    int rounds = argc > 1 + check ? atoi(argv[1 + check]) : 50;
    struct times t = {0};
    pthread_t thread;
    allocator = make_allocator(false);
    shared_allocator = make_allocator(true);
    pthread_barrier_init(&barrier, NULL, 2);
    must(pthread_create(&thread, NULL, other, NULL) == 0, "pthread_create");
    for (int i = 0; i < rounds || (check && i < ROUNDS_MAX && is_over(&t)); i++) run_round(&t);
    over = true;
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    double times = print_table(&t);
    if (check && times > GOAL_TIMES) printf("\nfailed: %.2f is more than %d\n", times, GOAL_TIMES);
    return check && times > GOAL_TIMES;
}
