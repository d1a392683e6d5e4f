/* ring_test.c - sends that leave in one system call come out, and fail, as sends one by one do; what
 * the system does not take of them is told, and never sent. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "helper.h"
#include "net/ring.h"
#include "net/socket.h"

enum { NO = -1, LARGE = 4 << 20 };
static struct neap_ring *ring;
static int descriptors_before;

/* ---- what the system answers ---- */

static int setup_error;
static bool old_system;
static long takes = NO; /* so many sends of the next run and no more, … */
static int enter_error; /* … or this error */

static long enter(long fd, long sends, long wait_for, long flags)
{
    typedef long syscall_type(long number, ...);
    syscall_type *next = (syscall_type *)dlsym(RTLD_NEXT, "syscall");
    bool less = takes != NO && takes < sends;
    long most = less ? takes : sends;
    takes = NO;
    errno = enter_error;
    if (less && most == 0) return -1;
    return next(SYS_io_uring_enter, fd, most, less ? most : wait_for, flags, 0L, 0L);
}

long syscall(long number, ...)
{
    typedef long syscall_type(long number, ...);
    syscall_type *next = (syscall_type *)dlsym(RTLD_NEXT, "syscall");
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_io_uring_enter) return enter(a[0], a[1], a[2], a[3]);
    if (number == SYS_io_uring_setup && setup_error) {
        errno = setup_error;
        return -1;
    }
    long result = next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_io_uring_setup && old_system) memset((char *)a[1] + 20, 0, 4); /* features */
    return result;
}

/* ---- before and after ---- */

static int descriptors(void)
{
    int count = 0;
    DIR *fds = opendir("/proc/self/fd");
    while (readdir(fds)) count++;
    closedir(fds);
    return count;
}

static int begin(void **state)
{
    descriptors_before = descriptors();
    ring = neap_ring_open();
    assert_non_null(ring);
    return test_begin(state);
}

static int end(void **state)
{
    neap_ring_close(ring);
    assert_int_equal(descriptors(), descriptors_before);
    return test_end(state);
}

/* ---- sockets ---- */

struct pair {
    int ours, peer;
};

static void pair_close(struct pair *p)
{
    close(p->ours);
    if (p->peer >= 0) close(p->peer);
}

static struct pair unix_pair(void)
{
    int fds[2];
    assert_int_equal(neap_socket_pair(fds), NEAP_OK);
    return (struct pair){fds[0], fds[1]};
}

static struct pair tcp_pair(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    struct pair p;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    p.peer = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(p.peer, (struct sockaddr *)&at, size), 0);
    p.ours = accept(listener, NULL, NULL);
    assert_true(p.ours >= 0);
    close(listener);
    return p;
}

static void receives(struct pair *p, const char *text)
{
    char got[64] = {0};
    ssize_t n = recv(p->peer, got, sizeof got - 1, MSG_DONTWAIT);
    assert_int_equal(n, *text ? (ssize_t)strlen(text) : -1);
    assert_string_equal(got, text);
}

/* ---- states in which a send may find a socket ---- */

static char large[LARGE];

static void is_new(struct pair *p)
{
    (void)p;
}

static void is_full(struct pair *p)
{
    while (send(p->ours, large, sizeof large, MSG_DONTWAIT) > 0) {
    }
}

static void is_shut_down(struct pair *p)
{
    shutdown(p->ours, SHUT_WR);
}

static void is_left(struct pair *p)
{
    close(p->peer);
    p->peer = -1;
}

static void is_reset(struct pair *p)
{
    neap_socket_break(p->peer);
    is_left(p);
}

static void is_closed(struct pair *p)
{
    close(p->ours);
    p->ours = -1;
}

typedef struct pair make_pair(void);
static make_pair *const makes[] = {unix_pair, tcp_pair};
typedef void change(struct pair *p);
static change *const changes[] = {is_new, is_full, is_shut_down, is_left, is_reset, is_closed};

struct told {
    int64_t sent;
    int error;
};

static struct told one_by_one(int fd, const void *bytes, uint32_t n)
{
    struct iovec part = {(void *)(uintptr_t)bytes, n};
    errno = 0;
    int64_t sent = neap_socket_send(fd, &part, 1);
    return (struct told){sent, sent < 0 ? errno : 0};
}

static struct told by_ring(int fd, const void *bytes, uint32_t n)
{
    assert_true(neap_ring_add(ring, fd, bytes, n));
    neap_ring_run(ring);
    errno = 0;
    int64_t sent = neap_ring_sent(ring, 0);
    return (struct told){sent, sent < 0 ? errno : 0};
}

typedef struct told send_type(int fd, const void *bytes, uint32_t n);

/* What two sends in a row are told: an error is told once, and may be another one after that. */
static void send_twice(send_type *send_it, make_pair *make, change *change_it, uint32_t n,
                       struct told told[2])
{
    struct pair p = make();
    change_it(&p);
    for (int i = 0; i < 2; i++) told[i] = send_it(p.ours, large, n);
    pair_close(&p);
}

static bool depends_on_room(const struct told *told, uint32_t n)
{
    return told->error == EAGAIN || (told->sent > 0 && told->sent < n);
}

static bool takes_what_has_room(const struct told *told)
{
    return told->sent > 0 || told->error == EAGAIN;
}

