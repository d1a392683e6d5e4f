#include "base/quiet.h"

#include <errno.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <time.h>

/* What stood before a call that may raise SIGPIPE. */
struct quiet {
    sigset_t before, pending;
};

static sigset_t pipe_only(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    return set;
}

static void quiet_begin(struct quiet *q)
{
    const sigset_t set = pipe_only();
    sigpending(&q->pending);
    pthread_sigmask(SIG_BLOCK, &set, &q->before);
}

static void quiet_end(struct quiet *q, ssize_t result)
{
    const sigset_t set = pipe_only();
    const struct timespec at_once = {0};
    int error = errno;
    if (result < 0 && error == EPIPE && !sigismember(&q->pending, SIGPIPE))
        while (sigtimedwait(&set, NULL, &at_once) < 0 && errno == EINTR) {
        }
    pthread_sigmask(SIG_SETMASK, &q->before, NULL);
    errno = error;
}

ssize_t neap_write_quietly(int fd, const struct iovec *parts, int count)
{
    struct quiet quiet;
    quiet_begin(&quiet);
    ssize_t written = writev(fd, parts, count);
    quiet_end(&quiet, written);
    return written;
}

ssize_t neap_send_file_quietly(int fd, int file, off_t offset, size_t n)
{
    struct quiet quiet;
    quiet_begin(&quiet);
    ssize_t sent = sendfile(fd, file, &offset, n);
    quiet_end(&quiet, sent);
    return sent;
}
