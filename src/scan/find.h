/* find.h - where bytes stand in bytes. Leaf functions: no state, no allocation.
 * Thread: any. */
#pragma once

#include <stdint.h>

/* The offset of the first `size` bytes of `bytes` in `in` at or behind `from`, or -1. No
 * bytes stand everywhere: `from` if it is within [0, have], else -1. Linear time. */
int64_t neap_find(const uint8_t *in, uint32_t have, const char *bytes, uint32_t size,
                  uint32_t from);
