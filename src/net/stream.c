/* stream.c - a connection: a reader in, a writer out, one descriptor (a socket, or a pipe,
 * terminal or file that the process was started with).
 *
 * Reading happens when the script asks and the system has reported bytes; writing at
 * the next flush. A stream that its script has closed lives on by itself until all is
 * sent and the peer has ended too (so that a reset does not destroy the last answer),
 * or until it makes no progress for NEAP_LINGER_MS.
 *
 * Every way out of here leads through end(). Thread: the loop's. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/panic.h"
#include "iobuf/pause.h"
#include "net/socket.h"
#include "net/stream.h"

enum {
    STREAMS_MAX = 1 << 21,
    DISCARD_BYTES = NEAP_TINY(16 * 1024, 64),
};

struct neap_slots neap_streams = NEAP_SLOTS(struct neap_stream, STREAMS_MAX);
struct neap_net_stats neap_net_counts;
uint32_t neap_streams_high;

static struct neap_stream *stream_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&neap_streams, slot, gen);
}

void neap_net_stats(struct neap_net_stats *stats)
{
    *stats = neap_net_counts;
    stats->streams_live = neap_streams.live;
}

void neap_net_count_cut(uint32_t count)
{
    neap_net_counts.stop_cut += count;
}

/* ---- what is left to do ---- */

/* The loop does not end while a stream has something to finish by itself; what was queued since
 * the last flush is counted as a chore. */
static void settle_pending(struct neap_stream *s)
{
    bool unsent = s->writer.queued > 0;
    bool pending = s->closing || unsent;
    if (unsent == s->unsent && pending == s->pending) return;
    s->loop->unsent_count += (uint32_t)unsent - s->unsent;
    s->loop->finishing_count += (uint32_t)pending - s->pending;
    s->unsent = unsent;
    s->pending = pending;
}

static void watch_for(struct neap_stream *s, int event, bool on)
{
    int events = neap_watch_events(&s->watch);
    neap_watch_set(s->loop, &s->watch, on ? events | event : events & ~event);
}

/* own: takes s, whatever state it is in. */
static void end(struct neap_stream *s)
{
    neap_net_counts.unsent_bytes += neap_writer_clear(&s->writer);
    s->closing = false;
    settle_pending(s);
    neap_watch_set(s->loop, &s->watch, 0);
    neap_mark_clear(s->loop, &s->mark);
    neap_chore_clear(&s->flush);
    neap_alarm_clear(s->loop, &s->linger);
    if (s->reader) neap_reader_release(neap_reader_slot(s->reader), s->reader->head.gen);
    neap_pool_unkeep(s->writer.pool);
    neap_socket_close(s->fd);
    struct neap_handle listener = s->listener;
    neap_slots_give(&neap_streams, s->head.next);
    neap_listener_left(listener);
}

void neap_streams_end(struct neap_loop *loop)
{
    for (uint32_t slot = 1; slot < neap_streams.count; slot++) {
        struct neap_stream *s = neap_slots_at(&neap_streams, slot);
        if ((s->head.gen & 1) && s->loop == loop) end(s);
    }
}

/* ---- writing ---- */

/* The system tells an error once. When a send was told, read(2) reports an end after it, as if
 * the peer had ended in order; which it had only if the error is EPIPE. Of what is no end of the
 * connection, such as a lack of memory, reading hears nothing: but bytes of its answer are lost. */
static void write_failed(struct neap_stream *s, int why)
{
    bool ended = errno == EPIPE || errno == ECONNRESET;
    if (errno != EPIPE) s->broken = (int16_t)why;
    s->write_result = (int16_t)why;
    neap_net_counts.unsent_bytes += neap_writer_clear(&s->writer);
    if (ended) return;
    if (!s->file) neap_socket_break(s->fd); /* the peer shall not take it for the end */
    if (!s->closing) neap_stream_fail(s, why);
}

/* A pipe's reader may take its time, as it may with any program; a network's may not. */
static void progress(struct neap_stream *s)
{
    s->active_at = neap_loop_ticks(s->loop);
    if (s->closing && !s->file) neap_alarm_set(s->loop, &s->linger, NEAP_LINGER_MS / 1000.0);
}

void neap_stream_sent(struct neap_stream *s, uint64_t n)
{
    neap_net_counts.written_bytes += n;
    s->written_bytes += n;
    progress(s);
}

