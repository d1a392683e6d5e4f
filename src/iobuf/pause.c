#include "iobuf/pause.h"

#include <string.h>

#include "base/panic.h"
#include "iobuf/collector.h"

enum {
    WITHOUT_BYTES, /* the queues of a pool: of readers with nothing unread, … */
    HALF_READ,     /* … and of those in the middle of a message */
    WAKE_READERS = NEAP_TINY(1024, 2), /* in one turn */
    ACCOUNTS_MAX = 1 << 21
};

struct neap_account {
    struct neap_slot head;
    uint64_t held;
    uint64_t limit;
    uint32_t reader; /* slot; 0: it is closed */
};

const struct neap_slots neap_no_accounts = NEAP_SLOTS(struct neap_account, ACCOUNTS_MAX);
static neap_pause_wake *wake; /* the loop's, which is one thread's */

void neap_pauses_on_wake(neap_pause_wake *fn)
{
    wake = fn;
}

static uint32_t unread(const struct neap_reader *r)
{
    return r->end - r->start;
}

/* ---- the queues ---- */

static void join(struct neap_reader *r, uint32_t size)
{
    struct neap_pool *pool = r->pool;
    r->needs = neap_pool_buf_bytes(pool, size);
    r->tried = true;
    if (r->waiting) return;
    struct neap_waiting *queue = &pool->waiting[unread(r) ? HALF_READ : WITHOUT_BYTES];
    r->waiting = true;
    r->half_read = unread(r) > 0;
    r->ticket = ++pool->ticket;
    r->wait_prev = queue->last;
    r->wait_next = 0;
    if (queue->last)
        neap_reader_at(queue->last)->wait_next = neap_reader_slot(r);
    else
        queue->first = neap_reader_slot(r);
    queue->last = neap_reader_slot(r);
    neap_here.realm->waiting_readers++;
    pool->stats.reads_paused++;
}

static void leave(struct neap_reader *r)
{
    if (!r->waiting) return;
    struct neap_waiting *queue = &r->pool->waiting[r->half_read];
    if (r->wait_prev)
        neap_reader_at(r->wait_prev)->wait_next = r->wait_next;
    else
        queue->first = r->wait_next;
    if (r->wait_next)
        neap_reader_at(r->wait_next)->wait_prev = r->wait_prev;
    else
        queue->last = r->wait_prev;
    r->waiting = false;
    neap_here.realm->waiting_readers--;
}

/* Who waits longest of those behind two heads; NULL: nobody. Tickets may overflow. */
static struct neap_reader *older(struct neap_reader *a, struct neap_reader *b)
{
    if (!a || !b) return a ? a : b;
    return (int32_t)(a->ticket - b->ticket) < 0 ? a : b;
}

static struct neap_reader *reader_or_null(uint32_t slot)
{
    return slot ? neap_reader_at(slot) : NULL;
}

static struct neap_reader *first_of(const struct neap_pool *pool)
{
    return older(reader_or_null(pool->waiting[WITHOUT_BYTES].first),
                 reader_or_null(pool->waiting[HALF_READ].first));
}

/* ---- the reserve ---- */

/* What may be live for a reader that is not chosen to get a buf. */
static uint64_t most_live(const struct neap_pool *pool)
{
    uint64_t soft = pool->soft ? pool->soft : UINT64_MAX;
    uint64_t hard = pool->limit ? pool->limit - pool->reserve : UINT64_MAX;
    return soft < hard ? soft : hard;
}

/* Only who is in the middle of a message has a claim on it, and only one at a time. */
static bool may_use_reserve(const struct neap_reader *r)
{
    const struct neap_pool *pool = r->pool;
    uint32_t first = pool->waiting[HALF_READ].first;
    return r->fill && r->buf && unread(r) && pool->reserve && !pool->chosen &&
           (!first || first == neap_reader_slot(r));
}

