/* bytes.c - reading and writing what is in a slice: numbers, bytes, searching.
 *
 * Every function checks the handle and the range itself, so nothing that a script
 * passes can reach outside the slice. Numbers may stand at any offset. */
#include <endian.h>
#include <math.h>
#include <string.h>

#include "iobuf/slice.h"
#include "scan/find.h"

static bool inside(const struct neap_slice *s, uint32_t offset, uint32_t size)
{
    uint32_t have = neap_slice_bytes_count(s);
    return offset <= have && size <= have - offset;
}

/* ---- numbers ---- */

static const uint8_t widths[] = {
    [NEAP_U8] = 1,    [NEAP_I8] = 1,    [NEAP_U16BE] = 2, [NEAP_U16LE] = 2, [NEAP_I16BE] = 2,
    [NEAP_I16LE] = 2, [NEAP_U32BE] = 4, [NEAP_U32LE] = 4, [NEAP_I32BE] = 4, [NEAP_I32LE] = 4,
    [NEAP_U64BE] = 8, [NEAP_U64LE] = 8, [NEAP_I64BE] = 8, [NEAP_I64LE] = 8, [NEAP_F32BE] = 4,
    [NEAP_F32LE] = 4, [NEAP_F64BE] = 8, [NEAP_F64LE] = 8,
};

static uint16_t load16(const uint8_t *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return v;
}

static double float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

static double double_of(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static double get(const uint8_t *at, enum neap_number number)
{
    switch (number) {
    case NEAP_U8: return at[0];
    case NEAP_I8: return (int8_t)at[0];
    case NEAP_U16BE: return be16toh(load16(at));
    case NEAP_U16LE: return le16toh(load16(at));
    case NEAP_I16BE: return (int16_t)be16toh(load16(at));
    case NEAP_I16LE: return (int16_t)le16toh(load16(at));
    case NEAP_U32BE: return be32toh(load32(at));
    case NEAP_U32LE: return le32toh(load32(at));
    case NEAP_I32BE: return (int32_t)be32toh(load32(at));
    case NEAP_I32LE: return (int32_t)le32toh(load32(at));
    case NEAP_U64BE: return (double)be64toh(load64(at));
    case NEAP_U64LE: return (double)le64toh(load64(at));
    case NEAP_I64BE: return (double)(int64_t)be64toh(load64(at));
    case NEAP_I64LE: return (double)(int64_t)le64toh(load64(at));
    case NEAP_F32BE: return float_of(be32toh(load32(at)));
    case NEAP_F32LE: return float_of(le32toh(load32(at)));
    case NEAP_F64BE: return double_of(be64toh(load64(at)));
    case NEAP_F64LE: return double_of(le64toh(load64(at)));
    }
    return NAN;
}

static bool known(int number)
{
    return number >= 0 && (size_t)number < sizeof widths;
}

double neap_slice_get(uint32_t slot, uint32_t gen, uint32_t offset, int number)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s || !known(number) || !inside(s, offset, widths[number])) return NAN;
    return get(neap_slice_data(s) + offset, (enum neap_number)number);
}

uint64_t neap_slice_get64(uint32_t slot, uint32_t gen, uint32_t offset, bool big)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s || !inside(s, offset, 8)) return 0;
    uint64_t v = load64(neap_slice_data(s) + offset);
    return big ? be64toh(v) : le64toh(v);
}

int neap_slice_check(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t size)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s) return neap_slice_stale();
    return inside(s, offset, size) ? NEAP_OK : NEAP_E_RANGE;
}

/* May these bytes be written through this slice? */
static int writable(const struct neap_slice *s, uint32_t offset, uint32_t size)
{
    if (!s) return neap_slice_stale();
    if (!inside(s, offset, size)) return NEAP_E_RANGE;
    if (!s->buf->slab) return NEAP_E_READ_ONLY;
    uint32_t from = s->base + offset;
    return size && neap_slice_contested(s, from, from + size) ? NEAP_E_OVERLAP : NEAP_OK;
}

static void store(uint8_t *at, uint64_t bits, uint32_t width, bool big)
{
    for (uint32_t i = 0; i < width; i++)
        at[big ? width - 1 - i : i] = (uint8_t)(bits >> 8 * i);
}

static bool is_float(enum neap_number number)
{
    return number >= NEAP_F32BE;
}

