/* batch.c - what many streams have to send leaves in one system call (ring.h): a third of what a
 * small send costs is the call. What a batch leaves, the flush of each stream sends, as it does where
 * there is no ring. Thread: the loop's. */
#include "net/ring.h"
#include "net/stream.h"

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
