/* guard.c - tells of a handler that does not give control back.
 *
 * Lua counts the times at which tasks get control (struct neap_beat). A watchdog, several times
 * in each limit, finds that the count has not moved for too long while the loop does not wait: it
 * interrupts the interpreter, which reports with all that it knows; and it reports itself, with what
 * can be seen from here, when the interpreter gets no control, because compiled code looks at no
 * hooks, or because it cannot be interrupted (a stock luajit). */
#include "net/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/watchdog.h"
#include "net/net.h"
#include "net/stream.h"

struct neap_guard neap_guard;

enum { REPORT_BYTES = 512 };
static const int looks = 8; /* in the time of each limit */
static const double most_seconds = 1e6;

static struct neap_beat beat;
static double report_after, abort_after; /* 0: never */
static double period;                    /* between looks */
static double last_count, since;
static bool interrupted, told; /* because of the handler that runs now */
static void (*interrupt)(void);

/* ---- the report, in a signal handler: snprintf() of whole numbers takes no lock ---- */

/* What the handler began with, as far as it can be seen from here. */
static void describe(char *text, size_t size)
{
    struct neap_ready last = neap_guard.last;
    char peer[NEAP_ADDRESS_BYTES];
    struct neap_stream *s = neap_slots_at(&neap_streams, last.slot);
    *text = 0;
    if (last.what & (NEAP_READY_ACCEPT | NEAP_READY_TIMER | NEAP_READY_SIGNAL)) {
        const char *what = last.what & NEAP_READY_ACCEPT  ? "a new connection"
                           : last.what & NEAP_READY_TIMER ? "a timer"
                                                          : "a signal";
        snprintf(text, size, "; the last event was %s", what);
    } else if (last.what && last.slot < neap_streams.count &&
               neap_stream_peer(last.slot, *(const uint32_t *)s, peer) >= 0) {
        snprintf(text, size, "; the last event was of %s", peer);
    }
}

static void report(double held, const char *consequence)
{
    char text[REPORT_BYTES], event[REPORT_BYTES / 2];
    unsigned tenths = (unsigned)(held * 10);
    describe(event, sizeof event);
    int n = snprintf(text, sizeof text,
                     "neap: a task has not given control back for %u.%u s, in code that cannot be "
                     "interrupted%s%s\n",
                     tenths / 10, tenths % 10, event, consequence);
    if (n >= (int)sizeof text) n = (int)sizeof text - 1;
    if (write(STDERR_FILENO, text, (size_t)n) < 0) return; /* nobody listens */
}

/* ---- the look ---- */

static void tell(double held)
{
    if (!interrupt || interrupted) {
        report(held, "");
        told = true;
        neap_net_counts.runaways++;
        return;
    }
    interrupted = true; /* the interpreter has until the next look */
    interrupt();
}

static void look(void);
static struct neap_watchdog dog = {.look = look};

/* A loop that waits is looked at once, and then left alone. */
static void look(void)
{
    double now = neap_watchdog_now();
    if (!neap_guard.working) {
        neap_guard.asleep = true;
        neap_watchdog_arm(&dog, 0, 0);
    }
    if (!neap_guard.working || beat.count != last_count) {
        last_count = beat.count;
        since = now;
        interrupted = told = false;
        return;
    }
    double held = now - since;
    if (abort_after > 0 && held >= abort_after) {
        report(held, ": the process aborts");
        abort();
    }
    if (report_after > 0 && held >= report_after && !told) tell(held);
}

/* ---- the interface ---- */

struct neap_beat *neap_guard_beat(void)
{
    return &beat;
}

static bool is_limit(double seconds)
{
    return seconds >= 0 && seconds <= most_seconds;
}

int neap_guard_set(double report_seconds, double abort_seconds)
{
    if (!is_limit(report_seconds) || !is_limit(abort_seconds)) return NEAP_E_RANGE;
    double first = report_seconds;
    if (first == 0 || (abort_seconds > 0 && abort_seconds < first)) first = abort_seconds;
    int code = neap_watchdog_arm(&dog, 0, 0);
    if (code < 0) return code;
    report_after = report_seconds;
    abort_after = abort_seconds;
    since = neap_watchdog_now();
    period = first / looks;
    neap_guard.asleep = false;
    return neap_watchdog_arm(&dog, period, period);
}

void neap_guard_wake(void)
{
    neap_guard.asleep = false;
    since = neap_watchdog_now();
    neap_watchdog_arm(&dog, period, period);
}

void neap_guard_on_interrupt(void (*fn)(void))
{
    interrupt = fn;
}

double neap_guard_held(void)
{
    if (!neap_guard.working || beat.count != last_count) return 0;
    return neap_watchdog_now() - since;
}

void neap_guard_told(void)
{
    if (!told) neap_net_counts.runaways++;
    told = true;
}

void neap_guard_rest(void)
{
    neap_guard.working = false;
}
