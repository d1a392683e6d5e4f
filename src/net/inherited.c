/* inherited.c - descriptors that this process was started with.
 *
 * A number that a script gives is believed only if the descriptor would survive an exec:
 * all of neap's own would not. A terminal or a pipe is opened once more, since O_NONBLOCK
 * belongs to the open file, which the shell and our own print() share. */
#define _GNU_SOURCE /* dup3() */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/socket.h"

static int failure(void)
{
    return neap_error_of(errno);
}

static int open_again(int number)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", number);
    int mode = fcntl(number, F_GETFL) & O_ACCMODE;
    return open(path, mode | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

static int duplicate(int number, bool nonblock)
{
    int fd = fcntl(number, F_DUPFD_CLOEXEC, 3);
    if (fd >= 0 && nonblock) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static enum neap_descriptor_kind kind_of(int number, mode_t mode)
{
    int listens = 0;
    socklen_t size = sizeof listens;
    if (!S_ISSOCK(mode)) return NEAP_IS_FILE;
    getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
    return listens ? NEAP_IS_LISTENER : NEAP_IS_SOCKET;
}

/* The number stays occupied, so that whoever else knows it closes nothing of ours. */
static void replace(int number)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return;
    dup3(null, number, O_CLOEXEC);
    close(null);
}

int neap_inherited_take(int number, enum neap_descriptor_kind *kind)
{
    struct stat about;
    int flags = fcntl(number, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC) || fstat(number, &about) < 0) return NEAP_E_DESCRIPTOR;
    *kind = kind_of(number, about.st_mode);
    int fd = -1;
    if (S_ISFIFO(about.st_mode) || S_ISCHR(about.st_mode)) fd = open_again(number);
    /* a socket's reads and writes ask not to block one by one, an accept can't */
    if (fd < 0) fd = duplicate(number, *kind == NEAP_IS_LISTENER || !S_ISSOCK(about.st_mode));
    if (fd < 0) return failure();
    if (number > STDERR_FILENO) replace(number);
    return fd;
}
