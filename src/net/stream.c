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
#include "iobuf/reader.h"
#include "iobuf/writer.h"
#include "net/net.h"
#include "net/socket.h"

enum {
    STREAMS_MAX = 1 << 21,
    DISCARD_BYTES = 16 * 1024,
    SWEEP_STREAMS = 4096, /* looked at in one go for being idle */
};

struct neap_stream {
    struct neap_slot head;
    uint32_t slot;
    int fd;
    struct neap_loop *loop;
    struct neap_reader *reader; /* NULL once the script has closed */
    struct neap_pool *pool;     /* kept open */
    struct neap_writer writer;
    struct neap_watch watch;
    struct neap_mark mark;
    struct neap_chore flush;
    struct neap_alarm linger;
    uint64_t read_bytes;
    uint64_t written_bytes;
    struct neap_handle listener; /* that accepted it, or none */
    struct neap_address peer;
    uint32_t born_at;    /* the loop's clock, in ticks */
    uint32_t active_at;  /* the same when bytes came or went last */
    uint32_t idle_ticks; /* without traffic, after which it fails; 0: never */
    int connect_result;  /* AGAIN while connecting */
    int write_result;    /* why writing is over; OK: it is not */
    int broken;          /* what an end that read(2) reports really is; OK: an end */
    uint32_t discarded;  /* bytes read and dropped while closing */
    uint32_t low_bytes;  /* a writer waits until no more than this is queued */
    bool file;           /* no socket */
    bool readable;       /* the system has reported bytes, or the end */
    bool ended;          /* the peer's end, or a read error, was seen */
    bool shutdown;       /* no more writes; after what is queued comes the end */
    bool shutdown_sent;
    bool closing;   /* the script is done with it */
    bool pending;   /* counted in loop->finishing_count */
    bool unsent;    /* counted in loop->unsent_count */
    bool wants_low; /* a writer waits for a shorter queue */
};

static struct neap_slots streams = NEAP_SLOTS(struct neap_stream, STREAMS_MAX);
struct neap_net_stats neap_net_counts;

static struct neap_stream *stream_of(uint32_t slot, uint32_t gen)
{
    return neap_slots_find(&streams, slot, gen);
}

void neap_net_stats(struct neap_net_stats *stats)
{
    *stats = neap_net_counts;
    stats->streams_live = streams.live;
}

/* ---- what is left to do ---- */

/* The loop does not end while a stream has something to finish by itself. */
static void settle_pending(struct neap_stream *s)
{
    bool unsent = s->writer.queued > 0;
    if (unsent != s->unsent) s->loop->unsent_count += unsent ? 1 : -1u;
    s->unsent = unsent;
    bool pending = s->closing || s->writer.queued;
    if (pending == s->pending) return;
    s->pending = pending;
    s->loop->finishing_count += pending ? 1 : -1u;
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
    if (s->reader) neap_reader_release(s->reader->slot, s->reader->head.gen);
    neap_pool_unkeep(s->pool);
    neap_socket_close(s->fd);
    struct neap_handle listener = s->listener;
    neap_slots_give(&streams, s->slot);
    neap_listener_left(listener);
}

void neap_streams_end(struct neap_loop *loop)
{
    for (uint32_t slot = 1; slot < streams.count; slot++) {
        struct neap_stream *s = neap_slots_at(&streams, slot);
        if ((s->head.gen & 1) && s->loop == loop) end(s);
    }
}

/* ---- writing ---- */

/* The system tells an error once. When a send was told, read(2) reports an end after it, as if
 * the peer had ended in order; which it had only if the error is EPIPE. */
static void write_failed(struct neap_stream *s, int why)
{
    if (errno != EPIPE) s->broken = why;
    s->write_result = why;
    neap_net_counts.unsent_bytes += neap_writer_clear(&s->writer);
}

/* A pipe's reader may take its time, as it may with any program; a network's may not. */
static void progress(struct neap_stream *s)
{
    s->active_at = neap_loop_ticks(s->loop);
    if (s->closing && !s->file) neap_alarm_set(s->loop, &s->linger, NEAP_LINGER_MS / 1000.0);
}

/* One system call. False: writing is over, or the system took less than it was offered and
 * says when it has room again. */
static bool send_some(struct neap_stream *s)
{
    struct iovec parts[NEAP_WRITER_PARTS];
    int count = neap_writer_parts(&s->writer, parts, NEAP_WRITER_PARTS);
    size_t offered = 0;
    for (int i = 0; i < count; i++) offered += parts[i].iov_len;
    int64_t n =
        s->file ? neap_file_write(s->fd, parts, count) : neap_socket_send(s->fd, parts, count);
    if (n < 0) {
        if (n != NEAP_E_AGAIN) write_failed(s, (int)n);
        return false;
    }
    neap_net_counts.written_bytes += (uint64_t)n;
    s->written_bytes += (uint64_t)n;
    neap_writer_sent(&s->writer, (size_t)n);
    progress(s);
    return (size_t)n == offered;
}