int64_t neap_stream_told(struct neap_stream *s, int64_t n)
{
    if (n < 0) {
        if (n != NEAP_E_AGAIN) write_failed(s, (int)n);
        return -1;
    }
    neap_stream_sent(s, (uint64_t)n);
    return n;
}

/* One system call. Returns the bytes that the system took; -1: none, or writing is over. */
static int64_t send_parts(struct neap_stream *s, struct iovec *parts, int count)
{
    int64_t n =
        s->file ? neap_file_write(s->fd, parts, count) : neap_socket_send(s->fd, parts, count);
    return neap_stream_told(s, n);
}

/* False: writing is over, or the system took less than it was offered and says when it has room
 * again. */
static bool send_some(struct neap_stream *s)
{
    struct iovec parts[NEAP_WRITER_PARTS];
    int count = neap_writer_parts(&s->writer, parts, NEAP_WRITER_PARTS);
    size_t offered = 0;
    for (int i = 0; i < count; i++) offered += parts[i].iov_len;
    int64_t n = send_parts(s, parts, count);
    if (n >= 0) neap_writer_sent(&s->writer, (size_t)n);
    return n == (int64_t)offered;
}

uint32_t neap_stream_send_now(struct neap_stream *s, const uint8_t *bytes, uint32_t n)
{
    if (s->writer.queued || s->connect_result < 0 || s->shutdown) return 0;
    struct iovec part = {(uint8_t *)bytes, n};
    int64_t sent = send_parts(s, &part, 1);
    return sent > 0 ? (uint32_t)sent : 0;
}

static void send_queued(struct neap_stream *s)
{
    while (s->writer.queued && send_some(s)) {
    }
}

bool neap_stream_send(struct neap_stream *s)
{
    send_queued(s);
    if (!s->writer.queued) neap_chore_clear(&s->flush);
    settle_pending(s);
    return !s->writer.queued;
}

static void send_end(struct neap_stream *s)
{
    if (!s->shutdown || s->shutdown_sent || s->writer.queued || s->write_result < 0) return;
    s->shutdown_sent = true;
    if (!s->file) neap_socket_shutdown(s->fd); /* another's end is sent by its close */
}

/* ---- closing ---- */

/* Read and drop what still comes. True: the peer has ended, or has sent too much. */
static bool drain(struct neap_stream *s)
{
    static uint8_t sink[DISCARD_BYTES];
    if (s->file) return true; /* nothing is lost by what was not read */
    while (s->readable && !s->ended) {
        int64_t n = neap_socket_read(s->fd, sink, sizeof sink);
        s->readable = false;
        if (n == NEAP_E_AGAIN) return false;
        s->ended = n <= 0;
        if (s->ended) return true;
        s->discarded += (uint32_t)n;
        if (s->discarded > NEAP_LINGER_BYTES) return true;
    }
    return s->ended;
}

/* own: takes s if it is done. */
static void close_step(struct neap_stream *s)
{
    bool peer_done = drain(s);
    bool sent = !s->writer.queued;
    bool failed = s->write_result < 0 || s->connect_result < 0;
    if (failed || (sent && peer_done)) {
        end(s);
        return;
    }
    /* a peer that has ended would report it for ever: wait for room to write alone */
    watch_for(s, NEAP_WATCH_READ, !peer_done);
}

static void on_linger_end(struct neap_alarm *alarm)
{
    struct neap_stream *s = neap_owner_of(alarm, struct neap_stream, linger);
    if (s->writer.queued) neap_net_counts.closed_cut++;
    end(s);
}

/* ---- flushing ---- */

static void on_flush(struct neap_chore *chore)
{
    struct neap_stream *s = neap_owner_of(chore, struct neap_stream, flush);
    if (s->connect_result == NEAP_E_AGAIN) return; /* runs again when it is connected */
    send_queued(s);
    send_end(s);
    if (s->writer.queued || s->unsent || s->wants_room)
        watch_for(s, NEAP_WATCH_WRITE, s->writer.queued > 0);
    s->wants_room = false;
    bool low = s->writer.queued <= s->low_bytes;
    if (s->wants_low && low) {
        s->wants_low = false;
        neap_mark_set(s->loop, &s->mark, NEAP_READY_WRITE);
    }
    settle_pending(s);
    if (s->closing) close_step(s); /* s may be gone after this call */
}

