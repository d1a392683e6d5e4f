#include "scan/number.h"

#include <math.h>
#include <string.h>

bool neap_number_known(int number)
{
    uint32_t width = neap_number_width(number);
    if (number < 0 || number > (NEAP_WIDTH | NEAP_BIG | NEAP_SIGNED | NEAP_FLOAT)) return false;
    if (number & NEAP_FLOAT) return (width == 4 || width == 8) && !(number & NEAP_SIGNED);
    return width >= 1 && width <= 8;
}

static uint64_t load_any(const uint8_t *at, uint32_t width, bool big)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < width; i++) bits = bits << 8 | at[big ? i : width - 1 - i];
    return bits;
}

/* The usual widths in one move each. */
static uint64_t load(const uint8_t *at, uint32_t width, bool big)
{
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;
    switch (width) {
    case 1: return at[0];
    case 2: memcpy(&v16, at, 2); return big ? be16toh(v16) : le16toh(v16);
    case 4: memcpy(&v32, at, 4); return big ? be32toh(v32) : le32toh(v32);
    case 8: memcpy(&v64, at, 8); return big ? be64toh(v64) : le64toh(v64);
    default: return load_any(at, width, big);
    }
}

uint64_t neap_number_bits(const uint8_t *at, int number)
{
    uint32_t width = neap_number_width(number);
    uint64_t bits = load(at, width, number & NEAP_BIG);
    if (!(number & NEAP_SIGNED)) return bits;
    uint32_t unused = 64 - 8 * width;
    return (uint64_t)((int64_t)(bits << unused) >> unused);
}

/* One NaN for all: LuaJIT keeps types and pointers in the bits of the others, so a NaN of a peer's
 * making would be an object at an address of its choice. */
static double float_of(uint64_t bits, uint32_t width)
{
    union {
        uint64_t bits;
        double value;
    } wide = {.bits = bits};
    union {
        uint32_t bits;
        float value;
    } narrow = {.bits = (uint32_t)bits};
    double value = width == 4 ? (double)narrow.value : wide.value;
    return isnan(value) ? NAN : value;
}

static uint64_t float_bits(double value, uint32_t width)
{
    union {
        double value;
        uint64_t bits;
    } wide = {.value = value};
    union {
        float value;
        uint32_t bits;
    } narrow = {.value = (float)value};
    return width == 4 ? narrow.bits : wide.bits;
}

double neap_number_get_any(const uint8_t *at, int number)
{
    if (!neap_number_known(number)) return NAN;
    uint64_t bits = neap_number_bits(at, number);
    if (number & NEAP_FLOAT) return float_of(bits, neap_number_width(number));
    return number & NEAP_SIGNED ? (double)(int64_t)bits : (double)bits;
}

/* A double has 53 bits: wider integers are written as bits. */
static bool fits(double value, uint32_t width, bool sign)
{
    uint32_t width_bits = 8 * width - sign;
    bool exact = width_bits > 53;
    double span = exact ? 0x1p53 : (double)(UINT64_C(1) << width_bits);
    bool above_low = value >= (sign ? -span : 0);
    bool below_high = exact ? value <= span : value < span;
    return above_low && below_high && value == (double)(int64_t)value;
}

bool neap_number_encode(int number, double value, uint64_t *bits)
{
    uint32_t width = neap_number_width(number);
    if (number & NEAP_FLOAT) {
        *bits = float_bits(value, width);
        return true;
    }
    if (!fits(value, width, number & NEAP_SIGNED)) return false;
    *bits = (uint64_t)(int64_t)value;
    return true;
}

static void store_any(uint8_t *at, uint32_t width, bool big, uint64_t bits)
{
    for (uint32_t i = 0; i < width; i++) at[big ? width - 1 - i : i] = (uint8_t)(bits >> 8 * i);
}

/* As load(). */
void neap_number_store(uint8_t *at, int number, uint64_t bits)
{
    uint32_t width = neap_number_width(number);
    bool big = number & NEAP_BIG;
    uint16_t v16 = big ? htobe16((uint16_t)bits) : htole16((uint16_t)bits);
    uint32_t v32 = big ? htobe32((uint32_t)bits) : htole32((uint32_t)bits);
    uint64_t v64 = big ? htobe64(bits) : htole64(bits);
    switch (width) {
    case 1: at[0] = (uint8_t)bits; break;
    case 2: memcpy(at, &v16, 2); break;
    case 4: memcpy(at, &v32, 4); break;
    case 8: memcpy(at, &v64, 8); break;
    default: store_any(at, width, big, bits);
    }
}

int neap_numbers_load(const uint8_t *at, uint32_t size, struct neap_numbers *numbers)
{
    if (numbers->count > NEAP_NUMBERS_MAX) return NEAP_E_RANGE;
    for (uint32_t i = 0; i < numbers->count; i++) {
        uint32_t width = neap_number_width(numbers->number[i]);
        if (width > size) return NEAP_E_RANGE;
        numbers->value[i] = neap_number_get(at, numbers->number[i]);
        at += width;
        size -= width;
    }
    return NEAP_OK;
}

int neap_numbers_store(uint8_t at[NEAP_NUMBERS_MAX * 8], const struct neap_numbers *numbers)
{
    uint32_t done = 0;
    if (numbers->count > NEAP_NUMBERS_MAX) return NEAP_E_RANGE;
    for (uint32_t i = 0; i < numbers->count; i++) {
        int number = numbers->number[i];
        uint64_t bits;
        if (!neap_number_known(number) || !neap_number_encode(number, numbers->value[i], &bits))
            return NEAP_E_RANGE;
        neap_number_store(at + done, number, bits);
        done += neap_number_width(number);
    }
    return (int)done;
}

uint32_t neap_varint_store(uint8_t at[NEAP_VARINT_BYTES], uint64_t value)
{
    uint32_t n = 0;
    for (; value > 127; value >>= 7) at[n++] = (uint8_t)(value | 128);
    at[n++] = (uint8_t)value;
    return n;
}
