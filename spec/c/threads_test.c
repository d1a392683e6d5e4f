/* threads_test.c - slices that go from thread to thread, and pools that several use. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "helper.h"
#include "iobuf/realm.h"

/* `make valgrind` runs one thread at a time: fewer of them show as much. */
#ifdef NEAP_VALGRIND
enum { THREADS = 10, BUFS = 10, SLICES = 100 };
#else
enum { THREADS = 100, BUFS = 100, SLICES = 100 };
#endif

enum { BUF_BYTES = 6400, SLICE_BYTES = BUF_BYTES / SLICES, SENT = 32 };

/* cmocka's assertions are for its own thread: others count what was wrong. */
static _Atomic int wrong;

static void must(bool ok)
{
    if (!ok) atomic_fetch_add(&wrong, 1);
}

static void run_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, argument), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&wrong), 0);
}

static struct neap_handle shared_make(void)
{
    struct neap_pool_options options = {.min_size = BUF_BYTES, .shared = true};
    return pool_make_with(&options);
}

/* ---- release from another thread ---- */

struct parcel {
    struct neap_handle slices[3 * SENT];
    uint32_t count;
    int result; /* of the last call */
};

static void *release_parcel(void *argument)
{
    struct parcel *p = argument;
    for (uint32_t i = 0; i < p->count; i++) {
        p->result = neap_slice_release(AT(p->slices[i]));
        must(p->result == NEAP_OK);
    }
    return NULL;
}

static void fill_parcel(struct parcel *p, struct neap_handle allocator, uint32_t count)
{
    p->count = count;
    for (uint32_t i = 0; i < count; i++) p->slices[i] = slice_alloc(allocator, 64);
}

static void P8_slices_are_released_from_another_thread_and_counted(void **state)
{
    (void)state;
    struct neap_handle pool = pool_make(0), allocator = allocator_make(pool, 0);
    struct parcel p;
    fill_parcel(&p, allocator, 3 * SENT);
    run_thread(release_parcel, &p);
    assert_int_equal(slice_stats().live, 3 * SENT); /* they wait for their owner … */
    assert_int_equal(neap_thread_turn(), 3 * SENT); /* … who ends them */
    assert_int_equal(slice_stats().live, 0);
    assert_int_equal(pool_stats(pool).slices_released, 3 * SENT);
    assert_int_equal(pool_stats(pool).slices_returned, 3 * SENT);
    slice_end(slice_alloc(allocator, 1));
    assert_int_equal(pool_stats(pool).slices_returned, 3 * SENT); /* not this one */
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

/* How many have come back after the other thread released so many, and before it ended. */
struct meeting {
    struct parcel parcel;
    pthread_barrier_t released, looked;
    bool turn;
};

static void *release_and_wait(void *argument)
{
    struct meeting *m = argument;
    release_parcel(&m->parcel);
    if (m->turn) must(neap_thread_turn() == 0);
    pthread_barrier_wait(&m->released);
    pthread_barrier_wait(&m->looked);
    return NULL;
}

static int came_back(struct neap_handle allocator, uint32_t count, bool turn)
{
    struct meeting m = {.turn = turn};
    pthread_t thread;
    fill_parcel(&m.parcel, allocator, count);
    pthread_barrier_init(&m.released, NULL, 2);
    pthread_barrier_init(&m.looked, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, release_and_wait, &m), 0);
    pthread_barrier_wait(&m.released);
    int ended = neap_thread_turn();
    pthread_barrier_wait(&m.looked);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_barrier_destroy(&m.released);
    pthread_barrier_destroy(&m.looked);
    assert_int_equal(neap_thread_turn(), (int)count - ended); /* at its end all are sent */
    return ended;
}

