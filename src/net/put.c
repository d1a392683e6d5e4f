/* put.c - bytes of slices and views, and numbers, behind what a stream has queued. Small ones are
 * copied, as all that is written is. Thread: the loop's. */
#include <string.h>

#include "net/stream.h"
#include "scan/number.h"

enum {
    NOW_BYTES = NEAP_TINY(4096, 64), /* sent without a place in the queue at most */
    LENGTH_LINE_BYTES = 14           /* ten digits, and two ends of lines */
};

/* Few bytes, copied: most often behind others that were, and then there is not much to do. */
static int put_small(uint32_t slot, uint32_t gen, const uint8_t *bytes, uint32_t n)
{
    struct neap_stream *s = neap_slots_find(&neap_streams, slot, gen);
    if (s && !s->shutdown && neap_writer_grow(&s->writer, bytes, n))
        return neap_stream_queued_now(s, n);
    return neap_stream_write_bytes(slot, gen, (const char *)bytes, n, true);
}

/* A single answer need not be queued: that would cost a slice, a piece of a buf, and a second copy.
 * But a system call of its own costs more, where it can share one. */
static int put_now(uint32_t slot, uint32_t gen, const uint8_t *bytes, uint32_t n)
{
    struct neap_stream *s = neap_slots_find(&neap_streams, slot, gen);
    bool now = s && !neap_loop_batches(s->loop);
    uint32_t sent = now ? neap_stream_send_now(s, bytes, n) : 0;
    return sent && sent == n ? NEAP_OK : put_small(slot, gen, bytes + sent, n - sent);
}

int neap_stream_put_bytes(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n, bool now)
{
    if (now && n <= NOW_BYTES) return put_now(slot, gen, (const uint8_t *)bytes, n);
    return neap_stream_write_bytes(slot, gen, bytes, n, true);
}

int neap_stream_put_slice(uint32_t slot, uint32_t gen, uint32_t slice_slot, uint32_t slice_gen)
{
    struct neap_slice *slice = neap_slice_of(slice_slot, slice_gen);
    if (!slice) return neap_slice_stale(slice_slot);
    struct neap_handle clone;
    uint32_t n = neap_slice_bytes_count(slice);
    if (n < NEAP_WRITE_COPY_BYTES) return put_small(slot, gen, neap_slice_data(slice), n);
    int result = neap_slice_retain(slice_slot, slice_gen, &clone);
    return result < 0 ? result : neap_stream_write(slot, gen, clone.slot, clone.gen, true);
}

int neap_stream_put_view(uint32_t slot, uint32_t gen, uint32_t reader_slot, uint32_t reader_gen,
                         uint32_t epoch, uint32_t at, uint32_t size)
{
    const struct neap_view view = {reader_slot, reader_gen, epoch, at, size};
    const uint8_t *bytes = neap_view_bytes(&view);
    if (!bytes) return NEAP_E_STALE;
    if (size < NEAP_WRITE_COPY_BYTES) return put_small(slot, gen, bytes, size);
    struct neap_handle slice;
    int result = neap_view_retain(&view, &slice);
    return result < 0 ? result : neap_stream_write(slot, gen, slice.slot, slice.gen, true);
}

int neap_stream_put_bits(uint32_t slot, uint32_t gen, int number, uint64_t bits)
{
    if (!neap_number_known(number)) return NEAP_E_RANGE;
    uint8_t bytes[8];
    neap_number_store(bytes, number, bits);
    return put_small(slot, gen, bytes, neap_number_width(number));
}

int neap_stream_put_number(uint32_t slot, uint32_t gen, int number, double value)
{
    uint64_t bits;
    if (!neap_number_known(number) || !neap_number_encode(number, value, &bits))
        return NEAP_E_RANGE;
    return neap_stream_put_bits(slot, gen, number, bits);
}

int neap_stream_put_varint(uint32_t slot, uint32_t gen, uint64_t value)
{
    uint8_t bytes[NEAP_VARINT_BYTES];
    return put_small(slot, gen, bytes, neap_varint_store(bytes, value));
}

/* "123", the end of the line, and the empty line. Returns where it begins; it ends at `end`. */
static uint8_t *store_length(uint8_t *end, uint32_t n)
{
    uint8_t *at = memcpy(end - 4, "\r\n\r\n", 4);
    do {
        *--at = (uint8_t)('0' + n % 10);
        n /= 10;
    } while (n);
    return at;
}

int neap_stream_put_sized(uint32_t slot, uint32_t gen, const char *head, uint32_t head_size,
                          const char *body, uint32_t body_size, bool now)
{
    uint8_t together[NOW_BYTES], line[LENGTH_LINE_BYTES], *line_end = line + sizeof line;
    const uint8_t *length = store_length(line_end, body_size);
    uint32_t length_size = (uint32_t)(line_end - length);
    if ((uint64_t)head_size + length_size + body_size <= sizeof together) {
        memcpy(together, head, head_size);
        memcpy(together + head_size, length, length_size);
        memcpy(together + head_size + length_size, body, body_size);
        uint32_t n = head_size + length_size + body_size;
        return now ? put_now(slot, gen, together, n) : put_small(slot, gen, together, n);
    }
    int result = neap_stream_write_bytes(slot, gen, head, head_size, true);
    if (result >= 0) result = put_small(slot, gen, length, length_size);
    return result < 0 ? result : neap_stream_write_bytes(slot, gen, body, body_size, true);
}
