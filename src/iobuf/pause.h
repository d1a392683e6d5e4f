/* pause.h - readers that wait for memory, because their pool is at its soft limit or they are at a
 * limit of their own.
 *
 * Who waits longest comes first, and nobody overtakes: a reader that asks while others wait joins
 * the queue. Once a turn the loop has those woken for which there is room (neap_pauses_turn());
 * they try again and leave the queue when they succeed.
 *
 * A pool full of half-read messages would wait for itself. So one reader at a time, the first that
 * has unread bytes, is *chosen*: it goes on in a buf of the reserve, which is large enough for any
 * message. Its old buf is parked: what it reads beyond its message has room there, so that it can
 * always come back, and the reserve is whole again once the script has released the message. What
 * it may read beyond is therefore no more than that room.
 *
 * An account is what one connection may hold: the bufs that its reader took and that are still
 * live, whoever holds them.
 * Thread: the pool's. */
#pragma once

#include "iobuf/reader.h"

/* A buf of at least `size` bytes for a reader. err: LIMIT: it waits, if it has a `fill`
 * (r->waiting); CLOSED, MEMORY, OVERSIZED. */
int neap_pause_take(struct neap_reader *r, uint32_t size, struct neap_buf **buf);

/* How many bytes a reader may read behind its unread ones when it wants so many side by side. */
uint32_t neap_pause_room(const struct neap_reader *r, uint32_t want, uint32_t room);

/* A chosen reader has handed out its message: it leaves the reserve, if what is unread fits where
 * it came from. */
void neap_pause_come_back(struct neap_reader *r);

/* The reader is closed, or waits for nothing any more. */
void neap_pause_end(struct neap_reader *r);

/* Who can go on is woken: its fill will be asked again. */
typedef void neap_pause_wake(struct neap_reader *r);
void neap_pauses_on_wake(neap_pause_wake *fn);
void neap_pauses_turn(void);

/* Does any reader wait? Then the loop has something to look at in every turn. */
bool neap_pauses_any(void);

/* An account of so many bytes for this reader. err: MEMORY. */
int neap_account_open(struct neap_reader *r, uint64_t limit);
