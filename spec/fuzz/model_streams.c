/* model_streams.c - what bytes go through: buffers that grow, readers, writers. */
#include <math.h>
#include <string.h>

#include "model.h"

/* ---- buffers ---- */

static struct model_buffer *choose_buffer(struct neap_handle *handle)
{
    uint32_t i = choose(16);
    struct model_buffer *b =
        i < 15 && model.buffer_count ? &model.buffers[i % model.buffer_count] : NULL;
    *handle = b ? b->handle : choose_stale(A_BUFFER);
    return b;
}

static void buffer_create(void)
{
    struct neap_handle handle;
    struct model_pool *pool = choose_pool(&handle);
    model_op("buffer create");
    if (model.buffer_count == BUFFERS) return;
    struct model_buffer *b = &model.buffers[model.buffer_count];
    *b = (struct model_buffer){.pool = pool};
    int want = !pool ? NEAP_E_STALE : pool->closed ? NEAP_E_CLOSED : NEAP_OK;
    if (!is(neap_buffer_create(AT(handle), &b->handle), want, NULL)) return;
    pool_keep(pool);
    model.buffer_count++;
}

static struct model_buffer *new_buffer(struct neap_handle *handle)
{
    if (!model.buffer_count) buffer_create();
    return choose_buffer(handle);
}

/* The result of appending: a closed pool gives no further piece, but there may be room left. */
static bool appended(struct model_buffer *b, int result, int want)
{
    if (!b) return is(result, NEAP_E_STALE, NULL);
    return is(result, b->pool->closed && result == NEAP_E_CLOSED ? result : want, b->pool);
}

static void buffer_put(void)
{
    struct neap_handle handle;
    struct model_buffer *b = new_buffer(&handle);
    uint32_t n = choose_size();
    const uint8_t *text = choose_text(n > LARGE_BYTES ? 0 : n);
    model_op("buffer put");
    if (n > LARGE_BYTES) {
        is(neap_buffer_put(AT(handle), (const char *)text, n), b ? NEAP_E_OVERSIZED : NEAP_E_STALE,
           NULL);
        return;
    }
    if (appended(b, neap_buffer_put(AT(handle), (const char *)text, n), NEAP_OK))
        bytes_add(&b->bytes, text, n);
}

static void buffer_put_slice(void)
{
    struct neap_handle handle, slice;
    struct model_buffer *b = new_buffer(&handle);
    struct model_slice *s = choose_slice(&slice);
    model_op("buffer put_slice");
    int result = neap_buffer_put_slice(AT(handle), AT(slice));
    if (!s)
        is(result, NEAP_E_STALE, NULL);
    else if (appended(b, result, NEAP_OK))
        bytes_add(&b->bytes, neap_slice_bytes(AT(slice)), slice_size(s));
}

static void buffer_put_number(void)
{
    struct neap_handle handle;
    struct model_buffer *b = new_buffer(&handle);
    uint32_t value = choose_bits();
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                        (uint8_t)value};
    model_op("buffer put_number");
    int result = choose(2) ? neap_buffer_put_number(AT(handle), 4 | NEAP_BIG, value)
                           : neap_buffer_put_bits(AT(handle), 4 | NEAP_BIG, value);
    if (appended(b, result, NEAP_OK)) bytes_add(&b->bytes, bytes, 4);
    CHECK(neap_buffer_put_number(AT(handle), 4 | NEAP_BIG, 0.5) == NEAP_E_RANGE);
}

static void buffer_put_varint(void)
{
    struct neap_handle handle;
    struct model_buffer *b = new_buffer(&handle);
    uint64_t value = (uint64_t)choose_bits() << choose(33);
    model_op("buffer put_varint");
    if (!appended(b, neap_buffer_put_varint(AT(handle), value), NEAP_OK)) return;
    do {
        uint8_t byte = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
        bytes_add(&b->bytes, &byte, 1);
    } while (value >>= 7);
}

static void buffer_reserve(void)
{
    static const uint8_t zeros[700];
    struct neap_handle handle;
    struct model_buffer *b = new_buffer(&handle);
    uint32_t n = choose(sizeof zeros);
    model_op("buffer reserve");
    if (appended(b, neap_buffer_reserve(AT(handle), n), b ? (int)b->bytes.size : 0))
        bytes_add(&b->bytes, zeros, n);
}

static void buffer_set(void)
{
    struct neap_handle handle;
    struct model_buffer *b = new_buffer(&handle);
    uint32_t offset = b && choose(8) ? choose(b->bytes.size + 1) : choose_size();
    uint32_t value = choose(65536);
    model_op("buffer set");
    int want = !b ? NEAP_E_STALE : (uint64_t)offset + 2 > b->bytes.size ? NEAP_E_RANGE : NEAP_OK;
    int result = choose(2) ? neap_buffer_set(AT(handle), offset, 2, value)
                           : neap_buffer_set_bits(AT(handle), offset, 2, value);
    if (!is(result, want, NULL)) return;
    b->bytes.at[offset] = (uint8_t)value;
    b->bytes.at[offset + 1] = (uint8_t)(value >> 8);
}

static void buffer_truncate(void)
{
    struct neap_handle handle;
    struct model_buffer *b = new_buffer(&handle);
    uint32_t size = b && choose(4) ? b->bytes.size - choose(b->bytes.size / 2 + 1) : choose_size();
    model_op("buffer truncate");
    int want = !b ? NEAP_E_STALE : size > b->bytes.size ? NEAP_E_RANGE : NEAP_OK;
    if (is(neap_buffer_truncate(AT(handle), size), want, NULL)) b->bytes.size = size;
}

