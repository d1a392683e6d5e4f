/* number.h - how numbers stand in bytes (enum neap_number: a width, an order, a kind).
 * Leaf functions: no state, no allocation; numbers may stand at any address.
 * Thread: any. */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "neap.h"

static inline uint32_t neap_number_width(int number)
{
    return (uint32_t)number & NEAP_WIDTH;
}

/* Is it one at all? The functions below rely on that, but for neap_number_get(). */
bool neap_number_known(int number);

/* The number at `at`, where as many bytes as its width can be read; integers above 2^53 are
 * rounded, and each NaN is NAN. err: NaN when it is no number. */
double neap_number_get_any(const uint8_t *at, int number);

/* The same; the numbers that headers are made of in a move or two. */
static inline double neap_number_get(const uint8_t *at, int number)
{
    uint16_t v16;
    uint32_t v32;
    switch (number) {
    case 1: return at[0];
    case 2: memcpy(&v16, at, 2); return le16toh(v16);
    case 4: memcpy(&v32, at, 4); return le32toh(v32);
    case 2 | NEAP_BIG: memcpy(&v16, at, 2); return be16toh(v16);
    case 4 | NEAP_BIG: memcpy(&v32, at, 4); return be32toh(v32);
    default: return neap_number_get_any(at, number);
    }
}

/* All its bits, sign-extended if it is signed. */
uint64_t neap_number_bits(const uint8_t *at, int number);

/* The bits that stand for `value`. False: it does not fit, or is no integer and should be. */
bool neap_number_encode(int number, double value, uint64_t *bits);

void neap_number_store(uint8_t *at, int number, uint64_t bits);

/* The values that stand in `size` bytes. err: RANGE: those are fewer than the numbers have. */
int neap_numbers_load(const uint8_t *at, uint32_t size, struct neap_numbers *numbers);

/* The values as bytes. Returns how many. err: RANGE: one is no number or does not fit it. */
int neap_numbers_store(uint8_t at[NEAP_NUMBERS_MAX * 8], const struct neap_numbers *numbers);

enum { NEAP_VARINT_BYTES = 10 }; /* room for any of 64 bits */

/* An unsigned LEB128 integer. Returns how many bytes it has. */
uint32_t neap_varint_store(uint8_t at[NEAP_VARINT_BYTES], uint64_t value);
