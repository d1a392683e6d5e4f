/* neap.h - everything that libneap offers, to C programs and to LuaJIT's FFI.
 *
 * LuaJIT's ffi.cdef reads this file as it is, so it holds only enums, structs,
 * prototypes and pragmas. A C program includes <stdbool.h>, <stddef.h> and
 * <stdint.h> before it.
 *
 * Handles. Pools, slices, allocators, streams and listeners are named by a slot
 * and a generation. A handle whose thing is gone is *stale*: every function finds
 * that out and returns NEAP_E_STALE, so a wrong handle is an error and never a
 * wild pointer. Functions that make something fill a struct neap_handle.
 *
 * Ownership. *borrows*: until it returns. *takes*: the caller's reference is gone
 * if the call returns anything but a misuse (NEAP_E_STALE, NEAP_E_RANGE). *returns
 * owned*: the caller releases. *returns borrowed*: valid until the named event.
 *
 * Results. Functions that return int return NEAP_OK or more, or a negative enum
 * neap_err. Sizes and offsets are bytes; offsets count from 0.
 *
 * Thread: the one that made the thing a handle names; for all others that is NEAP_E_THREAD (or
 * NULL, NaN, …), but for what a pool is that was made `shared`, which all may use, and for slices,
 * which all may release. Sockets, loops and all that this header has behind them: one. */
#pragma once
#pragma GCC visibility push(default)

enum neap_err {
    NEAP_OK = 0,
    NEAP_E_AGAIN = -1,        /* not now: wait and call again */
    NEAP_E_EOF = -2,          /* the peer will send nothing more */
    NEAP_E_SHORT = -3,        /* the peer ended before all of it came */
    NEAP_E_CLOSED = -4,       /* the thing was closed on this side */
    NEAP_E_LIMIT = -5,        /* a limit set on purpose is reached */
    NEAP_E_MEMORY = -6,       /* the system has no memory */
    NEAP_E_OVERSIZED = -7,    /* larger than the limit for one thing */
    NEAP_E_STALE = -8,        /* misuse: the handle names nothing any more */
    NEAP_E_RANGE = -9,        /* misuse: an offset or size outside the thing */
    NEAP_E_OVERLAP = -10,     /* misuse: another live slice has a claim on these bytes */
    NEAP_E_READ_ONLY = -11,   /* misuse: this memory is not the pool's to write */
    NEAP_E_BUSY = -12,        /* it can take no more at the moment */
    NEAP_E_RESET = -13,       /* the peer reset the connection */
    NEAP_E_REFUSED = -14,     /* nobody listens there */
    NEAP_E_TIMEOUT = -15,     /* it took too long */
    NEAP_E_UNREACHABLE = -16, /* no way to that address */
    NEAP_E_ADDRESS = -17,     /* an address that does not parse, or of a kind not spoken */
    NEAP_E_ADDRESS_IN_USE = -18,
    NEAP_E_PERMISSION = -19,
    NEAP_E_DESCRIPTORS = -20, /* the process or the system has no descriptor left */
    NEAP_E_CANCELLED = -21,   /* the waiting task was cancelled */
    NEAP_E_IDLE = -22,        /* nothing came or went for the idle timeout */
    NEAP_E_DESCRIPTOR = -23,  /* no inherited descriptor has this number, or it is no such thing */
    NEAP_E_UNWATCHED = -24,   /* the system has no memory left to watch it */
    NEAP_E_THREAD = -26,      /* misuse: the handle is another thread's */
    NEAP_E_MALFORMED = -25,   /* bytes that the protocol does not allow */
    NEAP_E_SHUTDOWN = -27,    /* a write behind a shutdown: as CLOSED, but the stream is open */
    NEAP_E_SYSTEM = -1000     /* another failure of the system: this minus its errno */
};

/* What a function that makes or ends slices says beside NEAP_OK, or-ed: once neap_collector_start()
 * or neap_ledger_set_level() was called. */
enum neap_wish {
    NEAP_STEP = 1,      /* a step of the collector is due */
    NEAP_NOTE = 2,      /* where this happened is wanted: neap_ledger_born(), neap_ledger_ended() */
    NEAP_NOTE_PASS = 4, /* … for the slice that is not new, too: neap_ledger_pass() */
    NEAP_KEEP = 8,      /* the handle shall name no other slice, ever */
    NEAP_HOLD = 16      /* the handle needs no finalizer, but to be held: neap_slice_next_held() */
};

enum neap_limits {
    NEAP_BUF_MIN_BYTES = 16384,      /* the buf of a pool that was given no size */
    NEAP_BUF_MAX_BYTES = 1073741824, /* the largest buf: 1 GiB, so offsets fit 32 bits */
    NEAP_CLASS_MIN_BYTES = 64,       /* the smallest size class */
    NEAP_CLASS_MAX_BYTES = 1048576,  /* the largest; a larger buf is not kept */
    NEAP_MAX_READ_BYTES = 1048576,   /* default limit of one read */
    NEAP_WRITE_COPY_BYTES = 4096,    /* a smaller write is copied, a larger one queued */
    NEAP_WRITE_HIGH_BYTES = 65536,   /* a stream with more queued makes its writer wait … */
    NEAP_WRITE_LOW_BYTES = 16384,    /* … until no more than this is left */
    NEAP_RESERVE_MS = 10000,         /* who has the reserve and gets no bytes fails after this */
    NEAP_LINGER_BYTES = 65536,       /* read and dropped at most while a stream closes */
    NEAP_LINGER_MS = 2000,           /* a closing stream without progress is cut after this */
    NEAP_ADDRESS_BYTES = 160,        /* room that every printed address fits in */
    NEAP_LOG_BYTES = 65536           /* the longest entry of a log */
};

struct neap_handle {
    uint32_t slot;
    uint32_t gen;
};

/* The text of this header. own: returns borrowed, for ever. */
const char *neap_header(void);

/* "0.1.0". own: returns borrowed, for ever. */
const char *neap_version(void);

/* ---- Pool: a source of bufs ------------------------------------------------------------ */

struct neap_pool_options {
    double min_size;     /* bytes of the smallest buf; 0: NEAP_BUF_MIN_BYTES */
    double limit;        /* bytes held at most; 0: none */
    double soft_limit;   /* live bytes above which connections' reads pause; 0: 3/4 of limit */
    double retain;       /* free bytes kept at most; 0: 64 MiB */
    double detach_after; /* turns of the loop, after which slivers move; 0: never; at most 255 */
    bool classes;        /* round up to size classes (at most a fifth of a buf is waste) */
    bool poison;         /* overwrite a recycled buf, so that stale bytes show */
    bool fixed;          /* nothing adapts to the traffic: every run does the same */
    bool shared;         /* any thread may use it, its allocators and slices: see docs/c.md */
};

struct neap_pool_settings {
    double min_size;
    double limit;
    double soft_limit;
    double reserve; /* bytes inside the limit for the reader that ends its message */
    double retain;
    double retain_now;   /* … as adapted to the traffic */
    double keep_largest; /* bytes of the largest buf that is kept, as adapted */
    double detach_after;
    bool fixed;
};

