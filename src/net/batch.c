/* batch.c - streams that are ready at once are read one behind the other, before the tasks that wait
 * for it go on: what the system needs for one is still in the cache for the next, and so is what the
 * tasks need. What many have to send leaves in one system call (ring.h): a third of what a small send
 * costs is the call. What a batch leaves, the flush of each stream sends, as it does where there is no
 * ring. Thread: the loop's. */
#include <stddef.h>

#include "net/ring.h"
#include "net/stream.h"

enum { READ_AHEAD = NEAP_TINY(16, 2) }; /* their bufs, of up to 64 KiB, are held at once */

/* ---- reading ---- */

static struct neap_mark *mark_of(struct neap_link *link)
{
    return neap_owner_of(link, struct neap_mark, link);
}

/* The stream of a mark; of a mark that is another's: some address near it. */
static struct neap_stream *stream_near(struct neap_link *link)
{
    return neap_owner_of(mark_of(link), struct neap_stream, mark);
}

/* With thousands of connections nothing of those to come is in a cache: get there while one is read
 * what each message touches, of the one after the next the stream, of the next what the stream points
 * to. */
static void fetch(struct neap_loop *loop, struct neap_link *next)
{
    for (size_t at = 0; at < offsetof(struct neap_stream, linger); at += NEAP_CACHE_LINE)
        __builtin_prefetch((const char *)stream_near(next->next) + at);
    if (next == &loop->marks || mark_of(next)->what != NEAP_READY_READ) return;
    const struct neap_reader *reader = stream_near(next)->reader;
    for (size_t at = 0; at < sizeof *reader; at += NEAP_CACHE_LINE)
        __builtin_prefetch((const char *)reader + at);
}

uint32_t neap_streams_read(struct neap_loop *loop)
{
    uint32_t count = 0;
    struct neap_link *at = loop->marks.next;
    while (at != &loop->marks && count < READ_AHEAD) {
        struct neap_link *next = at->next;
        fetch(loop, next);
        if (mark_of(at)->what == NEAP_READY_READ) neap_stream_read_ahead(stream_near(at));
        count++;
        at = next;
    }
    return count;
}

/* ---- sending ---- */

/* One piece, for which the system may have room. */
static bool joins(const struct neap_stream *s)
{
    const struct neap_writer *w = &s->writer;
    return w->queued && w->first == w->last && !s->unsent && !s->file &&
           s->connect_result == NEAP_OK;
}

static bool add(struct neap_ring *ring, const struct neap_stream *s)
{
    struct iovec piece;
    neap_writer_parts(&s->writer, &piece, 1);
    return neap_ring_add(ring, s->fd, piece.iov_base, (uint32_t)piece.iov_len);
}

void neap_streams_send(struct neap_loop *loop)
{
    struct neap_stream *streams[NEAP_RING_SENDS];
    uint32_t count = 0;
    for (struct neap_link *at = loop->chores.next; at != &loop->chores; at = at->next) {
        struct neap_stream *s = neap_owner_of(at, struct neap_stream, flush.link);
        if (!joins(s)) continue;
        if (!add(loop->ring, s)) break;
        streams[count++] = s;
    }
    neap_ring_run(loop->ring);
    for (uint32_t i = 0; i < count; i++) {
        int64_t n = neap_stream_told(streams[i], neap_ring_sent(loop->ring, i));
        if (n < 0) continue;
        neap_writer_sent(&streams[i]->writer, (size_t)n);
        neap_net_counts.batched++;
    }
}
