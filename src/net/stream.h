/* stream.h - a stream as the files of this directory see it: stream.c moves its bytes and ends it,
 * batch.c reads and sends for many at once, connect.c opens it, peer.c names it, put.c and pipe.c queue what is
 * no slice of a script's, disk.c sends files past the queue, idle.c watches for one without traffic.
 * Thread: the loop's. */
#pragma once

#include "iobuf/reader.h"
#include "iobuf/writer.h"
#include "net/net.h"

/* What every message touches stands in front, in as few cache lines as it takes: with thousands of
 * connections none of it is in the cache. */
struct neap_stream {
    /* the first line */
    struct neap_slot head; /* which has its slot, too */
    int fd;
    uint32_t active_at; /* the loop's clock, in ticks, when bytes came or went last */
    struct neap_loop *loop;
    struct neap_reader *reader; /* NULL once the script has closed */
    int16_t connect_result;     /* AGAIN while connecting */
    int16_t write_result;       /* why writing is over; OK: it is not */
    int16_t broken;             /* what an end that read(2) reports really is; OK: an end */
    bool file : 1;              /* no socket */
    bool readable : 1;          /* the system has reported bytes, or the end */
    bool ended : 1;             /* the peer's end, or a read error, was seen */
    bool shutdown : 1;          /* no more writes; after what is queued comes the end */
    bool shutdown_sent : 1;
    bool closing : 1;    /* the script is done with it */
    bool pending : 1;    /* counted in loop->finishing_count */
    bool unsent : 1;     /* counted in loop->unsent_count */
    bool wants_low : 1;  /* a writer waits for a shorter queue */
    bool wants_room : 1; /* and this one until the system takes more past the queue */
    bool awaits : 1;     /* a read has found nothing: it takes what comes */
    bool refused : 1;    /* the system would not watch it, and has told nothing since */
    struct neap_mark mark;
    /* the second */
    struct neap_watch watch;
    uint64_t read_bytes;
    uint64_t written_bytes;
    /* the third: what is queued, if anything is */
    struct neap_writer writer; /* its pool is kept open */
    struct neap_chore flush;
    union {
        uint32_t low_bytes; /* a writer waits until no more than this is queued */
        uint32_t discarded; /* bytes read and dropped while closing */
    };
    uint32_t born_at; /* in ticks */
    /* the last */
    struct neap_alarm linger;
    struct neap_handle listener; /* that accepted it, or none */
    struct neap_address peer;
    uint32_t idle_ticks; /* without traffic, after which it fails; 0: never */
} __attribute__((aligned(NEAP_CACHE_LINE)));

_Static_assert(offsetof(struct neap_stream, watch) == NEAP_CACHE_LINE &&
                   offsetof(struct neap_stream, writer) == 2 * NEAP_CACHE_LINE &&
                   sizeof(struct neap_stream) == 4 * NEAP_CACHE_LINE,
               "a stream is laid out in lines of the cache");

extern struct neap_slots neap_streams;

/* Every wait on it, and every later read of more than is here, and write, fails because of `why`. */
void neap_stream_fail(struct neap_stream *s, int why);

/* May more be queued? A stale stream (NULL) is a closed one: STALE is what a slice can be. */
int neap_stream_writable(const struct neap_stream *s);

/* Nothing is unread, and the system has said nothing: let it. Returns AGAIN. */
int neap_stream_await(struct neap_stream *s);

/* Read what has come, if a read waits for it, and the pool has bufs to spare. */
void neap_stream_read_ahead(struct neap_stream *s);

/* Send what is queued, now. Returns whether all of it went. */
bool neap_stream_send(struct neap_stream *s);

/* What the system made of a send: n bytes, or a negative error, of which errno is set. Returns the
 * bytes; -1: it took none, or writing is over. */
int64_t neap_stream_told(struct neap_stream *s, int64_t n);

/* n bytes went out, past the queue or from it. */
void neap_stream_sent(struct neap_stream *s, uint64_t n);

/* The system takes no more: READY_WRITE follows when it does, and the queue is empty. Returns AGAIN. */
int neap_stream_await_room(struct neap_stream *s);

/* More than NEAP_WRITE_HIGH_BYTES are queued. */
void neap_stream_is_high(struct neap_stream *s);

/* n bytes were queued: they go out at the next flush. Returns the bytes queued. */
static inline int neap_stream_queued_now(struct neap_stream *s, uint32_t n)
{
    s->loop->queued_bytes += n;
    if (!s->flush.link.next) neap_chore_set(s->loop, &s->flush);
    if (s->writer.queued > NEAP_WRITE_HIGH_BYTES) neap_stream_is_high(s);
    return s->writer.queued < INT32_MAX ? (int)s->writer.queued : INT32_MAX;
}

/* Without a place in the queue, if nothing is there. Returns how many of the bytes the system took:
 * what is left can be queued, unless writing is over. own: borrows bytes. */
uint32_t neap_stream_send_now(struct neap_stream *s, const uint8_t *bytes, uint32_t n);

/* It is being closed, and had this name: messages still say whom it was with. */
void neap_stream_gone(const struct neap_stream *s, uint32_t slot, uint32_t gen);

/* Let it fail after so many seconds without traffic; 0: never. Called once, when it is made. */
void neap_idle_watch(struct neap_stream *s, uint32_t seconds);
