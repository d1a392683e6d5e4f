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
 * close or --stall-s seconds (5) without progress end the run with exit status 1 and a
 * line that says where.
 *
 * Output: a heading, then one line of tab-separated values for each turn. Server
 * CPU time is that of the whole process PID ("-" without a PID). The loader's includes
 * that of --beside PID: a process that works for all targets, on the loader's CPU.
 *
 * With --http TARGET each message is a GET for that, and each answer must be a 200 with the body
 * that --body FILE has.
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
#define _GNU_SOURCE /* memmem */
#include <sys/resource.h>

#include "conversation.h"
#include "histogram.h"
#include "load_setup.h"

enum {
    TARGETS_MAX = 16,
    EVENTS_MAX = 256,
    WAIT_MS = 100,
};

static const uint64_t NS_PER_S = 1000000000;
static const double quantiles[] = {0.5, 0.99, 0.999, 0.9999}; /* of latency, that are printed */

struct turn {
    struct target *target;
    uint64_t begin_ns, end_ns;
    uint64_t begun; /* messages, of an open loop */
    uint64_t messages_max;
    int waiting;   /* connections whose answer is not complete */
    bool draining; /* nothing more is begun */
    struct histogram latency_ns;
};

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

static void note_latencies(struct turn *turn, const struct conn *c, uint64_t count, uint64_t now)
{
    uint64_t first = c->answered - c->turn_first;
    for (uint64_t i = first; i < first + count; i++)
        histogram_add(&turn->latency_ns, now - begun_ns(turn, c, i));
}

static void on_readable(struct turn *turn, struct conn *c)
{
    uint64_t count = 0;
    size_t n = conn_receive(turn->target, c, &count);
    if (n == 0) return;
    uint64_t now = now_ns();
    note_latencies(turn, c, count, now);
    c->received += n;
    c->answered += count;
    c->progress_ns = now;
    if (turn->latency_ns.total >= turn->messages_max) turn->draining = true;
    if (count == 0 || c->answered < c->begun) return;
    if (turn->draining || options.rate > 0)
        turn->waiting--;
    else
        conn_begin(turn->target, c, (uint64_t)options.pipeline, now);
}

static void begin_due(struct turn *turn)
{
    uint64_t now = now_ns();
    for (; due_ns(turn, turn->begun) <= now; turn->begun++) {
        struct conn *c = &turn->target->conns[turn->begun % (uint64_t)options.connections];
        if (c->answered == c->begun) turn->waiting++;
        conn_begin(turn->target, c, 1, now);
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
        if (c->answered == c->begun || now <= c->progress_ns + (uint64_t)options.stall_s * NS_PER_S)
            continue;
        char what[64];
        snprintf(what, sizeof what, "nothing came back for %d s", options.stall_s);
        die_at(t, c, c->received, what);
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
        c->turn_first = c->begun;
        if (options.rate == 0) conn_begin(turn->target, c, (uint64_t)options.pipeline, now_ns());
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
    pattern_fill(&options.message);
    for (int i = 0; i < count; i++) target_open(&targets[i]);
    rounds_run(targets, count);
    return 0;
}
