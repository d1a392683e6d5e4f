/* load: drives several servers that echo in turns, and checks every byte.
 *
 *     load --connections 64 --size 64 --turns 100 --turn-ms 250 \
 *          name=127.0.0.1:7000,PID other=127.0.0.1:7001 ...
 *
 * A machine that other people use changes its speed every few seconds, so two
 * servers are comparable only within such a moment: every round gives each target
 * one short turn, in an order shuffled anew. In its turn each connection of the
 * target sends `pipeline` messages at once, waits until all have come back, and
 * begins again; when the time is up it begins no more, and when the last is back the
 * next target starts. The connections stay open throughout.
 *
 * Each connection sends its own stretch of a pattern that depends on the position,
 * and compares what comes back. With --frames each message is that stretch behind a
 * header: its bytes u32be, type 1 u16be, its number u16be. Any difference, an early
 * close or 5 s without progress end the run with exit status 1 and a line that says
 * where.
 *
 * Output: a heading, then one line of tab-separated values for each turn. Server
 * CPU time is that of the whole process PID ("-" without a PID). The loader's includes
 * that of --beside PID: a process that works for all targets, on the loader's CPU.
 *
 * --messages N ends a turn once so many are back, not at a time: for counting
 * instructions, where time says nothing.
 *
 * --rate N is an open loop: N messages a second are begun in all, at even distances and
 * on one connection after the other, whether or not answers have come. Latency counts
 * from the time at which a message was due, so neither a server that holds the loader
 * up nor a late loader hides what a client would have waited. It does not sleep
 * between messages: it is always busy.
 *
 * Loopback only: a load generator that reaches other machines is a weapon. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "pattern.h"

enum {
    TARGETS_MAX = 16,
    CONNECTIONS_MAX = 10000,
    PIPELINE_MAX = 1024,
    MESSAGE_MAX_BYTES = 1 << 20,
    MESSAGES_MAX = 1 << 30,
    TURNS_MAX = 1000000,
    TURN_MAX_MS = 60000,
    NAME_MAX_BYTES = 64,
    EVENTS_MAX = 256,
    WAIT_MS = 100,
    STALL_S = 5,
};

static const uint64_t NS_PER_S = 1000000000;
static const double quantiles[] = {0.5, 0.99, 0.999, 0.9999}; /* of latency, that are printed */

struct options {
    int connections; /* for each target */
    struct message message;
    int pipeline; /* messages that a connection sends at once */
    int turns;
    int turn_ms;
    int messages; /* after which a turn ends; 0: only the time does that */
    int rate;     /* messages a second that are begun; 0: when the last ones are back */
    bool has_beside;
    clockid_t beside_clock;
};

struct conn {
    int fd;
    int index;
    bool wants_out;       /* EPOLLOUT is on: the kernel did not take all up to goal */
    uint64_t goal;        /* offset up to which bytes are to be sent, whole messages */
    uint64_t sent;        /* offset up to which the kernel took them */
    uint64_t received;    /* offset up to which they came back */
    uint64_t progress_ns; /* when the last byte came, or when waiting began */
    uint64_t started_ns;  /* when the messages up to goal began; of a closed loop */
    uint64_t turn_first;  /* offset at which the turn's messages begin */
};

struct target {
    char name[NAME_MAX_BYTES];
    struct sockaddr_storage address;
    socklen_t address_bytes;
    bool has_clock;
    clockid_t cpu_clock; /* of the server's process, if a PID was given */
    int epoll_fd;
    struct conn *conns;
};

struct turn {
    struct target *target;
    uint64_t begin_ns, end_ns;
    uint64_t begun; /* messages, of an open loop */
    uint64_t messages_max;
    int waiting;   /* connections whose answer is not complete */
    bool draining; /* nothing more is begun */
    struct histogram latency_ns;
};

/* ro after parsing */
static struct options options = {
    .connections = 64, .message = {.size_bytes = 64}, .pipeline = 1, .turns = 100, .turn_ms = 250};
static unsigned char arrived[CHUNK_BYTES];

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(1);
}

