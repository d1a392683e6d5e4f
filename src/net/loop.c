#define _GNU_SOURCE /* sigabbrev_np() */
#include "net/loop.h"

#include <errno.h>
#include <ev.h>
#include <math.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/panic.h"
#include "base/slots.h"
#include "iobuf/pause.h"
#include "iobuf/sweep.h"
#include "net/guard.h"
#include "net/ring.h"
#include "net/stream.h"

_Static_assert(sizeof(struct ev_io) <= sizeof(struct neap_watch), "an ev_io fits a watch");
_Static_assert((int)NEAP_WATCH_READ == EV_READ && (int)NEAP_WATCH_WRITE == EV_WRITE,
               "a watch's events are libev's");

enum {
    SIGNALS = 65,                         /* Linux has 1 to 64 */
    FLUSH_STREAMS = NEAP_TINY(64, 2),     /* with something queued, and … */
    FLUSH_BYTES = NEAP_TINY(262144, 128), /* … bytes queued: a flush interrupts the turn */
    DECAY_STEP_BYTES = 4 << 20,           /* given back in one turn: well under a millisecond */
};
static const double decay_idle_seconds = 1;  /* between looks at pools that had nothing free */
static const double paused_seconds = 1;      /* a poll at most, while readers wait for memory */
static const double hurried_seconds = 0.002; /* the same, while the collector has work to do */
static const double slack_seconds = 1e-6;    /* 0.1 + 0.2 is 0.3 */
static const struct timespec failed_poll_pause = {.tv_nsec = 10000000};

struct caught_signal {
    struct ev_signal watcher;
    struct neap_mark mark;
};

struct timers {
    struct ev_timer poll;  /* ends a poll */
    struct ev_timer alarm; /* the first alarm */
    struct caught_signal signals[SIGNALS];
    struct ev_io input;
    struct neap_mark input_mark;
};

static struct timers *timers_of(struct neap_loop *loop)
{
    return loop->timers;
}

/* libev's own time follows the wall clock, which may be set back. */
static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What every time of the loop is counted in. */
static double now_of(const struct neap_loop *loop)
{
    return loop->frozen ? loop->frozen_at : monotonic() + loop->ahead;
}

/* The clock is looked at once for all that happens until the next poll. */
static void set_polled(struct neap_loop *loop, double now)
{
    loop->polled_at = now;
    loop->ticks = (uint32_t)(uint64_t)((now + slack_seconds) * NEAP_TICKS_PER_SECOND);
}

/* ---- lists ---- */

static void list_init(struct neap_link *head)
{
    head->prev = head->next = head;
}

static void insert_behind(struct neap_link *at, struct neap_link *link)
{
    link->prev = at;
    link->next = at->next;
    at->next->prev = link;
    at->next = link;
}

