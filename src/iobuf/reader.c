#include "iobuf/pause.h"

#include <string.h>

#include "base/panic.h"
#include "iobuf/ledger.h"
#include "scan/find.h"

enum {
    SMALL_ROOM = 4, /* a buf with less than this part of it left is not filled further */
    BUSY_TIMES = 4, /* a busy reader takes bufs of so many times the usual size, … */
    FULL_TIMES = 8, /* … and none for so many that were full, after one it did not need */
};

const struct neap_slots neap_no_readers = NEAP_SLOTS(struct neap_reader, NEAP_READERS_MAX);

static uint32_t unread(const struct neap_reader *r)
{
    return neap_reader_unread(r);
}

/* Slices before `start` may claim what is before them, but never what is still unread. */
static void moved(struct neap_reader *r)
{
    neap_assert(r->start <= r->end && r->end <= r->buf->capacity, "unread bytes lie in the buf");
    r->buf->unread_from = r->start;
    r->buf->unread_to = r->end;
}

/* ---- the life of a reader ---- */

int neap_reader_create(uint32_t pool_slot, uint32_t pool_gen, uint32_t max_read,
                       struct neap_handle *handle)
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool) return neap_missing(pool_slot);
    if (pool->closed) return NEAP_E_CLOSED;
    uint32_t slot;
    struct neap_reader *r = neap_slots_take(&neap_here.readers, &slot);
    if (!r) return NEAP_E_MEMORY;
    neap_pool_keep(pool);
    r->pool = pool;
    r->max_read = max_read;
    *handle = (struct neap_handle){slot, r->head.gen};
    return NEAP_OK;
}

static void leave_buf(struct neap_reader *r)
{
    struct neap_buf *buf = r->buf;
    if (!buf) return;
    buf->unread_from = buf->unread_to = 0;
    r->buf = NULL;
    r->start = r->end = 0;
    neap_buf_release(buf);
}

int neap_reader_close(uint32_t slot, uint32_t gen)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    if (!r) return NEAP_E_STALE;
    if (!r->pool) return NEAP_OK;
    leave_buf(r);
    neap_pause_end(r);
    neap_pool_unkeep(r->pool);
    r->pool = NULL;
    r->ending = NEAP_E_CLOSED;
    return NEAP_OK;
}

int neap_reader_release(uint32_t slot, uint32_t gen)
{
    int result = neap_reader_close(slot, gen);
    if (result == NEAP_OK) neap_slots_give(&neap_here.readers, slot);
    return result;
}

void neap_reader_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    neap_collector_finalized();
    neap_reader_release(h->slot, h->gen);
}

void neap_reader_rest(struct neap_reader *r)
{
    if (unread(r) == 0) leave_buf(r);
}

int neap_reader_idle(uint32_t slot, uint32_t gen)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    if (!r) return NEAP_E_STALE;
    if (r->buf && r->buf->refs == 1) neap_reader_rest(r);
    return NEAP_OK;
}

/* ---- filling ---- */

/* The unread bytes go to the front of `to`. */
static void move_to(struct neap_reader *r, struct neap_buf *to)
{
    uint32_t n = unread(r);
    if (n) memmove(to->mem, r->buf->mem + r->start, n);
    r->pool->stats.bytes_moved += n;
    if (to != r->buf) {
        leave_buf(r);
        r->buf = to;
    }
    r->start = 0;
    r->end = n;
    moved(r);
}