/* How much a system has room for depends on when the peer's side has taken what came before. */
static bool same(const struct told *a, const struct told *b, uint32_t n)
{
    if (depends_on_room(a, n) || depends_on_room(b, n))
        return takes_what_has_room(a) && takes_what_has_room(b);
    return a->sent == b->sent && a->error == b->error;
}

static bool told_the_same(make_pair *make, change *change_it, uint32_t n)
{
    struct told one[2], both[2];
    send_twice(one_by_one, make, change_it, n, one);
    send_twice(by_ring, make, change_it, n, both);
    return same(&one[0], &both[0], n) && same(&one[1], &both[1], n);
}

/* ---- tests ---- */

/* A busy system knows a moment later that a peer is gone: so several tries. */
static void a_run_is_told_what_sends_one_by_one_are(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 100, 20000, LARGE};
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < sizeof changes / sizeof *changes; j++)
            for (size_t k = 0; k < 4; k++) {
                int tries = 10;
                while (!told_the_same(makes[i], changes[j], sizes[k])) assert_true(--tries > 0);
            }
}

static void each_send_has_its_own_result(void **state)
{
    (void)state;
    struct pair a = unix_pair(), b = unix_pair(), c = tcp_pair();
    is_left(&b);
    assert_true(neap_ring_add(ring, a.ours, "one", 3));
    assert_true(neap_ring_add(ring, b.ours, "lost", 4));
    assert_true(neap_ring_add(ring, c.ours, "three", 5));
    neap_ring_run(ring);
    assert_int_equal(neap_ring_sent(ring, 0), 3);
    assert_int_equal(neap_ring_sent(ring, 1), NEAP_E_RESET);
    assert_int_equal(errno, EPIPE);
    assert_int_equal(neap_ring_sent(ring, 2), 5);
    receives(&a, "one");
    receives(&c, "three");
    pair_close(&a);
    pair_close(&b);
    pair_close(&c);
}

static void runs_of_every_length_follow_each_other(void **state)
{
    (void)state;
    struct pair p = unix_pair();
    char sent[] = "0", got[NEAP_RING_SENDS + 1];
    for (int run = 0; run < 3 * NEAP_RING_SENDS; run++) {
        int count = 0, want = run % (NEAP_RING_SENDS + 1);
        while (count < want && neap_ring_add(ring, p.ours, sent, 1)) count++;
        assert_int_equal(count, want);
        if (want == NEAP_RING_SENDS) assert_false(neap_ring_add(ring, p.ours, sent, 1));
        neap_ring_run(ring);
        for (int i = 0; i < count; i++) assert_int_equal(neap_ring_sent(ring, (uint32_t)i), 1);
        if (count) assert_int_equal(recv(p.peer, got, sizeof got, MSG_DONTWAIT), count);
        for (int i = 0; i < count; i++) assert_int_equal(got[i], sent[0]);
        sent[0] = sent[0] == 'z' ? '0' : (char)(sent[0] + 1);
    }
    pair_close(&p);
}

static void what_the_system_does_not_take_is_told_and_never_sent(void **state)
{
    (void)state;
    struct pair p = unix_pair();
    static const int errors[] = {EAGAIN, EINTR, ENOMEM, EBUSY, EPERM};
    for (int i = 0; i < 5; i++)
        for (takes = 0; takes < 3; takes++) {
            long took = takes;
            enter_error = errors[i];
            neap_ring_add(ring, p.ours, "a", 1);
            neap_ring_add(ring, p.ours, "b", 1);
            neap_ring_add(ring, p.ours, "c", 1);
            neap_ring_run(ring);
            for (uint32_t at = 0; at < 3; at++)
                assert_int_equal(neap_ring_sent(ring, at), at < took ? 1 : NEAP_E_AGAIN);
            neap_ring_add(ring, p.ours, "d", 1);
            neap_ring_run(ring);
            assert_int_equal(neap_ring_sent(ring, 0), 1);
            receives(&p, took == 0 ? "d" : took == 1 ? "ad" : "abd");
            takes = took;
        }
    takes = NO;
    pair_close(&p);
}

static void a_run_of_nothing_does_nothing(void **state)
{
    (void)state;
    takes = 0; /* would be told */
    neap_ring_run(ring);
    assert_int_equal(takes, 0);
    takes = NO;
}

static void a_system_that_refuses_has_none(void **state)
{
    (void)state;
    static const int errors[] = {ENOSYS, EPERM, EMFILE, ENOMEM};
    for (int i = 0; i < 4; i++) {
        setup_error = errors[i];
        assert_null(neap_ring_open());
    }
    setup_error = 0;
    int before = descriptors();
    old_system = true;
    assert_null(neap_ring_open());
    old_system = false;
    assert_int_equal(descriptors(), before);
}

#define RING(function) cmocka_unit_test_setup_teardown(function, begin, end)

static const struct CMUnitTest tests[] = {
    RING(a_run_is_told_what_sends_one_by_one_are),
    RING(each_send_has_its_own_result),
    RING(runs_of_every_length_follow_each_other),
    RING(what_the_system_does_not_take_is_told_and_never_sent),
    RING(a_run_of_nothing_does_nothing),
    RING(a_system_that_refuses_has_none),
};

int main(void)
{
    ring = neap_ring_open();
    if (!ring) { /* in a container, or switched off */
        print_message("[ RUN      ] ring_test\n[  SKIPPED ] ring_test: no io_uring here\n"
                      "[==========] 0 test(s) run.\n");
        return 0;
    }
    neap_ring_close(ring);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