__attribute__((noreturn)) static void die_at(const struct target *t, const struct conn *c,
                                             uint64_t offset, const char *what)
{
    die("%s: connection %d: offset %llu: %s", t->name, c->index, (unsigned long long)offset, what);
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec now;
    if (clock_gettime(id, &now) != 0)
        die("clock_gettime: %s (has a server ended?)", strerror(errno));
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* ---- one connection ------------------------------------------------------ */

static void want_out(struct target *t, struct conn *c, bool on)
{
    if (c->wants_out == on) return;
    struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
    c->wants_out = on;
}

/* Send towards the goal until it is reached or the kernel takes no more. */
static void conn_send(struct target *t, struct conn *c)
{
    while (c->sent < c->goal) {
        uint64_t left = c->goal - c->sent;
        size_t chunk = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        ssize_t n =
            send(c->fd, bytes_at(&options.message, c->index, c->sent, chunk), chunk, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) die_at(t, c, c->sent, strerror(errno));
        c->sent += (uint64_t)n;
    }
    want_out(t, c, c->sent < c->goal);
}

/* Begin the next messages; together they leave in one send where they fit. */
static void conn_begin(struct target *t, struct conn *c, uint64_t now)
{
    c->started_ns = now;
    c->goal += (uint64_t)options.pipeline * message_bytes(&options.message);
    conn_send(t, c);
}

static void conn_verify(const struct target *t, const struct conn *c, size_t n)
{
    size_t i = 0;
    char what[64];
    if (c->received + n > c->sent) die_at(t, c, c->sent, "more bytes came back than were sent");
    const unsigned char *expected = bytes_at(&options.message, c->index, c->received, n);
    if (memcmp(arrived, expected, n) == 0) return;
    while (arrived[i] == expected[i]) i++;
    snprintf(what, sizeof what, "expected byte 0x%02x, got 0x%02x", expected[i], arrived[i]);
    die_at(t, c, c->received + i, what);
}

/* One recv for each event: a small answer comes whole, and for the rest of a large
 * one epoll reports again. Returns the number of bytes, 0 for none. */
static size_t conn_receive(struct target *t, struct conn *c)
{
    ssize_t n = recv(c->fd, arrived, sizeof arrived, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n < 0) die_at(t, c, c->received, strerror(errno));
    if (n == 0) die_at(t, c, c->received, "closed by the server");
    conn_verify(t, c, (size_t)n);
    return (size_t)n;
}

/* When the message `number` of an open loop is due. */
static uint64_t due_ns(const struct turn *turn, uint64_t number)
{
    return turn->begin_ns + number * NS_PER_S / (uint64_t)options.rate;
}

/* When the `number`-th message of the connection in this turn was begun, or had to be. */
static uint64_t begun_ns(const struct turn *turn, const struct conn *c, uint64_t number)
{
    if (options.rate == 0) return c->started_ns;
    return due_ns(turn, number * (uint64_t)options.connections + (uint64_t)c->index);
}

static void note_latencies(struct turn *turn, const struct conn *c, size_t n, uint64_t now)
{
    uint64_t size = message_bytes(&options.message), before = c->received - c->turn_first;
    for (uint64_t i = before / size; i < (before + n) / size; i++)
        histogram_add(&turn->latency_ns, now - begun_ns(turn, c, i));
}

static void on_readable(struct turn *turn, struct conn *c)
{
    size_t n = conn_receive(turn->target, c);
    if (n == 0) return;
    uint64_t now = now_ns();
    note_latencies(turn, c, n, now);
    c->received += n;
    c->progress_ns = now;
    if (turn->latency_ns.total >= turn->messages_max) turn->draining = true;
    if (c->received < c->goal) return;
    if (turn->draining || options.rate > 0)
        turn->waiting--;
    else
        conn_begin(turn->target, c, now);
}

static void begin_due(struct turn *turn)
{
    uint64_t now = now_ns();
    for (; due_ns(turn, turn->begun) <= now; turn->begun++) {
        struct conn *c = &turn->target->conns[turn->begun % (uint64_t)options.connections];
        if (c->received == c->goal) {
            c->progress_ns = now;
            turn->waiting++;
        }
        c->goal += message_bytes(&options.message);
        conn_send(turn->target, c);
    }
}

/* ---- one turn ------------------------------------------------------------ */

static void poll_events(struct turn *turn, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(turn->target->epoll_fd, events, EVENTS_MAX, timeout_ms);
    if (n < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) conn_send(turn->target, c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(turn, c);
    }
}

static void check_stall(const struct target *t, uint64_t now)
{
    for (int i = 0; i < options.connections; i++) {
        const struct conn *c = &t->conns[i];
        /* now may be older than progress_ns, so no subtraction */
        if (c->received < c->goal && now > c->progress_ns + STALL_S * NS_PER_S)
            die_at(t, c, c->received, "nothing came back for 5 s");
    }
}

static void turn_begin(struct turn *turn)
{
    turn->begin_ns = now_ns();
    turn->end_ns = turn->begin_ns + (uint64_t)options.turn_ms * 1000000;
    turn->messages_max = options.messages > 0 ? (uint64_t)options.messages : UINT64_MAX;
    turn->waiting = options.rate > 0 ? 0 : options.connections;
    for (int i = 0; i < options.connections; i++) {
        struct conn *c = &turn->target->conns[i];
        c->turn_first = c->goal;
        if (options.rate > 0) continue;
        c->progress_ns = now_ns();
        conn_begin(turn->target, c, c->progress_ns);
    }
}

/* Keep all connections busy, or begin what is due, until the time is up; then wait until the last
 * answer is complete. Returns the duration, the wait included. */
static uint64_t turn_drive(struct turn *turn)
{
    turn_begin(turn);
    uint64_t now = turn->begin_ns, stall_check = now + NS_PER_S;
    while (turn->waiting > 0 || (options.rate > 0 && !turn->draining)) {
        bool beginning = options.rate > 0 && !turn->draining;
        if (beginning) begin_due(turn);
        poll_events(turn, beginning ? 0 : WAIT_MS);
        now = now_ns();
        if (now >= turn->end_ns && options.messages == 0) turn->draining = true;
        if (now >= stall_check) {
            check_stall(turn->target, now);
            stall_check = now + NS_PER_S;
        }
    }
    return now - turn->begin_ns;
}

/* The server goes to sleep a moment after its last answer, and only then is its
 * CPU time up to date. An answer too many shows here, too. */
static void turn_settle(struct turn *turn)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    poll_events(turn, 0);
}