static void park(struct neap_reader *r)
{
    struct neap_pool *pool = r->pool;
    bool alone = r->buf->refs == 1;
    neap_buf_retain(r->buf);
    pool->chosen = neap_reader_slot(r);
    pool->parked = r->buf;
    pool->parked_at = alone ? 0 : r->end;
    pool->parked_room = r->buf->capacity - pool->parked_at;
    pool->stats.reserve_used++;
    r->chosen = true;
}

static int take_reserve(struct neap_reader *r, struct neap_buf **buf)
{
    struct neap_pool *pool = r->pool;
    uint64_t most = pool->limit ? pool->limit : UINT64_MAX;
    int result = neap_pool_take_within(pool, pool->reserve, most, buf);
    if (result == NEAP_OK) park(r);
    return result;
}

static void unpark(struct neap_reader *r)
{
    neap_assert(r->pool->chosen == neap_reader_slot(r), "the chosen reader has the reserve");
    r->chosen = false;
    r->pool->chosen = 0;
    r->pool->parked = NULL;
}

uint32_t neap_pause_room(const struct neap_reader *r, uint32_t want, uint32_t room)
{
    if (!r->chosen) return room;
    uint64_t missing = want > unread(r) ? want - unread(r) : 1;
    uint64_t most = missing + r->pool->parked_room;
    return room < most ? room : (uint32_t)most;
}

void neap_pause_come_back(struct neap_reader *r)
{
    struct neap_pool *pool = r->pool;
    uint32_t n = unread(r);
    if (n > pool->parked_room) return; /* later */
    struct neap_buf *from = r->buf, *to = pool->parked;
    if (n) memcpy(to->mem + pool->parked_at, from->mem + r->start, n);
    pool->stats.bytes_moved += n;
    r->buf = to;
    r->start = pool->parked_at;
    r->end = r->start + n;
    to->unread_from = r->start;
    to->unread_to = r->end;
    from->unread_from = from->unread_to = 0;
    unpark(r);
    neap_buf_release(from);
}

/* ---- accounts ---- */

int neap_account_open(struct neap_reader *r, uint64_t limit)
{
    uint32_t slot;
    struct neap_account *account = neap_slots_take(&neap_here.realm->accounts, &slot);
    if (!account) return NEAP_E_MEMORY;
    account->limit = limit;
    account->reader = neap_reader_slot(r);
    r->account = slot;
    return NEAP_OK;
}

static void maybe_end_account(uint32_t slot)
{
    const struct neap_account *account = neap_slots_at(&neap_here.realm->accounts, slot);
    if (!account->reader && account->held == 0) neap_slots_give(&neap_here.realm->accounts, slot);
}

static void close_account(struct neap_reader *r)
{
    if (!r->account) return;
    struct neap_account *account = neap_slots_at(&neap_here.realm->accounts, r->account);
    account->reader = 0;
    maybe_end_account(r->account);
    r->account = 0;
}

static bool account_full(const struct neap_reader *r, uint32_t size)
{
    if (!r->account) return false;
    const struct neap_account *account = neap_slots_at(&neap_here.realm->accounts, r->account);
    return account->held + neap_pool_buf_bytes(r->pool, size) > account->limit;
}

static void charge(const struct neap_reader *r, struct neap_buf *buf)
{
    if (!r->account) return;
    struct neap_account *account = neap_slots_at(&neap_here.realm->accounts, r->account);
    account->held += buf->capacity;
    buf->account = r->account;
}

void neap_account_discharge(struct neap_buf *buf)
{
    uint32_t slot = buf->account;
    struct neap_account *account = neap_slots_at(&neap_here.realm->accounts, slot);
    neap_assert(account->held >= buf->capacity, "an account holds what was charged");
    account->held -= buf->capacity;
    buf->account = 0;
    struct neap_reader *r = reader_or_null(account->reader);
    if (r && r->waits_for_account && account->held + r->needs <= account->limit) wake(r);
    maybe_end_account(slot);
}

