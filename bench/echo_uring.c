/* echo_uring: the plain C echo on epoll, with many answers in one system call.
 *
 *     echo_uring 127.0.0.1 7000        (port 0 picks one)
 *     echo_uring --check               (status 1: the system has no io_uring)
 *
 * As echo_epoll, but up to 64 messages are read, each into a buffer of its own, before their answers
 * leave in one io_uring_enter, by the same ring as neap's. Memory: 1 MiB, and what echo_epoll has. */
#define _GNU_SOURCE /* accept4 */
#include "net/ring.h"
#include "polling.h"

static char buffers[NEAP_RING_SENDS][BUFFER_BYTES];
static struct conn *answering[NEAP_RING_SENDS]; /* whose message is in the buffer of that number */
static uint32_t answer_bytes[NEAP_RING_SENDS];
static uint32_t answer_count;
static struct neap_ring *ring;

/* c may be gone after this. */
static void answered(struct conn *c, const char *bytes, size_t n, int64_t sent)
{
    if (sent < 0 && errno != EAGAIN) {
        conn_destroy(c);
        return;
    }
    size_t left = n - (size_t)(sent > 0 ? sent : 0);
    if (left == 0) return;
    output_queue(&c->output, bytes + (n - left), left);
    watch(c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void answer_all(void)
{
    neap_ring_run(ring);
    for (uint32_t i = 0; i < answer_count; i++)
        answered(answering[i], buffers[i], answer_bytes[i], neap_ring_sent(ring, i));
    answer_count = 0;
}

static void on_readable(struct conn *c)
{
    char *buffer = buffers[answer_count];
    uint32_t n = (uint32_t)conn_read(c, buffer);
    if (n == 0) return;
    neap_ring_add(ring, c->fd, buffer, n);
    answering[answer_count] = c;
    answer_bytes[answer_count++] = n;
    if (answer_count == NEAP_RING_SENDS) answer_all();
}

static void on_turn_end(void)
{
    answer_all();
}

int main(int argc, char **argv)
{
    ring = neap_ring_open();
    if (argc == 2 && strcmp(argv[1], "--check") == 0) return ring == NULL;
    if (ring == NULL) die("io_uring");
    return polling_main(argc, argv, "echo_uring");
}
