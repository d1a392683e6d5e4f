/* model.h - every operation of the buffers, on arguments that a string of bytes chooses, beside
 * a plain model: a slice is its bytes and its place in a buf, a reader, buffer or writer is the
 * bytes in it. After each operation its result is the model's, all bytes are, and the counters
 * add up; else the program aborts and says where.
 *
 *     model_run(bytes, size);     // one run: everything is released at its end
 *     model_print();              // how often each operation ended how
 *
 * Limits: as many things at once as the constants say. Thread: one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "iobuf/reader.h"
#include "iobuf/slice.h"
#include "iobuf/writer.h"
#include "neap.h"

#define AT(handle) (handle).slot, (handle).gen

enum {
    POOLS = 24, /* of one run; all others: at once */
    ALLOCATORS = 6,
    SLICES = 48,
    BUFFERS = 4,
    READERS = 4,
    WRITERS = 2,
    STALE = 32, /* handles that are remembered */
    LARGE_BYTES = 70000
};

/* A stale slice may be a live reader: the number of a handle says nothing of its kind. */
enum kind { A_SLICE, AN_ALLOCATOR, A_BUFFER, A_READER, KINDS };

struct model_pool {
    struct neap_handle handle;
    struct neap_pool *real; /* while there is a handle, or a keeper */
    bool gone, closed;
    uint32_t keepers;
    struct neap_pool_options options;
};

/* What is known of the bytes of a buf that slices lie in. */
struct model_buf {
    struct neap_buf *real;
    struct model_pool *pool; /* NULL: memory that no pool owns */
    uint32_t capacity;
    uint8_t *bytes;
    uint8_t *known; /* of each byte: may it be compared? */
};

struct model_slice {
    struct neap_handle handle;
    struct model_buf *buf;
    uint32_t free, base, bound;
};

struct model_allocator {
    struct neap_handle handle;
    struct model_pool *pool;
    bool closed;
    struct model_buf *buf; /* the current one */
    uint32_t capacity, cursor, reserve;
};

struct model_bytes {
    uint8_t *at;
    uint32_t size, room;
};

struct model_buffer {
    struct neap_handle handle;
    struct model_pool *pool;
    struct model_bytes bytes;
};

struct model_reader {
    struct neap_handle handle;
    struct model_pool *pool;
    struct model_bytes unread;
    uint32_t max_read;
    bool closed;
    int ending;
    struct neap_view view;
    bool view_is_stale;
};

struct model_writer {
    struct neap_writer real;
    struct model_pool *pool;
    struct model_bytes queued;
};

extern struct model {
    struct model_pool pools[POOLS];
    uint32_t pool_count;
    struct model_allocator allocators[ALLOCATORS];
    uint32_t allocator_count;
    struct model_slice slices[SLICES];
    uint32_t slice_count;
    struct model_buffer buffers[BUFFERS];
    uint32_t buffer_count;
    struct model_reader readers[READERS];
    uint32_t reader_count;
    struct model_writer writers[WRITERS];
    uint32_t writer_count;
    struct neap_handle stale[KINDS][STALE];
    uint32_t stale_count[KINDS];
    bool armed;  /* a request for memory fails in this operation */
    double time; /* of the pools */
} model;

/* ---- what the string of bytes chooses ---- */

uint32_t choose(uint32_t below);
uint32_t choose_size(void); /* mostly small; at times far too large */
uint32_t choose_bits(void);
const uint8_t *choose_text(uint32_t size);

/* A handle that names nothing any more, or never did. */
struct neap_handle choose_stale(enum kind kind);

/* ---- what must hold ---- */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) model_failed(__FILE__, __LINE__, #condition);                            \
    } while (0)

_Noreturn void model_failed(const char *file, int line, const char *what);

/* The operation that runs, by name; it is counted by its result. */
void model_op(const char *name);

/* The result is counted, and must be `want`; or there was no memory, or a limit of the pool.
 * True: it is `want`, and no failure. */
bool is(int result, int want, const struct model_pool *pool);

/* The same, for results of 0 and more that all mean success. */
bool is_ok(int result, const struct model_pool *pool);

/* All that must hold between two operations. */
void model_audit(void);

/* ---- things ---- */

void bytes_add(struct model_bytes *b, const uint8_t *bytes, uint32_t n);
void bytes_drop(struct model_bytes *b, uint32_t n); /* at the front */
void bytes_free(struct model_bytes *b);

void pool_keep(struct model_pool *pool);
void pool_unkeep(struct model_pool *pool);
struct model_pool *choose_pool(struct neap_handle *handle);
uint32_t pool_rounds(const struct model_pool *pool, uint32_t size); /* 0: oversized */

void forget_handle(enum kind kind, struct neap_handle handle);

/* A slice that was made: its place is asked for, its bytes are `bytes` (NULL: whatever is known of
 * its buf). */
struct model_slice *slice_born(struct neap_handle handle, struct model_pool *pool,
                               const uint8_t *bytes);
void slice_gone(struct model_slice *s);
uint32_t slice_size(const struct model_slice *s);
uint8_t *slice_bytes(const struct model_slice *s);
void buf_note(struct model_buf *buf, uint32_t at, const uint8_t *bytes, uint32_t n);
void bufs_sweep(void);

/* NULL: it is stale. */
struct model_slice *choose_slice(struct neap_handle *handle);

enum claim { UNCLAIMED, CLAIMED, BY_EMPTY /* only a slice without bytes lies there: either way */ };
enum claim claim_on(const struct model_buf *buf, const struct model_slice *except, uint32_t from,
                    uint32_t to);

/* ---- the operations ---- */

typedef void model_step(void);
extern model_step *const pool_steps[],
    *const slice_steps[], *const byte_steps[], *const buffer_steps[], *const reader_steps[],
                                                                          *const writer_steps[];
extern const uint32_t pool_step_count, slice_step_count, byte_step_count, buffer_step_count,
    reader_step_count, writer_step_count;
void pools_end(void);
void slices_end(void);
void buffers_end(void);
void readers_end(void);
void writers_end(void);

/* Told with a failure; 0: the bytes are no random numbers. */
extern uint64_t model_seed;

void model_run(const uint8_t *bytes, size_t size);

/* Operations so far, and those of them that succeeded. */
void model_counts(uint64_t *all, uint64_t *succeeded);
void model_print(void);