static void send_queued(struct neap_stream *s)
{
    while (s->writer.queued && send_some(s)) {
    }
}

static void send_end(struct neap_stream *s)
{
    if (!s->shutdown || s->shutdown_sent || s->writer.queued) return;
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
    watch_for(s, NEAP_WATCH_WRITE, s->writer.queued > 0);
    bool low = s->writer.queued <= s->low_bytes;
    if (s->wants_low && low) {
        s->wants_low = false;
        neap_mark_set(s->loop, &s->mark, NEAP_READY_WRITE);
    }
    settle_pending(s);
    if (s->closing) close_step(s); /* s may be gone after this call */
}

static void on_ready(struct neap_watch *watch, int events)
{
    struct neap_stream *s = neap_owner_of(watch, struct neap_stream, watch);
    if (s->connect_result == NEAP_E_AGAIN) {
        s->connect_result = neap_socket_error(s->fd);
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

static int wait_readable(struct neap_stream *s)
{
    neap_reader_rest(s->reader);
    watch_for(s, NEAP_WATCH_READ, true);
    return NEAP_E_AGAIN;
}

/* The end or an error: nothing is to be watched for, or it would be reported for ever. */
static int read_ended(struct neap_stream *s, int why)
{
    s->ended = true;
    watch_for(s, NEAP_WATCH_READ, false);
    return neap_reader_end(s->reader->slot, s->reader->head.gen, why);
}

/* One read(2) for each time that the system has reported bytes. */
static int fill(struct neap_reader *r, uint32_t want)
{
    struct neap_stream *s = r->source;
    if (s->connect_result < 0) return s->connect_result;
    if (!s->readable) return wait_readable(s);
    struct neap_room room;
    int result = neap_reader_make_room(r, want, &room);
    if (result < 0) return result;
    s->readable = false;
    int64_t n = s->file ? neap_file_read(s->fd, room.at, room.size)
                        : neap_socket_read(s->fd, room.at, room.size);
    if (n == NEAP_E_AGAIN) return wait_readable(s);
    if (n == 0) return read_ended(s, s->broken ? s->broken : NEAP_E_EOF);
    if (n < 0) return read_ended(s, (int)n);
    neap_net_counts.read_bytes += (uint64_t)n;
    s->read_bytes += (uint64_t)n;
    s->active_at = neap_loop_ticks(s->loop);
    neap_reader_got(r, (uint32_t)n);
    return NEAP_OK;
}

/* ---- streams without traffic ---- */

static void idle_out(struct neap_stream *s)
{
    neap_net_counts.closed_idle++;
    if (s->connect_result == NEAP_E_AGAIN) s->connect_result = NEAP_E_IDLE;
    write_failed(s, NEAP_E_IDLE);
    settle_pending(s);
    read_ended(s, NEAP_E_IDLE);
    neap_watch_set(s->loop, &s->watch, 0);
    neap_mark_set(s->loop, &s->mark, NEAP_READY_READ | NEAP_READY_WRITE);
}

/* Ticks until it has been idle for too long; UINT32_MAX: it is not looked at. */
static uint32_t idle_in(const struct neap_stream *s, uint32_t now)
{
    if (!s->idle_ticks || s->closing || s->write_result == NEAP_E_IDLE) return UINT32_MAX;
    uint32_t idle = now - s->active_at;
    return idle < s->idle_ticks ? s->idle_ticks - idle : 0;
}

static void sweep_in(struct neap_loop *loop, uint32_t ticks)
{
    neap_alarm_set(loop, &loop->idle_sweep, (double)ticks / NEAP_TICKS_PER_SECOND);
}

/* Looks at some streams, and comes again: for the others at once, for the first that may be idle
 * for too long when that is so. */
static void on_idle_sweep(struct neap_alarm *alarm)
{
    struct neap_loop *loop = neap_owner_of(alarm, struct neap_loop, idle_sweep);
    uint32_t now = neap_loop_ticks(loop);
    uint32_t last = loop->idle_slot + SWEEP_STREAMS;
    for (; loop->idle_slot < streams.count && loop->idle_slot < last; loop->idle_slot++) {
        struct neap_stream *s = neap_slots_at(&streams, loop->idle_slot);
        if (!(s->head.gen & 1) || s->loop != loop) continue;
        uint32_t in = idle_in(s, now);
        if (in == 0)
            idle_out(s);
        else if (in < loop->idle_next)
            loop->idle_next = in;
    }
    uint32_t next = loop->idle_slot < streams.count ? 0 : loop->idle_next;
    if (loop->idle_slot >= streams.count) {
        loop->idle_slot = 0;
        loop->idle_next = UINT32_MAX;
    }
    if (next < UINT32_MAX) sweep_in(loop, next);
}

static void watch_idle(struct neap_stream *s, uint32_t seconds)
{
    struct neap_loop *loop = s->loop;
    s->born_at = s->active_at = neap_loop_ticks(loop);
    s->idle_ticks = seconds * NEAP_TICKS_PER_SECOND;
    if (!seconds) return;
    loop->idle_sweep.ring = on_idle_sweep;
    if (!loop->idle_sweep.link.next || neap_alarm_left(loop, &loop->idle_sweep) > seconds)
        sweep_in(loop, s->idle_ticks);
}

/* ---- the life of a stream ---- */

static struct neap_stream *take_stream(struct neap_pool *pool, uint32_t max_read,
                                       struct neap_handle *reader)
{
    struct neap_handle handle = {pool->slot, pool->head.gen};
    if (neap_reader_create(handle.slot, handle.gen, max_read, reader) < 0) return NULL;
    uint32_t slot;
    struct neap_stream *s = neap_slots_take(&streams, &slot);
    if (!s) {
        neap_reader_release(reader->slot, reader->gen);
        return NULL;
    }
    s->slot = slot;
    s->reader = neap_reader_of(reader->slot, reader->gen);
    s->reader->fill = fill;
    s->reader->source = s;
    return s;
}

int neap_stream_adopt(struct neap_loop *loop, struct neap_pool *pool,
                      const struct neap_arrival *arrival, const struct neap_socket_options *options,
                      struct neap_connection *connection)
{
    struct neap_stream *s =
        pool->closed ? NULL : take_stream(pool, options->max_read, &connection->reader);
    if (!s) {
        neap_socket_close(arrival->fd);
        return pool->closed ? NEAP_E_CLOSED : NEAP_E_MEMORY;
    }
    neap_pool_keep(pool);
    s->fd = arrival->fd;
    s->file = arrival->file;
    s->loop = loop;
    s->pool = pool;
    s->writer.pool = pool;
    s->peer = arrival->peer;
    s->listener = arrival->listener;
    s->mark.slot = s->slot;
    s->flush.run = on_flush;
    s->linger.ring = on_linger_end;
    s->connect_result = arrival->connecting ? NEAP_E_AGAIN : NEAP_OK;
    neap_watch_init(&s->watch, s->fd, on_ready);
    if (arrival->connecting) watch_for(s, NEAP_WATCH_WRITE, true);
    watch_idle(s, options->idle_timeout);
    connection->stream = (struct neap_handle){s->slot, s->head.gen};
    return NEAP_OK;
}

static int take_inherited(const struct neap_endpoint *to, struct neap_arrival *arrival)
{
    enum neap_descriptor_kind kind;
    int fd = neap_inherited_take(to->descriptor, &kind);
    if (fd < 0) return fd;
    if (kind == NEAP_IS_LISTENER) {
        neap_socket_close(fd);
        return NEAP_E_DESCRIPTOR;
    }
    arrival->file = kind == NEAP_IS_FILE;
    struct neap_endpoint peer;
    neap_socket_peer(fd, &peer);
    neap_address_from(peer.size && !arrival->file ? &peer : to, &arrival->peer);
    return fd;
}

static int open_connection(const char *text, const struct neap_socket_options *options,
                           struct neap_arrival *arrival)
{
    struct neap_endpoint to;
    int result = neap_endpoint_parse(text, &to);
    if (result < 0) return result;
    if (to.descriptor >= 0) return take_inherited(&to, arrival);
    arrival->connecting = true;
    neap_address_from(&to, &arrival->peer);
    return neap_socket_connect(&to, options);
}

int neap_stream_connect(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                        const char *text, const struct neap_socket_options *options,
                        struct neap_connection *connection)
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool) return NEAP_E_STALE;
    struct neap_arrival arrival = {0};
    arrival.fd = open_connection(text, options, &arrival);
    if (arrival.fd < 0) return arrival.fd;
    int result = neap_stream_adopt(loop, pool, &arrival, options, connection);
    if (result == NEAP_OK) neap_net_counts.connected++;
    return result;
}