/* Nothing would tell when there is something to do.
 * own: takes s if it is closing. */
static void give_up(struct neap_stream *s)
{
    neap_net_counts.unwatched++;
    if (s->closing) {
        on_linger_end(&s->linger);
        return;
    }
    if (s->connect_result == NEAP_E_AGAIN) neap_mark_set(s->loop, &s->mark, NEAP_READY_CONNECT);
    neap_stream_fail(s, NEAP_E_UNWATCHED);
}

/* libev stops a watch that the system refuses (no memory, or fs.epoll.max_user_watches). Once may
 * pass: what there may be to do is tried, and the next wait watches again. True: that is all. */
static bool refused(struct neap_stream *s)
{
    bool now = !neap_watch_events(&s->watch), again = now && s->refused;
    s->refused = now;
    if (again)
        give_up(s);
    else if (now && s->connect_result == NEAP_E_AGAIN)
        watch_for(s, NEAP_WATCH_WRITE, true);
    else
        return false;
    return true;
}

static void on_ready(struct neap_watch *watch, int events)
{
    struct neap_stream *s = neap_owner_of(watch, struct neap_stream, watch);
    if (refused(s)) return; /* s may be gone */
    if (s->connect_result == NEAP_E_AGAIN) {
        s->connect_result = (int16_t)neap_socket_error(s->fd);
        watch_for(s, NEAP_WATCH_WRITE, false);
        neap_mark_set(s->loop, &s->mark, NEAP_READY_CONNECT);
        neap_chore_set(s->loop, &s->flush);
        return;
    }
    if (events & NEAP_WATCH_READ) {
        /* nobody took the last event: leave the bytes to the kernel */
        if (s->readable) watch_for(s, NEAP_WATCH_READ, false);
        s->readable = true;
        if (!s->closing) neap_mark_set(s->loop, &s->mark, NEAP_READY_READ);
    }
    if ((events & NEAP_WATCH_WRITE) || s->closing) neap_chore_set(s->loop, &s->flush);
}

/* ---- reading ---- */

int neap_stream_await(struct neap_stream *s)
{
    neap_reader_rest(s->reader);
    watch_for(s, NEAP_WATCH_READ, true);
    s->awaits = true;
    return NEAP_E_AGAIN;
}

/* The end or an error: nothing is to be watched for, or it would be reported for ever. */
static int read_ended(struct neap_stream *s, int why)
{
    s->ended = true;
    watch_for(s, NEAP_WATCH_READ, false);
    return neap_reader_end(neap_reader_slot(s->reader), s->reader->head.gen, why);
}

/* The pool is full: the bytes stay with the system, and the peer feels it. */
static int pause_reading(struct neap_stream *s)
{
    watch_for(s, NEAP_WATCH_READ, false);
    return NEAP_E_AGAIN;
}

/* There is room again for a reader that waited. */
static void on_room(struct neap_reader *r)
{
    struct neap_stream *s = r->source;
    neap_mark_set(s->loop, &s->mark, NEAP_READY_READ);
}

/* Who has the reserve and gets no bytes keeps others from it, who wait for as long as they may. */
static void on_reserve_end(struct neap_alarm *alarm)
{
    struct neap_stream *s = neap_owner_of(alarm, struct neap_stream, linger);
    if (!s->reader || !s->reader->chosen) return;
    if (!neap_pauses_any())
        neap_alarm_set(s->loop, &s->linger, NEAP_RESERVE_MS / 1000.0);
    else
        neap_stream_fail(s, NEAP_E_LIMIT);
}

/* One read(2) for each time that the system has reported bytes. */
static int fill(struct neap_reader *r, uint32_t want)
{
    struct neap_stream *s = r->source;
    if (s->connect_result < 0) return s->connect_result;
    r->wanted = want;
    if (!s->readable) return neap_stream_await(s);
    s->awaits = false;
    struct neap_room room;
    int result = neap_reader_make_room(r, want, &room);
    if (result == NEAP_E_LIMIT && neap_reader_paused(r)) return pause_reading(s);
    if (result < 0) return result;
    if (r->chosen) neap_alarm_set(s->loop, &s->linger, NEAP_RESERVE_MS / 1000.0);
    s->readable = false;
    int64_t n = s->file ? neap_file_read(s->fd, room.at, room.size)
                        : neap_socket_read(s->fd, room.at, room.size);
    if (n == NEAP_E_AGAIN) return neap_stream_await(s);
    if (n == 0) return read_ended(s, s->broken ? s->broken : NEAP_E_EOF);
    if (n < 0) return read_ended(s, (int)n);
    neap_net_counts.read_bytes += (uint64_t)n;
    s->read_bytes += (uint64_t)n;
    s->active_at = neap_loop_ticks(s->loop);
    neap_reader_got(r, (uint32_t)n);
    return NEAP_OK;
}