static bool is_signed(enum neap_number number)
{
    switch (number) {
    case NEAP_I8:
    case NEAP_I16BE:
    case NEAP_I16LE:
    case NEAP_I32BE:
    case NEAP_I32LE:
    case NEAP_I64BE:
    case NEAP_I64LE: return true;
    default: return false;
    }
}

static bool is_big(enum neap_number number)
{
    switch (number) {
    case NEAP_U16LE:
    case NEAP_I16LE:
    case NEAP_U32LE:
    case NEAP_I32LE:
    case NEAP_U64LE:
    case NEAP_I64LE:
    case NEAP_F32LE:
    case NEAP_F64LE: return false;
    default: return true;
    }
}

static uint64_t float_bits(double value, uint32_t width)
{
    if (width == 8) return load64((const uint8_t *)&value);
    float rounded = (float)value;
    return load32((const uint8_t *)&rounded);
}

/* Does the integer fit, and is it one? 64-bit numbers go up to 2^53 here. */
static bool fits(double value, uint32_t width, bool sign)
{
    double span = width == 8 ? 0x1p53 : ldexp(1, (int)(8 * width) - sign);
    if (!(value >= (sign ? -span : 0) && value <= span)) return false;
    if (width < 8 && value == span) return false;
    return value == (double)(int64_t)value;
}

int neap_slice_set(uint32_t slot, uint32_t gen, uint32_t offset, int number, double value)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    if (!known(number)) return NEAP_E_RANGE;
    enum neap_number kind = (enum neap_number)number;
    uint32_t width = widths[kind];
    int result = writable(s, offset, width);
    if (result < 0) return result;
    if (!is_float(kind) && !fits(value, width, is_signed(kind))) return NEAP_E_RANGE;
    uint64_t bits = is_float(kind) ? float_bits(value, width) : (uint64_t)(int64_t)value;
    store(neap_slice_data(s) + offset, bits, width, is_big(kind));
    return NEAP_OK;
}

int neap_slice_set64(uint32_t slot, uint32_t gen, uint32_t offset, bool big, uint64_t value)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    int result = writable(s, offset, 8);
    if (result == NEAP_OK) store(neap_slice_data(s) + offset, value, 8, big);
    return result;
}

/* ---- bytes ---- */

int neap_slice_write(uint32_t slot, uint32_t gen, uint32_t offset, const char *bytes,
                     uint32_t size)
{
    struct neap_slice *s = neap_slice_of(slot, gen);
    int result = writable(s, offset, size);
    if (result == NEAP_OK && size) memcpy(neap_slice_data(s) + offset, bytes, size);
    return result;
}

int neap_slice_copy(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t from_slot,
                    uint32_t from_gen, uint32_t from_offset, uint32_t size)
{
    const struct neap_slice *from = neap_slice_of(from_slot, from_gen);
    if (!from) return neap_slice_stale();
    if (!inside(from, from_offset, size)) return NEAP_E_RANGE;
    struct neap_slice *s = neap_slice_of(slot, gen);
    int result = writable(s, offset, size);
    if (result == NEAP_OK && size)
        memmove(neap_slice_data(s) + offset, neap_slice_data(from) + from_offset, size);
    return result;
}

int neap_slice_find(uint32_t slot, uint32_t gen, const char *bytes, uint32_t size, uint32_t from)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s) return neap_slice_stale();
    uint32_t have = neap_slice_bytes_count(s);
    if (from > have) return NEAP_E_RANGE;
    int64_t at = neap_find(neap_slice_data(s), have, bytes, size, from);
    return at < 0 ? NEAP_E_EOF : (int)at;
}

int neap_slice_equals(uint32_t slot, uint32_t gen, const char *bytes, uint32_t size)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    if (!s) return neap_slice_stale();
    if (neap_slice_bytes_count(s) != size) return 0;
    return !size || memcmp(neap_slice_data(s), bytes, size) == 0;
}

int neap_slice_equals_slice(uint32_t slot, uint32_t gen, uint32_t other_slot, uint32_t other_gen)
{
    const struct neap_slice *other = neap_slice_of(other_slot, other_gen);
    if (!other) return neap_slice_stale();
    return neap_slice_equals(slot, gen, (const char *)neap_slice_data(other),
                             neap_slice_bytes_count(other));
}

const uint8_t *neap_slice_bytes(uint32_t slot, uint32_t gen)
{
    const struct neap_slice *s = neap_slice_of(slot, gen);
    return s ? neap_slice_data(s) : NULL;
}
