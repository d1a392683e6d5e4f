#define _GNU_SOURCE
#include "base/watchdog.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "neap.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

double neap_watchdog_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void on_timer(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    int before = errno;
    if (info->si_code == SI_TIMER) ((struct neap_watchdog *)info->si_value.sival_ptr)->look();
    errno = before;
}

static bool make_timer(struct neap_watchdog *dog)
{
    if (dog->made) return true;
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_RESTART | SA_SIGINFO};
    struct sigevent event = {
        .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM, .sigev_value.sival_ptr = dog};
    event.sigev_notify_thread_id = gettid();
    if (sigaction(SIGVTALRM, &action, NULL) < 0) return false;
    dog->made = timer_create(CLOCK_MONOTONIC, &event, &dog->timer) == 0;
    return dog->made;
}

static struct timespec time_of(double seconds)
{
    time_t whole = (time_t)seconds;
    return (struct timespec){whole, (long)((seconds - (double)whole) * 1e9)};
}

int neap_watchdog_arm(struct neap_watchdog *dog, double first_seconds, double period_seconds)
{
    struct itimerspec when = {time_of(period_seconds), time_of(first_seconds)};
    if (!make_timer(dog) || timer_settime(dog->timer, 0, &when, NULL) < 0) return NEAP_E_SYSTEM;
    return NEAP_OK;
}

/* ---- the deadline of a test ---- */

enum { TEXT_BYTES = 1024 };
static const double most_seconds = 1e6;

static char text_at_end[TEXT_BYTES];
static size_t text_size;

static void end_process(void)
{
    /* stderr may be closed: it ends all the same */
    if (write(STDERR_FILENO, text_at_end, text_size) < 0) text_size = 0;
    signal(SIGALRM, SIG_DFL);
    raise(SIGALRM);
    _exit(1); /* SIGALRM is blocked */
}

static struct neap_watchdog at_end = {.look = end_process};

static bool is_time(double seconds)
{
    return seconds >= 0 && seconds <= most_seconds;
}

static int set_alarm(double seconds)
{
    struct timespec first = time_of(seconds);
    struct itimerval when = {
        .it_value = {first.tv_sec, first.tv_nsec / 1000},
        .it_interval = {seconds > 0 ? 1 : 0, 0},
    };
    return setitimer(ITIMER_REAL, &when, NULL);
}

int neap_watchdog_set(double alarm_seconds, double end_seconds, const char *text)
{
    if (!is_time(alarm_seconds) || !is_time(end_seconds) || !text) return NEAP_E_RANGE;
    if (neap_watchdog_arm(&at_end, 0, 0) < 0) return NEAP_E_SYSTEM; /* its text changes now */
    text_size = strnlen(text, TEXT_BYTES);
    memcpy(text_at_end, text, text_size);
    if (set_alarm(alarm_seconds) < 0) return NEAP_E_SYSTEM;
    return neap_watchdog_arm(&at_end, end_seconds, 0);
}
