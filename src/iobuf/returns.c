#include "iobuf/returns.h"

#include "base/mem.h"
#include "iobuf/slice.h"

enum { BATCH = 32 };

struct neap_batch {
    struct neap_batch *next;
    struct neap_realm *owner;
    uint32_t count;
    struct neap_handle slices[BATCH];
};

/* What this thread will send next. */
static __attribute__((tls_model("initial-exec"))) _Thread_local struct neap_batch *batch;

/* Its thread may have ended just now. If it ends after the push, it finds the batch itself. */
static void take_for(struct neap_realm *owner)
{
    if (atomic_load(&owner->state) != NEAP_REALM_ENDED || !neap_visit_ended(owner)) return;
    neap_leave(NEAP_OK); /* which takes them */
}

void neap_returns_send(void)
{
    struct neap_batch *b = batch;
    if (!b) return;
    batch = NULL;
    struct neap_realm *owner = b->owner; /* b may be gone once it is pushed */
    b->next = atomic_load_explicit(&owner->returned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&owner->returned, &b->next, b)) continue;
    take_for(owner);
}

static bool begin_batch(struct neap_realm *owner)
{
    if (!neap_realm_note_thread()) return false;
    struct neap_batch *b = neap_mem_calloc(1, sizeof *b);
    if (!b) return false;
    neap_returns_send();
    b->owner = owner;
    batch = b;
    return true;
}

int neap_returns_add(struct neap_realm *owner, uint32_t slot, uint32_t gen)
{
    bool fits = batch && batch->owner == owner;
    if (!fits && !begin_batch(owner)) return NEAP_E_MEMORY;
    batch->slices[batch->count++] = (struct neap_handle){slot, gen};
    if (batch->count == BATCH) neap_returns_send();
    return NEAP_OK;
}

static uint32_t end(const struct neap_handle *handle)
{
    struct neap_slice *s = neap_slice_of(handle->slot, handle->gen);
    if (!s) {
        neap_here.double_releases++;
        return 0;
    }
    s->buf->stats->slices_returned++;
    neap_slice_end(s, NEAP_RELEASED);
    return 1;
}

uint32_t neap_returns_take_all(void)
{
    struct neap_batch *b = atomic_exchange(&neap_here.realm->returned, NULL);
    uint32_t ended = 0;
    while (b) {
        struct neap_batch *next = b->next;
        for (uint32_t i = 0; i < b->count; i++) ended += end(&b->slices[i]);
        neap_mem_free(b);
        b = next;
    }
    return ended;
}

int neap_thread_turn(void)
{
    neap_returns_send();
    return (int)neap_returns_take();
}