struct neap_pool_stats {
    uint64_t bufs_allocated;   /* ever made; a reuse does not count */
    uint64_t bufs_reused;      /* taken from the free ones */
    uint64_t bufs_free;        /* now */
    uint64_t bufs_live;        /* now */
    uint64_t bytes_allocated;  /* of the bufs ever made */
    uint64_t bytes_held;       /* now: free + live */
    uint64_t bytes_free;       /* now */
    uint64_t bytes_live;       /* now */
    uint64_t bytes_referenced; /* now: between free and bound of all slices */
    uint64_t bytes_wasted;     /* tails that allocators left behind */
    uint64_t bytes_moved;      /* copied by readers to make bytes contiguous */
    uint64_t slices_made;
    uint64_t slices_live;      /* now */
    uint64_t slices_released;  /* by hand */
    uint64_t slices_taken;     /* ended by a write or a merge */
    uint64_t slices_dropped;   /* ended by the runtime, with what held them */
    uint64_t slices_collected; /* forgotten, and released by the collector */
    uint64_t dropped_large;    /* bufs given back to the system: above the largest class */
    uint64_t dropped_cap;      /* … over the cap on free bytes */
    uint64_t dropped_decay;    /* … unused after a burst */
    uint64_t dropped_trim;     /* … on request, or to make room under the limit */
    uint64_t dropped_closed;   /* … because the pool is closed */
    uint64_t limit_hits;       /* requests refused at the limit */
    uint64_t reads_paused;     /* times that a connection's reader began to wait for memory */
    uint64_t reserve_used;     /* messages that one of them ended in the reserve */
    uint64_t slices_detached;  /* slivers that moved by themselves */
    uint64_t bytes_detached;   /* … and what they no longer keep from the pool */
    uint64_t slices_returned;  /* of the released ones: by another thread than the pool's */
    uint64_t strings_made;     /* Lua strings that bytes of its bufs were copied for */
};

/* own: returns owned (neap_pool_release).  err: RANGE (a size out of range), MEMORY (also when 256
 * threads and shared pools are there). */
int neap_pool_create(const struct neap_pool_options *options, struct neap_handle *pool);

/* Later requests fail with CLOSED; slices stay valid. Twice is harmless. err: STALE. */
int neap_pool_close(uint32_t slot, uint32_t gen);

/* Give the handle up. The pool lives on while an allocator, reader or slice needs it.
 * own: takes the handle.  err: STALE. */
int neap_pool_release(uint32_t slot, uint32_t gen);

/* Other limits (limit, soft_limit, retain, detach_after, fixed; the rest stays). What is live above
 * a new limit stays; nothing more is taken until less is.
 * err: STALE, RANGE, LIMIT (it is too small for what connections read at once). */
int neap_pool_configure(uint32_t slot, uint32_t gen, const struct neap_pool_options *options);
int neap_pool_settings(uint32_t slot, uint32_t gen, struct neap_pool_settings *settings);

/* own: borrows.  err: STALE. */
int neap_pool_stats(uint32_t slot, uint32_t gen, struct neap_pool_stats *stats);

/* The sums over all pools of this thread, those that have ended included. */
void neap_pools_stats(struct neap_pool_stats *stats);

/* Give all free bufs back to the system. Returns the bytes. err: STALE (-1 as a double). */
double neap_pool_trim(uint32_t slot, uint32_t gen);

/* Give back what was not in use at any time in the last seconds before `now_ms` (any clock
 * that does not go back). At most about `budget_bytes` a call. Returns the bytes. A loop does
 * this for all pools by itself. */
double neap_pool_decay(uint32_t slot, uint32_t gen, double now_ms, double budget_bytes);

/* The same for all pools. Returns after how many milliseconds it is worth another call, or -1:
 * no pool has free bufs. */
double neap_pools_decay(double now_ms, double budget_bytes);

/* The finalizer of a forgotten pool handle: neap_pool_release(), never an error. */
void neap_pool_finalize(void *handle);

/* Send what this thread has released of others' slices, which otherwise is done for 32 at a time,
 * and when the thread ends; and end what others have released of its own. A loop does this in each
 * turn, neap_pool_stats() and an allocator that needs another buf do the latter. Returns how many
 * ended. */
int neap_thread_turn(void);

/* ---- Slice: a counted view of a part of a buf ------------------------------------------ */

struct neap_slice_info {
    uint32_t free;      /* where the free prefix starts in the buf */
    uint32_t base;      /* where the bytes start */
    uint32_t bound;     /* where they end */
    uint32_t buf_bytes; /* the capacity of the buf, which the slice keeps alive */
    bool read_only;     /* memory that no pool owns */
};

/* How a number stands in bytes: its width, or-ed with what it is. Integers may have any width
 * from 1 to 8, so 3 | NEAP_BIG is one of 24 bits. */
enum neap_number {
    NEAP_WIDTH = 15,  /* the bits of the width in bytes */
    NEAP_BIG = 16,    /* big-endian */
    NEAP_SIGNED = 32, /* two's complement */
    NEAP_FLOAT = 64,  /* IEEE 754, of 4 or 8 bytes */

    NEAP_NUMBERS_MAX = 16 /* in a struct neap_numbers */
};

/* Numbers that stand side by side. */
struct neap_numbers {
    uint32_t count;
    uint8_t number[NEAP_NUMBERS_MAX]; /* enum neap_number */
    double value[NEAP_NUMBERS_MAX];
};

/* err: STALE. */
int neap_slice_info(uint32_t slot, uint32_t gen, struct neap_slice_info *info);

/* The size in bytes, or STALE. */
int neap_slice_size(uint32_t slot, uint32_t gen);

/* End the slice. Returns NEAP_OK or wishes. own: takes.  err: STALE (counted as a double release).
 * Thread: any. From another one than the slice's it is NEAP_OK, or MEMORY (then nothing happened):
 * neap_thread_turn(). */
int neap_slice_release(uint32_t slot, uint32_t gen);

/* The finalizer of a forgotten slice handle: releases and counts, never an error. */
void neap_slice_finalize(void *handle);

/* Of the slices whose maker was told NEAP_HOLD: the slot of the first live one from `slot` on, or 0.
 * Whoever has their handles in a weak table finds so which of them are forgotten … */
uint32_t neap_slice_next_held(uint32_t slot);

/* … and what a finalizer would have done with them is done here. Another slot is no matter. */
void neap_slice_forget(uint32_t slot);

/* A second owner of the same bytes, without a free prefix. Returns NEAP_OK or wishes.
 * own: returns owned.  err: STALE, MEMORY. */
int neap_slice_retain(uint32_t slot, uint32_t gen, struct neap_handle *clone);

/* Cut off the first n bytes (with the free prefix) as `front`; the slice keeps the rest. Returns
 * NEAP_OK or wishes. own: returns owned.  err: STALE, RANGE, MEMORY. */
int neap_slice_split(uint32_t slot, uint32_t gen, uint32_t n, struct neap_handle *front);

/* Another handle for the same slice; the one that named it is stale from now on. Returns NEAP_OK
 * or wishes. own: takes, returns owned.  err: STALE. */
int neap_slice_move(uint32_t slot, uint32_t gen, struct neap_handle *moved);

/* Drop n bytes at the front (they can be had back) or at the back (for good); n beyond the
 * size drops all. Returns the new size. err: STALE. */
int neap_slice_truncate_front(uint32_t slot, uint32_t gen, uint32_t n);
int neap_slice_truncate_back(uint32_t slot, uint32_t gen, uint32_t n);

/* Grow downward by n bytes. Returns 1, or 0 when the free prefix has fewer or another live
 * slice has a claim on them; then nothing changed. err: STALE. */
int neap_slice_expand_front(uint32_t slot, uint32_t gen, uint32_t n);

/* Claim all of the buf before the slice as its prefix. err: STALE, OVERLAP (a live slice is
 * there; nothing changed). */
int neap_slice_free_entire_prefix(uint32_t slot, uint32_t gen);

/* Release `prev`; if it ends where this slice's prefix starts, the prefix takes its place.
 * Returns 1 if it did, else 0. own: takes prev.  err: STALE, RANGE (prev is the slice
 * itself); then nothing changed. */
int neap_slice_release_previous(uint32_t slot, uint32_t gen, uint32_t prev_slot, uint32_t prev_gen);

