/* guard.h - what the runaway guard sees of the loop, which notes it at a store or two for each poll
 * and each entry. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "neap.h"

struct neap_guard {
    volatile bool working;  /* the loop turns and does not wait, and somebody else may be waiting */
    volatile bool asleep;   /* no look is due: wake it when the loop works again */
    struct neap_ready last; /* the entry that was handed out last */
};

extern struct neap_guard neap_guard;

void neap_guard_wake(void);
