/* model_slices.c - slices: their shape, who claims what, merging. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { BUFS = 256 };
static struct model_buf *bufs[BUFS];
static uint32_t buf_count;
static uint32_t foreign_live, foreign_next;

/* ---- bufs: as long as a slice of the model, or an allocator, lies in them ---- */

static struct model_buf *buf_of(struct neap_buf *real, struct model_pool *pool)
{
    for (uint32_t i = 0; i < buf_count; i++)
        if (bufs[i]->real == real) return bufs[i];
    CHECK(buf_count < BUFS);
    struct model_buf *buf = calloc(1, sizeof *buf);
    *buf = (struct model_buf){.real = real,
                              .pool = pool,
                              .capacity = real->capacity,
                              .bytes = malloc(real->capacity + 1),
                              .known = calloc(1, real->capacity + 1)};
    return bufs[buf_count++] = buf;
}

static bool buf_is_used(const struct model_buf *buf)
{
    for (uint32_t i = 0; i < model.slice_count; i++)
        if (model.slices[i].buf == buf) return true;
    for (uint32_t i = 0; i < model.allocator_count; i++)
        if (model.allocators[i].buf == buf) return true;
    return false;
}

void bufs_sweep(void)
{
    for (uint32_t i = 0; i < buf_count;) {
        struct model_buf *buf = bufs[i];
        if (buf_is_used(buf)) {
            i++;
            continue;
        }
        free(buf->bytes);
        free(buf->known);
        free(buf);
        bufs[i] = bufs[--buf_count];
    }
}

void buf_note(struct model_buf *buf, uint32_t at, const uint8_t *bytes, uint32_t n)
{
    if (!n) return;
    memcpy(buf->bytes + at, bytes, n);
    memset(buf->known + at, 1, n);
}

/* ---- slices ---- */

uint32_t slice_size(const struct model_slice *s)
{
    return s->bound - s->base;
}

uint8_t *slice_bytes(const struct model_slice *s)
{
    return s->buf->bytes + s->base;
}

struct model_slice *slice_born(struct neap_handle handle, struct model_pool *pool,
                               const uint8_t *bytes)
{
    struct neap_slice_info info;
    CHECK(model.slice_count < SLICES);
    CHECK(neap_slice_info(AT(handle), &info) == NEAP_OK);
    struct model_slice *s = &model.slices[model.slice_count++];
    *s = (struct model_slice){handle, buf_of(neap_slice_of(AT(handle))->buf, pool), info.free,
                              info.base, info.bound};
    if (bytes) buf_note(s->buf, s->base, bytes, slice_size(s));
    return s;
}

static void all_bytes_are_there(const struct model_slice *s)
{
    const uint8_t *real = s->buf->real->mem;
    for (uint32_t i = s->free; i < s->bound; i++)
        CHECK(!s->buf->known[i] || s->buf->bytes[i] == real[i]);
}

void slice_gone(struct model_slice *s)
{
    foreign_live -= !s->buf->pool;
    forget_handle(A_SLICE, s->handle);
    *s = model.slices[--model.slice_count];
}

struct model_slice *choose_slice(struct neap_handle *handle)
{
    uint32_t i = choose(256);
    struct model_slice *s = NULL;
    if (i < 245 && model.slice_count) s = &model.slices[i % model.slice_count];
    *handle = s ? s->handle : choose_stale(A_SLICE);
    if (!s && neap_slice_of(AT(*handle))) *handle = (struct neap_handle){0, 1};
    return s;
}

/* ---- claims ---- */

static enum claim overlap(uint32_t from, uint32_t to, uint32_t other_from, uint32_t other_to)
{
    if (other_from == other_to) return from < other_to && other_to < to ? BY_EMPTY : UNCLAIMED;
    return from < other_to && other_from < to ? CLAIMED : UNCLAIMED;
}

static void claim_more(enum claim *sum, enum claim one)
{
    if (one == CLAIMED || *sum == UNCLAIMED) *sum = one;
}

