/* writer.h - what waits to be sent: a queue of slices.
 *
 * The first piece and large ones are queued as they are. One that lies right behind the
 * last piece, in the same buf, makes that longer. Small ones elsewhere are
 * copied behind one another into a buf of the writer, so that many of them leave in
 * one system call and the bufs they lay in are free at once. A writer with an empty queue holds no memory.
 *
 *     neap_writer_add(w, slice);  neap_writer_add_bytes(w, bytes, n);
 *     int parts = neap_writer_parts(w, iov, NEAP_WRITER_PARTS);
 *     neap_writer_sent(w, writev(fd, iov, parts));
 *
 * It knows no descriptor. Limits: the caller's (w->queued says how much waits).
 * Thread: the pool's. */
#pragma once

#include <string.h>
#include <sys/uio.h>

#include "iobuf/slice.h"

enum { NEAP_WRITER_PARTS = NEAP_TINY(64, 2) }; /* pieces that one system call takes */

struct neap_writer {
    struct neap_pool *pool; /* borrowed: its owner keeps it open */
    uint64_t queued;        /* ro: bytes that wait */
    uint32_t first, last;   /* slots of the queued slices; 0: none */
    struct neap_buf *small; /* where small pieces are copied; NULL while the queue is empty */
    uint32_t small_end;     /* bytes used in it */
    uint32_t small_slot;    /* the queued slice that ends at small_end, if it is the last */
};

/* Copy bytes behind those that were copied last, if they are the last that wait and there is room.
 * Returns whether it did: what nearly all small pieces need. own: borrows bytes. */
static inline bool neap_writer_grow(struct neap_writer *w, const uint8_t *bytes, uint32_t n)
{
    if (!w->small_slot || w->small_slot != w->last) return false;
    if (n > w->small->capacity - w->small_end) return false;
    neap_slice_grow(neap_slice_at(w->last), n);
    w->queued += n;
    memcpy(w->small->mem + w->small_end, bytes, n);
    w->small_end += n;
    return true;
}

/* own: takes s, also when it fails.  err: LIMIT, MEMORY, CLOSED (the pool). */
int neap_writer_add(struct neap_writer *w, struct neap_slice *s);

/* own: borrows bytes.  err: as above; then nothing was added. */
int neap_writer_add_bytes(struct neap_writer *w, const uint8_t *bytes, uint32_t n);

/* The first pieces that wait. Returns how many. own: returns borrowed, until the next call. */
int neap_writer_parts(const struct neap_writer *w, struct iovec *parts, int most);

/* The first n bytes were sent. */
void neap_writer_sent(struct neap_writer *w, size_t n);

/* Drop all that waits. Returns the bytes. */
uint64_t neap_writer_clear(struct neap_writer *w);
