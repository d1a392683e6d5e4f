/* bytes.c - reading and writing what is in a slice: numbers, bytes, searching.
 *
 * Every function checks the handle and the range itself, so nothing that a script
 * passes can reach outside the slice. Numbers may stand at any offset. */
#include <math.h>
#include <string.h>

#include "iobuf/slice.h"
#include "scan/find.h"
#include "scan/number.h"

static bool inside(const struct neap_slice *s, uint32_t offset, uint32_t size)
{
    return (uint64_t)offset + size <= neap_slice_bytes_count(s);
}

/* ---- numbers ---- */

static __attribute__((noinline)) double get_in_other(uint32_t slot, uint32_t gen, uint32_t offset,
                                                     int number)
{
    if (!neap_visit(slot)) return NAN;
    double value = neap_slice_get(slot, gen, offset, number);
    neap_leave(NEAP_OK);
    return value;
}

double neap_slice_get(uint32_t slot, uint32_t gen, uint32_t offset, int number)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s) return get_in_other(slot, gen, offset, number);
    if (!inside(s, offset, neap_number_width(number))) return NAN;
    return neap_number_get(neap_slice_data(s) + offset, number);
}

static __attribute__((noinline)) uint64_t get_bits_in_other(uint32_t slot, uint32_t gen,
                                                            uint32_t offset, int number)
{
    if (!neap_visit(slot)) return 0;
    uint64_t bits = neap_slice_get_bits(slot, gen, offset, number);
    neap_leave(NEAP_OK);
    return bits;
}

uint64_t neap_slice_get_bits(uint32_t slot, uint32_t gen, uint32_t offset, int number)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s) return get_bits_in_other(slot, gen, offset, number);
    if (!neap_number_known(number)) return 0;
    if (!inside(s, offset, neap_number_width(number))) return 0;
    return neap_number_bits(neap_slice_data(s) + offset, number);
}

int neap_slice_check(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t size)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_check(slot, gen, offset, size))
                                : neap_slice_stale(slot);
    return inside(s, offset, size) ? NEAP_OK : NEAP_E_RANGE;
}

/* May these bytes be written through this slice? */
static int writable(const struct neap_slice *s, uint32_t offset, uint32_t size)
{
    if (!inside(s, offset, size)) return NEAP_E_RANGE;
    if (!s->buf->slab) return NEAP_E_READ_ONLY;
    uint32_t from = s->base + offset;
    return size && neap_slice_contested(s, from, from + size) ? NEAP_E_OVERLAP : NEAP_OK;
}

static __attribute__((noinline)) int set_bits_in_other(uint32_t slot, uint32_t gen, uint32_t offset,
                                                       int number, uint64_t bits)
{
    return neap_visit(slot) ? neap_leave(neap_slice_set_bits(slot, gen, offset, number, bits))
                            : neap_slice_stale(slot);
}

int neap_slice_set_bits(uint32_t slot, uint32_t gen, uint32_t offset, int number, uint64_t bits)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!neap_number_known(number)) return NEAP_E_RANGE;
    if (!s) return set_bits_in_other(slot, gen, offset, number, bits);
    int result = writable(s, offset, neap_number_width(number));
    if (result == NEAP_OK) neap_number_store(neap_slice_data(s) + offset, number, bits);
    return result;
}

static bool encode(int number, double value, uint64_t *bits)
{
    return neap_number_known(number) && neap_number_encode(number, value, bits);
}

int neap_slice_try_write(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t size)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_try_write(slot, gen, offset, size))
                                : neap_slice_stale(slot);
    return writable(s, offset, size);
}

int neap_slice_try_set(uint32_t slot, uint32_t gen, uint32_t offset, int number, double value)
{
    uint64_t bits;
    if (!encode(number, value, &bits)) return NEAP_E_RANGE;
    return neap_slice_try_write(slot, gen, offset, neap_number_width(number));
}

int neap_slice_set(uint32_t slot, uint32_t gen, uint32_t offset, int number, double value)
{
    uint64_t bits;
    if (!encode(number, value, &bits)) return NEAP_E_RANGE;
    return neap_slice_set_bits(slot, gen, offset, number, bits);
}

/* ---- numbers side by side ---- */

