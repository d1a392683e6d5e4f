#include "iobuf/slab.h"

#include "base/mem.h"
#include "base/panic.h"
#include "base/poison.h"

enum {
    SLAB_BYTES = 1 << 20,
    SLAB_MIN_BUFS = NEAP_TINY(16, 4),
    SLAB_MAX_BUFS = NEAP_TINY(1024, 4),
};

/* Class 0 is NEAP_CLASS_MIN_BYTES; class 4k + j is 64 * 2^k * (4 + j) / 4. */
uint32_t neap_class_bytes(uint32_t class_index)
{
    uint32_t doubling = class_index / NEAP_CLASS_STEPS;
    uint32_t step = class_index % NEAP_CLASS_STEPS;
    return (uint32_t)(NEAP_CLASS_MIN_BYTES / NEAP_CLASS_STEPS) * (NEAP_CLASS_STEPS + step)
           << doubling;
}

uint32_t neap_class_below(size_t size)
{
    if (size <= NEAP_CLASS_MIN_BYTES) return 0;
    uint32_t log2 = 63 - (uint32_t)__builtin_clzll(size);
    uint32_t step = (uint32_t)(size >> (log2 - 2)) & (NEAP_CLASS_STEPS - 1);
    return (log2 - 6) * NEAP_CLASS_STEPS + step;
}

uint32_t neap_class_above(size_t size)
{
    uint32_t below = neap_class_below(size);
    return below + (neap_class_bytes(below) < size);
}

_Static_assert(NEAP_CLASS_MIN_BYTES == 64, "neap_class_below() counts doublings from 2^6");

static uint32_t bufs_of(uint32_t capacity, bool classes)
{
    bool alone = NEAP_MODE_GUARD || NEAP_MODE_MALLOC;
    if (!classes || capacity > NEAP_CLASS_MAX_BYTES || alone) return 1;
    uint32_t count = SLAB_BYTES / capacity;
    if (count < SLAB_MIN_BUFS) return SLAB_MIN_BUFS;
    return count > SLAB_MAX_BUFS ? SLAB_MAX_BUFS : count;
}

static size_t pages(size_t bytes)
{
    return (bytes + NEAP_MEM_PAGE - 1) / NEAP_MEM_PAGE * NEAP_MEM_PAGE;
}

static void get_memory(struct neap_slab *slab, size_t bytes)
{
    slab->mem_bytes = NEAP_MODE_MALLOC ? bytes : pages(bytes);
    slab->mem = NEAP_MODE_MALLOC ? neap_mem_calloc(1, bytes) : neap_mem_map(slab->mem_bytes);
}

static void give_memory(struct neap_slab *slab)
{
    if (NEAP_MODE_MALLOC)
        neap_mem_free(slab->mem);
    else
        neap_mem_unmap(slab->mem, slab->mem_bytes);
}

static void list_roomy(struct neap_slab *slab)
{
    struct neap_slab **head = &slab->pool->roomy[slab->class_index];
    slab->prev = NULL;
    slab->next = *head;
    if (*head) (*head)->prev = slab;
    *head = slab;
    slab->listed = true;
}

static void unlist_roomy(struct neap_slab *slab)
{
    if (slab->prev)
        slab->prev->next = slab->next;
    else
        slab->pool->roomy[slab->class_index] = slab->next;
    if (slab->next) slab->next->prev = slab->prev;
    slab->listed = false;
}

static void enter(struct neap_slab *slab, struct neap_pool *pool)
{
    slab->pool = pool;
    slab->after = pool->slabs;
    if (slab->after) slab->after->before = slab;
    pool->slabs = slab;
}

static void leave(struct neap_slab *slab)
{
    if (slab->before)
        slab->before->after = slab->after;
    else
        slab->pool->slabs = slab->after;
    if (slab->after) slab->after->before = slab->before;
}

static void destroy(struct neap_slab *slab)
{
    if (slab->listed) unlist_roomy(slab);
    leave(slab);
    neap_unpoison(slab->mem, slab->mem_bytes);
    give_memory(slab);
    neap_mem_free(slab);
}

static struct neap_slab *create(struct neap_pool *pool, uint32_t capacity, bool classes)
{
    uint32_t count = bufs_of(capacity, classes);
    struct neap_slab *slab =
        neap_mem_calloc(1, sizeof *slab + (size_t)count * sizeof(struct neap_buf));
    if (!slab) return NULL;
    get_memory(slab, (size_t)capacity * count);
    if (!slab->mem) {
        neap_mem_free(slab);
        return NULL;
    }
    enter(slab, pool);
    slab->capacity = capacity;
    slab->count = count;
    slab->class_index = neap_class_below(capacity);
    slab->bufs = (struct neap_buf *)(slab + 1);
    neap_poison(slab->mem, slab->mem_bytes);
    if (count > 1) list_roomy(slab);
    return slab;
}

static struct neap_buf *next_buf(struct neap_slab *slab)
{
    if (slab->bare) {
        struct neap_buf *buf = slab->bare;
        slab->bare = buf->next;
        return buf;
    }
    neap_assert(slab->carved < slab->count, "a listed slab has room");
    struct neap_buf *buf = &slab->bufs[slab->carved];
    buf->mem = slab->mem + (size_t)slab->carved++ * slab->capacity;
    buf->capacity = slab->capacity;
    buf->more_handles = -1; /* none */
    buf->slab = slab;
    buf->stats = &slab->pool->stats;
    return buf;
}

struct neap_buf *neap_slab_cut(struct neap_pool *pool, uint32_t capacity, bool classes)
{
    struct neap_slab *slab = classes ? pool->roomy[neap_class_below(capacity)] : NULL;
    if (!slab) slab = create(pool, capacity, classes);
    if (!slab) return NULL;
    struct neap_buf *buf = next_buf(slab);
    slab->held++;
    if (slab->listed && !slab->bare && slab->carved == slab->count) unlist_roomy(slab);
    return buf;
}

void neap_slab_drop(struct neap_buf *buf)
{
    struct neap_slab *slab = buf->slab;
    neap_assert(slab->held > 0, "a slab drops what it holds");
    if (--slab->held == 0) {
        destroy(slab);
        return;
    }
    neap_unpoison(buf->mem, buf->capacity);
    neap_mem_discard(buf->mem, buf->capacity);
    neap_poison(buf->mem, buf->capacity);
    buf->next = slab->bare;
    slab->bare = buf;
    if (!slab->listed) list_roomy(slab);
}