/* Copy [free, bound) into a small buf of its own and let the large one go; same handle.
 * Returns the bytes no longer pinned by this slice. err: STALE, LIMIT, MEMORY, CLOSED. */
int neap_slice_detach(uint32_t slot, uint32_t gen);

/* Merge neighbours, from the left, up to `max_size` bytes each, in place: `handles` holds
 * the result afterwards. Returns how many are left. own: takes all, returns owned.
 * err: STALE or RANGE (one is stale, or stands twice); then nothing changed, and *where is
 * its index. */
int neap_slice_coalesce(struct neap_handle *handles, uint32_t count, uint32_t max_size,
                        uint32_t *where);

/* A number (enum neap_number) at an offset; NaN when the handle is stale or the range is
 * outside (ask neap_slice_check(), since NaN may also be what stands there). Integers above
 * 2^53 come rounded: neap_slice_get_bits() has all their bits. */
double neap_slice_get(uint32_t slot, uint32_t gen, uint32_t offset, int number);

/* The bits of a number, sign-extended if it is signed. err: 0, as neap_slice_get(). */
uint64_t neap_slice_get_bits(uint32_t slot, uint32_t gen, uint32_t offset, int number);

/* err: STALE, RANGE. */
int neap_slice_check(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t size);

/* Write a number. err: STALE, RANGE (also a value that does not fit), OVERLAP, READ_ONLY. */
int neap_slice_set(uint32_t slot, uint32_t gen, uint32_t offset, int number, double value);
int neap_slice_set_bits(uint32_t slot, uint32_t gen, uint32_t offset, int number, uint64_t bits);

/* All values to or from an offset, as neap_slice_set() and neap_slice_get() do one. err: also
 * RANGE: the count is too large. Then nothing was written; what was read is undefined. */
int neap_slice_pack(uint32_t slot, uint32_t gen, uint32_t offset,
                    const struct neap_numbers *numbers);
int neap_slice_unpack(uint32_t slot, uint32_t gen, uint32_t offset, struct neap_numbers *numbers);

/* What neap_slice_set() and neap_slice_write() would answer, with nothing written. */
int neap_slice_try_set(uint32_t slot, uint32_t gen, uint32_t offset, int number, double value);
int neap_slice_try_write(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t size);

/* Write bytes. err: STALE, RANGE, OVERLAP, READ_ONLY. */
int neap_slice_write(uint32_t slot, uint32_t gen, uint32_t offset, const char *bytes,
                     uint32_t size);

/* Copy `size` bytes between slices; the regions may overlap within one slice. */
int neap_slice_copy(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t from_slot,
                    uint32_t from_gen, uint32_t from_offset, uint32_t size);

/* The offset of `bytes` at or behind `from`, or EOF when they are not there.
 * err: STALE, RANGE. */
int neap_slice_find(uint32_t slot, uint32_t gen, const char *bytes, uint32_t size, uint32_t from);

/* 1 when the slice holds just these bytes, else 0. err: STALE. */
int neap_slice_equals(uint32_t slot, uint32_t gen, const char *bytes, uint32_t size);
int neap_slice_equals_slice(uint32_t slot, uint32_t gen, uint32_t other_slot, uint32_t other_gen);

/* The bytes themselves, for reading. own: returns borrowed, until the slice is released or
 * changed, or, in a pool with detach_after, the loop turns.  err: NULL when the handle is stale. */
const uint8_t *neap_slice_bytes(uint32_t slot, uint32_t gen);

/* Copy n bytes out of a slice. err: STALE, RANGE. */
int neap_slice_copy_out(uint32_t slot, uint32_t gen, uint32_t offset, uint32_t n, char *room);

/* A slice over memory that no pool owns, without a copy: read-only, never merged, never
 * expanded. `anchor` comes back from neap_foreign_next() when the last owner is gone.
 * own: borrows the memory until then; returns owned.  err: OVERSIZED, MEMORY. */
int neap_foreign_slice(const char *bytes, size_t size, uint32_t anchor, struct neap_handle *slice);

/* An anchor whose memory nobody uses any more, or 0. */
uint32_t neap_foreign_next(void);

struct neap_slice_stats {
    uint64_t live; /* slices of all pools of this thread, foreign ones included */
    uint64_t double_releases;
    uint64_t stale_uses; /* other operations on a stale handle */
};

void neap_slice_stats(struct neap_slice_stats *stats);

/* The bytes of all live slices, each counted by itself. Looks at every one. */
double neap_slices_bytes(void);

/* ---- Ledger: who made what is live, and what was forgotten ------------------------------ */

enum neap_leaks {
    NEAP_LEAKS_OFF = 0,    /* what is forgotten is counted */
    NEAP_LEAKS_SAMPLE = 1, /* and a slice for each NEAP_LEAKS_BYTES or so is watched */
    NEAP_LEAKS_TOUCH = 2,  /* … with the last places that it passed; handles are not used again */
    NEAP_LEAKS_ALL = 3     /* all slices are */
};

enum neap_leaks_limits {
    NEAP_LEAKS_BYTES = 524288, /* made between two slices that are sampled, on average */
    NEAP_PLACES = 4            /* the last ones that are kept */
};

/* What happened to a slice at a place. */
enum neap_deed {
    NEAP_DEED_NONE = 0,
    NEAP_DEED_RELEASE = 1,
    NEAP_DEED_MERGE = 2, /* into its neighbour, by coalesce */
    NEAP_DEED_END = 3,   /* with what held it, or by the collector */
    NEAP_DEED_SPLIT = 4,
    NEAP_DEED_RETAIN = 5,
    NEAP_DEED_WRITE = 6,
    NEAP_DEED_SEND = 7, /* into a channel */
    NEAP_DEED_RECEIVE = 8
};

/* "split", "released", …; "" for none. own: returns borrowed, for ever. */
const char *neap_deed_text(int deed);

struct neap_place {
    uint32_t site; /* 0: none, or not known */
    uint32_t deed; /* enum neap_deed */
};

/* From now on slices are watched so; those that are watched stay so. err: RANGE. */
int neap_ledger_set_level(int level);
int neap_ledger_level(void);

/* A place in a script. Its text is shown as it is, and cut after 200 bytes. Returns its number, or
 * that of one that stands for all further ones when there are 65,536, or no memory. own: borrows. */
uint32_t neap_site_add(const char *text, uint32_t n);

/* own: returns borrowed, for ever; "?" for 0 and for what is no site. */
const char *neap_site_text(uint32_t site);

struct neap_site_stats { /* estimates, unless all slices are watched */
    double slices_made;
    double bytes_made;
    double slices_live; /* now */
    double bytes_live;  /* … as large as they were when they were made */
};

/* err: RANGE: there are no more sites. */
int neap_site_stats(uint32_t site, struct neap_site_stats *stats);

/* After NEAP_NOTE: where a slice was made. A handle that is stale, or not watched, is no matter. */
void neap_ledger_born(uint32_t slot, uint32_t gen, uint32_t site);

/* Where a slice that is watched passes. */
void neap_ledger_pass(uint32_t slot, uint32_t gen, uint32_t site, int deed);

/* Are the places where it passes wanted? 1 or 0. */
int neap_ledger_wants(uint32_t slot, uint32_t gen);

struct neap_end {
    uint32_t born;         /* site */
    struct neap_place how; /* the deed by which the handle became stale, and where */
};

/* How a handle became stale, if it named a slice that was watched: 1, or 0: not known (any more). */
int neap_ledger_ended(uint32_t slot, uint32_t gen, struct neap_end *end);

/* … and where. */
void neap_ledger_end_at(uint32_t slot, uint32_t gen, uint32_t site, int deed);

