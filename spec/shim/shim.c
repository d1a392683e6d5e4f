/* shim.c - system calls, and requests for memory, that fail on demand; loaded with LD_PRELOAD.
 *
 * Only calls that neap's library or libev makes are counted, and only one of them fails: the one
 * that shim_fail() or, for what fails while the process starts, SHIM="recv:3:11" says (the fourth
 * recv() gets errno 11; 0: it moves one byte); or all, after shim_fail_on(). What a kernel does at
 * times: no state is faked.
 *
 * Thread: one. */
#define _GNU_SOURCE /* RTLD_NEXT, dladdr(), accept4() */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

void shim_fail(const char *call, int after, int error);
void shim_fail_on(const char *call, int error);
int shim_calls(void);
int shim_failed(void);

static char chosen[32];
static int countdown = -1, goes_on, error_to_set, call_count, fail_count, all_fails;

void shim_fail(const char *call, int after, int error)
{
    snprintf(chosen, sizeof chosen, "%s", call);
    countdown = after;
    error_to_set = error;
    call_count = fail_count = goes_on = 0;
}

/* Every call fails, until the next shim_fail(). */
void shim_fail_on(const char *call, int error)
{
    shim_fail(call, 0, error);
    goes_on = 1;
}

/* How often the chosen call was made since, and how often it failed. */
int shim_calls(void)
{
    return call_count;
}

int shim_failed(void)
{
    return fail_count;
}

/* Says at the end whether SHIM's call came, on the descriptor SHIM_TELLS. */
__attribute__((destructor)) static void tell(void)
{
    const char *fd = getenv("SHIM_TELLS");
    if (fd) dprintf(atoi(fd), "shim: %d\n", all_fails);
}

__attribute__((constructor)) static void from_environment(void)
{
    const char *text = getenv("SHIM");
    char call[32];
    int after, error;
    if (text && sscanf(text, "%31[a-z0-9_]:%d:%d", call, &after, &error) == 3)
        shim_fail(call, after, error);
}

static int is_ours(const void *caller)
{
    Dl_info about;
    if (!dladdr(caller, &about) || !about.dli_fname) return 0;
    return strstr(about.dli_fname, "libneap") || strstr(about.dli_fname, "libev");
}

/* Is it this call's turn? `memory` stands for all ways to ask for it. */
static int fails(const char *call, const void *caller)
{
    if (!chosen[0] || strcmp(call, chosen) != 0 || !is_ours(caller)) return 0;
    call_count++;
    if (!goes_on && (countdown < 0 || countdown--)) return 0;
    fail_count++;
    all_fails++;
    errno = error_to_set;
    return 1;
}

#define CALLER __builtin_return_address(0)
#define NEXT(type, name)                                                                           \
    static type *next;                                                                             \
    if (!next) next = (type *)dlsym(RTLD_NEXT, name)

/* ---- calls that move bytes: error 0 makes them short ---- */

typedef ssize_t recv_type(int, void *, size_t, int);
ssize_t recv(int fd, void *room, size_t n, int flags)
{
    NEXT(recv_type, "recv");
    if (!fails("recv", CALLER)) return next(fd, room, n, flags);
    return error_to_set ? -1 : next(fd, room, n > 1, flags);
}

typedef ssize_t send_type(int, const void *, size_t, int);
ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
    NEXT(send_type, "send");
    if (!fails("send", CALLER)) return next(fd, bytes, n, flags);
    return error_to_set ? -1 : next(fd, bytes, n > 1, flags);
}

typedef ssize_t sendmsg_type(int, const struct msghdr *, int);
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT(sendmsg_type, "sendmsg");
    if (!fails("sendmsg", CALLER)) return next(fd, message, flags);
    if (error_to_set) return -1;
    struct iovec part = {message->msg_iov->iov_base, 1};
    struct msghdr one = {.msg_iov = &part, .msg_iovlen = 1};
    return next(fd, &one, flags);
}

