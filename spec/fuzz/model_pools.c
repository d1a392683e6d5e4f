/* model_pools.c - pools and allocators. */
#include "model.h"

/* ---- pools ---- */

static void shut_if_alone(struct model_pool *pool)
{
    if (pool->gone && !pool->keepers) pool->closed = true;
}

void pool_keep(struct model_pool *pool)
{
    pool->keepers++;
}

void pool_unkeep(struct model_pool *pool)
{
    pool->keepers--;
    shut_if_alone(pool);
}

struct model_pool *choose_pool(struct neap_handle *handle)
{
    struct model_pool *pool = &model.pools[choose(model.pool_count)];
    *handle = pool->handle;
    return pool->gone ? NULL : pool;
}

uint32_t pool_rounds(const struct model_pool *pool, uint32_t size)
{
    uint64_t unit =
        pool->options.min_size > 0 ? (uint64_t)pool->options.min_size : NEAP_BUF_MIN_BYTES;
    uint64_t rounded = size ? (size + unit - 1) / unit * unit : unit;
    return rounded <= 1073741824 ? (uint32_t)rounded : 0;
}

static void pool_create(void)
{
    static const uint32_t sizes[] = {0, 1, 8, 64, 64, 100, 500, 4096};
    static const uint32_t limits[] = {0, 0, 0, 0, 0, 1000, 20000, 300000};
    model_op("pool create");
    if (model.pool_count == POOLS) return;
    struct model_pool *pool = &model.pools[model.pool_count];
    uint32_t how = choose(256);
    pool->options = (struct neap_pool_options){.min_size = sizes[how & 7],
                                               .limit = limits[choose(8)],
                                               .retain = how & 64 ? 1 + choose(10000) : 0,
                                               .classes = how & 8,
                                               .poison = how & 16};
    if (how == 255) {
        pool->options.min_size = 0.5 + choose(3);
        is(neap_pool_create(&pool->options, &pool->handle), NEAP_E_RANGE, NULL);
        return;
    }
    if (!is(neap_pool_create(&pool->options, &pool->handle), NEAP_OK, NULL)) return;
    pool->real = neap_pool_of(AT(pool->handle));
    model.pool_count++;
}

static void pool_close(void)
{
    struct neap_handle handle;
    struct model_pool *pool = choose_pool(&handle);
    model_op("pool close");
    if (pool && choose(8)) return; /* mostly they stay open */
    is(neap_pool_close(AT(handle)), pool ? NEAP_OK : NEAP_E_STALE, NULL);
    if (pool) pool->closed = true;
}

static void pool_let_go(struct model_pool *pool)
{
    if (!is(neap_pool_release(AT(pool->handle)), NEAP_OK, NULL)) return;
    pool->gone = true;
    shut_if_alone(pool);
}

static void pool_release(void)
{
    struct neap_handle handle;
    struct model_pool *pool = choose_pool(&handle);
    model_op("pool release");
    if (pool && choose(8)) return;
    if (pool)
        pool_let_go(pool);
    else
        is(neap_pool_release(AT(handle)), NEAP_E_STALE, NULL);
}

static void pool_trim(void)
{
    struct neap_handle handle;
    struct model_pool *pool = choose_pool(&handle);
    struct neap_pool_stats stats;
    model_op("pool trim");
    double gone = neap_pool_trim(AT(handle));
    if (!is(gone >= 0 ? NEAP_OK : NEAP_E_STALE, pool ? NEAP_OK : NEAP_E_STALE, NULL)) return;
    CHECK(neap_pool_stats(AT(handle), &stats) == NEAP_OK && stats.bytes_free == 0);
}

static void pool_decay(void)
{
    struct neap_handle handle;
    struct model_pool *pool = choose_pool(&handle);
    model_op("pool decay");
    model.time += choose(1500);
    double gone = neap_pool_decay(AT(handle), model.time, choose_size());
    is(gone >= 0 ? NEAP_OK : NEAP_E_STALE, pool ? NEAP_OK : NEAP_E_STALE, NULL);
}

/* ---- allocators ---- */

static struct model_allocator *choose_allocator(struct neap_handle *handle)
{
    uint32_t i = choose(ALLOCATORS);
    struct model_allocator *a = i < model.allocator_count ? &model.allocators[i] : NULL;
    if (!a && model.allocator_count && choose(8)) a = &model.allocators[i % model.allocator_count];
    *handle = a ? a->handle : choose_stale(AN_ALLOCATOR);
    return a;
}

static void allocator_create(void)
{
    struct neap_handle handle;
    struct model_pool *pool = choose_pool(&handle);
    uint32_t reserve = choose(3) ? 0 : choose_size();
    model_op("allocator create");
    if (model.allocator_count == ALLOCATORS) return;
    struct model_allocator *a = &model.allocators[model.allocator_count];
    *a = (struct model_allocator){.pool = pool, .reserve = reserve};
    int want = !pool                          ? NEAP_E_STALE
               : reserve > NEAP_BUF_MAX_BYTES ? NEAP_E_RANGE
               : pool->closed                 ? NEAP_E_CLOSED
                                              : NEAP_OK;
    if (!is(neap_allocator_create(AT(handle), reserve, &a->handle), want, NULL)) return;
    pool_keep(pool);
    model.allocator_count++;
}