static void P8_they_come_back_32_at_a_time_or_with_a_turn(void **state)
{
    (void)state;
    struct neap_handle pool = pool_make(0), allocator = allocator_make(pool, 0);
    assert_int_equal(came_back(allocator, SENT - 1, false), 0);
    assert_int_equal(came_back(allocator, SENT, false), SENT);
    assert_int_equal(came_back(allocator, 2 * SENT + 1, false), 2 * SENT);
    assert_int_equal(came_back(allocator, 2 * SENT + 1, true), 2 * SENT + 1);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

static void P8_an_allocator_takes_back_what_came_before_it_takes_new_memory(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    struct neap_pool_options options = {.min_size = 64, .limit = 64.0 * SENT};
    struct neap_handle pool = pool_make_with(&options), allocator = allocator_make(pool, 0);
    for (int round = 0; round < 10; round++) {
        struct parcel p;
        fill_parcel(&p, allocator, SENT); /* a buf each: the pool is full */
        run_thread(release_parcel, &p);
    }
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    assert_int_equal(neap_thread_turn(), SENT);
    assert_int_equal(pool_stats(pool).bufs_allocated, SENT);
    pool_end(pool);
}

static void P8_a_second_release_from_another_thread_is_counted_and_harmless(void **state)
{
    (void)state;
    struct neap_handle pool = pool_make(0), allocator = allocator_make(pool, 0);
    struct parcel p = {.count = 2};
    p.slices[0] = p.slices[1] = slice_alloc(allocator, 64);
    uint64_t before = slice_stats().double_releases;
    run_thread(release_parcel, &p);
    assert_int_equal(neap_thread_turn(), 1);
    assert_int_equal(slice_stats().double_releases, before + 1);
    assert_int_equal(pool_stats(pool).slices_returned, 1);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

static void *release_without_memory(void *argument)
{
    struct parcel *p = argument;
    neap_mem_fail_after(0);
    must(neap_slice_release(AT(p->slices[0])) == NEAP_E_MEMORY);
    neap_mem_fail_after(-1);
    return release_parcel(p);
}

static void P8_a_release_that_finds_no_memory_has_changed_nothing(void **state)
{
    (void)state;
    struct neap_handle pool = pool_make(0), allocator = allocator_make(pool, 0);
    struct parcel p;
    fill_parcel(&p, allocator, 1);
    run_thread(release_without_memory, &p);
    assert_int_equal(neap_thread_turn(), 1);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}

/* ---- all else is an error ---- */

struct things {
    struct neap_handle pool, allocator, slice, buffer;
};

static void use_slice(struct neap_handle s)
{
    struct neap_handle out;
    struct neap_slice_info info;
    uint32_t where;
    char room[8];
    must(neap_slice_size(AT(s)) == NEAP_E_THREAD);
    must(neap_slice_info(AT(s), &info) == NEAP_E_THREAD);
    must(neap_slice_bytes(AT(s)) == NULL);
    must(neap_slice_split(AT(s), 1, &out) == NEAP_E_THREAD);
    must(neap_slice_retain(AT(s), &out) == NEAP_E_THREAD);
    must(neap_slice_truncate_front(AT(s), 1) == NEAP_E_THREAD);
    must(neap_slice_detach(AT(s)) == NEAP_E_THREAD);
    must(neap_slice_write(AT(s), 0, "x", 1) == NEAP_E_THREAD);
    must(neap_slice_set(AT(s), 0, 1, 1) == NEAP_E_THREAD);
    must(neap_slice_copy_out(AT(s), 0, 1, room) == NEAP_E_THREAD);
    must(neap_slice_coalesce(&s, 1, 100, &where) == NEAP_E_THREAD && where == 0);
    must(neap_slice_release((s).slot, s.gen + 1) == NEAP_OK); /* its owner will find out */
}

static void *use(void *argument)
{
    const struct things *t = argument;
    struct neap_handle out;
    struct neap_pool_stats stats;
    use_slice(t->slice);
    must(neap_pool_stats(AT(t->pool), &stats) == NEAP_E_THREAD);
    must(neap_pool_close(AT(t->pool)) == NEAP_E_THREAD);
    must(neap_pool_release(AT(t->pool)) == NEAP_E_THREAD);
    must(neap_pool_trim(AT(t->pool)) == -1);
    must(neap_allocator_create(AT(t->pool), 0, &out) == NEAP_E_THREAD);
    must(neap_reader_create(AT(t->pool), 100, &out) == NEAP_E_THREAD);
    must(neap_buffer_create(AT(t->pool), &out) == NEAP_E_THREAD);
    must(neap_buffer_put(AT(t->buffer), "x", 1) == NEAP_E_THREAD);
    must(neap_allocator_alloc(AT(t->allocator), 1, &out) == NEAP_E_THREAD);
    must(neap_allocator_copy(AT(t->allocator), "x", 1, &out) == NEAP_E_THREAD);
    must(neap_allocator_release(AT(t->allocator)) == NEAP_E_THREAD);
    must(neap_slice_size(200u << NEAP_REALM_SHIFT | 1, 1) == NEAP_E_STALE); /* no thread's */
    return NULL;
}

static void P8_other_calls_on_a_handle_of_another_thread_say_so(void **state)
{
    (void)state;
    struct things t = {.pool = pool_make(0)};
    t.allocator = allocator_make(t.pool, 0);
    t.slice = slice_text(t.allocator, "abc");
    assert_int_equal(neap_buffer_create(AT(t.pool), &t.buffer), NEAP_OK);
    uint64_t before = slice_stats().double_releases;
    run_thread(use, &t);
    slice_reads(t.slice, "abc");
    assert_int_equal(neap_thread_turn(), 0);
    assert_int_equal(slice_stats().double_releases, before + 1);
    slice_end(t.slice);
    assert_int_equal(neap_buffer_release(AT(t.buffer)), NEAP_OK);
    assert_int_equal(neap_allocator_release(AT(t.allocator)), NEAP_OK);
    pool_end(t.pool);
}

/* ---- threads that end ---- */

struct left {
    struct neap_handle slices[2];
    const uint8_t *bytes;
    struct neap_handle pool, allocator, shared;
};

static void *leave_things(void *argument)
{
    struct left *l = argument;
    struct neap_pool_options options = {.min_size = 4096};
    struct neap_handle reader, buffer;
    must(neap_pool_create(&options, &l->pool) == NEAP_OK);
    must(neap_allocator_create(AT(l->pool), 0, &l->allocator) == NEAP_OK);
    must(neap_allocator_copy(AT(l->allocator), "kept", 4, &l->slices[0]) == NEAP_OK);
    must(neap_allocator_copy(AT(l->allocator), "too", 3, &l->slices[1]) == NEAP_OK);
    must(neap_reader_create(AT(l->pool), 100, &reader) == NEAP_OK);
    must(neap_reader_feed(AT(reader), "unread", 6) == 6);
    must(neap_buffer_create(AT(l->pool), &buffer) == NEAP_OK);
    must(neap_buffer_put(AT(buffer), "unsent", 6) == NEAP_OK);
    l->bytes = neap_slice_bytes(AT(l->slices[0]));
    return NULL;
}

static void P8_slices_outlive_their_thread_and_its_memory_goes_with_the_last(void **state)
{
    (void)state;
    needs_neighbours();
    struct left l;
    run_thread(leave_things, &l);
    assert_memory_equal(l.bytes, "kept", 4);
    assert_int_equal(neap_slice_size(AT(l.slices[0])), NEAP_E_THREAD); /* still not ours */
    assert_int_equal(neap_slice_release(AT(l.slices[0])), NEAP_OK);
    neap_thread_turn();
    assert_true(is_mapped(l.bytes));
    assert_int_equal(neap_slice_release(AT(l.slices[1])), NEAP_OK);
    neap_thread_turn();
    assert_false(is_mapped(l.bytes));
    assert_int_equal(neap_slice_size(AT(l.slices[0])), NEAP_E_STALE); /* nothing is left there */
}

/* Whoever comes next has the tables of who was there; its handles are other ones. */
static void *use_left(void *argument)
{
    const struct left *l = argument;
    struct left mine;
    leave_things(&mine);
    must((mine.pool.slot >> NEAP_REALM_SHIFT) == (l->pool.slot >> NEAP_REALM_SHIFT));
    must(neap_slice_size(AT(l->slices[0])) == NEAP_E_STALE);
    must(neap_slice_size(AT(l->slices[1])) == NEAP_E_STALE);
    must(neap_pool_close(AT(l->pool)) == NEAP_E_STALE);
    must(neap_allocator_close(AT(l->allocator)) == NEAP_E_STALE);
    must(neap_slice_release(AT(mine.slices[0])) == NEAP_OK);
    must(neap_slice_release(AT(mine.slices[1])) == NEAP_OK);
    struct neap_slice_stats stats;
    neap_slice_stats(&stats);
    must(stats.live == 1); /* a piece of the buffer */
    return NULL;
}

static void P8_a_later_thread_never_finds_what_an_earlier_one_made(void **state)
{
    (void)state;
    struct left l;
    run_thread(leave_things, &l);
    for (int i = 0; i < 2; i++) assert_int_equal(neap_slice_release(AT(l.slices[i])), NEAP_OK);
    neap_thread_turn();
    for (int i = 0; i < 2 * NEAP_REALMS_MAX; i++) run_thread(use_left, &l);
}

/* Each thread sends slices to the next, which releases them, while both end. */
static struct parcel ring[THREADS];

static void *send_on(void *argument)
{
    struct parcel *next = argument;
    struct neap_pool_options options = {.min_size = 4096};
    struct neap_handle pool, allocator;
    must(neap_pool_create(&options, &pool) == NEAP_OK);
    must(neap_allocator_create(AT(pool), 0, &allocator) == NEAP_OK);
    for (uint32_t i = 0; i < 3 * SENT; i++)
        must(neap_allocator_alloc(AT(allocator), 64, &next->slices[i]) == NEAP_OK);
    next->count = 3 * SENT;
    return NULL;
}

static void run_all(void *(*run)(void *), void *items, size_t size)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run, (char *)items + i * size), 0);
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&wrong), 0);
}