static uint32_t smaller(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

bool neap_reader_spare(const struct neap_reader *r, uint64_t bytes)
{
    const struct neap_pool *pool = r->pool;
    if (!pool || r->account) return false;
    uint64_t most = pool->soft && pool->soft < pool->retain ? pool->soft / 2 : pool->retain;
    return neap_pool_bytes_live(pool) + bytes <= most;
}

/* A busy reader takes a large buf where there is one to be had: fewer reads for as many bytes. */
static int take_buf(struct neap_reader *r, uint32_t size, struct neap_buf **buf)
{
    struct neap_pool *pool = r->pool;
    uint64_t large = (uint64_t)BUSY_TIMES * pool->min_size;
    bool larger = r->busy && size < large && large <= NEAP_CLASS_MAX_BYTES && !pool->fixed;
    if (larger && neap_reader_spare(r, large) && neap_pool_take(pool, large, buf) == NEAP_OK)
        return NEAP_OK;
    return pool->soft || r->account ? neap_pause_take(r, size, buf)
                                    : neap_pool_take(pool, size, buf);
}

/* Memory follows what came, not what was asked for: at most 2 x that + 16 KiB, or + 64 KiB while
 * the reader is busy. */
static int fresh_buf(struct neap_reader *r, uint32_t want)
{
    uint64_t came = unread(r);
    uint32_t size = smaller(want > 2 * came ? want : 2 * came, 2 * came + NEAP_BUF_MIN_BYTES);
    struct neap_buf *to;
    int result = take_buf(r, size, &to);
    if (result == NEAP_OK) move_to(r, to);
    return result;
}

/* May the next read go behind the unread bytes, where they are? Not if `want` bytes can
 * never lie there: the sooner they move, the fewer they are. */
static bool room_suffices(const struct neap_reader *r, uint32_t want)
{
    uint32_t room = r->buf->capacity - r->end;
    if (want > unread(r) && want - unread(r) <= room) return true;
    bool early = want > unread(r) && r->start > 0;
    return !early && room > 0 && room >= r->buf->capacity / SMALL_ROOM;
}

/* A buf with nothing unread: begin at its front if nobody else holds it, unless it was made
 * for one large message. */
static void begin_again(struct neap_reader *r, uint32_t want)
{
    bool normal = r->buf->capacity <= 2 * (uint64_t)r->pool->min_size;
    if (r->buf->refs == 1 && (normal || want > r->pool->min_size))
        move_to(r, r->buf);
    else if (!normal)
        leave_buf(r);
}

int neap_reader_make_room(struct neap_reader *r, uint32_t want, struct neap_room *room)
{
    if (!r->pool || r->pool->closed) return NEAP_E_CLOSED;
    if (unread(r) >= (uint64_t)r->max_read + NEAP_BUF_MIN_BYTES) return NEAP_E_LIMIT;
    int result = NEAP_OK;
    if (r->buf && unread(r) == 0) begin_again(r, want);
    if (!r->buf) {
        result = fresh_buf(r, want);
    } else if (!room_suffices(r, want)) {
        bool alone = r->buf->refs == 1 && r->start && want <= r->buf->capacity;
        if (alone)
            move_to(r, r->buf);
        else
            result = fresh_buf(r, want);
    }
    if (result < 0) return result;
    uint32_t free = neap_pause_room(r, want, r->buf->capacity - r->end);
    *room = (struct neap_room){r->buf->mem + r->end, free};
    return NEAP_OK;
}

/* Busy is who had a usual buf's worth of bytes and no room for more: there may be more at once. It
 * is over when a usual buf would have done: for a while, since messages may be of just its size. */
static void note_amount(struct neap_reader *r)
{
    uint32_t usual = r->pool->min_size;
    bool large = r->buf->capacity >= (uint64_t)BUSY_TIMES * usual;
    if (r->busy && large && unread(r) <= usual) {
        r->busy = false;
        r->patience = FULL_TIMES;
    } else if (unread(r) < usual) {
        r->busy = false;
    } else if (r->end == r->buf->capacity) {
        r->busy = r->patience == 0;
        if (r->patience) r->patience--;
    }
}

void neap_reader_got(struct neap_reader *r, uint32_t n)
{
    r->end += n;
    note_amount(r);
    moved(r);
}

int neap_reader_room(uint32_t slot, uint32_t gen, uint32_t want, struct neap_room *room)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    return r ? neap_reader_make_room(r, want, room) : NEAP_E_STALE;
}

int neap_reader_filled(uint32_t slot, uint32_t gen, uint32_t n)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    if (!r) return NEAP_E_STALE;
    if (!r->buf || n > r->buf->capacity - r->end) return NEAP_E_RANGE;
    neap_reader_got(r, n);
    return NEAP_OK;
}

