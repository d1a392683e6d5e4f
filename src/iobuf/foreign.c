/* foreign.c - slices over memory that no pool owns: a Lua string, a mapping.
 *
 * Such a buf has no slab. Its owners are counted like any other's; when the last
 * one is gone its anchor waits here until whoever keeps the memory alive asks. */
#include <string.h>

#include "base/mem.h"
#include "iobuf/ledger.h"

int neap_foreign_slice(const char *bytes, size_t size, uint32_t anchor, struct neap_handle *handle)
{
    if (size > NEAP_BUF_MAX_BYTES) return NEAP_E_OVERSIZED;
    if (!neap_realm_mine()) return NEAP_E_MEMORY;
    struct neap_buf *buf = neap_mem_calloc(1, sizeof *buf);
    if (!buf) return NEAP_E_MEMORY;
    buf->mem = (uint8_t *)(uintptr_t)bytes; /* read-only: `slab` is NULL, and writes look */
    buf->capacity = (uint32_t)size;
    buf->anchor = anchor;
    buf->stats = &neap_here.realm->foreign_stats;
    neap_buf_hold_uncounted(buf); /* Lua's collector sees its own strings */
    struct neap_slice *s = neap_slice_make(buf, 0, 0, buf->capacity);
    if (!s) {
        neap_mem_free(buf);
        return NEAP_E_MEMORY;
    }
    *handle = neap_slice_handle(s);
    return neap_slice_born(s);
}

void neap_foreign_put(struct neap_buf *buf)
{
    buf->next = neap_here.realm->released_foreign;
    neap_here.realm->released_foreign = buf;
}

uint32_t neap_foreign_next(void)
{
    struct neap_buf *buf = neap_here.realm->released_foreign;
    if (!buf) return 0;
    uint32_t anchor = buf->anchor;
    neap_here.realm->released_foreign = buf->next;
    neap_mem_free(buf);
    return anchor;
}
