#include "iobuf/realm.h"

#include "base/mem.h"
#include "iobuf/ledger.h"
#include "iobuf/reader.h"
#include "iobuf/returns.h"

static struct neap_realm first; /* the first thread's, which needs no memory for it */

/* Where a thread is that has made nothing. It is read only. */
static struct neap_realm nowhere = {.collector = {.next_at = UINT64_MAX, .end_by = UINT64_MAX}};

_Thread_local struct neap_here neap_here = {.ledger_left = INT64_MAX, .realm = &nowhere};

static _Atomic(struct neap_realm *) realms[NEAP_REALMS_MAX]; /* never taken away again */
static uint32_t realm_count;
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER; /* for the two above */

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* its destructor runs when a thread ends */
static bool key_made;

/* ---- making ---- */

static struct neap_slots numbered(const struct neap_slots *empty, uint32_t number)
{
    struct neap_slots table = *empty;
    table.first = number << NEAP_REALM_SHIFT;
    return table;
}

static void init(struct neap_realm *r, uint32_t number)
{
    r->number = number;
    pthread_mutex_init(&r->lock, NULL);
    r->here = (struct neap_here){.slices = numbered(&neap_no_slices, number),
                                 .allocators = numbered(&neap_no_allocators, number),
                                 .readers = numbered(&neap_no_readers, number),
                                 .realm = r};
    r->pools = numbered(&neap_no_pools, number);
    r->buffers = numbered(&neap_no_buffers, number);
    r->accounts = neap_no_accounts; /* no handle names what is in this one and the next */
    r->sites = neap_no_sites;
    r->ledger.tracks = neap_no_tracks;
    r->ledger.groups = neap_no_groups;
}

/* Nobody was in it, or nobody is any more: all but the tables begins anew. */
static void begin(struct neap_realm *r)
{
    r->here.held_by_handles = r->here.finalizers_run = 0;
    r->here.double_releases = r->here.stale_uses = 0;
    r->here.ledger_left = INT64_MAX;
    r->ended_pools = r->foreign_stats = (struct neap_pool_stats){0};
    r->ledger.level = NEAP_LEAKS_OFF;
    r->ledger.random_state = 0x9e3779b97f4a7c15;
    r->ledger.sample_bytes = 0;
    r->ledger.sample_weight = 1;
    r->collector = (struct neap_collector_state){.next_at = UINT64_MAX, .end_by = UINT64_MAX};
    r->sweep = (struct neap_sweep_state){.this_turn = 1, .cursor = 1, .pool_nth = 1};
    atomic_store(&r->state, NEAP_REALM_OWNED);
}

static bool begin_if_free(struct neap_realm *r)
{
    pthread_mutex_lock(&r->lock);
    bool free = atomic_load(&r->state) == NEAP_REALM_FREE;
    if (free) begin(r);
    pthread_mutex_unlock(&r->lock);
    return free;
}

static struct neap_realm *add(void)
{
    if (realm_count == NEAP_REALMS_MAX) return NULL;
    struct neap_realm *r = realm_count ? neap_mem_calloc(1, sizeof *r) : &first;
    if (!r) return NULL;
    init(r, realm_count);
    begin(r);
    atomic_store(&realms[realm_count++], r);
    return r;
}

/* One that is the caller's alone. err: NULL. */
static struct neap_realm *make(void)
{
    struct neap_realm *r = NULL;
    pthread_mutex_lock(&making);
    for (uint32_t i = 0; i < realm_count && !r; i++)
        if (begin_if_free(realms[i])) r = realms[i];
    if (!r) r = add();
    pthread_mutex_unlock(&making);
    return r;
}

bool neap_realm_any(void)
{
    return neap_here.realm != &nowhere;
}

struct neap_realm *neap_realm_mine(void)
{
    if (neap_realm_any()) return neap_here.realm;
    struct neap_realm *r = neap_realm_note_thread() ? make() : NULL;
    if (!r) return NULL;
    uint64_t double_releases = neap_here.double_releases, stale_uses = neap_here.stale_uses;
    neap_here = r->here;
    neap_here.double_releases = double_releases;
    neap_here.stale_uses = stale_uses;
    return r;
}

