#define _GNU_SOURCE /* accept4() */
#include "net/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/quiet.h"

enum { PROBES = 3 }; /* unanswered in a row, after which a peer is taken to be gone */

int neap_error_of(int system_errno)
{
    switch (system_errno) {
    case EAGAIN:
    case EINPROGRESS: return NEAP_E_AGAIN;
    case ECONNRESET:
    case EPIPE: return NEAP_E_RESET;
    case ECONNREFUSED: return NEAP_E_REFUSED;
    case ETIMEDOUT: return NEAP_E_TIMEOUT;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL: return NEAP_E_UNREACHABLE;
    case EAFNOSUPPORT: return NEAP_E_ADDRESS;
    case EADDRINUSE: return NEAP_E_ADDRESS_IN_USE;
    case EACCES:
    case EPERM: return NEAP_E_PERMISSION;
    case EMFILE:
    case ENFILE: return NEAP_E_DESCRIPTORS;
    case ENOBUFS:
    case ENOMEM: return NEAP_E_MEMORY;
    case EBUSY: return NEAP_E_BUSY;
    default: return NEAP_E_SYSTEM - system_errno;
    }
}

static int failure(void)
{
    return neap_error_of(errno);
}

static void set(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof value);
}

static int open_socket(const struct neap_endpoint *e)
{
    int fd = socket(e->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? failure() : fd;
}

/* Close, and tell what failed before. */
static int close_failed(int fd)
{
    int why = failure();
    close(fd);
    return why;
}

/* What a connection has, whichever side opened it. */
static void set_options(int fd, int family, const struct neap_socket_options *options)
{
    if (family == AF_UNIX) return;
    /* writes are gathered here, once a turn: Nagle's waiting would only delay them */
    if (options->no_delay) set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (!options->keepalive) return;
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)options->keepalive);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, (int)(options->keepalive + PROBES - 1) / PROBES);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
}

/* ---- listening ---- */

/* A socket's path stays when its server is killed. Nobody accepts there: it may go. */
static bool is_left_over(const struct neap_endpoint *at)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&at->sa;
    struct stat about;
    if (at->sa.ss_family != AF_UNIX || !un->sun_path[0]) return false;
    if (lstat(un->sun_path, &about) < 0 || !S_ISSOCK(about.st_mode)) return false;
    int fd = open_socket(at);
    if (fd < 0) return false;
    int result = connect(fd, (const struct sockaddr *)&at->sa, at->size);
    bool refused = result < 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_at(int fd, const struct neap_endpoint *at)
{
    const struct sockaddr *sa = (const struct sockaddr *)&at->sa;
    int result = bind(fd, sa, at->size);
    if (result == 0 || errno != EADDRINUSE || !is_left_over(at)) return result;
    unlink(((const struct sockaddr_un *)sa)->sun_path);
    return bind(fd, sa, at->size);
}

/* Before anybody can connect. */
static int set_mode(const struct neap_endpoint *at, uint32_t mode)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&at->sa;
    if (!mode || at->sa.ss_family != AF_UNIX || !un->sun_path[0]) return 0;
    return chmod(un->sun_path, mode);
}

/* The path of a socket that was bound and will not listen. */
static int abandon(int fd, const struct neap_endpoint *at)
{
    int why = failure();
    struct neap_path path;
    neap_path_note(at, &path);
    neap_path_remove(&path);
    close(fd);
    return why;
}

int neap_socket_listen(const struct neap_endpoint *at, const struct neap_socket_options *options)
{
    int fd = open_socket(at);
    if (fd < 0) return fd;
    if (at->sa.ss_family != AF_UNIX) set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (options->reuse_port) set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (at->sa.ss_family == AF_INET6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !options->dual_stack);
    if (bind_at(fd, at) < 0) return close_failed(fd);
    if (set_mode(at, options->mode) < 0 || listen(fd, (int)options->backlog) < 0)
        return abandon(fd, at);
    return fd;
}

