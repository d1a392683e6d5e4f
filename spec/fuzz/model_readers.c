/* model_readers.c - readers: a string of bytes that is cut at its front, and views of it. */
#include <math.h>
#include <string.h>

#include "model.h"

static struct model_reader *choose_reader(struct neap_handle *handle)
{
    uint32_t i = choose(16);
    struct model_reader *r =
        i < 15 && model.reader_count ? &model.readers[i % model.reader_count] : NULL;
    *handle = r ? r->handle : choose_stale(A_READER);
    return r;
}

static void reader_create(void)
{
    struct neap_handle handle;
    struct model_pool *pool = choose_pool(&handle);
    uint32_t max_read = choose(4) ? 256 + choose(4096) : LARGE_BYTES;
    model_op("reader create");
    if (model.reader_count == READERS) return;
    struct model_reader *r = &model.readers[model.reader_count];
    *r = (struct model_reader){.pool = pool, .max_read = max_read, .view_is_stale = true};
    int want = !pool ? NEAP_E_STALE : pool->closed ? NEAP_E_CLOSED : NEAP_OK;
    if (!is(neap_reader_create(AT(handle), max_read, &r->handle), want, NULL)) return;
    pool_keep(pool);
    model.reader_count++;
}

static struct model_reader *new_reader(struct neap_handle *handle)
{
    if (!model.reader_count) reader_create();
    return choose_reader(handle);
}

/* ---- filling ---- */

static bool is_full(const struct model_reader *r)
{
    return r->unread.size >= r->max_read + NEAP_BUF_MIN_BYTES;
}

static int expect_room(const struct model_reader *r)
{
    if (!r) return NEAP_E_STALE;
    if (r->closed || r->pool->closed) return NEAP_E_CLOSED;
    return is_full(r) ? NEAP_E_LIMIT : NEAP_OK;
}

/* A buf that slices lie in: what they cover stays, and what is unread is known from now on. */
static void note_unread(const struct model_reader *m)
{
    const struct neap_reader *r = neap_reader_of(AT(m->handle));
    for (uint32_t i = 0; r->buf && i < model.slice_count; i++)
        if (model.slices[i].buf->real == r->buf) {
            buf_note(model.slices[i].buf, r->start, m->unread.at, m->unread.size);
            return;
        }
}

static void reader_feed(void)
{
    struct neap_handle handle;
    struct model_reader *r = new_reader(&handle);
    uint32_t n = 1 + choose_size() % LARGE_BYTES;
    const uint8_t *text = choose_text(n);
    model_op("reader feed");
    int want = expect_room(r);
    int result = neap_reader_feed(AT(handle), (const char *)text, n);
    if (want < 0) {
        is(result, want, NULL);
        return;
    }
    if (!is_ok(result, r->pool)) return;
    CHECK(result > 0 && result <= (int)n);
    bytes_add(&r->unread, text, (uint32_t)result);
    CHECK(result == (int)n || is_full(r) || model.armed || r->pool->options.limit > 0);
    note_unread(r);
}

/* As a read(2) fills it. Nobody else may have a claim on the room. */
static void reader_room(void)
{
    struct neap_room room;
    struct neap_handle handle;
    struct model_reader *r = new_reader(&handle);
    uint32_t want_bytes = choose(3) ? choose_size() % 1000 : choose_size();
    model_op("reader room");
    if (!is(neap_reader_room(AT(handle), want_bytes, &room), expect_room(r), r ? r->pool : NULL))
        return;
    CHECK(room.size > 0);
    const struct neap_buf *buf = neap_reader_of(AT(handle))->buf;
    uint32_t at = (uint32_t)(room.at - buf->mem);
    for (uint32_t i = 0; i < model.slice_count; i++)
        if (model.slices[i].buf->real == buf)
            CHECK(claim_on(model.slices[i].buf, NULL, at, at + room.size) != CLAIMED);
    uint32_t n = choose_size() % (room.size + 1);
    if (n > LARGE_BYTES) n = LARGE_BYTES;
    const uint8_t *text = choose_text(n);
    memcpy(room.at, text, n);
    CHECK(neap_reader_filled(AT(handle), room.size + 1) == NEAP_E_RANGE);
    CHECK(neap_reader_filled(AT(handle), n) == NEAP_OK);
    bytes_add(&r->unread, text, n);
    note_unread(r);
}