enum claim claim_on(const struct model_buf *buf, const struct model_slice *except, uint32_t from,
                    uint32_t to)
{
    enum claim sum = UNCLAIMED;
    if (from == to) return sum;
    for (uint32_t i = 0; i < model.slice_count; i++) {
        const struct model_slice *s = &model.slices[i];
        if (s->buf == buf && s != except) claim_more(&sum, overlap(from, to, s->free, s->bound));
    }
    for (uint32_t i = 0; i < model.writer_count; i++)
        for (uint32_t slot = model.writers[i].real.first; slot;) {
            const struct neap_slice *s = neap_slice_at(slot);
            if (s->buf == buf->real) claim_more(&sum, overlap(from, to, s->free, s->bound));
            slot = s->queued;
        }
    for (uint32_t i = 0; i < model.reader_count; i++) {
        const struct neap_reader *r = neap_reader_of(AT(model.readers[i].handle));
        if (r->buf == buf->real) claim_more(&sum, overlap(from, to, r->start, r->end));
    }
    return sum;
}

/* ---- operations ---- */

static int live_or_stale(const struct model_slice *s)
{
    return s ? NEAP_OK : NEAP_E_STALE;
}

static void slice_release(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    model_op("slice release");
    if (s) all_bytes_are_there(s);
    if (is(neap_slice_release(AT(handle)), live_or_stale(s), NULL)) slice_gone(s);
}

static void slice_finalize(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    model_op("slice finalize");
    neap_slice_finalize(&handle);
    if (is(live_or_stale(s), live_or_stale(s), NULL)) slice_gone(s);
}

static void slice_retain(void)
{
    struct neap_handle handle, clone;
    struct model_slice *s = choose_slice(&handle);
    model_op("slice retain");
    if (model.slice_count == SLICES) return;
    if (!is(neap_slice_retain(AT(handle), &clone), live_or_stale(s), NULL)) return;
    struct model_slice *c = slice_born(clone, s->buf->pool, NULL);
    foreign_live += !s->buf->pool;
    CHECK(c->buf == s->buf && c->free == s->base && c->base == s->base && c->bound == s->bound);
}

static void slice_split(void)
{
    struct neap_handle handle, front;
    struct model_slice *s = choose_slice(&handle);
    uint32_t n = s && choose(8) ? choose(slice_size(s) + 1) : choose_size();
    model_op("slice split");
    if (model.slice_count == SLICES) return;
    int want = !s ? NEAP_E_STALE : n > slice_size(s) ? NEAP_E_RANGE : NEAP_OK;
    if (!is(neap_slice_split(AT(handle), n, &front), want, NULL)) return;
    struct model_slice *f = slice_born(front, s->buf->pool, NULL);
    foreign_live += !s->buf->pool;
    CHECK(f->buf == s->buf && f->free == s->free && f->base == s->base && f->bound == s->base + n);
    s->free = s->base = s->base + n;
}

static void slice_move(void)
{
    struct neap_handle handle, moved;
    struct model_slice *s = choose_slice(&handle);
    model_op("slice move");
    if (!is(neap_slice_move(AT(handle), &moved), live_or_stale(s), NULL)) return;
    forget_handle(A_SLICE, s->handle);
    s->handle = moved;
}

static uint32_t at_most(uint32_t n, uint32_t most)
{
    return n < most ? n : most;
}

static void slice_truncate_front(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    uint32_t n = choose_size() / 4;
    model_op("slice truncate_front");
    int left = neap_slice_truncate_front(AT(handle), n);
    if (s) s->base += at_most(n, slice_size(s));
    is(left, s ? (int)slice_size(s) : NEAP_E_STALE, NULL);
}

static void slice_truncate_back(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    uint32_t n = choose_size() / 8;
    model_op("slice truncate_back");
    int left = neap_slice_truncate_back(AT(handle), n);
    if (s) s->bound -= at_most(n, slice_size(s));
    is(left, s ? (int)slice_size(s) : NEAP_E_STALE, NULL);
}

static void slice_expand_front(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    uint32_t n = s && choose(4) ? choose(s->base - s->free + 1) : choose_size();
    model_op("slice expand_front");
    enum claim claim = UNCLAIMED;
    bool room = s && n <= s->base - s->free && (!n || s->buf->pool);
    if (room) claim = claim_on(s->buf, s, s->base - n, s->base);
    int result = neap_slice_expand_front(AT(handle), n);
    int want = !s ? NEAP_E_STALE : room && claim == UNCLAIMED;
    if (room && claim == BY_EMPTY) want = result != 0;
    is(result, want, NULL);
    if (result == 1) s->base -= n;
}