/* Who calls these two asks once more when they fail, so a stale handle is not counted here. */
int neap_slice_pack(uint32_t slot, uint32_t gen, uint32_t offset,
                    const struct neap_numbers *numbers)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_pack(slot, gen, offset, numbers))
                                : neap_missing(slot);
    uint8_t bytes[NEAP_NUMBERS_MAX * 8];
    int size = neap_numbers_store(bytes, numbers);
    if (size < 0) return size;
    int result = writable(s, offset, (uint32_t)size);
    if (result == NEAP_OK) memcpy(neap_slice_data(s) + offset, bytes, (size_t)size);
    return result;
}

int neap_slice_unpack(uint32_t slot, uint32_t gen, uint32_t offset, struct neap_numbers *numbers)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_unpack(slot, gen, offset, numbers))
                                : neap_missing(slot);
    if (!inside(s, offset, 0)) return NEAP_E_RANGE;
    return neap_numbers_load(neap_slice_data(s) + offset, neap_slice_bytes_count(s) - offset,
                             numbers);
}

/* ---- bytes ---- */

int neap_slice_write(uint32_t slot, uint32_t gen, uint32_t offset, const char *bytes, uint32_t size)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_write(slot, gen, offset, bytes, size))
                                : neap_slice_stale(slot);
    int result = writable(s, offset, size);
    if (result == NEAP_OK && size) memcpy(neap_slice_data(s) + offset, bytes, size);
    return result;
}

int neap_slice_copy(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t from_slot,
                    uint32_t from_gen, uint32_t from_offset, uint32_t size)
{
    const struct neap_slice *from = neap_slice_of(from_slot, from_gen);
    if (!from && neap_visit(from_slot))
        return neap_leave(
            neap_slice_copy(slot, gen, offset, from_slot, from_gen, from_offset, size));
    if (!from) return neap_slice_stale(from_slot);
    if (!inside(from, from_offset, size)) return NEAP_E_RANGE;
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s) return neap_slice_stale(slot);
    int result = writable(s, offset, size);
    if (result == NEAP_OK && size)
        memmove(neap_slice_data(s) + offset, neap_slice_data(from) + from_offset, size);
    return result;
}

int neap_slice_find(uint32_t slot, uint32_t gen, const char *bytes, uint32_t size, uint32_t from)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_find(slot, gen, bytes, size, from))
                                : neap_slice_stale(slot);
    uint32_t have = neap_slice_bytes_count(s);
    if (from > have) return NEAP_E_RANGE;
    int64_t at = neap_find(neap_slice_data(s), have, bytes, size, from);
    return at < 0 ? NEAP_E_EOF : (int)at;
}

static __attribute__((noinline)) int equals_in_other(uint32_t slot, uint32_t gen, const char *bytes,
                                                     uint32_t size)
{
    return neap_visit(slot) ? neap_leave(neap_slice_equals(slot, gen, bytes, size))
                            : neap_slice_stale(slot);
}

int neap_slice_equals(uint32_t slot, uint32_t gen, const char *bytes, uint32_t size)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s) return equals_in_other(slot, gen, bytes, size);
    if (neap_slice_bytes_count(s) != size) return 0;
    return !size || memcmp(neap_slice_data(s), bytes, size) == 0;
}

int neap_slice_equals_slice(uint32_t slot, uint32_t gen, uint32_t other_slot, uint32_t other_gen)
{
    const struct neap_slice *other = neap_slice_of(other_slot, other_gen);
    if (!other && neap_visit(other_slot))
        return neap_leave(neap_slice_equals_slice(slot, gen, other_slot, other_gen));
    if (!other) return neap_slice_stale(other_slot);
    return neap_slice_equals(slot, gen, (const char *)neap_slice_data(other),
                             neap_slice_bytes_count(other));
}

int neap_slice_copy_out(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t n, char *room)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s)
        return neap_visit(slot) ? neap_leave(neap_slice_copy_out(slot, gen, offset, n, room))
                                : neap_slice_stale(slot);
    if (!inside(s, offset, n)) return NEAP_E_RANGE;
    if (n) memcpy(room, neap_slice_data(s) + offset, n);
    s->buf->stats->strings_made += n != 0;
    return NEAP_OK;
}

const uint8_t *neap_slice_bytes(uint32_t slot, uint32_t gen)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (s) return neap_slice_data(s);
    if (!neap_visit(slot)) return NULL;
    const uint8_t *bytes = neap_slice_bytes(slot, gen);
    neap_leave(NEAP_OK);
    return bytes;
}
