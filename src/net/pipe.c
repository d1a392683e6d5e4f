/* pipe.c - what comes on one stream goes out on another: one read and one write for each time that
 * bytes have come, no task that goes on for them, and a place in the queue for what the system does
 * not take at once. Thread: the loop's. */
#include "net/stream.h"

/* The first n unread bytes. */
static int queue_rest(struct neap_stream *from, struct neap_stream *to, uint32_t n)
{
    struct neap_slice *slice = neap_reader_take(from->reader, n);
    int result = slice ? neap_writer_add(&to->writer, slice) : NEAP_E_MEMORY;
    if (result == NEAP_OK) neap_stream_queued_now(to, n);
    return result;
}

/* What is unread, or what one read(2) gives. It is sent while it is in the cache still. */
static int move_some(struct neap_pipe *pipe, struct neap_stream *from, struct neap_stream *to)
{
    if (to->writer.queued > NEAP_WRITE_HIGH_BYTES) return NEAP_E_BUSY;
    struct neap_reader *r = from->reader;
    int result = neap_reader_have_some(r);
    if (result < 0) return result;
    double left = pipe->most - pipe->moved;
    uint32_t n = left < neap_reader_unread(r) ? (uint32_t)left : neap_reader_unread(r);
    uint32_t sent = neap_stream_send_now(to, neap_reader_data(r), n);
    neap_reader_drop(r, sent);
    pipe->moved += sent;
    if (sent == n) return NEAP_OK;
    result = neap_stream_writable(to);
    if (result == NEAP_OK) result = queue_rest(from, to, n - sent);
    if (result == NEAP_OK) pipe->moved += n - sent;
    return result;
}

int neap_pipe_move(struct neap_pipe *pipe)
{
    struct neap_stream *from = neap_slots_find(&neap_streams, pipe->from.slot, pipe->from.gen);
    if (!from) return NEAP_E_STALE;
    struct neap_stream *to = neap_slots_find(&neap_streams, pipe->to.slot, pipe->to.gen);
    int result = neap_stream_writable(to);
    bool more = true;
    while (result == NEAP_OK && more && pipe->moved < pipe->most) {
        result = move_some(pipe, from, to);
        more = from->readable || from->ended || neap_reader_unread(from->reader);
    }
    bool over = result < 0 || pipe->moved == pipe->most;
    return over ? result : neap_stream_await(from);
}