static void reader_end(void)
{
    static const int why[] = {NEAP_E_EOF, NEAP_E_EOF, NEAP_E_RESET, NEAP_E_TIMEOUT};
    struct neap_handle handle;
    struct model_reader *r = new_reader(&handle);
    int err = why[choose(4)];
    model_op("reader end");
    if (r && choose(4)) return;
    if (!is(neap_reader_end(AT(handle), err), r ? NEAP_OK : NEAP_E_STALE, NULL)) return;
    if (r->ending == NEAP_OK) r->ending = err;
}

static void reader_idle(void)
{
    struct neap_handle handle;
    struct model_reader *r = new_reader(&handle);
    model_op("reader idle");
    if (!is(neap_reader_idle(AT(handle)), r ? NEAP_OK : NEAP_E_STALE, NULL)) return;
    const struct neap_reader *real = neap_reader_of(AT(handle));
    CHECK(!real->buf || r->unread.size || real->buf->refs > 1);
}

/* ---- reading ---- */

static int lacking(const struct model_reader *r)
{
    if (r->ending == NEAP_E_EOF && r->unread.size) return NEAP_E_SHORT;
    return r->ending != NEAP_OK ? r->ending : NEAP_E_AGAIN;
}

static int expect_bytes(const struct model_reader *r, uint32_t n)
{
    if (!r) return NEAP_E_STALE;
    if (r->closed) return NEAP_E_CLOSED;
    if (n > r->max_read) return NEAP_E_OVERSIZED;
    return n > r->unread.size ? lacking(r) : NEAP_OK;
}

static void came_out(struct model_reader *r, struct neap_handle slice, uint32_t n, uint32_t skip)
{
    struct model_slice *s = slice_born(slice, r->pool, r->unread.at);
    CHECK(slice_size(s) == n && s->free == s->base);
    bytes_drop(&r->unread, n + skip);
    r->view_is_stale = true;
}

static uint32_t choose_amount(const struct model_reader *r)
{
    return r && choose(8) ? choose(r->unread.size + 1) : choose_size();
}

static void reader_read(void)
{
    struct neap_handle handle, slice;
    struct model_reader *r = new_reader(&handle);
    uint32_t n = choose_amount(r);
    model_op("reader read");
    if (model.slice_count == SLICES) return;
    int want = expect_bytes(r, n), result = neap_reader_read(AT(handle), n, &slice);
    if (want == NEAP_OK && n == 0 && r->pool->closed && result < 0) want = NEAP_E_CLOSED;
    if (is(result, want, r ? r->pool : NULL)) came_out(r, slice, n, 0);
}

static void reader_read_any(void)
{
    struct neap_handle handle, slice;
    struct model_reader *r = new_reader(&handle);
    uint32_t max = choose_size();
    model_op("reader read_any");
    if (model.slice_count == SLICES) return;
    int want = !r || r->closed || r->unread.size ? expect_bytes(r, 0) : lacking(r);
    if (!is(neap_reader_read_any(AT(handle), max, &slice), want, NULL)) return;
    came_out(r, slice, max < r->unread.size ? max : r->unread.size, 0);
}

/* The plain search: the first place within the unread bytes, or UINT32_MAX. */
static uint32_t plain_find(const struct model_bytes *in, const uint8_t *text, uint32_t n,
                           uint32_t from)
{
    for (uint32_t i = from; i + n <= in->size; i++)
        if (memcmp(in->at + i, text, n) == 0) return i;
    return UINT32_MAX;
}

static void reader_read_until(void)
{
    static const char *const delimiters[] = {"a", "b", "ab", "aab", "aaaa", "bbbbbbbbb"};
    struct neap_handle handle, slice;
    struct model_reader *r = new_reader(&handle);
    const char *delimiter = delimiters[choose(6)];
    uint32_t n = (uint32_t)strlen(delimiter), max = choose_size(), at = UINT32_MAX;
    bool inclusive = choose(2);
    model_op("reader read_until");
    if (model.slice_count == SLICES) return;
    int want = !r || r->closed || r->unread.size ? expect_bytes(r, 0) : lacking(r);
    uint64_t most = r && r->max_read < max ? r->max_read : max;
    if (want == NEAP_OK) {
        at = plain_find(&r->unread, (const uint8_t *)delimiter, n, 0);
        bool over = at == UINT32_MAX ? r->unread.size >= most + n : at > most;
        if (over) want = NEAP_E_OVERSIZED;
        if (!over && at == UINT32_MAX) want = lacking(r);
    }
    int result = neap_reader_read_until(AT(handle), delimiter, n, max, inclusive, &slice);
    if (is(result, want, NULL)) came_out(r, slice, at + (inclusive ? n : 0), inclusive ? 0 : n);
}

