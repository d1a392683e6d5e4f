/* bad_link.c - a link between two network namespaces that is as bad as one likes:
 *
 *     bad_link <namespace> <namespace> <seed> <late %> <lost %> <doubled %>
 *
 * Each of them gets a device (TUN) of the name "bad". A packet takes a millisecond, a late one up
 * to LATE_MS more, and others overtake it. Says "ready" once both are there and, when SIGTERM ends
 * it, how many packets were delivered, overtaken, lost, doubled.
 *
 * Limits: as many packets on their way as the constant says, beyond which they are lost. */
#define _GNU_SOURCE /* setns(), ppoll() */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKETS = 4096, PACKET_BYTES = 2048, LATE_MS = 12, NS_PER_MS = 1000000 };

struct packet {
    uint64_t due_ns; /* 0: none is here */
    uint64_t number;
    int to; /* the end that it goes to */
    int size;
    uint8_t bytes[PACKET_BYTES];
};

static struct packet packets[PACKETS];
static struct {
    int fd;
    uint64_t newest; /* number of the latest packet that was delivered there */
} ends[2];
static uint64_t count, delivered, overtaken, lost, doubled;
static unsigned seed, late_percent, lost_percent, doubled_percent;
static volatile sig_atomic_t over;

static void stop(int signal)
{
    (void)signal;
    over = 1;
}

static void must(int good, const char *what)
{
    if (good) return;
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * NS_PER_MS + (uint64_t)now.tv_nsec;
}

static int chance(unsigned percent)
{
    return (unsigned)rand_r(&seed) % 100 < percent;
}

static int open_end(const char *namespace)
{
    char path[128];
    snprintf(path, sizeof path, "/var/run/netns/%s", namespace);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    must(space >= 0 && setns(space, CLONE_NEWNET) == 0, namespace);
    close(space);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    must(fd >= 0, "/dev/net/tun");
    struct ifreq request = {.ifr_name = "bad", .ifr_flags = IFF_TUN | IFF_NO_PI};
    must(ioctl(fd, TUNSETIFF, &request) == 0, "TUNSETIFF");
    return fd;
}

/* ---- packets on their way ---- */

static void keep(int to, const uint8_t *bytes, int size)
{
    for (int i = 0; i < PACKETS; i++) {
        struct packet *p = &packets[i];
        if (p->due_ns) continue;
        uint64_t late = chance(late_percent) ? (uint64_t)rand_r(&seed) % (LATE_MS * NS_PER_MS) : 0;
        *p = (struct packet){now_ns() + NS_PER_MS + late, ++count, to, size, {0}};
        memcpy(p->bytes, bytes, (size_t)size);
        return;
    }
    lost++;
}

static void receive(int from)
{
    uint8_t bytes[PACKET_BYTES];
    int size;
    while ((size = (int)read(ends[from].fd, bytes, sizeof bytes)) > 0) {
        if (chance(lost_percent)) {
            lost++;
            continue;
        }
        keep(!from, bytes, size);
        if (!chance(doubled_percent)) continue;
        doubled++;
        keep(!from, bytes, size);
    }
}

static struct packet *first_due(void)
{
    struct packet *first = NULL;
    for (int i = 0; i < PACKETS; i++) {
        struct packet *p = &packets[i];
        if (p->due_ns && (!first || p->due_ns < first->due_ns)) first = p;
    }
    return first;
}

static void deliver(struct packet *p)
{
    if (write(ends[p->to].fd, p->bytes, (size_t)p->size) == p->size)
        delivered++;
    else
        lost++;
    if (p->number < ends[p->to].newest) overtaken++;
    if (p->number > ends[p->to].newest) ends[p->to].newest = p->number;
    p->due_ns = 0;
}

/* Delivers what is due. Returns the time until the next is. */
static struct timespec deliver_due(void)
{
    struct packet *p;
    uint64_t now = now_ns();
    while ((p = first_due()) && p->due_ns <= now) deliver(p);
    uint64_t rest = p ? p->due_ns - now : 1000ull * NS_PER_MS;
    return (struct timespec){(time_t)(rest / (1000ull * NS_PER_MS)),
                             (long)(rest % (1000ull * NS_PER_MS))};
}

/* SIGTERM comes in ppoll(). */
static void begin(char **word, sigset_t *none)
{
    seed = (unsigned)atoi(word[3]);
    late_percent = (unsigned)atoi(word[4]);
    lost_percent = (unsigned)atoi(word[5]);
    doubled_percent = (unsigned)atoi(word[6]);
    sigset_t term;
    sigemptyset(none);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    for (int i = 0; i < 2; i++) ends[i].fd = open_end(word[1 + i]);
    puts("ready");
    fflush(stdout);
}

int main(int words, char **word)
{
    sigset_t none;
    must(words == 7, "six arguments");
    begin(word, &none);
    while (!over) {
        struct pollfd polls[2] = {{ends[0].fd, POLLIN, 0}, {ends[1].fd, POLLIN, 0}};
        struct timespec rest = deliver_due();
        if (ppoll(polls, 2, &rest, &none) <= 0) continue;
        for (int i = 0; i < 2; i++)
            if (polls[i].revents) receive(i);
    }
    printf("delivered %llu overtaken %llu lost %llu doubled %llu\n", (unsigned long long)delivered,
           (unsigned long long)overtaken, (unsigned long long)lost, (unsigned long long)doubled);
    return 0;
}