/* Slices that were forgotten, of one origin. */
struct neap_forgotten {
    uint32_t born;                       /* site; 0: not known */
    struct neap_place last[NEAP_PLACES]; /* where the last of them had passed, the latest first */
    uint64_t watched;                    /* so many of them were watched */
    double slices;                       /* for which they stand: an estimate, or the same */
    double bytes;
    double pinned; /* bytes of the bufs that they were the last to hold */
};

/* The i-th kind, from 0. err: RANGE: there are no more. */
int neap_ledger_forgotten(uint32_t i, struct neap_forgotten *forgotten);

struct neap_ledger_stats {
    uint64_t slices; /* forgotten so far; exact, as the next two, at every level */
    uint64_t bytes;
    uint64_t pinned;
    uint64_t watched; /* of the forgotten ones */
    uint64_t live;    /* now: slices that are watched */
    uint64_t missed;  /* were to be watched, but there was no memory for it */
};

void neap_ledger_stats(struct neap_ledger_stats *stats);

/* Was anything forgotten since this was last called? */
bool neap_ledger_news(void);

/* Write what was forgotten, and what is live, to standard error now, if the level or what was
 * forgotten asks for it; once. Otherwise it is done when the process exits. */
void neap_ledger_report(void);
void neap_ledger_report_at_exit(void);

/* ---- Walk: what is live, for tools ------------------------------------------------------ */

struct neap_extent { /* a live slice */
    uint32_t slot;
    uint32_t gen;
    uint32_t free; /* offsets in its buf */
    uint32_t base;
    uint32_t bound;
    uint32_t buf;       /* the same number for all slices of one buf: the slot of one of them */
    uint32_t buf_bytes; /* its capacity */
    uint32_t holders;   /* of the buf: its slices, and allocators and readers */
    uint32_t detached;  /* bytes of the buf that it would have after detach; 0: it would stay */
    uint32_t born;      /* site; 0: not watched */
    struct neap_place last;
    bool owned;     /* by neap: it waits to be sent, or is a piece of a buffer */
    bool read_only; /* memory that no pool owns */
};

/* All live slices, or as many as there is room for. Returns how many there are. */
uint32_t neap_slices_walk(struct neap_extent *extents, uint32_t most);

struct neap_live_buf {
    uint32_t buf; /* as in struct neap_extent; 0: no slice holds it */
    uint32_t bytes;
    uint32_t holders;
    uint32_t unread_from; /* bytes that a reader still holds */
    uint32_t unread_to;
};

/* What a pool's live slices are, and keep: see docs/buffers.md, "Counters". err: STALE. */
int neap_pool_use(uint32_t slot, uint32_t gen, uint64_t *bytes_payload, uint64_t *bytes_pinned);

/* All live bufs of a pool, or as many as there is room for. Returns how many there are, or STALE. */
int neap_pool_walk(uint32_t slot, uint32_t gen, struct neap_live_buf *bufs, uint32_t most);

/* ---- Collector: Lua's, which shall work for bytes that it cannot see -------------------- */

/* From now on steps are due when more and more bytes hang on handles (iobuf/collector.h). */
void neap_collector_start(void);

/* Shall a step be taken? Between two turns of the loop the answer is yes more often. */
bool neap_collector_due(bool between_turns);

/* A step begins; collectgarbage("step", 0) was called in it, which tells whether that ended a
 * cycle. Shall it be called again? For no longer than 1 ms, or to the end of the cycle. */
void neap_collector_begin(void);
bool neap_collector_goes_on(bool cycle_ended);

struct neap_collector_stats {
    uint64_t bytes_held; /* now: by handles of slices, buffers and allocators */
    uint64_t bytes_base; /* … when the last cycle ended */
    uint64_t steps;      /* taken because of them */
    uint64_t cycles;     /* that these steps ended */
    uint64_t spent_us;   /* microseconds in all steps */
    uint64_t longest_us; /* … in one */
    uint64_t finalizers; /* run, of all handles */
};

void neap_collector_stats(struct neap_collector_stats *stats);

/* ---- Allocator: cuts slices out of bufs, one behind the other -------------------------- */

/* own: returns owned (neap_allocator_release); keeps the pool open.  err: STALE, RANGE
 * (reserve above NEAP_BUF_MAX_BYTES), MEMORY, CLOSED. */
int neap_allocator_create(uint32_t pool_slot, uint32_t pool_gen, uint32_t reserve,
                          struct neap_handle *allocator);

/* A slice of n bytes, undefined, with `reserve` bytes of free prefix. Returns NEAP_OK or wishes.
 * own: returns owned.  err: STALE, CLOSED, OVERSIZED, LIMIT, MEMORY. */
int neap_allocator_alloc(uint32_t slot, uint32_t gen, uint32_t n, struct neap_handle *slice);

/* The same, filled. own: borrows bytes. */
int neap_allocator_copy(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n,
                        struct neap_handle *slice);

/* Give the current buf up; later calls fail with CLOSED. Twice is harmless. err: STALE. */
int neap_allocator_close(uint32_t slot, uint32_t gen);

/* Close, and end the handle. own: takes.  err: STALE. */
int neap_allocator_release(uint32_t slot, uint32_t gen);
void neap_allocator_finalize(void *handle);

/* ---- Buffer: bytes to send, put behind one another ------------------------------------- */

/* own: returns owned (neap_buffer_release); keeps the pool open.  err: STALE, CLOSED, MEMORY. */
int neap_buffer_create(uint32_t pool_slot, uint32_t pool_gen, struct neap_handle *buffer);
int neap_buffer_release(uint32_t slot, uint32_t gen);
void neap_buffer_finalize(void *handle);

/* Bytes in it, or STALE. */
int neap_buffer_size(uint32_t slot, uint32_t gen);

/* Append. own: borrows.  err: STALE, OVERSIZED (above NEAP_BUF_MAX_BYTES in all), LIMIT,
 * MEMORY, CLOSED; then nothing was appended. */
int neap_buffer_put(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n);
int neap_buffer_put_slice(uint32_t slot, uint32_t gen, uint32_t slice_slot, uint32_t slice_gen);
int neap_buffer_put_view(uint32_t slot, uint32_t gen, uint32_t reader_slot, uint32_t reader_gen,
                         uint32_t epoch, uint32_t at, uint32_t size);

/* Append a number (enum neap_number). err: also RANGE: it does not fit. */
int neap_buffer_put_number(uint32_t slot, uint32_t gen, int number, double value);
int neap_buffer_put_bits(uint32_t slot, uint32_t gen, int number, uint64_t bits);

/* Append an unsigned LEB128 integer: seven bits a byte, the lowest first. */
int neap_buffer_put_varint(uint32_t slot, uint32_t gen, uint64_t value);

/* Append n bytes of 0, to be written later. Returns their offset. err: as neap_buffer_put(). */
int neap_buffer_reserve(uint32_t slot, uint32_t gen, uint32_t n);

/* Write over bytes that were put before. err: STALE, RANGE. */
int neap_buffer_set(uint32_t slot, uint32_t gen, uint32_t offset, int number, double value);
int neap_buffer_set_bits(uint32_t slot, uint32_t gen, uint32_t offset, int number, uint64_t bits);

/* The first piece, as a slice; the buffer keeps the others. Returns 1, or 1 + NEAP_NOTE, or 0 when
 * it is empty.
 * own: returns owned.  err: STALE. */
int neap_buffer_take(uint32_t slot, uint32_t gen, struct neap_handle *slice);

/* Drop the bytes behind the first `size`. err: STALE, RANGE (it has fewer). */
int neap_buffer_truncate(uint32_t slot, uint32_t gen, uint32_t size);

