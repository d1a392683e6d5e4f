/* returns.h - slices that are released by another thread than the one that made them.
 *
 * A thread collects what it releases of others, up to 32 slices of one realm, and sends them
 * together: one exchange of a pointer. The owner takes them in between two turns of its loop, before
 * it takes new memory, and when it is asked for its counters; then they end as if it had released
 * them, and a handle that was stale is counted there. If the owner has ended, who sends
 * them takes them in.
 *
 *     neap_returns_add(realm, slot, gen);   neap_returns_send();     // who releases
 *     neap_returns_take();                                           // who owns
 *
 * Limits: none. Thread: any, for its own. */
#pragma once

#include <stdint.h>

#include "iobuf/realm.h"

/* The slice is the owner's to end. own: takes.  err: MEMORY; then nothing happened. */
int neap_returns_add(struct neap_realm *owner, uint32_t slot, uint32_t gen);

/* Send what this thread has collected. */
void neap_returns_send(void);

/* private: what the function below leaves aside. */
uint32_t neap_returns_take_all(void);

/* End what came back. Whoever calls this holds no slice. Returns how many ended. */
static inline uint32_t neap_returns_take(void)
{
    bool none = !atomic_load_explicit(&neap_here.realm->returned, memory_order_relaxed);
    return __builtin_expect(none, 1) ? 0 : neap_returns_take_all();
}