int neap_stream_pair(struct neap_loop *loop, uint32_t pool_slot, uint32_t pool_gen,
                     const struct neap_socket_options *options, struct neap_connection pair[2])
{
    struct neap_pool *pool = neap_pool_of(pool_slot, pool_gen);
    if (!pool) return NEAP_E_STALE;
    int fds[2];
    int result = neap_socket_pair(fds);
    if (result < 0) return result;
    struct neap_arrival arrival = {.fd = fds[0], .peer.family = AF_UNIX};
    result = neap_stream_adopt(loop, pool, &arrival, options, &pair[0]);
    if (result < 0) {
        neap_socket_close(fds[1]);
        return result;
    }
    arrival.fd = fds[1];
    result = neap_stream_adopt(loop, pool, &arrival, options, &pair[1]);
    if (result < 0) neap_stream_close(pair[0].stream.slot, pair[0].stream.gen);
    return result;
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
    neap_slots_rename(&s->head);
    neap_mark_clear(s->loop, &s->mark);
    neap_reader_release(s->reader->slot, s->reader->head.gen);
    s->reader = NULL;
    s->closing = s->shutdown = true;
    s->wants_low = false;
    settle_pending(s);
    progress(s);
    neap_chore_set(s->loop, &s->flush);
    return NEAP_OK;
}

