/* reader.h - bytes as they come, cut into slices where they lie.
 *
 * A reader owns one buf while bytes are unread in it (or while somebody fills it)
 * and none otherwise. Unread bytes are [start, end) of that buf; behind `end` is the
 * room. A slice that is read out is a view of the buf and outlives the reader. When
 * the bytes of one read() cannot lie side by side in what is left, the unread ones
 * move to a larger buf, which grows with what came and not with what was asked.
 *
 *     neap_reader_make_room(r, want, &room);  n = read(fd, room.at, room.size);
 *     neap_reader_got(r, n);                  neap_reader_cut(r, 4, &slice);
 *
 * It knows no descriptor; whoever does can set `fill`, which reads ask for more.
 * Limits: one read at most `max_read` bytes; at most
 * 2 × the unread bytes + 16 KiB are held for one that is not complete, + 64 KiB
 * where the bytes before it filled a buf (both in multiples of the pool's size).
 * Thread: the pool's. */
#pragma once

#include "iobuf/slice.h"

struct neap_reader;

/* Put more bytes, or the end, into r, so that `want` bytes can lie side by side.
 * Returns OK, or AGAIN when nothing can be had now, LIMIT, MEMORY, …. */
typedef int neap_reader_fill(struct neap_reader *r, uint32_t want);

struct neap_reader {
    struct neap_slot head; /* which has its slot, too */
    bool busy : 1;         /* private: the next buf is a large one */
    bool waiting : 1;      /* private to pause.c, with the next four: in a queue for memory, … */
    bool half_read : 1;    /* … that of those with unread bytes */
    bool tried : 1;        /* … and has tried since it was woken */
    bool chosen : 1;       /* it has its pool's reserve */
    bool waits_for_account : 1; /* its own slices must go first */
    uint8_t patience;           /* private: usual bufs to fill before the next large one */
    int16_t ending;             /* why nothing more will come; NEAP_OK: it may */
    uint32_t max_read;
    struct neap_pool *pool; /* kept open; NULL once closed */
    struct neap_buf *buf;   /* NULL while nothing is unread and nobody fills it */
    uint32_t start;
    uint32_t end;
    uint32_t taken_at;      /* private: the epoch since which no unread byte was taken */
    uint32_t epoch;         /* moves on with every read, peek and skip: views of before are stale */
    neap_reader_fill *fill; /* rw; NULL: somebody else fills it */
    void *source;           /* rw; what `fill` reads from */
    uint32_t wanted;        /* rw: by `fill`, what it was asked for last */
    uint64_t searched_for;  /* private: the delimiter of the last search, if it was short */
    uint32_t searched;      /* private: unread bytes that search has seen, without finding it */
    uint32_t account;       /* private to pause.c, to the end: slot; 0: no limit of its own */
    uint32_t needs;         /* bytes of the buf that it waits for */
    uint32_t ticket;        /* its place in the queue, and its neighbours there */
    uint32_t wait_prev, wait_next;
};

/* It waits for memory: its fill has to be asked again once it was woken (pause.h). */
static inline bool neap_reader_paused(const struct neap_reader *r)
{
    return r->waiting || r->waits_for_account;
}

static inline struct neap_reader *neap_reader_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&neap_here.readers, slot, gen);
}

static inline struct neap_reader *neap_reader_at(uint32_t slot)
{
    return neap_slots_at(&neap_here.readers, slot);
}

static inline uint32_t neap_reader_slot(const struct neap_reader *r)
{
    return r->head.next;
}

static inline uint32_t neap_reader_unread(const struct neap_reader *r)
{
    return r->end - r->start;
}

/* The same as the public functions, for who holds the reader itself. */
int neap_reader_make_room(struct neap_reader *r, uint32_t want, struct neap_room *room);
void neap_reader_got(struct neap_reader *r, uint32_t n);
void neap_reader_rest(struct neap_reader *r);

/* May it take more bytes than it must? Not where more than the pool would keep is live: many
 * connections, or slices that were forgotten, hold no more than they would without. */
bool neap_reader_spare(const struct neap_reader *r, uint64_t bytes);

/* For who keeps scripts out of it: have something unread, so that it lies at neap_reader_data();
 * drop n of these bytes; have them, n at least 1, as a slice of which the ledger is not told.
 * own: take returns owned, or NULL: there is no memory for it. */
int neap_reader_have_some(struct neap_reader *r);
void neap_reader_drop(struct neap_reader *r, uint32_t n);
struct neap_slice *neap_reader_take(struct neap_reader *r, uint32_t n);

static inline uint8_t *neap_reader_data(const struct neap_reader *r)
{
    return r->buf->mem + r->start;
}
