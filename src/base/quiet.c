#include "base/quiet.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

ssize_t neap_write_quietly(int fd, const struct iovec *parts, int count)
{
    sigset_t pipe_only, before, pending;
    struct timespec at_once = {0};
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    ssize_t written = writev(fd, parts, count);
    int error = errno;
    if (written < 0 && error == EPIPE && !sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR) {
        }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return written;
}