void neap_stream_finalize(void *handle)
{
    const struct neap_handle *h = handle;
    if (neap_stream_close(h->slot, h->gen) == NEAP_OK) neap_net_counts.closed_forgotten++;
}

/* ---- what a script asks ---- */

/* May more be queued? A stale stream is a closed one: STALE is what a slice can be. */
static int writable(struct neap_stream *s)
{
    if (!s || s->shutdown) return NEAP_E_CLOSED;
    if (s->connect_result < 0 && s->connect_result != NEAP_E_AGAIN) return s->connect_result;
    return s->write_result;
}

static void wake_below(struct neap_stream *s, uint32_t bytes)
{
    s->wants_low = true;
    s->low_bytes = bytes;
}

/* n bytes were queued: they go out at the next flush. */
static int queued_now(struct neap_stream *s, uint32_t n)
{
    s->loop->queued_bytes += n;
    settle_pending(s);
    neap_chore_set(s->loop, &s->flush);
    if (s->writer.queued > NEAP_WRITE_HIGH_BYTES) wake_below(s, NEAP_WRITE_LOW_BYTES);
    return s->writer.queued < INT32_MAX ? (int)s->writer.queued : INT32_MAX;
}

int neap_stream_write(uint32_t slot, uint32_t gen, uint32_t slice_slot, uint32_t slice_gen)
{
    struct neap_slice *slice = neap_slice_of(slice_slot, slice_gen);
    if (!slice) return neap_slice_stale();
    struct neap_stream *s = stream_of(slot, gen);
    int result = writable(s);
    if (result < 0) {
        neap_slice_end(slice, NEAP_DROPPED);
        return result;
    }
    uint32_t n = neap_slice_bytes_count(slice);
    result = neap_writer_add(&s->writer, slice);
    return result < 0 ? result : queued_now(s, n);
}

int neap_stream_write_bytes(uint32_t slot, uint32_t gen, const char *bytes, uint32_t n)
{
    struct neap_stream *s = stream_of(slot, gen);
    int result = writable(s);
    if (result == NEAP_OK) result = neap_writer_add_bytes(&s->writer, (const uint8_t *)bytes, n);
    return result < 0 ? result : queued_now(s, n);
}

int neap_stream_queued(uint32_t slot, uint32_t gen)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    if (s->write_result < 0) return s->write_result;
    return s->writer.queued < INT32_MAX ? (int)s->writer.queued : INT32_MAX;
}

int neap_stream_flush(uint32_t slot, uint32_t gen)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (s && s->writer.queued) {
        wake_below(s, 0);
        neap_chore_set(s->loop, &s->flush);
    }
    return neap_stream_queued(slot, gen);
}

int neap_stream_shutdown(uint32_t slot, uint32_t gen)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    s->shutdown = true;
    neap_chore_set(s->loop, &s->flush);
    return s->write_result;
}

/* A client of a unix socket has no name of its own: it is known by whom it came to. */
static void print_unix_peer(const struct neap_stream *s, char *room)
{
    struct neap_endpoint peer;
    neap_socket_peer(s->fd, &peer);
    neap_endpoint_print(&peer, room);
    if (room[sizeof "unix://" - 1]) return;
    struct neap_endpoint local;
    neap_socket_local(s->fd, &local);
    neap_endpoint_print(&local, room);
}

int neap_stream_peer(uint32_t slot, uint32_t gen, char *room)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    if (s->peer.family == AF_UNIX)
        print_unix_peer(s, room);
    else
        neap_address_print(&s->peer, room);
    return NEAP_OK;
}

int neap_stream_local(uint32_t slot, uint32_t gen, char *room)
{
    struct neap_stream *s = stream_of(slot, gen);
    if (!s) return NEAP_E_STALE;
    struct neap_endpoint local;
    if (s->file) {
        neap_address_print(&s->peer, room);
        return NEAP_OK;
    }
    neap_socket_local(s->fd, &local);
    neap_endpoint_print(&local, room);
    return NEAP_OK;
}

int neap_stream_next(uint32_t slot, struct neap_handle *stream)
{
    for (slot = slot ? slot : 1; slot < streams.count; slot++) {
        struct neap_stream *s = neap_slots_at(&streams, slot);
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
