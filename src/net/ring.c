#include "net/ring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/panic.h"
#include "net/socket.h"

/* What the kernel and we write to is the kernel's memory, mapped. */
struct neap_ring {
    int fd;
    uint32_t count;  /* added since the last run */
    uint8_t *shared; /* NULL: not mapped */
    size_t shared_bytes;
    struct io_uring_sqe *sends; /* NULL: not mapped */
    uint32_t *send_head, *send_tail;
    uint32_t *done_head, *done_tail;
    uint32_t done_mask;
    struct io_uring_cqe *done;
    int32_t results[NEAP_RING_SENDS]; /* bytes, or a negative errno */
};

enum {
    SENDS_BYTES = NEAP_RING_SENDS * sizeof(struct io_uring_sqe),
    /* of Linux 5.7: both rings in one mapping; whoever has the second has sends */
    FEATURES = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_FAST_POLL,
};

/* ---- open and close ---- */

static void *map(int fd, size_t bytes, off_t what)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
    return at == MAP_FAILED ? NULL : at;
}

/* The kernel takes sends in the order of an array of their numbers: always that of the sends. */
static void find_parts(struct neap_ring *ring, const struct io_uring_params *p)
{
    uint8_t *at = ring->shared;
    uint32_t *order = (uint32_t *)(at + p->sq_off.array);
    for (uint32_t i = 0; i < NEAP_RING_SENDS; i++) order[i] = i;
    ring->send_head = (uint32_t *)(at + p->sq_off.head);
    ring->send_tail = (uint32_t *)(at + p->sq_off.tail);
    ring->done_head = (uint32_t *)(at + p->cq_off.head);
    ring->done_tail = (uint32_t *)(at + p->cq_off.tail);
    ring->done = (struct io_uring_cqe *)(at + p->cq_off.cqes);
    ring->done_mask = p->cq_entries - 1;
}

static bool set_up(struct neap_ring *ring)
{
    struct io_uring_params p = {0};
    ring->fd = (int)syscall(SYS_io_uring_setup, NEAP_RING_SENDS, &p);
    if (ring->fd < 0 || (p.features & FEATURES) != FEATURES) return false;
    neap_assert(p.sq_entries == NEAP_RING_SENDS, "a ring is as long as it was asked for");
    size_t sends = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
    size_t done = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    ring->shared_bytes = sends > done ? sends : done;
    ring->shared = map(ring->fd, ring->shared_bytes, IORING_OFF_SQ_RING);
    ring->sends = map(ring->fd, SENDS_BYTES, IORING_OFF_SQES);
    if (!ring->shared || !ring->sends) return false;
    find_parts(ring, &p);
    return true;
}

struct neap_ring *neap_ring_open(void)
{
    struct neap_ring *ring = neap_mem_calloc(1, sizeof *ring);
    if (!ring || set_up(ring)) return ring;
    neap_ring_close(ring);
    return NULL;
}

void neap_ring_close(struct neap_ring *ring)
{
    if (!ring) return;
    if (ring->shared) munmap(ring->shared, ring->shared_bytes);
    if (ring->sends) munmap(ring->sends, SENDS_BYTES);
    if (ring->fd >= 0) close(ring->fd);
    neap_mem_free(ring);
}

/* ---- a run ---- */

bool neap_ring_add(struct neap_ring *ring, int fd, const void *bytes, uint32_t n)
{
    if (ring->count == NEAP_RING_SENDS) return false;
    uint32_t at = *ring->send_tail + ring->count;
    ring->sends[at % NEAP_RING_SENDS] = (struct io_uring_sqe){
        .opcode = IORING_OP_SEND,
        .fd = fd,
        .addr = (uintptr_t)bytes,
        .len = n,
        .msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT,
        .user_data = ring->count,
    };
    ring->results[ring->count++] = -EAGAIN;
    return true;
}

/* Returns how many were over. */
static uint32_t take_done(struct neap_ring *ring)
{
    uint32_t head = *ring->done_head, tail = __atomic_load_n(ring->done_tail, __ATOMIC_ACQUIRE);
    uint32_t count = tail - head;
    for (; head != tail; head++) {
        const struct io_uring_cqe *done = &ring->done[head & ring->done_mask];
        ring->results[done->user_data] = done->res;
    }
    __atomic_store_n(ring->done_head, head, __ATOMIC_RELEASE);
    return count;
}

/* Returns how many of the sends it took. */
static uint32_t enter(struct neap_ring *ring, uint32_t sends, uint32_t wait_for)
{
    long took =
        syscall(SYS_io_uring_enter, ring->fd, sends, wait_for, IORING_ENTER_GETEVENTS, NULL, 0L);
    return took > 0 ? (uint32_t)took : 0;
}

/* What the kernel did not take, for want of memory, is taken back: it goes out without the ring. But
 * what it took must be over before the bytes may go. */
void neap_ring_run(struct neap_ring *ring)
{
    uint32_t count = ring->count, tail = *ring->send_tail;
    ring->count = 0;
    if (count == 0) return;
    __atomic_store_n(ring->send_tail, tail + count, __ATOMIC_RELEASE);
    uint32_t took = enter(ring, count, count);
    if (took < count) __atomic_store_n(ring->send_tail, tail + took, __ATOMIC_RELEASE);
    uint32_t done = take_done(ring);
    while (done < took) {
        enter(ring, 0, took - done);
        done += take_done(ring);
    }
}

int64_t neap_ring_sent(const struct neap_ring *ring, uint32_t i)
{
    int32_t result = ring->results[i];
    if (result >= 0) return result;
    errno = result == -EINTR || result == -ECANCELED ? EAGAIN : -result;
    return neap_error_of(errno);
}
