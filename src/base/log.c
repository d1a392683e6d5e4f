/* log.c - whole entries to standard error, which never block and never end the process.
 *
 * One entry is one call. It goes out whole, or not at all: a rest that a pipe or a socket did
 * not take is kept, and goes out before the next entry. Without O_NONBLOCK, since that would
 * belong to the open file, which the shell and others share: so a pipe is asked first, and given
 * no more than it then takes at once (that another process fills it in between is possible, and
 * waits for its reader). A file or a terminal is written to as print() would.
 *
 * Limits: an entry of NEAP_LOG_BYTES. Thread: one. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/quiet.h"
#include "neap.h"

enum { LAST_WAIT_MS = 1000 };

static struct stat home; /* what standard error was when the library was loaded */
static bool known;
static char rest[NEAP_LOG_BYTES]; /* of an entry that was begun */
static uint32_t rest_bytes;

__attribute__((constructor)) static void remember(void)
{
    known = fstat(STDERR_FILENO, &home) == 0;
}

/* Where standard error was closed, a connection may have got its number. */
static bool still_home(void)
{
    struct stat now;
    return known && fstat(STDERR_FILENO, &now) == 0 && now.st_dev == home.st_dev &&
           now.st_ino == home.st_ino;
}

static ssize_t send_some(const char *bytes, size_t n)
{
    return send(STDERR_FILENO, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t write_quietly(const char *bytes, size_t n)
{
    struct iovec part = {(void *)(uintptr_t)bytes, n};
    return neap_write_quietly(STDERR_FILENO, &part, 1);
}

/* A pipe that poll() calls writable takes PIPE_BUF bytes without waiting. */
static ssize_t pipe_some(const char *bytes, size_t n)
{
    struct pollfd ask = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&ask, 1, 0) != 1) {
        errno = EAGAIN;
        return -1;
    }
    return write_quietly(bytes, n < PIPE_BUF ? n : PIPE_BUF);
}

static ssize_t write_some(const char *bytes, size_t n)
{
    if (S_ISSOCK(home.st_mode)) return send_some(bytes, n);
    if (S_ISFIFO(home.st_mode)) return pipe_some(bytes, n);
    return write_quietly(bytes, n);
}

/* Returns how many went out. *gone: nobody will ever read the rest. */
static uint32_t write_most(const char *bytes, uint32_t n, bool *gone)
{
    uint32_t done = 0;
    *gone = false;
    while (done < n) {
        ssize_t written = write_some(bytes + done, n - done);
        if (written < 0 && errno == EINTR) continue;
        *gone = written < 0 && (errno == EPIPE || errno == ECONNRESET);
        if (written <= 0) break; /* a disk that is full may have room later */
        done += (uint32_t)written;
    }
    return done;
}

/* What is kept goes out first. Returns whether nothing is left of it. */
static bool finish_rest(void)
{
    bool gone;
    uint32_t done = write_most(rest, rest_bytes, &gone);
    rest_bytes = gone ? 0 : rest_bytes - done;
    memmove(rest, rest + done, rest_bytes);
    return rest_bytes == 0;
}

int neap_log_write(const char *bytes, uint32_t n)
{
    bool gone;
    if (!bytes || n > NEAP_LOG_BYTES) return NEAP_E_RANGE;
    if (!still_home() || !finish_rest()) return 0;
    uint32_t done = write_most(bytes, n, &gone);
    if (done == n) return 1;
    if (done == 0 || gone) return 0;
    rest_bytes = n - done;
    memcpy(rest, bytes + done, rest_bytes);
    return 1;
}

/* At the end of the process, where nobody else waits: a reader who is a second behind gets it all. */
void neap_log_write_last(const char *bytes, uint32_t n)
{
    static bool given_up;
    struct pollfd ask = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (neap_log_write(bytes, n) == 1 || given_up) return;
    given_up = poll(&ask, 1, LAST_WAIT_MS) != 1 || neap_log_write(bytes, n) != 1;
}

/* The last chance of a rest is the end of the process. */
__attribute__((destructor)) static void finish(void)
{
    if (rest_bytes > 0 && still_home()) finish_rest();
}

double neap_log_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)(now.tv_nsec / 1000000) / 1000;
}
