/* buffer.c - bytes put behind one another, in bufs of the pool.
 *
 * A buffer is a chain of pieces, each a slice of a buf of its own; it never copies what
 * it holds in order to grow. The pieces double in size up to the largest size class, so
 * a large message makes few of them and a later small one does not keep them: they are
 * released, or handed out, with the bytes.
 *
 * Limits: NEAP_BUF_MAX_BYTES in one buffer. Thread: the pool's. */
#include <string.h>

#include "iobuf/ledger.h"
#include "scan/number.h"

struct neap_buffer {
    struct neap_slot head;
    uint32_t slot;
    struct neap_pool *pool; /* kept open */
    uint32_t first, last;   /* slots of the pieces; 0: none. `queued` links them */
    uint32_t size;          /* bytes in all pieces */
};

const struct neap_slots neap_no_buffers = NEAP_SLOTS(struct neap_buffer, NEAP_BUFFERS_MAX);

static struct neap_buffer *buffer_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&neap_here.realm->buffers, slot, gen);
}

int neap_buffer_create(uint32_t pool_slot, uint32_t pool_gen, struct neap_handle *handle)
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool) return neap_missing(pool_slot);
    if (pool->closed) return NEAP_E_CLOSED;
    uint32_t slot;
    struct neap_buffer *b = neap_slots_take(&neap_here.realm->buffers, &slot);
    if (!b) return NEAP_E_MEMORY;
    neap_pool_keep(pool);
    b->slot = slot;
    b->pool = pool;
    *handle = (struct neap_handle){slot, b->head.gen};
    return NEAP_OK;
}

int neap_buffer_size(uint32_t slot, uint32_t gen)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    return b ? (int)b->size : neap_missing(slot);
}

/* ---- pieces ---- */

static struct neap_slice *last_piece(const struct neap_buffer *b)
{
    return b->last ? neap_slice_at(b->last) : NULL;
}

static uint32_t room_of(const struct neap_slice *piece)
{
    return piece ? piece->buf->capacity - piece->bound : 0;
}

/* Unlink the first piece; it is the caller's. */
static struct neap_slice *pop_piece(struct neap_buffer *b)
{
    struct neap_slice *piece = neap_slice_at(b->first);
    b->first = piece->queued;
    if (!b->first) b->last = 0;
    piece->queued = 0;
    piece->still = false;
    b->size -= neap_slice_bytes_count(piece);
    return piece;
}

static void drop_pieces(struct neap_buffer *b)
{
    while (b->first) neap_slice_end(pop_piece(b), NEAP_DROPPED);
}

/* An empty piece behind the last, twice as large. */
static int add_piece(struct neap_buffer *b)
{
    struct neap_slice *last = last_piece(b);
    uint64_t size = last ? 2ull * last->buf->capacity : 0;
    if (size > NEAP_CLASS_MAX_BYTES) size = NEAP_CLASS_MAX_BYTES;
    struct neap_buf *buf;
    int result = neap_pool_take(b->pool, size, &buf);
    if (result < 0) return result;
    struct neap_slice *piece = neap_slice_make(buf, 0, 0, 0);
    neap_buf_release(buf); /* the piece has its own count */
    if (!piece) return NEAP_E_MEMORY;
    piece->still = true; /* it has room for more */
    b->last = neap_slice_slot(piece);
    if (last)
        last->queued = b->last;
    else
        b->first = b->last;
    return NEAP_OK;
}

/* Drop the pieces behind `last`, which were made for bytes that then did not all fit, and the
 * bytes behind `bound` in it. */
static void cut_back(struct neap_buffer *b, uint32_t last, uint32_t bound, uint32_t size)
{
    uint32_t slot = last ? neap_slice_at(last)->queued : b->first;
    while (slot) {
        struct neap_slice *piece = neap_slice_at(slot);
        slot = piece->queued;
        piece->queued = 0;
        neap_slice_end(piece, NEAP_DROPPED);
    }
    b->last = last;
    if (last) {
        neap_slice_at(last)->queued = 0;
        neap_slice_shrink_to(neap_slice_at(last), bound);
    } else {
        b->first = 0;
    }
    b->size = size;
}

/* ---- appending ---- */

/* Fill the room of the last piece. Returns the bytes that went in; NULL puts zeros. */
static uint32_t put_part(struct neap_buffer *b, const uint8_t *bytes, uint32_t n)
{
    struct neap_slice *piece = last_piece(b);
    uint32_t part = room_of(piece) < n ? room_of(piece) : n;
    if (part == 0) return 0;
    uint8_t *at = piece->buf->mem + piece->bound;
    if (bytes)
        memcpy(at, bytes, part);
    else
        memset(at, 0, part);
    neap_slice_grow(piece, part);
    b->size += part;
    return part;
}

static int put(struct neap_buffer *b, const uint8_t *bytes, uint32_t n)
{
    if (n > NEAP_BUF_MAX_BYTES - b->size) return NEAP_E_OVERSIZED;
    uint32_t last = b->last, size = b->size;
    uint32_t bound = last ? neap_slice_at(last)->bound : 0;
    for (uint32_t done = put_part(b, bytes, n); done < n;) {
        int result = add_piece(b);
        if (result < 0) {
            cut_back(b, last, bound, size);
            return result;
        }
        done += put_part(b, bytes ? bytes + done : NULL, n - done);
    }
    return NEAP_OK;
}

int neap_buffer_put(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    return b ? put(b, (const uint8_t *)bytes, n) : neap_missing(slot);
}

