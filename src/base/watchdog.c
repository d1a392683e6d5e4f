/* watchdog.c - ends a test that gives control back to nobody: a script in an endless loop sees
 * neither the loop nor a signal. Thread: one sets it. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "neap.h"

enum { TEXT_BYTES = 1024 };
static const double most_seconds = 1e6;

static char text_at_end[TEXT_BYTES];
static size_t text_size;
static timer_t end_timer;
static bool has_end_timer;

static void on_end(int number)
{
    (void)number;
    /* stderr may be closed: it ends all the same */
    if (write(STDERR_FILENO, text_at_end, text_size) < 0) text_size = 0;
    signal(SIGALRM, SIG_DFL);
    raise(SIGALRM);
    _exit(1); /* SIGALRM is blocked */
}

static bool make_end_timer(void)
{
    if (has_end_timer) return true;
    struct sigaction action = {.sa_handler = on_end, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGVTALRM};
    if (sigaction(SIGVTALRM, &action, NULL) < 0) return false;
    has_end_timer = timer_create(CLOCK_MONOTONIC, &event, &end_timer) == 0;
    return has_end_timer;
}

static bool is_time(double seconds)
{
    return seconds >= 0 && seconds <= most_seconds;
}

static int set_alarm(double seconds)
{
    long whole = (long)seconds;
    struct itimerval when = {
        .it_value = {whole, (long)((seconds - (double)whole) * 1e6)},
        .it_interval = {seconds > 0 ? 1 : 0, 0},
    };
    return setitimer(ITIMER_REAL, &when, NULL);
}

static int set_end(double seconds)
{
    long whole = (long)seconds;
    struct itimerspec when = {.it_value = {whole, (long)((seconds - (double)whole) * 1e9)}};
    return timer_settime(end_timer, 0, &when, NULL);
}

int neap_watchdog_set(double alarm_seconds, double end_seconds, const char *text)
{
    if (!is_time(alarm_seconds) || !is_time(end_seconds) || !text) return NEAP_E_RANGE;
    if (!make_end_timer()) return NEAP_E_SYSTEM;
    set_end(0); /* its text changes now */
    text_size = strnlen(text, TEXT_BYTES);
    memcpy(text_at_end, text, text_size);
    if (set_alarm(alarm_seconds) < 0 || set_end(end_seconds) < 0) return NEAP_E_SYSTEM;
    return NEAP_OK;
}