/* One too large for the current buf, or for whose sake too much of that would be left behind. */
static bool wants_own_buf(const struct model_allocator *a, uint32_t size)
{
    bool classes = a->pool->options.classes;
    if (NEAP_MODE_MALLOC) return true;
    if (!a->buf) return classes && size > neap_pool_rounded(a->pool->real, 0);
    if (size > a->capacity / 2) return true;
    return classes && a->capacity - a->cursor > a->capacity / 8;
}

/* Where the next slice lies: in the current buf, in one of its own, or at the front of the next
 * current one. */
static void expect_place(struct model_allocator *a, const struct model_slice *s, uint32_t size)
{
    CHECK(s->base - s->free == a->reserve && s->bound - s->free == size);
    if (a->buf && size <= a->capacity - a->cursor) {
        CHECK(s->buf == a->buf && s->free == a->cursor);
        a->cursor += size;
        return;
    }
    CHECK(s->free == 0);
    if (a->buf && s->buf == a->buf) { /* all slices of it had gone: it began anew */
        CHECK(size <= a->capacity);
        a->cursor = size;
        return;
    }
    if (wants_own_buf(a, size)) return;
    a->buf = s->buf;
    a->capacity = pool_rounds(a->pool, size);
    a->cursor = size;
    CHECK(a->buf->capacity >= a->capacity);
}

static int expect_alloc(const struct model_allocator *a, uint32_t n)
{
    if (!a) return NEAP_E_STALE;
    if (a->closed || a->pool->closed) return NEAP_E_CLOSED;
    uint64_t size = (uint64_t)n + a->reserve;
    bool fits = a->buf && size <= a->capacity - a->cursor;
    if (!fits && (size > NEAP_BUF_MAX_BYTES || !pool_rounds(a->pool, (uint32_t)size)))
        return NEAP_E_OVERSIZED;
    return NEAP_OK;
}

static void allocate(bool copy)
{
    struct neap_handle handle, made;
    struct model_allocator *a = choose_allocator(&handle);
    uint32_t n = choose_size();
    bool huge = n > LARGE_BYTES || (a && a->reserve > LARGE_BYTES);
    int want = expect_alloc(a, n);
    model_op(copy ? "allocator copy" : "allocator alloc");
    if (model.slice_count == SLICES || (huge && (copy || want == NEAP_OK))) return;
    const uint8_t *bytes = choose_text(huge ? 0 : n);
    int result = copy ? neap_allocator_copy(AT(handle), (const char *)bytes, n, &made)
                      : neap_allocator_alloc(AT(handle), n, &made);
    if (!is(result, want, a ? a->pool : NULL)) return;
    if (!copy) CHECK(neap_slice_write(AT(made), 0, (const char *)bytes, n) == NEAP_OK);
    expect_place(a, slice_born(made, a->pool, bytes), n + a->reserve);
}

static void allocator_alloc(void)
{
    allocate(false);
}

static void allocator_copy(void)
{
    allocate(true);
}

static void allocator_shut(struct model_allocator *a)
{
    if (a->closed) return;
    a->closed = true;
    a->buf = NULL;
    pool_unkeep(a->pool);
}

static void allocator_close(void)
{
    struct neap_handle handle;
    struct model_allocator *a = choose_allocator(&handle);
    model_op("allocator close");
    if (a && choose(3)) return;
    if (is(neap_allocator_close(AT(handle)), a ? NEAP_OK : NEAP_E_STALE, NULL)) allocator_shut(a);
}

static void allocator_let_go(struct model_allocator *a)
{
    if (!is(neap_allocator_release(AT(a->handle)), NEAP_OK, NULL)) return;
    allocator_shut(a);
    forget_handle(AN_ALLOCATOR, a->handle);
    *a = model.allocators[--model.allocator_count];
}

static void allocator_release(void)
{
    struct neap_handle handle;
    struct model_allocator *a = choose_allocator(&handle);
    model_op("allocator release");
    if (a && choose(4)) return;
    if (a)
        allocator_let_go(a);
    else
        is(neap_allocator_release(AT(handle)), NEAP_E_STALE, NULL);
}

void pools_end(void)
{
    model_op("allocator release");
    while (model.allocator_count) allocator_let_go(&model.allocators[0]);
    model_op("pool release");
    for (uint32_t i = 0; i < model.pool_count; i++)
        if (!model.pools[i].gone) pool_let_go(&model.pools[i]);
}

model_step *const pool_steps[] = {
    pool_create,      pool_close,      pool_release,    pool_trim,        pool_decay,
    allocator_alloc,  allocator_copy,  allocator_alloc, allocator_copy,   allocator_alloc,
    allocator_copy,   allocator_alloc, allocator_copy,  allocator_close,  allocator_release,
    allocator_create, allocator_alloc, allocator_copy,  allocator_create, allocator_copy,
};
const uint32_t pool_step_count = sizeof pool_steps / sizeof *pool_steps;
