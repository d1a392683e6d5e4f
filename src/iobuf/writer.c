#include "iobuf/writer.h"

#include <string.h>

#include "base/panic.h"

static void enqueue(struct neap_writer *w, struct neap_slice *s)
{
    uint32_t slot = neap_slice_slot(s);
    s->queued = 0;
    if (w->last)
        neap_slice_at(w->last)->queued = slot;
    else
        w->first = slot;
    w->last = slot;
    w->queued += neap_slice_bytes_count(s);
}

static void dequeue(struct neap_writer *w, enum neap_slice_ending ending)
{
    struct neap_slice *s = neap_slice_at(w->first);
    if (w->small_slot == w->first) w->small_slot = 0;
    w->queued -= neap_slice_bytes_count(s);
    w->first = s->queued;
    if (!w->first) w->last = 0;
    s->queued = 0;
    neap_slice_end(s, ending);
}

static void leave_small(struct neap_writer *w)
{
    if (w->small) neap_buf_release(w->small);
    w->small = NULL;
    w->small_slot = 0;
}

/* Room for n small bytes behind the last ones. */
static int small_room(struct neap_writer *w, uint32_t n)
{
    if (w->small && n <= w->small->capacity - w->small_end) return NEAP_OK;
    struct neap_buf *buf;
    int result = neap_pool_take(w->pool, n, &buf);
    if (result < 0) return result;
    leave_small(w);
    w->small = buf;
    w->small_end = 0;
    return NEAP_OK;
}

/* Copy into the small buf, as a piece of its own, which grows while it is the last one. */
static int add_piece(struct neap_writer *w, const uint8_t *bytes, uint32_t n)
{
    int result = small_room(w, n);
    if (result < 0) return result;
    struct neap_slice *s = neap_slice_make(w->small, w->small_end, w->small_end, w->small_end + n);
    if (!s) {
        if (!w->first) leave_small(w);
        return NEAP_E_MEMORY;
    }
    neap_slice_own(s);
    enqueue(w, s);
    w->small_slot = neap_slice_slot(s);
    memcpy(w->small->mem + w->small_end, bytes, n);
    w->small_end += n;
    return NEAP_OK;
}

static int add_copy(struct neap_writer *w, const uint8_t *bytes, uint32_t n)
{
    return neap_writer_grow(w, bytes, n) ? NEAP_OK : add_piece(w, bytes, n);
}

int neap_writer_add_bytes(struct neap_writer *w, const uint8_t *bytes, uint32_t n)
{
    return n ? add_copy(w, bytes, n) : NEAP_OK;
}

/* As it is, without a copy. The handle that named it is stale from now on. */
static int add_whole(struct neap_writer *w, struct neap_slice *s)
{
    neap_slice_own(s);
    enqueue(w, s);
    return NEAP_OK;
}

/* Does s begin where the last piece ends, so that both leave as one? What a clone covers is
 * another's, too: it stays for itself. */
static bool continues_last(const struct neap_writer *w, const struct neap_slice *s)
{
    if (!w->last) return false;
    const struct neap_slice *last = neap_slice_at(w->last);
    return last->buf == s->buf && last->bound == s->base && !s->clone && !last->clone;
}

int neap_writer_add(struct neap_writer *w, struct neap_slice *s)
{
    uint32_t n = neap_slice_bytes_count(s);
    if (continues_last(w, s)) {
        neap_slice_end(s, NEAP_TAKEN); /* the last piece keeps the buf */
        neap_slice_grow(neap_slice_at(w->last), n);
        w->queued += n;
        return NEAP_OK;
    }
    bool alone = !w->first; /* a single message leaves from where it lies */
    if (n && (alone || n >= NEAP_WRITE_COPY_BYTES)) return add_whole(w, s);
    int result = n ? add_copy(w, neap_slice_data(s), n) : NEAP_OK;
    if (result == NEAP_E_LIMIT) return add_whole(w, s); /* it has its memory already */
    neap_slice_end(s, result == NEAP_OK ? NEAP_TAKEN : NEAP_DROPPED);
    return result;
}

int neap_writer_parts(const struct neap_writer *w, struct iovec *parts, int most)
{
    int count = 0;
    for (uint32_t slot = w->first; slot && count < most; count++) {
        const struct neap_slice *s = neap_slice_at(slot);
        parts[count] = (struct iovec){neap_slice_data(s), neap_slice_bytes_count(s)};
        slot = s->queued;
    }
    return count;
}

void neap_writer_sent(struct neap_writer *w, size_t n)
{
    neap_assert(n <= w->queued, "no more was sent than waited");
    while (n) {
        struct neap_slice *s = neap_slice_at(w->first);
        uint32_t size = neap_slice_bytes_count(s);
        if (n < size) {
            neap_slice_shift(s, (uint32_t)n);
            w->queued -= n;
            return;
        }
        n -= size;
        dequeue(w, NEAP_TAKEN);
    }
    if (!w->first) leave_small(w);
}

uint64_t neap_writer_clear(struct neap_writer *w)
{
    uint64_t bytes = w->queued;
    while (w->first) dequeue(w, NEAP_DROPPED);
    leave_small(w);
    return bytes;
}