int neap_buffer_put_slice(uint32_t slot, uint32_t gen, uint32_t slice_slot, uint32_t slice_gen)
{
    const struct neap_slice *s = neap_slice_of(slice_slot, slice_gen);
    if (!s) return neap_slice_stale(slice_slot);
    struct neap_buffer *b = buffer_of(slot, gen);
    return b ? put(b, neap_slice_data(s), neap_slice_bytes_count(s)) : neap_missing(slot);
}

int neap_buffer_put_view(uint32_t slot, uint32_t gen, uint32_t reader_slot, uint32_t reader_gen,
                         uint32_t epoch, uint32_t at, uint32_t size)
{
    const struct neap_view view = {reader_slot, reader_gen, epoch, at, size};
    const uint8_t *bytes = neap_view_bytes(&view);
    struct neap_buffer *b = bytes ? buffer_of(slot, gen) : NULL;
    return b ? put(b, bytes, size) : NEAP_E_STALE;
}

int neap_buffer_put_bits(uint32_t slot, uint32_t gen, int number, uint64_t bits)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    if (!b) return neap_missing(slot);
    if (!neap_number_known(number)) return NEAP_E_RANGE;
    uint8_t bytes[8];
    neap_number_store(bytes, number, bits);
    return put(b, bytes, neap_number_width(number));
}

int neap_buffer_put_number(uint32_t slot, uint32_t gen, int number, double value)
{
    uint64_t bits;
    if (!neap_number_known(number) || !neap_number_encode(number, value, &bits))
        return NEAP_E_RANGE;
    return neap_buffer_put_bits(slot, gen, number, bits);
}

int neap_buffer_put_varint(uint32_t slot, uint32_t gen, uint64_t value)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    if (!b) return neap_missing(slot);
    uint8_t bytes[NEAP_VARINT_BYTES];
    return put(b, bytes, neap_varint_store(bytes, value));
}

int neap_buffer_reserve(uint32_t slot, uint32_t gen, uint32_t n)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    if (!b) return neap_missing(slot);
    uint32_t offset = b->size;
    int result = put(b, NULL, n);
    return result < 0 ? result : (int)offset;
}

/* ---- writing over what was put ---- */

/* The byte at an offset below the buffer's size. */
static uint8_t *byte_at(const struct neap_buffer *b, uint32_t offset)
{
    struct neap_slice *piece = neap_slice_at(b->first);
    while (offset >= neap_slice_bytes_count(piece)) {
        offset -= neap_slice_bytes_count(piece);
        piece = neap_slice_at(piece->queued);
    }
    return neap_slice_data(piece) + offset;
}

int neap_buffer_set_bits(uint32_t slot, uint32_t gen, uint32_t offset, int number, uint64_t bits)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    if (!b) return neap_missing(slot);
    uint32_t width = neap_number_width(number);
    if (!neap_number_known(number) || offset > b->size || width > b->size - offset)
        return NEAP_E_RANGE;
    uint8_t bytes[8];
    neap_number_store(bytes, number, bits);
    for (uint32_t i = 0; i < width; i++) *byte_at(b, offset + i) = bytes[i];
    return NEAP_OK;
}

int neap_buffer_set(uint32_t slot, uint32_t gen, uint32_t offset, int number, double value)
{
    uint64_t bits;
    if (!neap_number_known(number) || !neap_number_encode(number, value, &bits))
        return NEAP_E_RANGE;
    return neap_buffer_set_bits(slot, gen, offset, number, bits);
}

/* ---- the end ---- */

static int hand_out(struct neap_slice *piece)
{
    struct neap_handle handle = neap_slice_handle(piece);
    int wishes = neap_slice_born(piece);
    if (NEAP_MODE_MALLOC)
        neap_slice_detach(handle.slot, handle.gen); /* or it stays, with its room */
    return 1 + wishes;
}

int neap_buffer_take(uint32_t slot, uint32_t gen, struct neap_handle *handle)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    if (!b) return neap_missing(slot);
    while (b->first) {
        struct neap_slice *piece = pop_piece(b);
        *handle = neap_slice_handle(piece);
        if (neap_slice_bytes_count(piece)) return hand_out(piece);
        neap_slice_end(piece, NEAP_DROPPED); /* a buf that reset() kept */
    }
    return 0;
}

int neap_buffer_truncate(uint32_t slot, uint32_t gen, uint32_t size)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    if (!b) return neap_missing(slot);
    if (size > b->size) return NEAP_E_RANGE;
    if (size == 0) {
        drop_pieces(b);
        return NEAP_OK;
    }
    uint32_t left = size;
    uint32_t last = b->first;
    while (left > neap_slice_bytes_count(neap_slice_at(last))) {
        left -= neap_slice_bytes_count(neap_slice_at(last));
        last = neap_slice_at(last)->queued;
    }
    cut_back(b, last, neap_slice_at(last)->base + left, size);
    return NEAP_OK;
}

int neap_buffer_reset(uint32_t slot, uint32_t gen)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    if (!b) return neap_missing(slot);
    cut_back(b, b->first, 0, 0);
    return NEAP_OK;
}

int neap_buffer_release(uint32_t slot, uint32_t gen)
{
    struct neap_buffer *b = buffer_of(slot, gen);
    if (!b) return neap_missing(slot);
    drop_pieces(b);
    neap_pool_unkeep(b->pool);
    neap_slots_give(&neap_here.realm->buffers, slot);
    return NEAP_OK;
}

void neap_buffer_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    neap_collector_finalized();
    neap_buffer_release(h->slot, h->gen);
}