static void take_out(struct neap_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

/* ---- watches ---- */

static void on_io(struct ev_loop *ev, struct ev_io *io, int events)
{
    (void)ev;
    neap_watch_ready *ready = (neap_watch_ready *)(uintptr_t)io->data;
    ready((struct neap_watch *)io, events);
}

static struct ev_io *io_of(struct neap_watch *watch)
{
    return (struct ev_io *)watch;
}

void neap_watch_init(struct neap_watch *watch, int fd, neap_watch_ready *ready)
{
    ev_io_init(io_of(watch), on_io, fd, 0);
    io_of(watch)->data = (void *)(uintptr_t)ready;
}

int neap_watch_events(const struct neap_watch *watch)
{
    const struct ev_io *io = (const struct ev_io *)watch;
    return ev_is_active(io) ? io->events & (EV_READ | EV_WRITE) : 0;
}

void neap_watch_set(struct neap_loop *loop, struct neap_watch *watch, int events)
{
    struct ev_io *io = io_of(watch);
    if (neap_watch_events(watch) == events) return;
    ev_io_stop(loop->ev, io);
    ev_io_set(io, io->fd, events);
    if (events) ev_io_start(loop->ev, io);
}

/* ---- marks ---- */

void neap_mark_set(struct neap_loop *loop, struct neap_mark *mark, uint32_t what)
{
    mark->what |= what;
    if (mark->link.next) return;
    insert_behind(loop->marks.prev, &mark->link);
    loop->mark_count++;
}

void neap_mark_clear(struct neap_loop *loop, struct neap_mark *mark)
{
    mark->what = 0;
    if (!mark->link.next) return;
    take_out(&mark->link);
    loop->mark_count--;
}

static void timer_taken(uint32_t slot);

/* What was queued is still in the cache: write it before that is so no more. */
static void flush_if_much(struct neap_loop *loop)
{
    if (loop->chore_count >= FLUSH_STREAMS || loop->queued_bytes >= FLUSH_BYTES)
        neap_loop_flush(loop);
}

bool neap_loop_next(struct neap_loop *loop, struct neap_ready *ready)
{
    flush_if_much(loop);
    if (loop->marks.next == &loop->marks) return false;
    if (loop->ahead_count == 0) loop->ahead_count = neap_streams_read(loop);
    loop->ahead_count--;
    struct neap_mark *mark = neap_owner_of(loop->marks.next, struct neap_mark, link);
    *ready = neap_guard.last = (struct neap_ready){mark->slot, mark->what};
    neap_mark_clear(loop, mark);
    if (ready->what == NEAP_READY_TIMER) timer_taken(ready->slot);
    return true;
}

/* ---- chores ---- */

void neap_chore_set(struct neap_loop *loop, struct neap_chore *chore)
{
    if (chore->link.next) return;
    insert_behind(loop->chores.prev, &chore->link);
    loop->chore_count++;
}

void neap_chore_clear(struct neap_chore *chore)
{
    if (chore->link.next) take_out(&chore->link);
}

void neap_loop_flush(struct neap_loop *loop)
{
    if (loop->ring && loop->chore_count >= NEAP_BATCH_STREAMS) neap_streams_send(loop);
    loop->chore_count = 0;
    loop->queued_bytes = 0;
    while (loop->chores.next != &loop->chores) {
        struct neap_chore *chore = neap_owner_of(loop->chores.next, struct neap_chore, link);
        take_out(&chore->link);
        loop->run_chore(chore); /* chore may be gone after this call */
    }
}

/* ---- alarms ---- */

static struct neap_alarm *first_alarm(struct neap_loop *loop)
{
    if (loop->alarms.next == &loop->alarms) return NULL;
    return neap_owner_of(loop->alarms.next, struct neap_alarm, link);
}

static void schedule(struct neap_loop *loop)
{
    struct ev_timer *timer = &timers_of(loop)->alarm;
    struct neap_alarm *first = first_alarm(loop);
    ev_timer_stop(loop->ev, timer);
    if (!first || loop->frozen) return;
    double wait = first->due - now_of(loop);
    ev_timer_set(timer, wait > 0 ? wait : 0, 0);
    ev_timer_start(loop->ev, timer);
}

static void ring_due(struct neap_loop *loop)
{
    double now = now_of(loop);
    set_polled(loop, now);
    struct neap_alarm *first;
    while ((first = first_alarm(loop)) && first->due <= now) {
        take_out(&first->link);
        first->ring(first); /* first may be gone after this call */
    }
}

static void on_alarm(struct ev_loop *ev, struct ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    ring_due(timer->data);
    schedule(timer->data);
}

/* Most alarms are set for the same time ahead, so the place is at the end or near it. */
void neap_alarm_set(struct neap_loop *loop, struct neap_alarm *alarm, double seconds)
{
    if (alarm->link.next) take_out(&alarm->link);
    alarm->due = now_of(loop) + seconds;
    struct neap_link *at = loop->alarms.prev;
    while (at != &loop->alarms && neap_owner_of(at, struct neap_alarm, link)->due > alarm->due)
        at = at->prev;
    insert_behind(at, &alarm->link);
    if (first_alarm(loop) == alarm) schedule(loop);
}

void neap_alarm_clear(struct neap_loop *loop, struct neap_alarm *alarm)
{
    if (!alarm->link.next) return;
    take_out(&alarm->link);
    schedule(loop);
}

double neap_alarm_left(const struct neap_loop *loop, const struct neap_alarm *alarm)
{
    return alarm->due - now_of(loop);
}

/* ---- timers of scripts ---- */

/* libev keeps them in a heap, so many of them cost little. A timer that has fired is marked,
 * and gone once the mark was taken. */
struct neap_timer {
    struct neap_slot head;
    struct neap_loop *loop;
    double due;
    struct ev_timer timer;
    struct neap_mark mark;
};

enum { TIMERS_MAX = 1 << 22 };
static struct neap_slots script_timers = NEAP_SLOTS(struct neap_timer, TIMERS_MAX);

static void on_timer(struct ev_loop *ev, struct ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    struct neap_timer *t = neap_owner_of(timer, struct neap_timer, timer);
    neap_mark_set(t->loop, &t->mark, NEAP_READY_TIMER);
}

/* libev counts from the time at which it last looked: a turn may be long. */
static void start_timer(struct neap_timer *t)
{
    ev_timer_set(&t->timer, t->due - t->loop->polled_at, 0);
    ev_timer_start(t->loop->ev, &t->timer);
}

int neap_timer_set(struct neap_loop *loop, double seconds, struct neap_handle *handle)
{
    uint32_t slot;
    struct neap_timer *t = neap_slots_take(&script_timers, &slot);
    if (!t) return NEAP_E_MEMORY;
    t->loop = loop;
    t->mark.slot = slot;
    t->due = now_of(loop) + seconds;
    ev_init(&t->timer, on_timer);
    if (!loop->frozen)
        start_timer(t);
    else if (t->due <= loop->frozen_at)
        neap_mark_set(loop, &t->mark, NEAP_READY_TIMER);
    *handle = (struct neap_handle){slot, t->head.gen};
    return NEAP_OK;
}

static void end_timer(struct neap_timer *t, uint32_t slot)
{
    ev_timer_stop(t->loop->ev, &t->timer);
    neap_mark_clear(t->loop, &t->mark);
    neap_slots_give(&script_timers, slot);
}

int neap_timer_clear(uint32_t slot, uint32_t gen)
{
    struct neap_timer *t = neap_slots_find(&script_timers, slot, gen);
    if (!t) return NEAP_E_STALE;
    end_timer(t, slot);
    return NEAP_OK;
}

static void timer_taken(uint32_t slot)
{
    end_timer(neap_slots_at(&script_timers, slot), slot);
}

/* The loop's timer at or behind a slot, or NULL; the slot is moved to it. */
static struct neap_timer *next_timer(const struct neap_loop *loop, uint32_t *slot)
{
    for (; *slot < script_timers.count; (*slot)++) {
        struct neap_timer *t = neap_slots_at(&script_timers, *slot);
        if ((t->head.gen & 1) && t->loop == loop) return t;
    }
    return NULL;
}

static void end_timers(struct neap_loop *loop)
{
    struct neap_timer *t;
    for (uint32_t slot = 1; (t = next_timer(loop, &slot)); slot++) end_timer(t, slot);
}

/* ---- a clock that stands ---- */

/* At the start of a tick, so that what is counted in ticks does not depend on when it was. */
void neap_clock_freeze(struct neap_loop *loop)
{
    if (loop->frozen) return;
    double now = now_of(loop);
    double ticks = (double)(uint64_t)(now * NEAP_TICKS_PER_SECOND) + 1;
    loop->frozen_at = ticks / NEAP_TICKS_PER_SECOND;
    set_polled(loop, loop->frozen_at);
    loop->frozen = true;
    struct neap_timer *t;
    for (uint32_t slot = 1; (t = next_timer(loop, &slot)); slot++)
        ev_timer_stop(loop->ev, &t->timer);
    schedule(loop);
}

/* It goes on from where it stands, so that no time that was noted meanwhile is in the future. */
void neap_clock_thaw(struct neap_loop *loop)
{
    if (!loop->frozen) return;
    loop->frozen = false;
    loop->ahead = loop->frozen_at - monotonic();
    ev_now_update(loop->ev);
    struct neap_timer *t;
    for (uint32_t slot = 1; (t = next_timer(loop, &slot)); slot++)
        if (!t->mark.link.next) start_timer(t);
    schedule(loop);
}

/* The time of what happens next; after `until`: nothing is due by then. */
static double next_due(const struct neap_loop *loop, double until)
{
    double next = until + 2 * slack_seconds;
    struct neap_timer *t;
    if (loop->alarms.next != &loop->alarms) {
        double due = neap_owner_of(loop->alarms.next, struct neap_alarm, link)->due;
        if (due < next) next = due;
    }
    for (uint32_t slot = 1; (t = next_timer(loop, &slot)); slot++)
        if (!t->mark.link.next && t->due < next) next = t->due;
    return next;
}

static void move_to(struct neap_loop *loop, double time)
{
    if (time > loop->frozen_at) loop->frozen_at = time;
    set_polled(loop, loop->frozen_at);
}

bool neap_clock_advance(struct neap_loop *loop, double until)
{
    if (!loop->frozen) return false;
    double due = next_due(loop, until);
    if (due > until + slack_seconds) {
        move_to(loop, until);
        return false;
    }
    move_to(loop, due);
    struct neap_timer *t;
    for (uint32_t slot = 1; (t = next_timer(loop, &slot)); slot++)
        if (t->due <= loop->frozen_at) neap_mark_set(loop, &t->mark, NEAP_READY_TIMER);
    ring_due(loop);
    return true;
}

/* ---- signals ---- */

static void on_signal(struct ev_loop *ev, struct ev_signal *watcher, int events)
{
    (void)ev;
    (void)events;
    struct caught_signal *caught = neap_owner_of(watcher, struct caught_signal, watcher);
    caught->mark.slot = (uint32_t)watcher->signum;
    neap_mark_set(watcher->data, &caught->mark, NEAP_READY_SIGNAL);
}

/* The next one of this kind ends the process as it always does: the first may have come while a
 * script is too busy to see it. */
static void catch_once(int number)
{
    struct sigaction action;
    sigaction(number, NULL, &action);
    action.sa_flags |= (int)SA_RESETHAND;
    sigaction(number, &action, NULL);
}

int neap_signal_number(const char *name)
{
    for (int number = 1; number < SIGNALS; number++) {
        const char *other = sigabbrev_np(number);
        if (other && strcmp(other, name) == 0) return number;
    }
    return 0;
}

static bool can_be_caught(int number)
{
    static const int never[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (never[i] == number) return false;
    return number > 0 && number < SIGNALS;
}

int neap_loop_signal(struct neap_loop *loop, int number, int how)
{
    if (!can_be_caught(number)) return NEAP_E_RANGE;
    struct ev_signal *watcher = &timers_of(loop)->signals[number].watcher;
    bool active = ev_is_active(watcher);
    /* a signal watcher alone does not keep the loop going */
    if (active) {
        ev_ref(loop->ev);
        ev_signal_stop(loop->ev, watcher);
        neap_mark_clear(loop, &timers_of(loop)->signals[number].mark);
    }
    if (how == NEAP_SIGNAL_DEFAULT) return NEAP_OK;
    ev_signal_init(watcher, on_signal, number);
    watcher->data = loop;
    ev_signal_start(loop->ev, watcher);
    ev_unref(loop->ev);
    if (how == NEAP_SIGNAL_ONCE) catch_once(number);
    return NEAP_OK;
}

static void give_signals_back(struct neap_loop *loop)
{
    for (int number = 1; number < SIGNALS; number++)
        if (ev_is_active(&timers_of(loop)->signals[number].watcher))
            neap_loop_signal(loop, number, NEAP_SIGNAL_DEFAULT);
}

/* ---- standard input ---- */

static void on_input(struct ev_loop *ev, struct ev_io *io, int events)
{
    (void)events;
    struct neap_loop *loop = io->data;
    ev_io_stop(ev, io);
    neap_mark_set(loop, &timers_of(loop)->input_mark, NEAP_READY_INPUT);
}

void neap_loop_watch_input(struct neap_loop *loop, bool on)
{
    struct timers *t = timers_of(loop);
    if (on) {
        ev_io_start(loop->ev, &t->input);
    } else {
        ev_io_stop(loop->ev, &t->input);
        neap_mark_clear(loop, &t->input_mark);
    }
}

/* ---- the loop ---- */

static void on_poll_end(struct ev_loop *ev, struct ev_timer *timer, int events)
{
    (void)ev;
    (void)timer;
    (void)events; /* that it ended the poll is all it is for */
}

static void init_timers(struct neap_loop *loop, struct timers *t)
{
    ev_init(&t->poll, on_poll_end);
    ev_init(&t->alarm, on_alarm);
    t->alarm.data = loop;
    ev_io_init(&t->input, on_input, STDIN_FILENO, EV_READ);
    t->input.data = loop;
}

/* libev aborts unless it is told otherwise: but the system may be without memory for a moment. All
 * that it tries again and again until it works stays a reason to end. */
static int poll_errno;

static void on_system_error(const char *what)
{
    if (!strstr(what, "epoll_wait")) neap_panic(__FILE__, __LINE__, what);
    poll_errno = errno;
}

/* A loop whose interpreter ends without destroying it (after that, finalizers may still run)
 * is not lost: it is found from here. */
static struct neap_loop *loops;

static void forget(struct neap_loop *loop)
{
    struct neap_loop **at = &loops;
    while (*at != loop) at = &(*at)->next;
    *at = loop->next;
}

struct neap_loop *neap_loop_create(void)
{
    struct neap_loop *loop = neap_mem_calloc(1, sizeof *loop);
    struct timers *timers = neap_mem_calloc(1, sizeof *timers);
    struct ev_loop *ev = loop && timers ? ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV) : NULL;
    if (!ev) {
        neap_mem_free(loop);
        neap_mem_free(timers);
        return NULL;
    }
    ev_set_syserr_cb(on_system_error);
    loop->ev = ev;
    loop->timers = timers;
    list_init(&loop->marks);
    list_init(&loop->chores);
    list_init(&loop->alarms);
    init_timers(loop, timers);
    loop->ring = neap_ring_open();
    set_polled(loop, monotonic());
    loop->idle_next = UINT32_MAX;
    loop->next = loops;
    loops = loop;
    return loop;
}

void neap_loop_destroy(struct neap_loop *loop)
{
    end_timers(loop);
    neap_streams_end(loop);
    neap_listeners_end(loop);
    neap_alarm_clear(loop, &loop->idle_sweep);
    give_signals_back(loop);
    neap_loop_watch_input(loop, false);
    forget(loop);
    neap_assert(neap_loop_pending(loop) == 0, "nothing is pending after everything ended");
    ev_loop_destroy(loop->ev);
    neap_ring_close(loop->ring);
    neap_mem_free(loop->timers);
    neap_mem_free(loop);
}

/* Bufs that were not needed for some seconds go back to the system, a step a turn. Returns the
 * seconds until the next step, or -1: there is nothing to give back. It wakes a poll, but is
 * nothing to wait for: a loop with nothing else to do ends. */
static double decay_pools(struct neap_loop *loop)
{
    double now = loop->polled_at;
    if (now < loop->decay_at) return loop->decay_at - now;
    double again_ms = neap_pools_decay(now * 1000, DECAY_STEP_BYTES);
    double again = again_ms < 0 ? decay_idle_seconds : again_ms / 1000;
    loop->decay_at = now + again;
    return again_ms < 0 ? -1 : again;
}

static double sooner(double a, double b)
{
    if (a < 0 || b < 0) return a < 0 ? b : a;
    return a < b ? a : b;
}

/* Readers that wait for memory go on. Those that cannot watch for nothing that would end a poll: it
 * ends by itself, and soon where Lua's collector is to bring memory back. */
static double wake_readers(void)
{
    if (!neap_pauses_any()) return -1;
    neap_pauses_turn();
    return neap_collector_due(true) ? hurried_seconds : paused_seconds;
}

/* A poll ends after so many seconds. Most are to end at the same moment: when pools are looked at. */
static void end_poll_in(struct neap_loop *loop, double seconds)
{
    struct ev_timer *timer = &timers_of(loop)->poll;
    double due = loop->polled_at + seconds;
    if (ev_is_active(timer) && fabs(due - loop->poll_due) < slack_seconds) return;
    ev_timer_stop(loop->ev, timer);
    ev_timer_set(timer, seconds, 0);
    ev_timer_start(loop->ev, timer);
    loop->poll_due = due;
}

int neap_loop_poll(struct neap_loop *loop, double timeout)
{
    neap_thread_turn();
    neap_slices_sweep();
    timeout = sooner(timeout, sooner(decay_pools(loop), wake_readers()));
    bool now = timeout == 0 || loop->mark_count;
    if (!now && timeout > 0) end_poll_in(loop, timeout);
    if (timeout < 0) ev_timer_stop(loop->ev, &timers_of(loop)->poll);
    neap_guard.working = false;
    poll_errno = 0;
    ev_run(loop->ev, now ? EVRUN_NOWAIT : EVRUN_ONCE);
    neap_guard_beat()->count++; /* a pipe goes on without a task */
    neap_guard.working = loop->listener_count || neap_streams.live;
    /* not if it was the look itself that ended the poll */
    if (neap_guard.asleep && (now || loop->mark_count)) neap_guard_wake();
    set_polled(loop, now_of(loop));
    loop->ahead_count = 0;
    if (!poll_errno) return (int)loop->mark_count;
    nanosleep(&failed_poll_pause, NULL);
    return NEAP_E_SYSTEM - poll_errno;
}

double neap_loop_now(struct neap_loop *loop)
{
    return now_of(loop);
}

double neap_loop_polled(const struct neap_loop *loop)
{
    return loop->polled_at;
}

int neap_loop_pending(struct neap_loop *loop)
{
    bool chores = loop->chores.next != &loop->chores;
    return (int)(loop->listener_count + loop->finishing_count + chores);
}

int neap_loop_unsent(struct neap_loop *loop)
{
    return (int)loop->unsent_count;
}