static void buffer_reset(void)
{
    struct neap_handle handle;
    struct model_buffer *b = new_buffer(&handle);
    model_op("buffer reset");
    if (is(neap_buffer_reset(AT(handle)), b ? NEAP_OK : NEAP_E_STALE, NULL)) b->bytes.size = 0;
}

static void buffer_take(void)
{
    struct neap_handle handle, piece;
    struct model_buffer *b = new_buffer(&handle);
    model_op("buffer take");
    if (model.slice_count == SLICES) return;
    int result = neap_buffer_take(AT(handle), &piece);
    if (!is(result, b ? b->bytes.size > 0 : NEAP_E_STALE, NULL) || !result) return;
    uint32_t n = slice_size(slice_born(piece, b->pool, b->bytes.at));
    CHECK(n > 0);
    bytes_drop(&b->bytes, n);
}

static void buffer_let_go(struct model_buffer *b)
{
    CHECK(neap_buffer_size(AT(b->handle)) == (int)b->bytes.size);
    if (!is(neap_buffer_release(AT(b->handle)), NEAP_OK, NULL)) return;
    pool_unkeep(b->pool);
    bytes_free(&b->bytes);
    forget_handle(A_BUFFER, b->handle);
    *b = model.buffers[--model.buffer_count];
}

static void buffer_release(void)
{
    struct neap_handle handle;
    struct model_buffer *b = choose_buffer(&handle);
    model_op("buffer release");
    if (b)
        buffer_let_go(b);
    else
        is(neap_buffer_release(AT(handle)), NEAP_E_STALE, NULL);
}

void buffers_end(void)
{
    model_op("buffer release");
    while (model.buffer_count) buffer_let_go(&model.buffers[0]);
}

model_step *const buffer_steps[] = {
    buffer_create,  buffer_put,     buffer_put,   buffer_put_slice, buffer_put_number,
    buffer_reserve, buffer_set,     buffer_reset, buffer_truncate,  buffer_put_varint,
    buffer_take,    buffer_release, buffer_take,
};
const uint32_t buffer_step_count = sizeof buffer_steps / sizeof *buffer_steps;

/* ---- writers: C's own, so there are no stale ones ---- */

static struct model_writer *choose_writer(void)
{
    uint32_t i = choose(WRITERS);
    if (i < model.writer_count) return &model.writers[i];
    struct neap_handle handle;
    struct model_pool *pool = choose_pool(&handle);
    if (!pool) return model.writer_count ? &model.writers[0] : NULL;
    neap_pool_keep(pool->real);
    pool_keep(pool);
    struct model_writer *w = &model.writers[model.writer_count++];
    *w = (struct model_writer){.real.pool = pool->real, .pool = pool};
    return w;
}

static bool queued(struct model_writer *w, int result)
{
    return is(result, w->pool->closed && result == NEAP_E_CLOSED ? result : NEAP_OK, w->pool);
}

static void writer_add(void)
{
    struct neap_handle handle;
    struct model_writer *w = choose_writer();
    struct model_slice *s = choose_slice(&handle);
    model_op("writer add");
    if (!w || !s) return;
    uint32_t before = w->queued.size, n = slice_size(s);
    bytes_add(&w->queued, neap_slice_bytes(AT(handle)), n);
    int result = neap_writer_add(&w->real, neap_slice_of(AT(handle)));
    if (!queued(w, result)) w->queued.size = before;
    CHECK(neap_slice_size(AT(handle)) == NEAP_E_STALE);
    slice_gone(s); /* also when it failed */
}

static void writer_add_bytes(void)
{
    struct model_writer *w = choose_writer();
    uint32_t n = choose_size();
    model_op("writer add_bytes");
    if (!w || n > LARGE_BYTES) return;
    const uint8_t *text = choose_text(n);
    if (queued(w, neap_writer_add_bytes(&w->real, text, n))) bytes_add(&w->queued, text, n);
}

static void writer_sent(void)
{
    struct iovec parts[NEAP_WRITER_PARTS];
    struct model_writer *w = choose_writer();
    model_op("writer sent");
    if (!w) return;
    int count = neap_writer_parts(&w->real, parts, NEAP_WRITER_PARTS);
    uint32_t offered = 0;
    for (int i = 0; i < count; offered += (uint32_t)parts[i++].iov_len)
        CHECK(memcmp(parts[i].iov_base, w->queued.at + offered, parts[i].iov_len) == 0);
    uint32_t n = choose(3) ? choose(offered + 1) : offered;
    neap_writer_sent(&w->real, n);
    bytes_drop(&w->queued, n);
    is(NEAP_OK, NEAP_OK, NULL);
}

static void writer_let_go(struct model_writer *w)
{
    uint64_t bytes = neap_writer_clear(&w->real);
    CHECK(bytes == w->queued.size && !w->real.small && !w->real.first);
    is(NEAP_OK, NEAP_OK, NULL);
    neap_pool_unkeep(w->real.pool);
    pool_unkeep(w->pool);
    bytes_free(&w->queued);
    *w = model.writers[--model.writer_count];
}

static void writer_clear(void)
{
    struct model_writer *w = choose_writer();
    model_op("writer clear");
    if (w) writer_let_go(w);
}

void writers_end(void)
{
    model_op("writer clear");
    while (model.writer_count) writer_let_go(&model.writers[0]);
}

model_step *const writer_steps[] = {
    writer_add,       writer_add,  writer_add_bytes, writer_add_bytes,
    writer_add_bytes, writer_sent, writer_sent,      writer_clear,
};
const uint32_t writer_step_count = sizeof writer_steps / sizeof *writer_steps;