int neap_reader_feed(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    if (!r) return NEAP_E_STALE;
    uint32_t done = 0;
    while (done < n) {
        struct neap_room room;
        int result = neap_reader_make_room(r, unread(r) + 1, &room);
        if (result < 0) return done ? (int)done : result;
        uint32_t part = smaller(n - done, room.size);
        memcpy(room.at, bytes + done, part);
        neap_reader_got(r, part);
        done += part;
    }
    return (int)done;
}

int neap_reader_end(uint32_t slot, uint32_t gen, int err)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    if (!r) return NEAP_E_STALE;
    if (r->ending == NEAP_OK) r->ending = (int16_t)err;
    return NEAP_OK;
}

/* ---- reading ---- */

/* Fewer bytes are here than asked for: get more, or say why there are none. */
static int get_more(struct neap_reader *r, uint32_t want)
{
    if (r->ending == NEAP_E_EOF && unread(r)) return NEAP_E_SHORT;
    if (r->ending != NEAP_OK) return r->ending;
    return r->fill ? r->fill(r, want) : NEAP_E_AGAIN;
}

/* Have n unread bytes, side by side. */
static int gather(struct neap_reader *r, uint32_t n)
{
    int result = NEAP_OK;
    while (result == NEAP_OK && unread(r) < n) result = get_more(r, n);
    return result;
}

/* May this reader read n bytes at all? */
static int check(const struct neap_reader *r, uint32_t n)
{
    if (!r) return NEAP_E_STALE;
    if (!r->pool) return NEAP_E_CLOSED;
    return n > r->max_read ? NEAP_E_OVERSIZED : NEAP_OK;
}

/* Views made so far are stale; an epoch is no negative int. */
static uint32_t next_epoch(struct neap_reader *r)
{
    r->epoch = (r->epoch + 1) & INT32_MAX;
    return r->epoch;
}

static void consume(struct neap_reader *r, uint32_t n)
{
    r->start += n;
    r->searched = 0;
    r->taken_at = next_epoch(r);
    moved(r);
    if (__builtin_expect(r->chosen, 0)) neap_pause_come_back(r);
}

int neap_reader_have_some(struct neap_reader *r)
{
    int result = check(r, 0);
    return result == NEAP_OK ? gather(r, 1) : result;
}

void neap_reader_drop(struct neap_reader *r, uint32_t n)
{
    neap_assert(n <= unread(r), "what is dropped is there");
    if (n) consume(r, n);
}

struct neap_slice *neap_reader_take(struct neap_reader *r, uint32_t n)
{
    struct neap_slice *s = neap_slice_make(r->buf, r->start, r->start, r->start + n);
    if (s) consume(r, n);
    return s;
}

/* In that mode what is read has a buf of its own, of just its size, as all slices; or it stays
 * where it lies. */
static struct neap_buf *copy_out(const struct neap_reader *r, uint32_t n)
{
    struct neap_buf *buf;
    if (!NEAP_MODE_MALLOC || neap_pool_take_small(r->pool, n, &buf) < 0) return NULL;
    memcpy(buf->mem, r->buf->mem + r->start, n);
    return buf;
}

/* A slice of the first n unread bytes; `skip` more behind it are consumed with it. */
static int cut(struct neap_reader *r, uint32_t n, uint32_t skip, struct neap_handle *handle)
{
    struct neap_buf *own = copy_out(r, n);
    uint32_t at = own ? 0 : r->start;
    struct neap_slice *s = neap_slice_make(own ? own : r->buf, at, at, at + n);
    if (own) neap_buf_release(own); /* the slice, if there is one, has its own count */
    if (!s) return NEAP_E_MEMORY;
    consume(r, n + skip);
    *handle = neap_slice_handle(s);
    return neap_slice_born(s);
}

/* An empty slice needs a buf to be a view of. */
static int cut_nothing(struct neap_reader *r, struct neap_handle *handle)
{
    struct neap_room room;
    int result = r->buf ? NEAP_OK : neap_reader_make_room(r, 0, &room);
    if (result == NEAP_OK) result = cut(r, 0, 0, handle);
    neap_reader_rest(r);
    return result;
}

int neap_reader_read(uint32_t slot, uint32_t gen, uint32_t n, struct neap_handle *handle)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    int result = check(r, n);
    if (result < 0) return result;
    if (n == 0) return cut_nothing(r, handle);
    result = gather(r, n);
    return result == NEAP_OK ? cut(r, n, 0, handle) : result;
}