/* Drop the bytes; one usual buf is kept for the next ones. err: STALE. */
int neap_buffer_reset(uint32_t slot, uint32_t gen);

/* ---- Reader: bytes that came, cut into slices ------------------------------------------ */

struct neap_room {
    uint8_t *at;
    uint32_t size;
};

struct neap_view {
    uint32_t slot; /* of the reader */
    uint32_t gen;
    uint32_t epoch; /* of the reader, when the view was made */
    uint32_t at;    /* where it starts, counted from the first unread byte */
    uint32_t size;  /* bytes */
};

/* own: returns owned (neap_reader_release); keeps the pool open.  err: STALE, CLOSED, MEMORY. */
int neap_reader_create(uint32_t pool_slot, uint32_t pool_gen, uint32_t max_read,
                       struct neap_handle *reader);
int neap_reader_release(uint32_t slot, uint32_t gen);
void neap_reader_finalize(void *handle);

/* Room to put bytes in, so that `want` bytes can come to lie side by side. own: returns
 * borrowed, until the next call on this reader.  err: STALE, CLOSED, LIMIT, MEMORY. */
int neap_reader_room(uint32_t slot, uint32_t gen, uint32_t want, struct neap_room *room);

/* `n` bytes were put into the room. err: STALE, RANGE. */
int neap_reader_filled(uint32_t slot, uint32_t gen, uint32_t n);

/* Bytes, copied in. Returns how many were: fewer than n when there is no room for more, and why
 * not when it is none. own: borrows.  err: as neap_reader_room(). */
int neap_reader_feed(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n);

/* Nothing more will come, because of `err` (NEAP_E_EOF: the regular end). */
int neap_reader_end(uint32_t slot, uint32_t gen, int err);

/* Exactly n bytes / from 1 to `max` bytes, without a copy. own: returns owned.
 * err: AGAIN (fill first), EOF, SHORT (fewer than n came; they stay), OVERSIZED (n above
 * the reader's limit), CLOSED, STALE, MEMORY, or what neap_reader_end() was told. */
int neap_reader_read(uint32_t slot, uint32_t gen, uint32_t n, struct neap_handle *slice);
int neap_reader_read_any(uint32_t slot, uint32_t gen, uint32_t max, struct neap_handle *slice);

/* Up to the delimiter, which is consumed and belongs to the slice only if `inclusive`.
 * own: returns owned.  err: as neap_reader_read(); OVERSIZED: no delimiter in the first
 * `max` bytes, nothing consumed. */
int neap_reader_read_until(uint32_t slot, uint32_t gen, const char *delimiter, uint32_t size,
                           uint32_t max, bool inclusive, struct neap_handle *slice);

/* Drop up to n of the unread bytes that are here. Returns how many went.
 * err: STALE, CLOSED; AGAIN, EOF, … when none are here and n is not 0. */
int neap_reader_skip(uint32_t slot, uint32_t gen, uint32_t n);

/* Are n unread bytes here, side by side? They stay unread. Returns the epoch of a *view* of
 * them, which is borrowed until the next read, peek or skip on this reader.
 * err: as neap_reader_read(). */
int neap_reader_peek(uint32_t slot, uint32_t gen, uint32_t n);

/* For who takes message after message: drop the first `done` unread bytes, which were looked at in
 * a view of `epoch`, unless somebody has read or skipped since then; and look whether `want` are
 * here now. `view`, of the unread bytes, is filled in any case but STALE. Returns how many there
 * are. err: as neap_reader_peek(). */
int neap_reader_next(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t done, uint32_t want,
                     struct neap_view *view);

/* A slice of the bytes of a view, which stay unread. own: returns owned.  err: STALE, MEMORY. */
int neap_view_retain(const struct neap_view *view, struct neap_handle *slice);

/* The bytes of a view. own: returns borrowed, as the view is.  err: NULL: it is stale, or
 * reaches past the bytes that are there. */
const uint8_t *neap_view_bytes(const struct neap_view *view);

/* A number in a view, as neap_slice_get(). Here and below, `end` is where the view ends and
 * `offset` is in the same count: from the reader's first unread byte. */
double neap_view_get(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t end, uint32_t offset,
                     int number);

/* Numbers in a view, as neap_slice_unpack(). err: STALE, RANGE. */
int neap_view_unpack(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t end, uint32_t offset,
                     struct neap_numbers *numbers);

/* Copy n bytes of a view into room. err: STALE, RANGE. */
int neap_view_copy(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t end, uint32_t offset,
                   uint32_t n, char *room);

/* The bits of a number in a view, as neap_slice_get_bits(). */
uint64_t neap_view_bits(uint32_t slot, uint32_t gen, uint32_t epoch, uint32_t end, uint32_t offset,
                        int number);

/* As neap_slice_find() and neap_slice_equals(). */
int neap_view_find(const struct neap_view *view, const char *bytes, uint32_t size, uint32_t from);
int neap_view_equals(const struct neap_view *view, const char *bytes, uint32_t size);

/* Does it wait for memory? Its NEAP_READY_READ follows when there is some. err: STALE. */
int neap_reader_waits(uint32_t slot, uint32_t gen);

/* Unread bytes that are here. err: STALE. */
int neap_reader_buffered(uint32_t slot, uint32_t gen);

/* The caller may go to wait: a reader with nothing unread gives its buf back, unless slices keep
 * that alive anyway. err: STALE. */
int neap_reader_idle(uint32_t slot, uint32_t gen);

/* Drop what is unread; later reads are CLOSED. Twice is harmless. err: STALE. */
int neap_reader_close(uint32_t slot, uint32_t gen);

/* ---- HTTP/1.1: heads and the lines between chunks -------------------------------------- */

enum neap_http_limits {
    NEAP_HTTP_FIELDS_MAX = 100,  /* of a head; more is NEAP_HTTP_FIELDS */
    NEAP_HTTP_CHUNK_DIGITS = 16, /* of a chunk's size */
    NEAP_HTTP_CHUNK_LINE = 1024  /* bytes of a chunk's line with its extensions */
};

enum neap_http_kind { NEAP_HTTP_REQUEST, NEAP_HTTP_RESPONSE, NEAP_HTTP_TRAILERS };

enum neap_http_method {
    NEAP_HTTP_METHOD_OTHER,
    NEAP_HTTP_GET,
    NEAP_HTTP_HEAD,
    NEAP_HTTP_POST,
    NEAP_HTTP_PUT,
    NEAP_HTTP_DELETE,
    NEAP_HTTP_PATCH,
    NEAP_HTTP_OPTIONS,
    NEAP_HTTP_CONNECT,
    NEAP_HTTP_TRACE
};

/* RFC 9112, 3.2 */
enum neap_http_target_form {
    NEAP_HTTP_ORIGIN,    /* /path?query */
    NEAP_HTTP_ABSOLUTE,  /* http://host/path?query */
    NEAP_HTTP_AUTHORITY, /* host:port, of CONNECT */
    NEAP_HTTP_ASTERISK   /* *, of OPTIONS */
};

enum neap_http_flag {
    NEAP_HTTP_CHUNKED = 1,        /* the last transfer coding is chunked */
    NEAP_HTTP_CODED = 2,          /* there is another one (of responses) */
    NEAP_HTTP_CLOSE = 4,          /* Connection: close */
    NEAP_HTTP_KEEP_ALIVE = 8,     /* Connection: keep-alive */
    NEAP_HTTP_UPGRADE_ASKED = 16, /* Connection: upgrade */
    NEAP_HTTP_UPGRADE_NAMED = 32, /* Upgrade: … */
    NEAP_HTTP_CONTINUE = 64,      /* Expect: 100-continue */
    NEAP_HTTP_EXPECT = 128,       /* Expect: something else */
    NEAP_HTTP_HAS_HOST = 256,
    NEAP_HTTP_HAS_CODING = 512,
    NEAP_HTTP_OLD = 1024 /* HTTP/1.0 */
};

