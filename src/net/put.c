/* put.c - bytes of slices and views, and numbers, behind what a stream has queued. Small ones are
 * copied, as all that is written is. Thread: the loop's. */
#include "net/stream.h"
#include "scan/number.h"

/* Few bytes, copied: most often behind others that were, and then there is not much to do. */
static int put_small(uint32_t slot, uint32_t gen, const uint8_t *bytes, uint32_t n)
{
    struct neap_stream *s = neap_slots_find(&neap_streams, slot, gen);
    if (s && !s->shutdown && neap_writer_grow(&s->writer, bytes, n))
        return neap_stream_queued_now(s, n);
    return neap_stream_write_bytes(slot, gen, (const char *)bytes, n, true);
}

int neap_stream_put_slice(uint32_t slot, uint32_t gen, uint32_t slice_slot, uint32_t slice_gen)
{
    struct neap_slice *slice = neap_slice_of(slice_slot, slice_gen);
    if (!slice) return neap_slice_stale();
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
