#define _GNU_SOURCE /* accept4() */
#include "net/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

enum { BACKLOG = 4096 }; /* the system cuts it to net.core.somaxconn */

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
    default: return NEAP_E_SYSTEM;
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

static int open_socket(const struct neap_address *address)
{
    int fd = socket(address->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? failure() : fd;
}

/* Close, and keep the errno of what failed for the message. */
static int close_failed(int fd)
{
    int why = errno;
    close(fd);
    errno = why;
    return failure();
}

int neap_socket_listen(const struct neap_address *address)
{
    struct sockaddr_storage sa;
    socklen_t size = neap_address_to_system(address, &sa);
    int fd = open_socket(address);
    if (fd < 0) return fd;
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (struct sockaddr *)&sa, size) < 0 || listen(fd, BACKLOG) < 0)
        return close_failed(fd);
    return fd;
}

int neap_socket_connect(const struct neap_address *address)
{
    struct sockaddr_storage sa;
    socklen_t size = neap_address_to_system(address, &sa);
    int fd = open_socket(address);
    if (fd < 0) return fd;
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    int result = connect(fd, (struct sockaddr *)&sa, size);
    /* an interrupted connect goes on by itself, like one that would block */
    if (result < 0 && errno != EINPROGRESS && errno != EINTR) return close_failed(fd);
    return fd;
}

int neap_socket_accept(int listener, struct neap_address *peer)
{
    struct sockaddr_storage sa;
    int fd;
    do {
        socklen_t size = sizeof sa;
        fd = accept4(listener, (struct sockaddr *)&sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED)); /* gone before we came */
    if (fd < 0) return failure();
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* writes are gathered here, once a turn */
    neap_address_from_system(&sa, peer);
    return fd;
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
    do n = read(fd, room, bytes);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failure() : n;
}

int64_t neap_socket_send(int fd, struct iovec *parts, int count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t n;
    do
        n = count == 1 ? send(fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL)
                       : sendmsg(fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failure() : n;
}

void neap_socket_shutdown(int fd)
{
    shutdown(fd, SHUT_WR);
}

void neap_socket_close(int fd)
{
    close(fd); /* on Linux an interrupted close() has closed */
}

void neap_socket_local(int fd, struct neap_address *address)
{
    struct sockaddr_storage sa = {0};
    socklen_t size = sizeof sa;
    getsockname(fd, (struct sockaddr *)&sa, &size);
    neap_address_from_system(&sa, address);
}
