#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void neap_panic(const char *file, int line, const char *message)
{
    fprintf(stderr, "neap: bug in neap itself: %s (%s:%d); please report it\n", message, file,
            line);
    fflush(stderr); /* which the prompt holds back */
    abort();
}
