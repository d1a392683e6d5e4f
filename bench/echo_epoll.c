/* echo_epoll: the plain C echo on the bare system calls, with no library between.
 *
 *     echo_epoll 127.0.0.1 7000        (port 0 picks one)
 *
 * As echo_c: one read and one write for a message, one 16 KiB buffer for all connections, what a
 * write does not take is copied and reading stops until it is gone. */
#define _GNU_SOURCE /* accept4 */
#include "polling.h"

static char buffer[BUFFER_BYTES];

static void on_readable(struct conn *c)
{
    size_t n = conn_read(c, buffer);
    if (n == 0) return;
    int written = output_write(&c->output, c->fd, buffer, n);
    if (written < 0)
        conn_destroy(c); /* nobody to answer */
    else if (written == 0)
        watch(c, EPOLL_CTL_MOD, EPOLLOUT);
}

static void on_turn_end(void)
{
}

int main(int argc, char **argv)
{
    return polling_main(argc, argv, "echo_epoll");
}
