/* allocator.c - slices cut out of a buf one behind the other.
 *
 * The current buf is owned by the allocator (one count) until the next request no
 * longer fits. A request that is larger than half a buf gets one of its own, so the
 * room left in the current one is not thrown away for it. With size classes so does
 * one that would leave more than an eighth of the current buf, and its own is of the
 * class that it needs: no mix of sizes wastes more than a fifth. */
#include <string.h>

#include "iobuf/ledger.h"
#include "iobuf/returns.h"

enum { TAIL_PART = 8 }; /* of a buf, which may be left behind */

struct neap_allocator {
    struct neap_slot head;
    uint32_t slot;
    struct neap_pool *pool; /* kept open; NULL once closed */
    struct neap_buf *buf;   /* NULL before the first request */
    uint32_t capacity;      /* of buf, as rounded by the pool, which may give more */
    uint32_t cursor;        /* where the next slice starts */
    uint32_t reserve;
};

const struct neap_slots neap_no_allocators = NEAP_SLOTS(struct neap_allocator, NEAP_ALLOCATORS_MAX);

static struct neap_allocator *allocator_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&neap_here.allocators, slot, gen);
}

int neap_allocator_create(uint32_t pool_slot, uint32_t pool_gen, uint32_t reserve,
                          struct neap_handle *handle)
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool && neap_visit(pool_slot))
        return neap_leave(neap_allocator_create(pool_slot, pool_gen, reserve, handle));
    if (!pool) return neap_missing(pool_slot);
    if (reserve > NEAP_BUF_MAX_BYTES) return NEAP_E_RANGE;
    if (pool->closed) return NEAP_E_CLOSED;
    uint32_t slot;
    struct neap_allocator *a = neap_slots_take(&neap_here.allocators, &slot);
    if (!a) return NEAP_E_MEMORY;
    neap_pool_keep(pool);
    a->slot = slot;
    a->pool = pool;
    a->reserve = reserve;
    *handle = (struct neap_handle){slot, a->head.gen};
    return NEAP_OK;
}

static void leave_buf(struct neap_allocator *a)
{
    if (!a->buf) return;
    a->pool->stats.bytes_wasted += a->capacity - a->cursor;
    neap_buf_unhold(a->buf);
    neap_buf_release(a->buf);
    a->buf = NULL;
}

static int cut_own_buf(struct neap_allocator *a, uint32_t size, struct neap_handle *handle)
{
    struct neap_buf *buf;
    struct neap_pool *pool = a->pool;
    bool exact = pool->classes || NEAP_MODE_MALLOC;
    int result = exact ? neap_pool_take_small(pool, size, &buf) : neap_pool_take(pool, size, &buf);
    if (result < 0) return result;
    struct neap_slice *s = neap_slice_make(buf, 0, a->reserve, size);
    uint32_t rounded = exact ? buf->capacity : neap_pool_rounded(pool, size);
    neap_buf_release(buf); /* the slice, if there is one, has its own count */
    if (!s) return NEAP_E_MEMORY;
    pool->stats.bytes_wasted += rounded - size;
    *handle = neap_slice_handle(s);
    return neap_slice_born(s);
}

static int next_buf(struct neap_allocator *a, uint32_t size)
{
    struct neap_buf *buf;
    int result = neap_pool_take(a->pool, size, &buf);
    if (result < 0) return result;
    leave_buf(a);
    neap_buf_hold(buf);
    a->buf = buf;
    a->capacity = neap_pool_rounded(a->pool, size);
    a->cursor = 0;
    return NEAP_OK;
}

/* Is there room in the current buf? If all that was cut from it has been released, it begins anew. */
static inline bool has_room(struct neap_allocator *a, uint32_t size)
{
    if (!a->buf) return false;
    if (size <= a->capacity - a->cursor) return true;
    if (a->buf->refs > 1 || size > a->capacity) return false;
    a->cursor = 0;
    return true;
}

