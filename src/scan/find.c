#define _GNU_SOURCE /* memmem() */
#include "scan/find.h"

#include <string.h>

int64_t neap_find(const uint8_t *in, uint32_t have, const char *bytes, uint32_t size, uint32_t from)
{
    if (from > have) return -1;
    if (size == 0) return from;
    const uint8_t *at = size == 1 ? memchr(in + from, (uint8_t)bytes[0], have - from)
                                  : memmem(in + from, have - from, bytes, size);
    return at ? at - in : -1;
}