/* Why a head or a chunk's line is malformed. */
enum neap_http_wrong {
    NEAP_HTTP_METHOD = 1,   /* it begins with no method */
    NEAP_HTTP_TARGET_FORM,  /* no target, or one of no form that its method has */
    NEAP_HTTP_VERSION_FORM, /* no version where one must be */
    NEAP_HTTP_VERSION,      /* neither 1.0 nor 1.1 */
    NEAP_HTTP_STATUS,       /* no status */
    NEAP_HTTP_LINE_END,     /* CR or LF alone */
    NEAP_HTTP_FOLD,         /* a line that begins with white space */
    NEAP_HTTP_NAME,         /* a field's name is empty or no token, or not followed by a colon */
    NEAP_HTTP_TEXT_FORM,    /* a control character in a value */
    NEAP_HTTP_FIELDS,       /* more than NEAP_HTTP_FIELDS_MAX */
    NEAP_HTTP_LENGTH,       /* Content-Length is no number */
    NEAP_HTTP_LENGTH_TWICE, /* and is given twice */
    NEAP_HTTP_LENGTH_LARGE, /* and is above 2^53 */
    NEAP_HTTP_CODING,       /* a transfer coding other than chunked, or twice */
    NEAP_HTTP_CODING_OLD,   /* a transfer coding in HTTP/1.0 */
    NEAP_HTTP_CODING_AND_LENGTH, /* both */
    NEAP_HTTP_HOST_NONE,         /* HTTP/1.1 without Host */
    NEAP_HTTP_HOST_TWICE,
    NEAP_HTTP_HOST_FORM,       /* Host is no host with a port */
    NEAP_HTTP_CHUNK_SIZE,      /* no size of a chunk where one must be */
    NEAP_HTTP_CHUNK_END,       /* a chunk does not end where its size says */
    NEAP_HTTP_CHUNK_EXTENSION, /* malformed, or too long */
    NEAP_HTTP_TRAILER          /* a field that must stand before the body */
};

/* A head. Offsets count from the first byte that was scanned. */
struct neap_http_head {
    double length;      /* Content-Length, or -1 */
    uint32_t flags;     /* enum neap_http_flag */
    uint32_t version;   /* 10 or 11 */
    uint32_t status;    /* of a response */
    uint32_t reason_at; /* of a response */
    uint32_t reason_size;
    uint32_t method; /* of a request: enum neap_http_method */
    uint32_t method_at;
    uint32_t method_size;
    uint32_t target_form; /* of a request: enum neap_http_target_form */
    uint32_t target_at;
    uint32_t target_size;
    uint32_t path_at; /* of a target that has one; may be empty in the absolute form */
    uint32_t path_size;
    uint32_t query_at; /* behind the "?"; 0: there is none */
    uint32_t query_size;
    uint32_t host_at; /* of the target, if that has one, else of the field; with the port */
    uint32_t host_size;
    uint32_t wrong;        /* enum neap_http_wrong */
    uint32_t wrong_at;     /* where that was found */
    uint32_t count;        /* of fields */
    uint32_t name_at[100]; /* NEAP_HTTP_FIELDS_MAX */
    uint32_t name_size[100];
    uint32_t value_at[100]; /* without white space around it */
    uint32_t value_size[100];
};

struct neap_http_chunk {
    double size;    /* bytes of data that follow; 0: the last one, trailers follow */
    uint32_t wrong; /* enum neap_http_wrong */
};

/* The head (enum neap_http_kind) that the bytes begin with. Returns its bytes, the empty line at
 * its end included; trailers may be that line alone. own: borrows.
 * err: AGAIN (it has not all come), MALFORMED (head->wrong). thread: any. */
int neap_http_scan(const char *bytes, uint32_t size, int kind, struct neap_http_head *head);

/* The same for a view. Of one that begins with its reader's first byte it is remembered how far
 * it came: nothing is scanned again before another line has ended. err: also STALE. */
int neap_view_http_scan(const struct neap_view *view, int kind, struct neap_http_head *head);

/* The first field at or behind `from` that has this name, in large or small letters. err: EOF:
 * there is none; of a view, also STALE. */
int neap_http_find(const char *bytes, uint32_t size, const struct neap_http_head *head,
                   const char *name, uint32_t name_size, uint32_t from);
int neap_view_http_find(const struct neap_view *view, const struct neap_http_head *head,
                        const char *name, uint32_t name_size, uint32_t from);

/* The line before a chunk's data, behind the end of the data before it if it is not the first.
 * Returns the bytes of both. err: AGAIN, MALFORMED (chunk->wrong); of a view, also STALE. */
int neap_http_chunk(const char *bytes, uint32_t size, bool first, struct neap_http_chunk *chunk);
int neap_view_http_chunk(const struct neap_view *view, bool first, struct neap_http_chunk *chunk);

/* Can these bytes be a method or a field's name; a field's value? thread: any. */
bool neap_http_is_token(const char *bytes, uint32_t size);
bool neap_http_is_text(const char *bytes, uint32_t size);

/* ---- Loop: readiness, marked for whoever asks ------------------------------------------ */

enum neap_readiness {
    NEAP_READY_READ = 1,    /* a stream has bytes, or its end */
    NEAP_READY_WRITE = 2,   /* a stream's queue is low again, or it failed */
    NEAP_READY_CONNECT = 4, /* a stream is connected, or could not be */
    NEAP_READY_ACCEPT = 8,  /* a listener has connections (slot: the listener's) */
    NEAP_READY_INPUT = 64,  /* standard input can be read (slot: 0) */
    NEAP_READY_TIMER = 32,  /* a timer's time has come (slot: the timer's) */
    NEAP_READY_SIGNAL = 16  /* a signal came (slot: its number) */
};

struct neap_ready {
    uint32_t slot;
    uint32_t what; /* enum neap_readiness, or-ed */
};

struct neap_loop;

/* own: returns owned (neap_loop_destroy).  err: NULL. */
struct neap_loop *neap_loop_create(void);

/* Closes every stream and listener of the loop at once. own: takes. */
void neap_loop_destroy(struct neap_loop *loop);

/* Wait up to `timeout` seconds (negative: for ever) until something is ready. Returns how
 * many entries neap_loop_next() has now; 0: the time is over, or nothing is left to wait for.
 * err: SYSTEM (the system could not say; after 10 ms it is worth another call). */
int neap_loop_poll(struct neap_loop *loop, double timeout);

/* The next entry; false: none. Entries of things that end meanwhile vanish. Flushes first when
 * much was queued. */
bool neap_loop_next(struct neap_loop *loop, struct neap_ready *ready);

/* Write what was queued since the last flush. */
void neap_loop_flush(struct neap_loop *loop);

/* How many listeners are open, and streams that still have to write or to close; 0: none. */
int neap_loop_pending(struct neap_loop *loop);

/* How many streams have bytes that the system did not take at the last flush. */
int neap_loop_unsent(struct neap_loop *loop);

/* Whether its listeners look for connections; off: who comes waits in the kernel. */
void neap_loop_accept(struct neap_loop *loop, bool on);

/* The loop's clock, in seconds; it never goes back. */
double neap_loop_now(struct neap_loop *loop);

/* The same as the last wait for the system ended: without a look at the clock. */
double neap_loop_polled(const struct neap_loop *loop);

/* Let NEAP_READY_TIMER arrive in `seconds`, once; the handle is stale then.
 * own: returns owned (neap_timer_clear).  err: MEMORY. */
int neap_timer_set(struct neap_loop *loop, double seconds, struct neap_handle *timer);