static void slice_free_entire_prefix(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    model_op("slice free_prefix");
    int want = !s ? NEAP_E_STALE : s->buf->pool ? NEAP_OK : NEAP_E_READ_ONLY;
    enum claim claim = want == NEAP_OK ? claim_on(s->buf, s, 0, s->base) : UNCLAIMED;
    int result = neap_slice_free_entire_prefix(AT(handle));
    if (claim == CLAIMED || (claim == BY_EMPTY && result < 0)) want = NEAP_E_OVERLAP;
    if (is(result, want, NULL)) s->free = 0;
}

/* A slice that ends where this one's prefix starts, if there is one: else they are rarely met. */
static struct model_slice *choose_previous(const struct model_slice *s, struct neap_handle *handle)
{
    for (uint32_t i = 0; s && i < model.slice_count; i++) {
        struct model_slice *prev = &model.slices[i];
        if (prev == s || prev->buf != s->buf || prev->bound != s->free) continue;
        if (!choose(4)) break;
        *handle = prev->handle;
        return prev;
    }
    return choose_slice(handle);
}

static void slice_release_previous(void)
{
    struct neap_handle handle, prev_handle;
    struct model_slice *s = choose_slice(&handle);
    struct model_slice *prev = choose_previous(s, &prev_handle);
    model_op("slice release_previous");
    int result = neap_slice_release_previous(AT(handle), AT(prev_handle));
    if (!s || !prev || s == prev) {
        is(result, !s || !prev ? NEAP_E_STALE : NEAP_E_RANGE, NULL);
        return;
    }
    bool meets = s->buf == prev->buf && s->buf->pool && prev->bound == s->free;
    uint32_t from = prev->free, to = s->free, end = model.slice_count - 1;
    slice_gone(prev);
    if (s == &model.slices[end]) s = prev; /* the last one took its place */
    enum claim claim = meets ? claim_on(s->buf, s, from, to) : UNCLAIMED;
    if (meets && from == to) claim = BY_EMPTY; /* the prefix takes nothing: either way */
    is(result, claim == BY_EMPTY ? result == 1 : meets && claim == UNCLAIMED, NULL);
    if (result == 1) s->free = from;
}

static void slice_detach(void)
{
    struct neap_handle handle;
    struct model_slice *s = choose_slice(&handle);
    model_op("slice detach");
    int result = neap_slice_detach(AT(handle));
    struct model_pool *pool = s ? s->buf->pool : NULL;
    if (!s || (pool && pool->closed)) {
        is(result, s ? NEAP_E_CLOSED : NEAP_E_STALE, NULL);
        return;
    }
    if (!is_ok(result, pool) || result == 0) return;
    struct model_buf *from = s->buf;
    struct model_slice old = *s;
    uint32_t size = s->bound - s->free;
    s->buf = buf_of(neap_slice_of(AT(handle))->buf, pool);
    CHECK(s->buf != from && (uint32_t)result == from->capacity - s->buf->capacity);
    memcpy(s->buf->bytes, from->bytes + old.free, size);
    memcpy(s->buf->known, from->known + old.free, size);
    s->base -= s->free;
    s->bound = size;
    s->free = 0;
}

static void slice_foreign(void)
{
    static const char text[] = "bytes that no pool owns, and that nobody may write to: aaab, aab";
    struct neap_handle handle;
    uint32_t n = choose(sizeof text);
    model_op("slice foreign");
    if (model.slice_count == SLICES) return;
    if (!choose(16)) {
        is(neap_foreign_slice(text, (size_t)NEAP_BUF_MAX_BYTES + 1 + n, 1, &handle),
           NEAP_E_OVERSIZED, NULL);
        return;
    }
    if (!is(neap_foreign_slice(text, n, ++foreign_next, &handle), NEAP_OK, NULL)) return;
    foreign_live++;
    struct model_slice *s = slice_born(handle, NULL, (const uint8_t *)text);
    CHECK(s->free == 0 && s->base == 0 && s->bound == n);
}

static void foreign_anchors(void)
{
    model_op("slice foreign anchor");
    uint32_t anchor = neap_foreign_next();
    CHECK(anchor <= foreign_next);
    is(anchor ? NEAP_OK : NEAP_E_AGAIN, anchor ? NEAP_OK : NEAP_E_AGAIN, NULL);
}

/* ---- coalesce ---- */