typedef ssize_t preadv2_type(int, const struct iovec *, int, off_t, int);
ssize_t preadv2(int fd, const struct iovec *room, int count, off_t offset, int flags)
{
    NEXT(preadv2_type, "preadv2");
    if (!fails("preadv2", CALLER)) return next(fd, room, count, offset, flags);
    if (error_to_set) return -1;
    struct iovec part = {room->iov_base, 1};
    return next(fd, &part, 1, offset, flags);
}

typedef ssize_t sendfile_type(int, int, off_t *, size_t);
ssize_t sendfile(int to, int from, off_t *offset, size_t n)
{
    NEXT(sendfile_type, "sendfile");
    if (!fails("sendfile", CALLER)) return next(to, from, offset, n);
    return error_to_set ? -1 : next(to, from, offset, n > 1);
}

/* Sends of many sockets in one call. Where the n-th send() is to fail, each is to be one. */
typedef long syscall_type(long, ...);
static long enter_ring(syscall_type *next, const void *caller, const long *a)
{
    if (strcmp(chosen, "send") == 0 && is_ours(caller)) {
        errno = EAGAIN;
        return -1;
    }
    int few = fails("io_uring_enter", caller);
    if (few && error_to_set) return -1;
    return next(SYS_io_uring_enter, a[0], few ? 1L : a[1], few ? 1L : a[2], a[3], a[4], a[5]);
}

long syscall(long number, ...)
{
    NEXT(syscall_type, "syscall");
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_io_uring_enter) return enter_ring(next, CALLER, a);
    if (number == SYS_io_uring_setup && fails("io_uring_setup", CALLER)) return -1;
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- calls that do it, or not ---- */

#define REFUSES(type, name, parameters, arguments)                                                 \
    typedef type name##_type parameters;                                                           \
    type name parameters                                                                           \
    {                                                                                              \
        NEXT(name##_type, #name);                                                                  \
        return fails(#name, CALLER) ? -1 : next arguments;                                         \
    }

REFUSES(int, accept4, (int fd, struct sockaddr *at, socklen_t *size, int flags),
        (fd, at, size, flags))
REFUSES(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
REFUSES(int, socketpair, (int domain, int type, int protocol, int pair[2]),
        (domain, type, protocol, pair))
REFUSES(int, connect, (int fd, const struct sockaddr *at, socklen_t size), (fd, at, size))
REFUSES(int, bind, (int fd, const struct sockaddr *at, socklen_t size), (fd, at, size))
REFUSES(int, listen, (int fd, int backlog), (fd, backlog))
REFUSES(int, shutdown, (int fd, int how), (fd, how))
REFUSES(int, getsockname, (int fd, struct sockaddr *at, socklen_t *size), (fd, at, size))
REFUSES(int, getpeername, (int fd, struct sockaddr *at, socklen_t *size), (fd, at, size))
REFUSES(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t size),
        (fd, level, option, value, size))
REFUSES(int, getsockopt, (int fd, int level, int option, void *value, socklen_t *size),
        (fd, level, option, value, size))
REFUSES(int, fstat, (int fd, struct stat *about), (fd, about))
REFUSES(int, epoll_wait, (int fd, struct epoll_event *events, int most, int timeout),
        (fd, events, most, timeout))
REFUSES(int, epoll_ctl, (int fd, int op, int other, struct epoll_event *event),
        (fd, op, other, event))

/* ---- memory ---- */

typedef void *mmap_type(void *, size_t, int, int, int, off_t);
void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    NEXT(mmap_type, "mmap");
    return fails("memory", CALLER) ? MAP_FAILED : next(at, n, protection, flags, fd, offset);
}

typedef int mprotect_type(void *, size_t, int);
int mprotect(void *at, size_t n, int protection)
{
    NEXT(mprotect_type, "mprotect");
    return fails("memory", CALLER) ? -1 : next(at, n, protection);
}

/* dlsym() itself may ask for memory, so the real one is called by its own name. libev may not. */
void *__libc_calloc(size_t count, size_t size);
void *calloc(size_t count, size_t size)
{
    static const char memory[] = "memory";
    if (chosen[0] && fails(memory, CALLER)) return NULL;
    return __libc_calloc(count, size);
}