/* It shall not arrive any more. err: STALE. */
int neap_timer_clear(uint32_t slot, uint32_t gen);

enum neap_signal_how {
    NEAP_SIGNAL_DEFAULT = 0, /* the system does what it always does */
    NEAP_SIGNAL_CATCH = 1,   /* it arrives as NEAP_READY_SIGNAL */
    NEAP_SIGNAL_ONCE = 2     /* the first does, a second one is the system's */
};

/* The number of a signal by its name, as in "HUP"; 0: there is none. */
int neap_signal_number(const char *name);

/* err: RANGE: it has no such number, or none that a program should catch. */
int neap_loop_signal(struct neap_loop *loop, int number, int how);

/* For tests: the clock stands still, until it is moved or let go. Timers and time limits follow
 * it, and it goes on from where it then is: what was to be done in a second still is. */
void neap_clock_freeze(struct neap_loop *loop);
void neap_clock_thaw(struct neap_loop *loop);

/* Move a clock that stands to the next time at which something is due, which is marked then;
 * if that is past `until`, to `until`, and return false. */
bool neap_clock_advance(struct neap_loop *loop, double until);

/* Let NEAP_READY_INPUT arrive when descriptor 0 can be read without waiting, or has ended: once
 * for each call; or let it not arrive any more. */
void neap_loop_watch_input(struct neap_loop *loop, bool on);

/* ---- Streams and listeners ------------------------------------------------------------- */

/* A stream's reader fills itself with one read(2) for each time that the system has reported
 * bytes; AGAIN means that NEAP_READY_READ will follow. It is released with its stream. */
struct neap_connection {
    struct neap_handle stream;
    struct neap_handle reader;
};

/* Of a listener's connections, or of one that is opened. */
struct neap_socket_options {
    double max_held;          /* bytes of bufs that what was read may hold; 0: no limit */
    uint32_t max_read;        /* bytes of one read at most */
    uint32_t idle_timeout;    /* seconds without traffic, after which it fails; 0: never */
    uint32_t keepalive;       /* the same, after which the system probes the peer; 0: never */
    uint32_t backlog;         /* listener: connections that may wait to be accepted */
    uint32_t max_connections; /* listener: open at once, others wait in the backlog */
    uint32_t mode;            /* listener: permissions of a unix socket's path; 0: the usual */
    bool no_delay;            /* a small write is sent at once */
    bool reuse_port;          /* listener: others may listen there too */
    bool dual_stack;          /* listener: on [::], IPv4 as well */
};

/* Listen on tcp://IP:PORT (port 0 picks one), unix:///PATH, unix://@NAME (abstract), or an
 * inherited socket, fd://N. A path that nobody serves any more is replaced, and removed when
 * the listener is closed. own: returns owned; keeps the pool open.
 * err: LIMIT (max_read is too much for the pool's limit: a fourth of that at most), ADDRESS,
 * ADDRESS_IN_USE, PERMISSION, DESCRIPTORS, DESCRIPTOR, MEMORY, SYSTEM. */
int neap_listener_open(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                       const char *address, const struct neap_socket_options *options,
                       struct neap_handle *listener);

/* A connection that waits. own: returns owned.  err: AGAIN, STALE, LIMIT (accepting goes on when
 * one has ended), DESCRIPTORS, MEMORY, SYSTEM (accepting rests for a moment). */
int neap_listener_accept(uint32_t slot, uint32_t gen, struct neap_connection *connection);

/* The address it really listens on, into room[NEAP_ADDRESS_BYTES]. */
int neap_listener_address(uint32_t slot, uint32_t gen, char *room);

/* The first open listener at or behind a slot: 1, or 0: there is none. own: returns borrowed. */
int neap_listener_next(uint32_t slot, struct neap_handle *listener);

int neap_listener_close(uint32_t slot, uint32_t gen);

/* Start to connect to an address as above; NEAP_READY_CONNECT follows. fd://N is an inherited
 * descriptor of any kind that bytes come from or go to: 0 and 1 are standard input and output.
 * own: returns owned.  err: as neap_listener_open(), UNREACHABLE, REFUSED, BUSY. */
int neap_stream_connect(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                        const char *address, const struct neap_socket_options *options,
                        struct neap_connection *connection);

/* Two connections, each the other's peer. own: returns owned.  err: as above. */
int neap_stream_pair(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                     const struct neap_socket_options *options, struct neap_connection pair[2]);

/* How connecting went. err: AGAIN, REFUSED, UNREACHABLE, TIMEOUT, …, STALE. */
int neap_stream_connected(uint32_t slot, uint32_t gen);

/* Queue a slice or bytes behind everything queued before; written when the loop is flushed.
 * Returns the bytes queued now (NEAP_WRITE_HIGH_BYTES and more: the writer should wait for
 * NEAP_READY_WRITE). own: takes the slice, borrows bytes.  err: STALE, CLOSED, SHUTDOWN (after a
 * shutdown), LIMIT, MEMORY, RESET, …: why an earlier write failed; BUSY, and nothing was taken:
 * that many bytes would be queued, and they may not be (`above_high`). */
int neap_stream_write(uint32_t slot, uint32_t gen, uint32_t slice_slot, uint32_t slice_gen,
                      bool above_high);
int neap_stream_write_bytes(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n,
                            bool above_high);

/* The same for bytes of a slice, of a view (struct neap_view) and of numbers (as those of
 * neap_buffer_put_number() and its siblings), however much is queued. own: borrows. err: also RANGE:
 * the value does not fit; STALE: the slice or the view is. */
int neap_stream_put_slice(uint32_t slot, uint32_t gen, uint32_t slice_slot, uint32_t slice_gen);
int neap_stream_put_view(uint32_t slot, uint32_t gen, uint32_t reader_slot, uint32_t reader_gen,
                         uint32_t epoch, uint32_t at, uint32_t size);
int neap_stream_put_number(uint32_t slot, uint32_t gen, int number, double value);
int neap_stream_put_bits(uint32_t slot, uint32_t gen, int number, uint64_t bits);
int neap_stream_put_varint(uint32_t slot, uint32_t gen, uint64_t value);

/* Bytes; and a head, the number of the body's bytes in decimal, an empty line, and the body. `now`:
 * few go out at once, if nothing is queued. own: borrows. err: as the others. */
int neap_stream_put_bytes(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n, bool now);
int neap_stream_put_sized(uint32_t slot, uint32_t gen, const char *head, uint32_t head_size,
                          const char *body, uint32_t body_size, bool now);

struct neap_pipe {
    struct neap_handle from;
    struct neap_handle to; /* may be the same stream */
    double most;           /* bytes; may be infinite */
    double moved;          /* so far */
};

/* Queue on one stream what has come on another. NEAP_OK: `most` bytes were moved. Otherwise call it
 * again once the stream that it names has said so. own: takes the bytes out of what is unread.
 * err: AGAIN: nothing more has come (READY_READ of `from`); BUSY: more than NEAP_WRITE_HIGH_BYTES
 * are queued (READY_WRITE of `to`); what reading `from` ends with (EOF, …), STALE: it is closed;
 * what queueing on `to` fails with, CLOSED: it is closed. */
int neap_pipe_move(struct neap_pipe *pipe);

/* How often a stream had more than NEAP_WRITE_HIGH_BYTES queued after a write, in all: who has
 * seen it grow asks the stream. */
extern uint32_t neap_streams_high;

/* Bytes queued and not yet written, or why writing failed. err: STALE. */
int neap_stream_queued(uint32_t slot, uint32_t gen);

/* Let NEAP_READY_WRITE follow when no more than `low` bytes are queued. Returns the bytes queued.
 * err: as neap_stream_queued(). */