static void reader_skip(void)
{
    struct neap_handle handle;
    struct model_reader *r = new_reader(&handle);
    uint32_t n = choose_amount(r);
    model_op("reader skip");
    int want = !n || !r || r->closed || r->unread.size ? expect_bytes(r, 0) : lacking(r);
    if (want == NEAP_OK) want = (int)(n < r->unread.size ? n : r->unread.size);
    if (!is(neap_reader_skip(AT(handle), n), want, NULL) || !n) return;
    bytes_drop(&r->unread, (uint32_t)want);
    r->view_is_stale = true;
}

/* ---- views ---- */

static void reader_peek(void)
{
    struct neap_handle handle;
    struct model_reader *r = new_reader(&handle);
    uint32_t n = choose_amount(r);
    model_op("reader peek");
    int epoch = neap_reader_peek(AT(handle), n), want = expect_bytes(r, n);
    if (!is(epoch, want < 0 ? want : epoch, NULL)) return;
    CHECK(want == NEAP_OK);
    r->view = (struct neap_view){
        .slot = handle.slot, .gen = handle.gen, .epoch = (uint32_t)epoch, .size = n};
    r->view_is_stale = false;
}

/* What was looked at goes, and the next is looked at. */
static void reader_next(void)
{
    struct neap_handle handle;
    struct neap_view view;
    struct model_reader *r = new_reader(&handle);
    uint32_t done = choose_amount(r), want = choose_size();
    bool looked = r && r->view.slot; /* at all */
    if (!looked) done = 0;
    model_op("reader next");
    if (looked && !r->view_is_stale && done <= r->unread.size) bytes_drop(&r->unread, done);
    int result = neap_reader_next(AT(handle), looked ? r->view.epoch : 0, done, want, &view);
    int expected = expect_bytes(r, want);
    is(result, expected == NEAP_OK ? (int)r->unread.size : expected, NULL);
    if (!r) return;
    CHECK(view.at == 0 && view.size == r->unread.size);
    r->view = view;
    r->view_is_stale = r->closed;
}

/* The view of a reader, or NULL: it is stale, or there was none. */
static struct model_reader *choose_view(struct neap_view *view)
{
    struct neap_handle handle;
    if (choose(4)) reader_peek();
    struct model_reader *r = new_reader(&handle);
    *view = r ? r->view : (struct neap_view){.slot = handle.slot, .gen = handle.gen};
    view->at = choose(2) ? choose(view->size + 1) : 0; /* a part of it */
    view->size -= view->at;
    return r && !r->view_is_stale ? r : NULL;
}

/* A reader that never had bytes has none to point to. */
static uint8_t *unread_at(const struct model_reader *r, uint32_t offset)
{
    static uint8_t nothing[1];
    return r->unread.at ? r->unread.at + offset : nothing;
}

static void view_read(void)
{
    struct neap_view v;
    struct model_reader *r = choose_view(&v);
    uint32_t offset = r && choose(8) ? choose(v.size + 1) : choose_size();
    model_op("view read");
    char room[64];
    uint32_t n = choose(choose(3) ? 4 : sizeof room);
    bool fits = r && (uint64_t)offset + n <= v.size;
    int want = !r ? NEAP_E_STALE : fits ? NEAP_OK : NEAP_E_RANGE;
    uint32_t end = v.at + v.size, from = v.at + offset;
    if (from < offset) from = UINT32_MAX;
    if (is(neap_view_copy(v.slot, v.gen, v.epoch, end, from, n, room), want, NULL))
        CHECK(!n || memcmp(room, unread_at(r, from), n) == 0);
    double byte = neap_view_get(v.slot, v.gen, v.epoch, end, from, 1);
    if (r && offset < v.size)
        CHECK(byte == r->unread.at[from]);
    else
        CHECK(isnan(byte));
    CHECK((neap_view_bytes(&v) != NULL) == (r != NULL));
}

