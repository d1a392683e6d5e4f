/* watchdog.h - looks at a thread that may be too busy to look at itself.
 *
 * A look is a function that a timer's signal (SIGVTALRM) calls in the middle of whatever that thread
 * does: so it may only do what a signal handler may. It is no thread of its own, since the C library
 * makes every system call and allocation of a process with several threads a little dearer.
 *
 *     static struct neap_watchdog dog = {.look = look};
 *     neap_watchdog_arm(&dog, 2, 0.25);   // in 2 s, then each 250 ms; 0, 0: no more
 */
#pragma once

#include <stdbool.h>
#include <time.h>

struct neap_watchdog {
    void (*look)(void);
    timer_t timer; /* private */
    bool made;     /* private */
};

/* For the calling thread. Returns NEAP_OK. err: SYSTEM. */
int neap_watchdog_arm(struct neap_watchdog *dog, double first_seconds, double period_seconds);

/* A clock that nothing moves. */
double neap_watchdog_now(void);