static void P8_many_threads_release_what_threads_that_are_gone_have_made(void **state)
{
    (void)state;
    run_all(send_on, ring, sizeof ring[0]);
    run_all(release_parcel, ring, sizeof ring[0]);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(neap_slice_size(AT(ring[i].slices[0])), NEAP_E_STALE);
}

/* ---- both at work ---- */

enum { ROUNDS = 200, CHANNEL = 64 };

struct channel {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct neap_handle slices[CHANNEL];
    const uint8_t *bytes[CHANNEL];
    uint32_t count;
    bool closed;
};

static void *consume(void *argument)
{
    struct channel *c = argument;
    pthread_mutex_lock(&c->lock);
    while (c->count || !c->closed) {
        if (!c->count) {
            pthread_cond_wait(&c->changed, &c->lock);
            continue;
        }
        struct neap_handle s = c->slices[--c->count];
        const uint8_t *bytes = c->bytes[c->count];
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
        for (int i = 0; i < 64; i++) must(bytes[i] == bytes[0]);
        must(neap_slice_release(AT(s)) == NEAP_OK);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static void produce(struct channel *c, struct neap_handle allocator, uint8_t value)
{
    char bytes[64];
    memset(bytes, value, sizeof bytes);
    struct neap_handle s;
    assert_int_equal(neap_allocator_copy(AT(allocator), bytes, sizeof bytes, &s), NEAP_OK);
    pthread_mutex_lock(&c->lock);
    while (c->count == CHANNEL) pthread_cond_wait(&c->changed, &c->lock);
    c->slices[c->count] = s;
    c->bytes[c->count++] = neap_slice_bytes(AT(s));
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void P8_slices_flow_from_one_thread_to_two_and_their_memory_comes_back(void **state)
{
    (void)state;
    needs_neighbours();
    needs_sizes();
    struct neap_handle pool = pool_make(4096), allocator = allocator_make(pool, 0);
    struct channel c = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, consume, &c), 0);
    for (int i = 0; i < ROUNDS * CHANNEL; i++) produce(&c, allocator, (uint8_t)i);
    pthread_mutex_lock(&c.lock);
    c.closed = true;
    pthread_cond_broadcast(&c.changed);
    pthread_mutex_unlock(&c.lock);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    struct neap_pool_stats s = pool_stats(pool);
    assert_int_equal(s.slices_returned, ROUNDS * CHANNEL);
    assert_true(s.bufs_allocated < ROUNDS); /* of 64 slices each: they were used again */
    pool_end(pool);
}

/* ---- a pool that is shared ---- */

struct worker {
    struct neap_handle pool;
    struct worker *next; /* its slices are released by this one */
    pthread_barrier_t *all;
    uint8_t number;
    struct neap_handle kept[BUFS];
};

static uint8_t byte_of(const struct worker *w, int buf, int slice, uint32_t i)
{
    return (uint8_t)(w->number * 31 + buf * 7 + slice * 3 + i);
}

static void fill(const struct worker *w, struct neap_handle s, int buf, int slice)
{
    char bytes[SLICE_BYTES];
    for (uint32_t i = 0; i < SLICE_BYTES; i++) bytes[i] = (char)byte_of(w, buf, slice, i);
    must(neap_slice_write(AT(s), 0, bytes, sizeof bytes) == NEAP_OK);
}

static void check_bytes(const struct worker *w, struct neap_handle s, int buf, int slice)
{
    const uint8_t *bytes = neap_slice_bytes(AT(s));
    must(bytes != NULL);
    for (uint32_t i = 0; bytes && i < SLICE_BYTES; i++) must(bytes[i] == byte_of(w, buf, slice, i));
}

/* A slice of a whole buf is cut into SLICES; all are written and read, every second one through a
 * clone; then all but the first become one, and that is released. */
static void one_buf(struct worker *w, struct neap_handle allocator, int buf)
{
    struct neap_handle slices[SLICES], clone, rest;
    must(neap_allocator_alloc(AT(allocator), BUF_BYTES, &rest) == NEAP_OK);
    for (int i = 0; i < SLICES - 1; i++)
        must(neap_slice_split(AT(rest), SLICE_BYTES, &slices[i]) == NEAP_OK);
    slices[SLICES - 1] = rest;
    for (int i = 0; i < SLICES; i++) fill(w, slices[i], buf, i);
    for (int i = 0; i < SLICES; i++) {
        bool cloned = i % 2 && neap_slice_retain(AT(slices[i]), &clone) == NEAP_OK;
        check_bytes(w, cloned ? clone : slices[i], buf, i);
        must(cloned == i % 2);
        if (cloned) must(neap_slice_release(AT(clone)) == NEAP_OK);
    }
    uint32_t where;
    must(neap_slice_coalesce(slices + 1, SLICES - 1, BUF_BYTES, &where) == 1);
    must(neap_slice_size(AT(slices[1])) == BUF_BYTES - SLICE_BYTES);
    must(neap_slice_release(AT(slices[1])) == NEAP_OK);
    w->kept[buf] = slices[0];
}

static void *work(void *argument)
{
    struct worker *w = argument;
    struct neap_handle allocator;
    must(neap_allocator_create(AT(w->pool), 0, &allocator) == NEAP_OK);
    for (int buf = 0; buf < BUFS; buf++) one_buf(w, allocator, buf);
    must(neap_allocator_release(AT(allocator)) == NEAP_OK);
    pthread_barrier_wait(w->all);
    for (int buf = 0; buf < BUFS; buf++) {
        check_bytes(w->next, w->next->kept[buf], buf, 0);
        must(neap_slice_release(AT(w->next->kept[buf])) == NEAP_OK);
    }
    return NULL;
}

static void P8_a_shared_pool_holds_for_100_threads_100_bufs_and_100_slices(void **state)
{
    (void)state;
    static struct worker workers[THREADS];
    struct neap_handle pool = shared_make();
    pthread_barrier_t all;
    pthread_barrier_init(&all, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        workers[i] = (struct worker){
            .pool = pool, .next = &workers[(i + 1) % THREADS], .all = &all, .number = (uint8_t)i};
    run_all(work, workers, sizeof workers[0]);
    pthread_barrier_destroy(&all);
    struct neap_pool_stats s = pool_stats(pool);
    uint64_t clones = (uint64_t)THREADS * BUFS * (SLICES / 2);
    assert_int_equal(s.slices_made, (uint64_t)THREADS * BUFS * SLICES + clones);
    assert_int_equal(s.slices_taken, (uint64_t)THREADS * BUFS * (SLICES - 2));
    assert_int_equal(s.slices_live, 0);
    pool_end(pool);
}

static void P8_all_calls_on_slices_work_in_a_shared_pool(void **state)
{
    (void)state;
    needs_neighbours();
    struct neap_handle pool = shared_make(), allocator = allocator_make(pool, 4),
                       own = pool_make(0);
    struct neap_handle s = slice_text(allocator, "header, payload"), moved;
    struct neap_handle front = slice_split(s, 8), clone = slice_retain(front);
    char room[8];
    slice_reads(front, "header, ");
    slice_reads(s, "payload");
    assert_int_equal(neap_slice_find(AT(s), "load", 4, 0), 3);
    assert_int_equal(neap_slice_equals(AT(s), "payload", 7), 1);
    assert_int_equal(neap_slice_equals_slice(AT(front), AT(clone)), 1);
    assert_int_equal(neap_slice_write(AT(front), 0, "H", 1), NEAP_E_OVERLAP);
    slice_end(clone);
    assert_int_equal(neap_slice_set(AT(front), 0, 2 | NEAP_BIG, 0x4845), NEAP_OK);
    assert_true(neap_slice_get(AT(front), 0, 2 | NEAP_BIG) == 0x4845);
    assert_int_equal(neap_slice_get_bits(AT(front), 0, 1), 0x48);
    assert_int_equal(neap_slice_copy_out(AT(front), 0, 2, room), NEAP_OK);
    assert_memory_equal(room, "HE", 2);
    assert_int_equal(neap_slice_copy(AT(front), 0, AT(s), 0, 3), NEAP_OK);
    slice_reads(front, "payder, ");
    assert_int_equal(neap_slice_truncate_front(AT(front), 3), 5);
    assert_int_equal(neap_slice_expand_front(AT(front), 3), 1);
    assert_int_equal(neap_slice_truncate_back(AT(s), 3), 4);
    assert_int_equal(neap_slice_release_previous(AT(s), AT(front)), 1);
    assert_int_equal(neap_slice_move(AT(s), &moved), NEAP_OK);
    assert_int_equal(neap_slice_size(AT(s)), NEAP_E_STALE);
    assert_true(neap_slice_detach(AT(moved)) > 0);
    slice_reads(moved, "payl");
    struct neap_pool_settings settings;
    assert_int_equal(neap_pool_settings(AT(pool), &settings), NEAP_OK);
    assert_int_equal(settings.min_size, BUF_BYTES);
    slice_end(moved);
    assert_int_equal(neap_slice_release(AT(moved)), NEAP_E_STALE);
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    assert_true(neap_pool_trim(AT(pool)) > 0);
    pool_end(pool);
    pool_end(own);
}

static void P8_a_shared_pool_and_another_do_not_mix(void **state)
{
    (void)state;
    struct neap_handle pools[3] = {shared_make(), shared_make(), pool_make(0)};
    struct neap_handle allocators[3], slices[3], out, list[2];
    for (int i = 0; i < 3; i++) {
        allocators[i] = allocator_make(pools[i], 0);
        slices[i] = slice_text(allocators[i], "abc");
    }
    uint32_t where;
    for (int i = 0; i < 3; i++) {
        struct neap_handle one = slices[i], other = slices[(i + 1) % 3];
        assert_int_equal(neap_slice_copy(AT(one), 0, AT(other), 0, 3), NEAP_E_THREAD);
        assert_int_equal(neap_slice_release_previous(AT(one), AT(other)), NEAP_E_THREAD);
        list[0] = one;
        list[1] = other;
        assert_int_equal(neap_slice_coalesce(list, 2, 100, &where), NEAP_E_THREAD);
        assert_int_equal(where, 1);
        slice_reads(one, "abc");
    }
    assert_int_equal(neap_reader_create(AT(pools[0]), 100, &out), NEAP_E_THREAD);
    assert_int_equal(neap_buffer_create(AT(pools[0]), &out), NEAP_E_THREAD);
    for (int i = 0; i < 3; i++) {
        slice_end(slices[i]);
        assert_int_equal(neap_allocator_release(AT(allocators[i])), NEAP_OK);
        pool_end(pools[i]);
    }
}

static void *end_shared(void *argument)
{
    struct left *l = argument;
    struct neap_pool_options options = {.min_size = 64, .shared = true};
    must(neap_pool_create(&options, &l->shared) == NEAP_OK);
    must(neap_allocator_create(AT(l->shared), 0, &l->allocator) == NEAP_OK);
    must(neap_allocator_copy(AT(l->allocator), "abc", 3, &l->slices[0]) == NEAP_OK);
    return NULL;
}

static void P8_a_shared_pool_outlives_the_thread_that_made_it(void **state)
{
    (void)state;
    struct left l;
    run_thread(end_shared, &l);
    slice_reads(l.slices[0], "abc");
    assert_int_equal(neap_pool_close(AT(l.shared)), NEAP_OK);
    assert_int_equal(neap_allocator_alloc(AT(l.allocator), 1, &l.slices[1]), NEAP_E_CLOSED);
    assert_int_equal(neap_allocator_release(AT(l.allocator)), NEAP_OK);
    assert_int_equal(neap_pool_release(AT(l.shared)), NEAP_OK);
    slice_reads(l.slices[0], "abc");
    slice_end(l.slices[0]);
    assert_int_equal(neap_slice_release(AT(l.slices[0])), NEAP_E_STALE);
}

static void P8_there_are_no_more_than_256_threads_and_shared_pools(void **state)
{
    (void)state;
    static struct neap_handle pools[NEAP_REALMS_MAX];
    struct neap_pool_options options = {.shared = true};
    int count = 0;
    while (count < NEAP_REALMS_MAX && neap_pool_create(&options, &pools[count]) == NEAP_OK) count++;
    assert_in_range(count, NEAP_REALMS_MAX / 2, NEAP_REALMS_MAX - 1); /* and this thread */
    assert_int_equal(neap_pool_create(&options, &pools[count]), NEAP_E_MEMORY);
    while (count--) assert_int_equal(neap_pool_release(AT(pools[count])), NEAP_OK);
    assert_int_equal(neap_pool_create(&options, &pools[0]), NEAP_OK);
    assert_int_equal(neap_pool_release(AT(pools[0])), NEAP_OK);
}

static const struct CMUnitTest tests[] = {
    TEST(P8_slices_are_released_from_another_thread_and_counted),
    TEST(P8_they_come_back_32_at_a_time_or_with_a_turn),
    TEST(P8_an_allocator_takes_back_what_came_before_it_takes_new_memory),
    TEST(P8_a_second_release_from_another_thread_is_counted_and_harmless),
    TEST(P8_a_release_that_finds_no_memory_has_changed_nothing),
    TEST(P8_other_calls_on_a_handle_of_another_thread_say_so),
    TEST(P8_slices_outlive_their_thread_and_its_memory_goes_with_the_last),
    TEST(P8_a_later_thread_never_finds_what_an_earlier_one_made),
    TEST(P8_many_threads_release_what_threads_that_are_gone_have_made),
    TEST(P8_slices_flow_from_one_thread_to_two_and_their_memory_comes_back),
    TEST(P8_a_shared_pool_holds_for_100_threads_100_bufs_and_100_slices),
    TEST(P8_all_calls_on_slices_work_in_a_shared_pool),
    TEST(P8_a_shared_pool_and_another_do_not_mix),
    TEST(P8_a_shared_pool_outlives_the_thread_that_made_it),
    TEST(P8_there_are_no_more_than_256_threads_and_shared_pools),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