int neap_stream_flush(uint32_t slot, uint32_t gen, uint32_t low);

/* The read that found nothing is given up: what comes stays with the system until there is another.
 * err: STALE. */
int neap_stream_forgo(uint32_t slot, uint32_t gen);

/* Send what is queued, then the end of the stream; reading goes on. err: STALE, CLOSED. */
int neap_stream_shutdown(uint32_t slot, uint32_t gen);

/* Close in order: send what is queued and the end of the stream, drop what still comes (so
 * that a reset does not destroy the last answer), within NEAP_LINGER_MS without progress.
 * own: takes.  err: STALE. */
int neap_stream_close(uint32_t slot, uint32_t gen);
void neap_stream_finalize(void *handle);

/* The peer's and this side's address into room[NEAP_ADDRESS_BYTES]; "unix://" for a unix socket
 * without a name. err: CLOSED: it is closed, but room has its peer (of the last 1,024 that were);
 * STALE: so long ago that nobody knows. */
int neap_stream_peer(uint32_t slot, uint32_t gen, char *room);
int neap_stream_local(uint32_t slot, uint32_t gen, char *room);

/* The first stream at or behind a slot: 1, 2 (its script has closed it, but it has something to
 * finish), or 0: there is none. own: returns borrowed. */
int neap_stream_next(uint32_t slot, struct neap_handle *stream);

struct neap_stream_info {
    uint64_t read_bytes;
    uint64_t written_bytes; /* that the system has taken */
    uint64_t queued_bytes;  /* that it has not */
    double age;             /* seconds */
    double idle;            /* seconds since bytes came or went */
};

/* err: STALE. */
int neap_stream_info(uint32_t slot, uint32_t gen, struct neap_stream_info *info);

struct neap_net_stats {
    uint64_t accepted; /* connections */
    uint64_t connected;
    uint64_t streams_live;
    uint64_t listeners_live;
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t closed_forgotten; /* streams and listeners closed by the collector */
    uint64_t closed_cut;       /* streams cut because the peer took nothing while closing */
    uint64_t unsent_bytes;     /* queued bytes that a failed or cut stream never sent */
    uint64_t closed_idle;      /* streams ended by their idle timeout */
    uint64_t unwatched;        /* streams that failed because the system refused to watch them */
    uint64_t accept_pauses;    /* accepting rested: no descriptors, no memory, or a failure */
    uint64_t accept_limited;   /* accepting waited: a listener had its max_connections */
    uint64_t stop_cut;         /* handlers and messages that a stop cut in the middle */
    uint64_t runaways;         /* tasks told of by the runaway guard */
    uint64_t batched;          /* sends that shared their system call with others */
};

void neap_net_stats(struct neap_net_stats *stats);

/* Count what a stop has cut. */
void neap_net_count_cut(uint32_t count);

/* ---- Files ------------------------------------------------------------------------------ */

struct neap_disk_info {
    uint64_t bytes;
    double modified_s; /* since 1970 */
    uint64_t inode;
    uint32_t modified_ns; /* of that second */
    bool directory;       /* else it is a regular file */
};

struct neap_disk_entry {
    uint64_t bytes;
    double modified_s;
    bool directory;
    bool regular; /* neither: it is of another kind, or nobody may know */
    char name[256];
};

/* A file or directory beneath the one that `root` names, whatever symbolic links lie on the way;
 * {0, 0}: of the file system. Nothing but regular files and directories.
 * own: returns owned.  err: STALE, PERMISSION, MEMORY, DESCRIPTORS, SYSTEM (EXDEV: not beneath).
 * May block while the system looks for it. */
int neap_disk_open(uint32_t root_slot, uint32_t root_gen, const char *path,
                   struct neap_handle *file);

/* err: STALE, SYSTEM. */
int neap_disk_info(uint32_t slot, uint32_t gen, struct neap_disk_info *info);

/* Fill a slice with bytes of a file. Returns how many, 0 behind its end. Unless `may_wait`, only
 * with what is in memory; else AGAIN, and the system fetches them.
 * own: borrows the slice.  err: STALE, RANGE, READ_ONLY, OVERLAP, AGAIN, SYSTEM. */
int neap_disk_read(uint32_t slot, uint32_t gen, double offset, uint32_t slice_slot,
                   uint32_t slice_gen, bool may_wait);

/* Sends what is queued on a stream, and then some of n bytes of a file, which the kernel takes from
 * the page cache. Returns how many of these. err: AGAIN (READY_WRITE follows), BUSY (the file is
 * not in the page cache, and the kernel was told to fetch it: never if the call may wait), SHORT
 * (the file ends before them), what writing ends with, STALE (the file), RANGE, SYSTEM. */
int neap_stream_send_file(uint32_t slot, uint32_t gen, uint32_t file_slot, uint32_t file_gen,
                          double offset, uint32_t n, bool may_wait);

/* The next entry of a directory, in no order. Returns 1, or 0 behind the last. err: STALE, SYSTEM. */
int neap_disk_next(uint32_t slot, uint32_t gen, struct neap_disk_entry *entry);

void neap_disk_close(uint32_t slot, uint32_t gen);
void neap_disk_finalize(void *handle);

/* ---- Process ---------------------------------------------------------------------------- */

struct neap_user {
    uint32_t uid;
    uint32_t gid; /* the primary group, if listed */
    bool listed;  /* the system knows the user; else it was just a number */
};

/* A name, or else a number. Returns 1, or 0: there is none. May block. err: RANGE. */
int neap_process_find_user(const char *user, struct neap_user *found);
int neap_process_find_group(const char *group, uint32_t *gid);

/* Become user and group for good. A failure half-way ends the process.
 * err: RANGE (no such user, or root), PERMISSION, SYSTEM; then nothing changed. */
int neap_process_drop(const char *user, uint32_t gid);

/* ---- Log -------------------------------------------------------------------------------- */

/* Write one entry to standard error. Never waits: an entry that a pipe or socket cannot even
 * begin to take is dropped, the rest of one that was begun goes out before the next. Dropped as
 * well once standard error is not what it was when the library was loaded. Returns 1, or 0: it
 * was dropped. err: RANGE (more than NEAP_LOG_BYTES). */
int neap_log_write(const char *bytes, uint32_t n);

/* Seconds since 1970, in whole milliseconds. */
double neap_log_time(void);

/* ---- The runaway guard ------------------------------------------------------------------ */

struct neap_beat {
    double count; /* rw: of the times at which a task got control; Lua counts */
};

/* own: returns borrowed, for ever. */
struct neap_beat *neap_guard_beat(void);

/* While a listener or a stream is open, tell of a task that has had control for `report_seconds`,
 * and abort the process after `abort_seconds`; 0: never. For the loop of this thread.
 * err: RANGE, SYSTEM (no timer). */
int neap_guard_set(double report_seconds, double abort_seconds);

/* The loop does not turn any more. */
void neap_guard_rest(void);

/* For the neap command: `fn` runs in a signal handler when a task has had control for too long. It
 * makes Lua tell, which then calls told(). */
void neap_guard_on_interrupt(void (*fn)(void));
void neap_guard_told(void);

/* How long the task that runs has had control, about; 0: not for long. */
double neap_guard_held(void);

/* ---- Tests ------------------------------------------------------------------------------ */

/* For tests, on a clock that nothing moves: in `alarm_seconds`, and every second from then on,
 * the process gets SIGALRM (who sets this catches it), and in `end_seconds` `text` is written to
 * stderr and the process ends by that signal, whatever it does. 0: neither, or not any more.
 * own: borrows text.  err: RANGE, SYSTEM. */
int neap_watchdog_set(double alarm_seconds, double end_seconds, const char *text);

#pragma GCC visibility pop