static uint64_t server_cpu_ns(const struct target *t)
{
    return t->has_clock ? clock_ns(t->cpu_clock) : 0;
}

static uint64_t loader_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID) +
           (options.has_beside ? clock_ns(options.beside_clock) : 0);
}

static void turn_run(struct target *t, int round)
{
    static struct turn turn;
    turn = (struct turn){.target = t};
    uint64_t server = server_cpu_ns(t), loader = loader_cpu_ns();
    uint64_t duration = turn_drive(&turn);
    loader = loader_cpu_ns() - loader;
    turn_settle(&turn);
    server = server_cpu_ns(t) - server;

    char server_text[32] = "-";
    if (t->has_clock) snprintf(server_text, sizeof server_text, "%.6f", (double)server / 1e9);
    const struct histogram *h = &turn.latency_ns;
    printf("%d\t%s\t%llu\t%.6f\t%.6f\t%s", round, t->name, (unsigned long long)h->total,
           (double)duration / 1e9, (double)loader / 1e9, server_text);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        printf("\t%llu", (unsigned long long)histogram_quantile(h, quantiles[i]));
    putchar('\n');
    fflush(stdout);
}

/* Shuffled, since a fixed order would give each target the same predecessor. */
static void rounds_run(struct target *targets, int count)
{
    struct target *order[TARGETS_MAX];
    for (int i = 0; i < count; i++) order[i] = &targets[i];
    puts("round\ttarget\tmessages\tseconds\tloader_cpu_s\tserver_cpu_s\t"
         "p50_ns\tp99_ns\tp999_ns\tp9999_ns");
    for (int round = 1; round <= options.turns; round++) {
        for (int i = count - 1; i > 0; i--) {
            int j = (int)((random_next() >> 32) % (uint64_t)(i + 1));
            struct target *swapped = order[i];
            order[i] = order[j];
            order[j] = swapped;
        }
        for (int i = 0; i < count; i++) turn_run(order[i], round);
    }
}

/* ---- setting up ---------------------------------------------------------- */

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (memory == NULL) die("out of memory");
    return memory;
}

static void conn_open(struct target *t, struct conn *c, int index)
{
    int on = 1;
    c->index = index;
    c->fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&t->address, t->address_bytes) != 0)
        die("%s: connection %d: connect: %s", t->name, index, strerror(errno));
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0)
        die("%s: connection %d: %s", t->name, index, strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void target_open(struct target *t)
{
    t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (t->epoll_fd < 0) die("epoll_create1: %s", strerror(errno));
    t->conns = allocate((size_t)options.connections, sizeof *t->conns);
    for (int i = 0; i < options.connections; i++) conn_open(t, &t->conns[i], i);
}

static int parse_number(const char *what, const char *text, int max)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 1 || value > max)
        die("%s: a number from 1 to %d is needed, got '%s'", what, max, text);
    return (int)value;
}

