/* pipe.c - what comes on one stream goes out on another: one read and one place in a queue for each
 * time that bytes have come, and no task that goes on for them. Thread: the loop's. */
#include "net/stream.h"

/* own: takes the slice. */
static int queue_slice(struct neap_stream *to, struct neap_slice *slice, struct neap_pipe *pipe)
{
    uint32_t n = neap_slice_bytes_count(slice);
    int result = neap_writer_add(&to->writer, slice);
    if (result < 0) return result;
    neap_stream_queued_now(to, n);
    pipe->moved += n;
    return NEAP_OK;
}

/* What is unread, or what one read(2) gives. */
static int move_some(struct neap_pipe *pipe, struct neap_stream *from, struct neap_stream *to)
{
    if (to->writer.queued > NEAP_WRITE_HIGH_BYTES) return NEAP_E_BUSY;
    double left = pipe->most - pipe->moved;
    uint32_t most = left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
    struct neap_slice *slice;
    int result = neap_reader_take_any(from->reader, most, &slice);
    return result < 0 ? result : queue_slice(to, slice, pipe);
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