static void view_find(void)
{
    struct neap_view v;
    struct model_reader *r = choose_view(&v);
    uint32_t from = r ? choose(v.size + 2) : 0;
    model_op("view find");
    int want = !r ? NEAP_E_STALE : from > v.size ? NEAP_E_RANGE : NEAP_E_EOF;
    if (want == NEAP_E_EOF) {
        struct model_bytes in = {.at = unread_at(r, v.at), .size = v.size};
        uint32_t at = plain_find(&in, (const uint8_t *)"ab", 2, from);
        if (at != UINT32_MAX) want = (int)at;
    }
    is(neap_view_find(&v, "ab", 2, from), want, NULL);
    if (r) CHECK(neap_view_equals(&v, (const char *)unread_at(r, v.at), v.size) == 1);
}

static void view_put(void)
{
    struct neap_view v;
    struct model_reader *r = choose_view(&v);
    struct model_buffer *b = model.buffer_count ? &model.buffers[0] : NULL;
    struct neap_handle to = b ? b->handle : choose_stale(A_BUFFER);
    model_op("buffer put_view");
    int result = neap_buffer_put_view(AT(to), v.slot, v.gen, v.epoch, v.at, v.size);
    int want = r && b ? NEAP_OK : NEAP_E_STALE;
    if (want == NEAP_OK && b->pool->closed && result < 0) want = NEAP_E_CLOSED;
    if (is(result, want, b ? b->pool : NULL)) bytes_add(&b->bytes, unread_at(r, v.at), v.size);
}

static void view_retain(void)
{
    struct neap_view v;
    struct neap_handle slice;
    struct model_reader *r = choose_view(&v);
    model_op("view retain");
    if (model.slice_count == SLICES) return;
    int result = neap_view_retain(&v, &slice), want = r ? NEAP_OK : NEAP_E_STALE;
    if (r && r->pool->closed && result < 0 && !v.size) want = NEAP_E_CLOSED;
    if (!is(result, want, r ? r->pool : NULL)) return;
    CHECK(slice_size(slice_born(slice, r->pool, unread_at(r, v.at))) == v.size);
}

/* ---- the end ---- */

static void reader_shut(struct model_reader *r)
{
    if (r->closed) return;
    r->closed = r->view_is_stale = true;
    r->ending = NEAP_E_CLOSED;
    r->unread.size = 0;
    pool_unkeep(r->pool);
}

static void reader_close(void)
{
    struct neap_handle handle;
    struct model_reader *r = choose_reader(&handle);
    model_op("reader close");
    if (r && choose(4)) return;
    if (is(neap_reader_close(AT(handle)), r ? NEAP_OK : NEAP_E_STALE, NULL)) reader_shut(r);
}

static void reader_let_go(struct model_reader *r)
{
    if (!is(neap_reader_release(AT(r->handle)), NEAP_OK, NULL)) return;
    reader_shut(r);
    bytes_free(&r->unread);
    forget_handle(A_READER, r->handle);
    *r = model.readers[--model.reader_count];
}

static void reader_release(void)
{
    struct neap_handle handle;
    struct model_reader *r = choose_reader(&handle);
    model_op("reader release");
    if (r && choose(2)) return;
    if (r)
        reader_let_go(r);
    else
        is(neap_reader_release(AT(handle)), NEAP_E_STALE, NULL);
}

void readers_end(void)
{
    model_op("reader release");
    while (model.reader_count) reader_let_go(&model.readers[0]);
}

model_step *const reader_steps[] = {
    reader_create, reader_next,       reader_next,     reader_feed,    reader_feed,
    reader_room,   reader_room,       reader_end,      reader_read,    reader_read,
    reader_read,   reader_skip,       reader_peek,     reader_peek,    view_read,
    view_find,     view_retain,       view_put,        reader_release, reader_idle,
    reader_close,  reader_read_until, reader_read_any, reader_feed,    reader_read_until,
};
const uint32_t reader_step_count = sizeof reader_steps / sizeof *reader_steps;