void neap_stream_read_ahead(struct neap_stream *s)
{
    if (!s->awaits || !s->readable || s->closing) return;
    if (neap_reader_spare(s->reader, NEAP_BUF_MIN_BYTES)) fill(s->reader, s->reader->wanted);
}

/* ---- the life of a stream ---- */

void neap_stream_fail(struct neap_stream *s, int why)
{
    if (s->connect_result == NEAP_E_AGAIN) s->connect_result = (int16_t)why;
    s->write_result = (int16_t)why;
    neap_net_counts.unsent_bytes += neap_writer_clear(&s->writer);
    settle_pending(s);
    read_ended(s, why);
    neap_watch_set(s->loop, &s->watch, 0);
    neap_mark_set(s->loop, &s->mark, NEAP_READY_READ | NEAP_READY_WRITE);
}

static struct neap_stream *take_stream(struct neap_pool *pool,
                                       const struct neap_socket_options *options,
                                       struct neap_handle *reader)
{
    struct neap_handle handle = {pool->slot, pool->head.gen};
    if (neap_reader_create(handle.slot, handle.gen, options->max_read, reader) < 0) return NULL;
    struct neap_reader *r = neap_reader_of(reader->slot, reader->gen);
    uint32_t slot;
    int result =
        options->max_held > 0 ? neap_account_open(r, (uint64_t)options->max_held) : NEAP_OK;
    struct neap_stream *s = result < 0 ? NULL : neap_slots_take(&neap_streams, &slot);
    if (!s) {
        neap_reader_release(reader->slot, reader->gen);
        return NULL;
    }
    s->mark.slot = slot;
    s->reader = r;
    s->reader->fill = fill;
    s->reader->source = s;
    neap_pauses_on_wake(on_room);
    return s;
}

int neap_stream_adopt(struct neap_loop *loop, struct neap_pool *pool,
                      const struct neap_arrival *arrival, const struct neap_socket_options *options,
                      struct neap_connection *connection)
{
    int result = pool->closed ? NEAP_E_CLOSED : neap_pool_reserve(pool, options->max_read);
    struct neap_stream *s = result < 0 ? NULL : take_stream(pool, options, &connection->reader);
    if (!s) {
        neap_socket_close(arrival->fd);
        return result < 0 ? result : NEAP_E_MEMORY;
    }
    neap_pool_keep(pool);
    s->fd = arrival->fd;
    s->file = arrival->file;
    s->loop = loop;
    s->writer.pool = pool;
    s->peer = arrival->peer;
    s->listener = arrival->listener;
    loop->run_chore = on_flush;
    s->linger.ring = on_reserve_end;
    s->connect_result = arrival->connecting ? NEAP_E_AGAIN : NEAP_OK;
    neap_watch_init(&s->watch, s->fd, on_ready);
    if (arrival->connecting) watch_for(s, NEAP_WATCH_WRITE, true);
    neap_idle_watch(s, options->idle_timeout);
    connection->stream = (struct neap_handle){s->mark.slot, s->head.gen};
    return NEAP_OK;
}

int neap_stream_connected(uint32_t slot, uint32_t gen)
{
    struct neap_stream *s = stream_of(slot, gen);
    return s ? s->connect_result : NEAP_E_STALE;
}

int neap_stream_close(uint32_t slot, uint32_t gen)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    neap_stream_gone(s, slot, gen);
    neap_slots_rename(&s->head);
    neap_mark_clear(s->loop, &s->mark);
    neap_reader_release(neap_reader_slot(s->reader), s->reader->head.gen);
    s->reader = NULL;
    s->closing = s->shutdown = true;
    s->wants_low = false;
    s->discarded = 0;
    s->linger.ring = on_linger_end;
    neap_alarm_clear(s->loop, &s->linger);
    settle_pending(s);
    progress(s);
    neap_chore_set(s->loop, &s->flush);
    return NEAP_OK;
}