/* The cursor moves first: what comes last is nearly always nothing but a return. */
static inline int cut_next(struct neap_allocator *a, uint32_t size, struct neap_handle *handle)
{
    uint32_t at = a->cursor;
    struct neap_slice *s = neap_slice_make(a->buf, at, at + a->reserve, at + size);
    if (!s) return NEAP_E_MEMORY;
    a->cursor = at + size;
    *handle = neap_slice_handle(s);
    return neap_slice_born(s);
}

/* Or shall the next buf begin with it? */
static bool wants_own_buf(const struct neap_allocator *a, uint32_t size)
{
    if (NEAP_MODE_MALLOC) return true;
    if (!a->buf) return a->pool->classes && size > a->pool->min_size;
    if (size > a->capacity / 2) return true;
    return a->pool->classes && a->capacity - a->cursor > a->capacity / TAIL_PART;
}

static __attribute__((noinline)) int alloc_elsewhere(struct neap_allocator *a, uint32_t size,
                                                     struct neap_handle *handle)
{
    if (neap_returns_take() && has_room(a, size)) return cut_next(a, size, handle);
    bool own = wants_own_buf(a, size);
    int result = own ? cut_own_buf(a, size, handle) : next_buf(a, size);
    if (!own && result == NEAP_OK) result = cut_next(a, size, handle);
    if (result < 0) return result;
    return result | (neap_collector_due(false) ? NEAP_STEP : NEAP_OK);
}

static inline int alloc(struct neap_allocator *a, uint32_t n, struct neap_handle *handle)
{
    if (!a->pool || a->pool->closed) return NEAP_E_CLOSED;
    uint64_t sum = (uint64_t)n + a->reserve;
    if (sum > NEAP_BUF_MAX_BYTES) return NEAP_E_OVERSIZED;
    uint32_t size = (uint32_t)sum;
    return has_room(a, size) ? cut_next(a, size, handle) : alloc_elsewhere(a, size, handle);
}

static __attribute__((noinline)) int alloc_in_other(uint32_t slot, uint32_t gen, uint32_t n,
                                                    struct neap_handle *handle)
{
    return neap_visit(slot) ? neap_leave(neap_allocator_alloc(slot, gen, n, handle))
                            : neap_missing(slot);
}

int neap_allocator_alloc(uint32_t slot, uint32_t gen, uint32_t n, struct neap_handle *handle)
{
    struct neap_allocator *a = allocator_of(slot, gen);
    return a ? alloc(a, n, handle) : alloc_in_other(slot, gen, n, handle);
}

static __attribute__((noinline)) int copy_in_other(uint32_t slot, uint32_t gen, const char *bytes,
                                                   uint32_t n, struct neap_handle *handle)
{
    return neap_visit(slot) ? neap_leave(neap_allocator_copy(slot, gen, bytes, n, handle))
                            : neap_missing(slot);
}

int neap_allocator_copy(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n,
                        struct neap_handle *handle)
{
    struct neap_allocator *a = allocator_of(slot, gen);
    if (!a) return copy_in_other(slot, gen, bytes, n, handle);
    int result = alloc(a, n, handle);
    if (result >= 0 && n) memcpy(neap_slice_data(neap_slice_at(handle->slot)), bytes, n);
    return result;
}

static void shut(struct neap_allocator *a)
{
    if (!a->pool) return;
    leave_buf(a);
    neap_pool_unkeep(a->pool);
    a->pool = NULL;
}

int neap_allocator_close(uint32_t slot, uint32_t gen)
{
    struct neap_allocator *a = allocator_of(slot, gen);
    if (!a)
        return neap_visit(slot) ? neap_leave(neap_allocator_close(slot, gen)) : neap_missing(slot);
    shut(a);
    return NEAP_OK;
}

int neap_allocator_release(uint32_t slot, uint32_t gen)
{
    struct neap_allocator *a = allocator_of(slot, gen);
    if (!a)
        return neap_visit(slot) ? neap_leave(neap_allocator_release(slot, gen))
                                : neap_missing(slot);
    shut(a);
    neap_slots_give(&neap_here.allocators, slot);
    return NEAP_OK;
}

void neap_allocator_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    neap_collector_finalized();
    neap_allocator_release(h->slot, h->gen);
}