/* Numeric addresses only: a name could resolve to anywhere. */
static void parse_address(struct target *t, const char *host, int port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&t->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&t->address;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        if (ntohl(v4->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
            die("%s: %s is not a loopback address", t->name, host);
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        t->address_bytes = sizeof *v4;
    } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        if (!IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
            die("%s: %s is not a loopback address", t->name, host);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        t->address_bytes = sizeof *v6;
    } else {
        die("%s: '%s' is not a numeric address", t->name, host);
    }
}

static clockid_t cpu_clock_of(const char *who, const char *pid)
{
    clockid_t clock;
    int err = clock_getcpuclockid(parse_number("pid", pid, 1 << 22), &clock);
    if (err != 0) die("%s: pid %s: %s", who, pid, strerror(err));
    return clock;
}

/* name=host:port[,pid], an IPv6 host in brackets; cuts the text into its parts. */
static void parse_target(struct target *t, char *text)
{
    char *host = strchr(text, '='), *pid, *port;
    if (host == NULL || host == text || host - text >= NAME_MAX_BYTES)
        die("a target is name=host:port[,pid], got '%s'", text);
    *host++ = '\0';
    if (strchr(text, '\t') != NULL) die("a target's name must not contain a tab");
    strcpy(t->name, text); /* its length was checked above */
    pid = strchr(host, ',');
    if (pid != NULL) *pid++ = '\0';
    port = strrchr(host, ':');
    if (port == NULL) die("%s: a port is missing", t->name);
    *port++ = '\0';
    if (host[0] == '[' && port[-2] == ']') {
        host++;
        port[-2] = '\0';
    }
    parse_address(t, host, parse_number("port", port, 65535));
    if (pid == NULL) return;
    t->has_clock = true;
    t->cpu_clock = cpu_clock_of(t->name, pid);
}

static void parse_options(int argc, char **argv)
{
    static const struct option known[] = {{"connections", required_argument, NULL, 'c'},
                                          {"size", required_argument, NULL, 's'},
                                          {"pipeline", required_argument, NULL, 'p'},
                                          {"turns", required_argument, NULL, 't'},
                                          {"turn-ms", required_argument, NULL, 'm'},
                                          {"messages", required_argument, NULL, 'n'},
                                          {"rate", required_argument, NULL, 'r'},
                                          {"beside", required_argument, NULL, 'b'},
                                          {"frames", no_argument, NULL, 'f'},
                                          {0}};
    int which;
    while ((which = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (which) {
        case 'c':
            options.connections = parse_number("--connections", optarg, CONNECTIONS_MAX);
            break;
        case 's':
            options.message.size_bytes = (size_t)parse_number("--size", optarg, MESSAGE_MAX_BYTES);
            break;
        case 'p': options.pipeline = parse_number("--pipeline", optarg, PIPELINE_MAX); break;
        case 't': options.turns = parse_number("--turns", optarg, TURNS_MAX); break;
        case 'm': options.turn_ms = parse_number("--turn-ms", optarg, TURN_MAX_MS); break;
        case 'n': options.messages = parse_number("--messages", optarg, MESSAGES_MAX); break;
        case 'r': options.rate = parse_number("--rate", optarg, MESSAGES_MAX); break;
        case 'f': options.message.frames = true; break;
        case 'b':
            options.has_beside = true;
            options.beside_clock = cpu_clock_of("--beside", optarg);
            break;
        default:
            die("usage: load [--connections N] [--size BYTES] [--pipeline N] [--frames] "
                "[--rate N] [--turns N] [--turn-ms N | --messages N] [--beside PID] "
                "name=host:port[,pid] ...");
        }
    }
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); /* if it fails, socket() will say so */
}

int main(int argc, char **argv)
{
    static struct target targets[TARGETS_MAX];
    parse_options(argc, argv);
    int count = argc - optind;
    if (count < 1 || count > TARGETS_MAX) die("from 1 to %d targets are needed", TARGETS_MAX);
    for (int i = 0; i < count; i++) parse_target(&targets[i], argv[optind + i]);
    raise_descriptor_limit();
    pattern_fill();
    for (int i = 0; i < count; i++) target_open(&targets[i]);
    rounds_run(targets, count);
    return 0;
}