/* ---- taking ---- */

static int take(struct neap_reader *r, uint32_t size, struct neap_buf **buf)
{
    struct neap_pool *pool = r->pool;
    const struct neap_reader *first = first_of(pool);
    bool comes_first = !first || first == r;
    int result = NEAP_E_LIMIT;
    if (comes_first) result = neap_pool_take_within(pool, size, most_live(pool), buf);
    if (result == NEAP_E_LIMIT && may_use_reserve(r)) result = take_reserve(r, buf);
    return result;
}

/* Its own slices must go first: it is in no queue, where it would stop others. */
static int wait_for_account(struct neap_reader *r, uint32_t size)
{
    leave(r);
    r->pool->stats.reads_paused += !r->waits_for_account;
    r->waits_for_account = true;
    r->needs = neap_pool_buf_bytes(r->pool, size);
    return NEAP_E_LIMIT;
}

int neap_pause_take(struct neap_reader *r, uint32_t size, struct neap_buf **buf)
{
    if (account_full(r, size)) return wait_for_account(r, size);
    r->waits_for_account = false;
    int result = take(r, size, buf);
    if (result == NEAP_OK) {
        charge(r, *buf);
        leave(r);
    } else if (result == NEAP_E_LIMIT) {
        r->pool->stats.limit_hits++;
        if (r->fill) join(r, size);
    }
    return result;
}

void neap_pause_end(struct neap_reader *r)
{
    leave(r);
    close_account(r);
    if (!r->chosen) return;
    struct neap_buf *parked = r->pool->parked;
    unpark(r);
    neap_buf_release(parked);
}

/* ---- waking ---- */

/* Who was woken before and did not try again reads no more: others come first. */
static void wake_one(struct neap_reader *r)
{
    if (!r->tried) {
        leave(r);
        return;
    }
    r->tried = false;
    wake(r);
}

static uint64_t room_for_readers(const struct neap_pool *pool)
{
    uint64_t most = most_live(pool), live = neap_pool_bytes_live(pool);
    return live < most ? most - live : 0;
}

/* As many as there is room for, in their order. Returns how many. */
static int wake_in_order(struct neap_pool *pool)
{
    uint64_t room = room_for_readers(pool);
    struct neap_reader *one = reader_or_null(pool->waiting[WITHOUT_BYTES].first);
    struct neap_reader *other = reader_or_null(pool->waiting[HALF_READ].first);
    int woken = 0;
    for (; woken < WAKE_READERS; woken++) {
        struct neap_reader *r = older(one, other);
        if (!r || r->needs > room) break;
        room -= r->needs;
        struct neap_reader *next = reader_or_null(r->wait_next);
        if (r == one)
            one = next;
        else
            other = next;
        wake_one(r);
    }
    return woken;
}

/* The first that may have the reserve, if that is whole; or who has it and needs no other buf any
 * more, since its slices were released. */
static void wake_for_reserve(struct neap_pool *pool)
{
    struct neap_reader *r =
        reader_or_null(pool->chosen ? pool->chosen : pool->waiting[HALF_READ].first);
    if (!r || !r->waiting) return;
    bool whole = !pool->limit || neap_pool_bytes_live(pool) + pool->reserve <= pool->limit;
    bool alone = r->buf && r->buf->refs == 1;
    if (r->chosen ? alone : whole && pool->reserve) wake_one(r);
}

void neap_pauses_turn(void)
{
    if (!neap_here.realm->waiting_readers) return;
    neap_collector_hurry();
    for (uint32_t nth = 1; nth < neap_pools_count(); nth++) {
        struct neap_pool *pool = neap_pool_nth(nth);
        if (!pool) continue;
        if (wake_in_order(pool) == 0) wake_for_reserve(pool);
    }
}

bool neap_pauses_any(void)
{
    return neap_here.realm->waiting_readers > 0;
}
