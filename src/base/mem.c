#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

static int64_t fail_countdown = -1;
static _Atomic uint64_t request_count;

static bool must_fail(void)
{
    atomic_fetch_add_explicit(&request_count, 1, memory_order_relaxed);
    if (__builtin_expect(fail_countdown < 0, 1)) return false;
    return fail_countdown-- == 0;
}

void neap_mem_fail_after(int64_t count)
{
    fail_countdown = count;
}

uint64_t neap_mem_requests(void)
{
    return atomic_load_explicit(&request_count, memory_order_relaxed);
}

void *neap_mem_calloc(size_t count, size_t size)
{
    return must_fail() ? NULL : calloc(count, size);
}

void neap_mem_free(void *p)
{
    free(p);
}

static void *map(size_t bytes, int protection)
{
    if (must_fail()) return NULL;
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *neap_mem_map(size_t bytes)
{
    return map(bytes, PROT_READ | PROT_WRITE);
}

void neap_mem_unmap(void *p, size_t bytes)
{
    munmap(p, bytes);
}

void *neap_mem_reserve(size_t bytes)
{
    return map(bytes, PROT_NONE);
}

bool neap_mem_commit(void *p, size_t bytes)
{
    return !must_fail() && mprotect(p, bytes, PROT_READ | PROT_WRITE) == 0;
}

void neap_mem_discard(void *p, size_t bytes)
{
    uintptr_t from = ((uintptr_t)p + NEAP_MEM_PAGE - 1) & ~(uintptr_t)(NEAP_MEM_PAGE - 1);
    uintptr_t to = ((uintptr_t)p + bytes) & ~(uintptr_t)(NEAP_MEM_PAGE - 1);
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}