int neap_reader_read_any(uint32_t slot, uint32_t gen, uint32_t max, struct neap_handle *handle)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    int result = check(r, 0);
    if (result == NEAP_OK) result = gather(r, 1);
    return result == NEAP_OK ? cut(r, smaller(unread(r), max), 0, handle) : result;
}

/* A short delimiter, as a number; 0: a long one, whose searches are not remembered. */
static uint64_t name_of(const char *delimiter, uint32_t size)
{
    uint64_t name = size;
    if (size >= sizeof name) return 0;
    for (uint32_t i = 0; i < size; i++) name = name << 8 | (uint8_t)delimiter[i];
    return name;
}

/* Where the delimiter stands behind `start`, or -1. Bytes that an earlier call has searched
 * for the same one are not searched again, but for a part of it at their end. */
static int64_t find_delimiter(struct neap_reader *r, const char *delimiter, uint32_t size)
{
    uint64_t name = name_of(delimiter, size);
    bool again = name && name == r->searched_for;
    uint32_t from = again && r->searched >= size ? r->searched - (size - 1) : 0;
    int64_t at = neap_find(r->buf->mem + r->start, unread(r), delimiter, size, from);
    r->searched_for = name;
    r->searched = at < 0 ? unread(r) : 0;
    return at;
}

/* Gather until the delimiter is here. Returns its offset, or why it can't be had. */
static int64_t gather_until(struct neap_reader *r, const char *delimiter, uint32_t size,
                            uint32_t max)
{
    int result = gather(r, 1);
    while (result == NEAP_OK) {
        int64_t at = find_delimiter(r, delimiter, size);
        if (at > max || (at < 0 && unread(r) >= (uint64_t)max + size)) return NEAP_E_OVERSIZED;
        if (at >= 0) return at;
        result = get_more(r, unread(r) + 1);
    }
    return result;
}

int neap_reader_read_until(uint32_t slot, uint32_t gen, const char *delimiter, uint32_t size,
                           uint32_t max, bool inclusive, struct neap_handle *handle)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    int result = check(r, 0);
    if (result < 0) return result;
    if (size == 0) return NEAP_E_RANGE;
    int64_t at = gather_until(r, delimiter, size, smaller(max, r->max_read));
    if (at < 0) return (int)at;
    return cut(r, (uint32_t)at + (inclusive ? size : 0), inclusive ? 0 : size, handle);
}

int neap_reader_waits(uint32_t slot, uint32_t gen)
{
    const struct neap_reader *r = neap_reader_of(slot, gen);
    return r ? neap_reader_paused(r) : NEAP_E_STALE;
}

int neap_reader_buffered(uint32_t slot, uint32_t gen)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    return r ? (int)unread(r) : NEAP_E_STALE;
}

int neap_reader_skip(uint32_t slot, uint32_t gen, uint32_t n)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    int result = check(r, 0);
    if (result == NEAP_OK && n) result = gather(r, 1);
    if (result < 0 || n == 0) return result;
    uint32_t gone = smaller(n, unread(r));
    consume(r, gone);
    return (int)gone;
}

/* ---- looking at what stays ---- */

int neap_reader_peek(uint32_t slot, uint32_t gen, uint32_t n)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    int result = check(r, n);
    if (result == NEAP_OK) result = gather(r, n);
    return result == NEAP_OK ? (int)next_epoch(r) : result;
}

int neap_reader_next(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t done, uint32_t want,
                     struct neap_view *view)
{
    struct neap_reader *r = neap_reader_of(slot, gen);
    if (!r) return NEAP_E_STALE;
    /* epochs have 31 bits, and go round */
    bool untouched = (int32_t)((r->taken_at - epoch) << 1) <= 0;
    if (done && untouched && done <= unread(r)) consume(r, done);
    int result = check(r, want);
    if (result == NEAP_OK) result = gather(r, want);
    *view = (struct neap_view){slot, gen, next_epoch(r), 0, unread(r)};
    return result == NEAP_OK ? (int)view->size : result;
}
