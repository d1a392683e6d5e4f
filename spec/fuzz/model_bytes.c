/* model_bytes.c - reading and writing what is in a slice. */
#include <math.h>
#include <string.h>

#include "model.h"
#include "scan/number.h"

/* ---- numbers, as a plain reader of the header would write them ---- */

static int choose_number(void)
{
    uint32_t width = 1 + choose(8);
    return (int)(width | (choose(2) ? NEAP_BIG : 0) | (choose(2) ? NEAP_SIGNED : 0));
}

static uint32_t width_of(int number)
{
    return (uint32_t)number & NEAP_WIDTH;
}

static uint64_t bits_at(const uint8_t *at, int number)
{
    uint32_t width = width_of(number);
    uint64_t bits = 0;
    for (uint32_t i = 0; i < width; i++)
        bits = bits << 8 | at[number & NEAP_BIG ? i : width - 1 - i];
    bool negative = (number & NEAP_SIGNED) && bits >> (8 * width - 1);
    return negative && width < 8 ? bits | ~0ull << 8 * width : bits;
}

static void store(uint8_t *at, int number, uint64_t bits)
{
    uint32_t width = width_of(number);
    for (uint32_t i = 0; i < width; i++)
        at[number & NEAP_BIG ? width - 1 - i : i] = (uint8_t)(bits >> 8 * i);
}

static bool inside(const struct model_slice *s, uint32_t offset, uint32_t n)
{
    return (uint64_t)offset + n <= slice_size(s);
}

static uint32_t choose_offset(const struct model_slice *s)
{
    if (!s || !choose(16)) return choose_size();
    uint32_t offset = choose(slice_size(s) + 1);
    return choose(2) ? offset : offset / 4;
}

/* Mostly so many that they fit behind the offset. */
static uint32_t choose_length(const struct model_slice *s, uint32_t offset)
{
    bool some = s && offset <= slice_size(s) && choose(8);
    return some ? choose(slice_size(s) - offset + 1) : choose_size();
}

static bool known(const struct model_slice *s, uint32_t offset, uint32_t n)
{
    const uint8_t *flags = s->buf->known + s->base + offset;
    for (uint32_t i = 0; i < n; i++)
        if (!flags[i]) return false;
    return true;
}

static int expect_read(const struct model_slice *s, uint32_t offset, uint32_t n)
{
    if (!s) return NEAP_E_STALE;
    return inside(s, offset, n) ? NEAP_OK : NEAP_E_RANGE;
}

/* `result` says which way it went where both are right. */
static int expect_write(const struct model_slice *s, uint32_t offset, uint32_t n, int result)
{
    int want = expect_read(s, offset, n);
    if (want < 0) return want;
    if (!s->buf->pool) return NEAP_E_READ_ONLY;
    enum claim claim = claim_on(s->buf, s, s->base + offset, s->base + offset + n);
    if (claim == BY_EMPTY) return result == NEAP_E_OVERLAP ? NEAP_E_OVERLAP : NEAP_OK;
    return claim == CLAIMED ? NEAP_E_OVERLAP : NEAP_OK;
}

static void get(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    int number = choose_number();
    uint32_t offset = choose_offset(s), width = width_of(number);
    model_op("slice get");
    int want = expect_read(s, offset, width);
    double value = neap_slice_get(AT(handle), offset, number);
    uint64_t bits = neap_slice_get_bits(AT(handle), offset, number);
    if (!is(neap_slice_check(AT(handle), offset, width), want, NULL)) {
        CHECK(isnan(value) && bits == 0);
        return;
    }
    if (!known(s, offset, width)) return;
    uint64_t should = bits_at(slice_bytes(s) + offset, number);
    CHECK(bits == should);
    CHECK(value == (number & NEAP_SIGNED ? (double)(int64_t)should : (double)should));
}

static void set_bits(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    int number = choose_number();
    uint32_t offset = choose_offset(s);
    uint64_t bits = (uint64_t)choose_bits() << 32 | choose_bits();
    model_op("slice set_bits");
    int result = neap_slice_set_bits(AT(handle), offset, number, bits);
    if (!is(result, expect_write(s, offset, width_of(number), result), NULL)) return;
    uint8_t bytes[8];
    store(bytes, number, bits);
    buf_note(s->buf, s->base + offset, bytes, width_of(number));
}

static void set(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    int number = choose_number();
    uint32_t offset = choose_offset(s), value = choose(128);
    bool fits = choose(8);
    model_op("slice set");
    int tried = neap_slice_try_set(AT(handle), offset, number, fits ? value : 0.5);
    int result = neap_slice_set(AT(handle), offset, number, fits ? value : 0.5);
    CHECK(tried == result);
    int want = fits ? expect_write(s, offset, width_of(number), result) : NEAP_E_RANGE;
    if (!is(result, want, NULL)) return;
    uint8_t bytes[8];
    store(bytes, number, value);
    buf_note(s->buf, s->base + offset, bytes, width_of(number));
}

static uint32_t choose_numbers(struct neap_numbers *numbers, uint8_t bytes[NEAP_NUMBERS_MAX * 8])
{
    uint32_t size = 0;
    *numbers = (struct neap_numbers){.count = choose(choose(4) ? 4 : NEAP_NUMBERS_MAX + 1)};
    for (uint32_t i = 0; i < numbers->count; i++) {
        int number = choose_number();
        if (width_of(number) > 6) number = 4 | NEAP_BIG;
        numbers->number[i] = (uint8_t)number;
        numbers->value[i] = choose(128);
        store(bytes + size, number, (uint64_t)numbers->value[i]);
        size += width_of(number);
    }
    return size;
}