void neap_stream_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    neap_collector_finalized();
    if (neap_stream_close(h->slot, h->gen) == NEAP_OK) neap_net_counts.closed_forgotten++;
}

/* ---- what a script asks ---- */

int neap_stream_writable(const struct neap_stream *s)
{
    if (!s) return NEAP_E_CLOSED;
    if (s->shutdown) return NEAP_E_SHUTDOWN;
    if (s->connect_result < 0 && s->connect_result != NEAP_E_AGAIN) return s->connect_result;
    return s->write_result;
}

static void wake_below(struct neap_stream *s, uint32_t bytes)
{
    s->wants_low = true;
    s->low_bytes = bytes;
}

void neap_stream_is_high(struct neap_stream *s)
{
    neap_streams_high++;
    wake_below(s, NEAP_WRITE_LOW_BYTES);
}

int neap_stream_await_room(struct neap_stream *s)
{
    wake_below(s, 0);
    s->wants_room = true;
    watch_for(s, NEAP_WATCH_WRITE, true);
    return NEAP_E_AGAIN;
}

static bool goes_high(const struct neap_stream *s, uint32_t n)
{
    return s && s->writer.queued + n > NEAP_WRITE_HIGH_BYTES;
}

int neap_stream_write(uint32_t slot, uint32_t gen, uint32_t slice_slot, uint32_t slice_gen,
                      bool above_high)
{
    struct neap_slice *slice = neap_slice_of(slice_slot, slice_gen);
    if (!slice) return neap_slice_stale(slice_slot);
    struct neap_stream *s = stream_of(slot, gen);
    uint32_t n = neap_slice_bytes_count(slice);
    if (!above_high && goes_high(s, n)) return NEAP_E_BUSY;
    int result = neap_stream_writable(s);
    if (result < 0) {
        neap_slice_end(slice, NEAP_DROPPED);
        return result;
    }
    result = neap_writer_add(&s->writer, slice);
    return result < 0 ? result : neap_stream_queued_now(s, n);
}

int neap_stream_write_bytes(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n,
                            bool above_high)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!above_high && goes_high(s, n)) return NEAP_E_BUSY;
    int result = neap_stream_writable(s);
    if (result == NEAP_OK) result = neap_writer_add_bytes(&s->writer, (const uint8_t *)bytes, n);
    return result < 0 ? result : neap_stream_queued_now(s, n);
}

int neap_stream_queued(uint32_t slot, uint32_t gen)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    if (s->write_result < 0) return s->write_result;
    return s->writer.queued < INT32_MAX ? (int)s->writer.queued : INT32_MAX;
}

int neap_stream_flush(uint32_t slot, uint32_t gen, uint32_t low)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (s && s->writer.queued > low) {
        wake_below(s, low);
        neap_chore_set(s->loop, &s->flush);
    }
    return neap_stream_queued(slot, gen);
}

int neap_stream_forgo(uint32_t slot, uint32_t gen)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    s->awaits = false;
    return NEAP_OK;
}

int neap_stream_shutdown(uint32_t slot, uint32_t gen)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    s->shutdown = true;
    neap_chore_set(s->loop, &s->flush);
    return s->write_result;
}

int neap_stream_next(uint32_t slot, struct neap_handle *stream)
{
    for (slot = slot ? slot : 1; slot < neap_streams.count; slot++) {
        struct neap_stream *s = neap_slots_at(&neap_streams, slot);
        if (!(s->head.gen & 1)) continue;
        *stream = (struct neap_handle){slot, s->head.gen};
        return s->closing ? 2 : 1;
    }
    return 0;
}

int neap_stream_info(uint32_t slot, uint32_t gen, struct neap_stream_info *info)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    uint32_t now = neap_loop_ticks(s->loop);
    *info = (struct neap_stream_info){
        .read_bytes = s->read_bytes,
        .written_bytes = s->written_bytes,
        .queued_bytes = s->writer.queued,
        .age = (double)(now - s->born_at) / NEAP_TICKS_PER_SECOND,
        .idle = (double)(now - s->active_at) / NEAP_TICKS_PER_SECOND,
    };
    return NEAP_OK;
}