/* ---- other realms ---- */

struct neap_realm *neap_realm_other(uint32_t slot)
{
    struct neap_realm *r =
        atomic_load_explicit(&realms[slot >> NEAP_REALM_SHIFT], memory_order_acquire);
    if (!r || r == neap_here.realm) return NULL;
    return atomic_load_explicit(&r->state, memory_order_relaxed) == NEAP_REALM_FREE ? NULL : r;
}

int neap_missing(uint32_t slot)
{
    return neap_realm_other(slot) ? NEAP_E_THREAD : NEAP_E_STALE;
}

/* The other one has what was here. */
static void swap(struct neap_realm *r)
{
    struct neap_here before = neap_here;
    neap_here = r->here;
    r->here = before;
}

static bool visit(struct neap_realm *r, enum neap_realm_state state)
{
    pthread_mutex_lock(&r->lock);
    if (atomic_load(&r->state) != state) {
        pthread_mutex_unlock(&r->lock);
        return false;
    }
    swap(r);
    return true;
}

static bool is_visiting(void)
{
    return atomic_load_explicit(&neap_here.realm->state, memory_order_relaxed) == NEAP_REALM_SHARED;
}

bool neap_visit(uint32_t slot)
{
    struct neap_realm *r = neap_realm_other(slot);
    if (!r || atomic_load_explicit(&r->state, memory_order_relaxed) != NEAP_REALM_SHARED)
        return false;
    return !is_visiting() && visit(r, NEAP_REALM_SHARED);
}

bool neap_visit_ended(struct neap_realm *r)
{
    return visit(r, NEAP_REALM_ENDED);
}

int neap_visit_new(void)
{
    struct neap_realm *r = make();
    if (!r) return NEAP_E_MEMORY;
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->state, NEAP_REALM_SHARED);
    swap(r);
    return NEAP_OK;
}

/* ---- the end ---- */

/* Here nothing is left: it is free again once nobody is in it. */
static void maybe_free(struct neap_realm *r)
{
    if (neap_here.slices.live || r->pools.live) return;
    while (neap_foreign_next()) continue;
    neap_ledger_clear();
    atomic_store(&r->state, NEAP_REALM_FREE);
}

int neap_leave(int result)
{
    struct neap_realm *r = neap_here.realm;
    neap_returns_take(); /* what came late for a thread that was here before */
    maybe_free(r);
    swap(r);
    pthread_mutex_unlock(&r->lock);
    return result;
}

static void release_all(const struct neap_slots *t, int (*release)(uint32_t slot, uint32_t gen))
{
    for (uint32_t nth = 1; nth < t->count; nth++) {
        const struct neap_slot *s = neap_slots_nth(t, nth);
        if (s->gen & 1) release(t->first + nth, s->gen);
    }
}

/* Readers of connections go with these. */
static int release_reader(uint32_t slot, uint32_t gen)
{
    return neap_reader_of(slot, gen)->fill ? NEAP_E_BUSY : neap_reader_release(slot, gen);
}

static int release_pool(uint32_t slot, uint32_t gen)
{
    return neap_pool_of(slot, gen)->handle_gone ? NEAP_OK : neap_pool_release(slot, gen);
}

static void thread_ends(void *realm)
{
    (void)realm;
    neap_returns_send();
    struct neap_realm *r = neap_here.realm;
    if (r == &nowhere) return;
    release_all(&neap_here.allocators, neap_allocator_release);
    release_all(&r->buffers, neap_buffer_release);
    release_all(&neap_here.readers, release_reader);
    release_all(&r->pools, release_pool);
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->state, NEAP_REALM_ENDED); /* from now on who returns something takes it in */
    neap_returns_take_all();
    maybe_free(r);
    r->here = neap_here;
    neap_here = (struct neap_here){.ledger_left = INT64_MAX, .realm = &nowhere};
    pthread_mutex_unlock(&r->lock);
}

static void make_key(void)
{
    key_made = pthread_key_create(&key, thread_ends) == 0;
}

bool neap_realm_note_thread(void)
{
    pthread_once(&key_once, make_key);
    return key_made && pthread_setspecific(key, &nowhere) == 0; /* any that is not NULL */
}