static void pack(void)
{
    struct neap_numbers numbers;
    uint8_t bytes[NEAP_NUMBERS_MAX * 8];
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    uint32_t size = choose_numbers(&numbers, bytes), offset = choose_offset(s);
    model_op("slice pack");
    int result = neap_slice_pack(AT(handle), offset, &numbers);
    if (is(result, expect_write(s, offset, size, result), NULL))
        buf_note(s->buf, s->base + offset, bytes, size);
}

static void unpack(void)
{
    struct neap_numbers numbers;
    uint8_t bytes[NEAP_NUMBERS_MAX * 8];
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    uint32_t size = choose_numbers(&numbers, bytes), offset = choose_offset(s);
    model_op("slice unpack");
    int result = neap_slice_unpack(AT(handle), offset, &numbers);
    if (!is(result, expect_read(s, offset, size), NULL) || !known(s, offset, size)) return;
    for (uint32_t i = 0, at = offset; i < numbers.count; i++) {
        uint64_t bits = bits_at(slice_bytes(s) + at, numbers.number[i]);
        bool is_signed = numbers.number[i] & NEAP_SIGNED;
        CHECK(numbers.value[i] == (is_signed ? (double)(int64_t)bits : (double)bits));
        at += width_of(numbers.number[i]);
    }
}

/* ---- bytes ---- */

static void write_bytes(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    uint32_t offset = choose_offset(s), n = choose_length(s, offset);
    if (n > LARGE_BYTES) n = 0;
    const uint8_t *text = choose_text(n);
    model_op("slice write");
    int tried = neap_slice_try_write(AT(handle), offset, n);
    int result = neap_slice_write(AT(handle), offset, (const char *)text, n);
    CHECK(tried == result);
    if (is(result, expect_write(s, offset, n, result), NULL))
        buf_note(s->buf, s->base + offset, text, n);
}

static void copy(void)
{
    struct neap_handle handle, from_handle;
    struct model_slice *s = choose_slice(&handle), *from = choose_slice(&from_handle);
    uint32_t offset = choose_offset(s), from_offset = choose_offset(from);
    uint32_t n = choose_length(choose(2) ? s : from, choose(2) ? offset : from_offset);
    model_op("slice copy");
    int want = expect_read(from, from_offset, n);
    int result = neap_slice_copy(AT(handle), offset, AT(from_handle), from_offset, n);
    if (want == NEAP_OK) want = expect_write(s, offset, n, result);
    if (!is(result, want, NULL)) return;
    memmove(slice_bytes(s) + offset, slice_bytes(from) + from_offset, n);
    memmove(s->buf->known + s->base + offset, from->buf->known + from->base + from_offset, n);
}

static int64_t plain_find(const uint8_t *in, uint32_t size, const uint8_t *text, uint32_t n,
                          uint32_t from)
{
    for (uint64_t i = from; i + n <= size; i++)
        if (!n || memcmp(in + i, text, n) == 0) return (int64_t)i;
    return NEAP_E_EOF;
}

static void find(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    uint32_t n = choose(4), from = choose_offset(s);
    const uint8_t *text = choose_text(n);
    model_op("slice find");
    int result = neap_slice_find(AT(handle), (const char *)text, n, from);
    int want = expect_read(s, from, 0);
    if (s && !known(s, 0, slice_size(s))) return;
    if (want == NEAP_OK) want = (int)plain_find(slice_bytes(s), slice_size(s), text, n, from);
    is(result, want, NULL);
}

static void equals(void)
{
    struct neap_handle handle, other_handle;
    struct model_slice *s = choose_slice(&handle), *other = choose_slice(&other_handle);
    model_op("slice equals");
    bool same_size = s && other && slice_size(s) == slice_size(other);
    uint32_t n = same_size ? slice_size(s) : 0;
    int result = neap_slice_equals_slice(AT(handle), AT(other_handle));
    if (!s || !other || !same_size) {
        is(result, s && other ? 0 : NEAP_E_STALE, NULL);
    } else if (known(s, 0, n) && known(other, 0, n)) {
        is(result, memcmp(slice_bytes(s), slice_bytes(other), n) == 0, NULL);
        CHECK(neap_slice_equals(AT(handle), (const char *)slice_bytes(s), n) == 1);
    }
}

static void copy_out(void)
{
    char room[LARGE_BYTES];
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    uint32_t offset = choose_offset(s), n = choose_length(s, offset);
    model_op("slice copy_out");
    if (n > sizeof room && s && inside(s, offset, n)) return;
    int result = neap_slice_copy_out(AT(handle), offset, n, room);
    if (!is(result, expect_read(s, offset, n), NULL) || !known(s, offset, n)) return;
    CHECK(memcmp(room, slice_bytes(s) + offset, n) == 0);
}

model_step *const byte_steps[] = {get,         set,  set_bits, pack,   unpack,
                                  write_bytes, copy, find,     equals, copy_out};
const uint32_t byte_step_count = sizeof byte_steps / sizeof *byte_steps;