static int by_place(const void *a, const void *b)
{
    const struct model_slice *x = *(struct model_slice *const *)a;
    const struct model_slice *y = *(struct model_slice *const *)b;
    if (x->buf != y->buf) return x->buf < y->buf ? -1 : 1;
    if (x->free != y->free) return x->free < y->free ? -1 : 1;
    return x->bound < y->bound ? -1 : x->bound > y->bound;
}

/* Some slices that mostly stand side by side. */
static uint32_t choose_list(struct model_slice *list[SLICES])
{
    struct model_slice *all[SLICES];
    uint32_t count = model.slice_count ? choose(12) : 0, from = 0;
    if (count > model.slice_count) count = model.slice_count;
    for (uint32_t i = 0; i < model.slice_count; i++) all[i] = &model.slices[i];
    qsort(all, model.slice_count, sizeof *all, by_place);
    if (count) from = choose(model.slice_count - count + 1);
    for (uint32_t i = 0; i < count; i++) list[i] = all[from + i];
    if (count > 1 && !choose(6)) { /* in disorder */
        list[0] = all[from + 1];
        list[1] = all[from];
    }
    return count;
}

/* What merges, from the left; the others of `list` are gone afterwards. */
static uint32_t merge(struct model_slice *list[SLICES], uint32_t count, uint32_t max)
{
    static struct neap_handle ended[SLICES];
    uint32_t kept = 0, gone = 0;
    for (uint32_t i = 0; i < count;) {
        struct model_slice *first = list[i++];
        list[kept++] = first;
        while (i < count && max && first->buf->pool && list[i]->buf == first->buf &&
               list[i]->free == first->bound && list[i]->base == first->bound &&
               list[i]->bound - first->base <= max) {
            first->bound = list[i]->bound;
            ended[gone++] = list[i++]->handle;
        }
    }
    struct neap_handle stay[SLICES];
    for (uint32_t i = 0; i < kept; i++) stay[i] = list[i]->handle;
    for (uint32_t g = 0; g < gone; g++)
        for (uint32_t i = 0; i < model.slice_count; i++)
            if (model.slices[i].handle.slot == ended[g].slot) {
                slice_gone(&model.slices[i]);
                break;
            }
    for (uint32_t i = 0; i < kept; i++)
        for (uint32_t k = 0; k < model.slice_count; k++)
            if (model.slices[k].handle.slot == stay[i].slot) list[i] = &model.slices[k];
    return kept;
}

static void slice_coalesce(void)
{
    struct model_slice *list[SLICES + 1];
    struct neap_handle handles[SLICES + 1];
    uint32_t count = choose_list(list), max = choose(4) ? choose_size() : UINT32_MAX;
    uint32_t where = UINT32_MAX, bad = count && !choose(8) ? choose(count) : UINT32_MAX;
    model_op("slice coalesce");
    for (uint32_t i = 0; i < count; i++) handles[i] = list[i]->handle;
    bool twice = bad != UINT32_MAX && bad && choose(2);
    if (bad != UINT32_MAX) handles[bad] = twice ? handles[0] : (struct neap_handle){0, 1};
    int result = neap_slice_coalesce(handles, count, max, &where);
    if (bad != UINT32_MAX) {
        is(result, twice ? NEAP_E_RANGE : NEAP_E_STALE, NULL);
        CHECK(where == bad);
        return;
    }
    uint32_t kept = merge(list, count, max);
    is(result, (int)kept, NULL);
    for (uint32_t i = 0; i < kept; i++)
        CHECK(handles[i].slot == list[i]->handle.slot && handles[i].gen == list[i]->handle.gen);
}

void slices_end(void)
{
    model_op("slice release");
    while (model.slice_count) {
        struct model_slice *s = &model.slices[choose(model.slice_count)];
        all_bytes_are_there(s);
        is(neap_slice_release(AT(s->handle)), NEAP_OK, NULL);
        slice_gone(s);
    }
}

model_step *const slice_steps[] = {
    slice_release,
    slice_release,
    slice_retain,
    slice_split,
    slice_split,
    slice_split,
    slice_move,
    slice_truncate_front,
    slice_truncate_back,
    slice_expand_front,
    slice_free_entire_prefix,
    slice_release_previous,
    slice_release_previous,
    slice_detach,
    slice_foreign,
    foreign_anchors,
    slice_coalesce,
    slice_coalesce,
    slice_expand_front,
    slice_release,
    slice_finalize,
};
const uint32_t slice_step_count = sizeof slice_steps / sizeof *slice_steps;