void neap_path_note(const struct neap_endpoint *at, struct neap_path *path)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&at->sa;
    struct stat about;
    path->text[0] = 0;
    if (at->sa.ss_family != AF_UNIX || !un->sun_path[0]) return;
    if (lstat(un->sun_path, &about) < 0) return;
    memcpy(path->text, un->sun_path, sizeof path->text);
    path->device = about.st_dev;
    path->inode = about.st_ino;
}

void neap_path_remove(const struct neap_path *path)
{
    struct stat about;
    if (!path->text[0] || lstat(path->text, &about) < 0) return;
    if (about.st_dev == path->device && about.st_ino == path->inode) unlink(path->text);
}

int neap_socket_accept(int listener, struct neap_address *peer,
                       const struct neap_socket_options *options)
{
    struct neap_endpoint from = {.descriptor = -1};
    int fd;
    do {
        from.size = sizeof from.sa;
        fd = accept4(listener, (struct sockaddr *)&from.sa, &from.size,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED)); /* gone before we came */
    if (fd < 0) return failure();
    set_options(fd, from.sa.ss_family, options);
    neap_address_from(&from, peer);
    return fd;
}

/* ---- connecting ---- */

int neap_socket_connect(const struct neap_endpoint *to, const struct neap_socket_options *options)
{
    int fd = open_socket(to);
    if (fd < 0) return fd;
    set_options(fd, to->sa.ss_family, options);
    int result = connect(fd, (const struct sockaddr *)&to->sa, to->size);
    /* an interrupted connect goes on by itself, like one that would block */
    if (result == 0 || errno == EINPROGRESS || errno == EINTR) return fd;
    /* a unix socket does not wait for its listener to have room, or to be there */
    if (errno == EAGAIN) errno = EBUSY;
    if (errno == ENOENT) errno = ECONNREFUSED;
    return close_failed(fd);
}

int neap_socket_pair(int pair[2])
{
    int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    return socketpair(AF_UNIX, type, 0, pair) < 0 ? failure() : NEAP_OK;
}

int neap_socket_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error ? neap_error_of(error) : NEAP_OK;
}

int64_t neap_socket_read(int fd, void *room, size_t bytes)
{
    ssize_t n;
    do n = recv(fd, room, bytes, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failure() : n;
}

int64_t neap_socket_send(int fd, struct iovec *parts, int count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t n;
    do
        n = count == 1 ? send(fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                       : sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failure() : n;
}

int64_t neap_socket_send_file(int fd, int file, off_t offset, uint32_t n)
{
    ssize_t sent;
    do sent = neap_send_file_quietly(fd, file, offset, n);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? failure() : sent;
}

int64_t neap_file_read(int fd, void *room, size_t bytes)
{
    ssize_t n;
    do n = read(fd, room, bytes);
    while (n < 0 && errno == EINTR);
    /* a terminal whose other side is gone: its end */
    if (n < 0 && errno == EIO) return 0;
    return n < 0 ? failure() : n;
}

int64_t neap_file_write(int fd, struct iovec *parts, int count)
{
    ssize_t n;
    do n = neap_write_quietly(fd, parts, count);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failure() : n;
}

void neap_socket_shutdown(int fd)
{
    shutdown(fd, SHUT_WR);
}

void neap_socket_break(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void neap_socket_close(int fd)
{
    close(fd); /* on Linux an interrupted close() has closed */
}

void neap_socket_local(int fd, struct neap_endpoint *endpoint)
{
    *endpoint = (struct neap_endpoint){.size = sizeof endpoint->sa, .descriptor = -1};
    if (getsockname(fd, (struct sockaddr *)&endpoint->sa, &endpoint->size) < 0) endpoint->size = 0;
}

void neap_socket_peer(int fd, struct neap_endpoint *endpoint)
{
    *endpoint = (struct neap_endpoint){.size = sizeof endpoint->sa, .descriptor = -1};
    if (getpeername(fd, (struct sockaddr *)&endpoint->sa, &endpoint->size) < 0) endpoint->size = 0;
}
