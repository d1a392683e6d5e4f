/* poison.h - telling AddressSanitizer and valgrind what our memory is for.
 *
 * Both see a pool's slab as one block; these requests let them see the bufs in
 * it. Without the tools they cost nothing (ASan) or a few no-op instructions
 * (valgrind, only in builds with -DNEAP_VALGRIND). Thread: any. */
#pragma once

#include <stddef.h>

#include "base/mode.h"

#if defined(__SANITIZE_ADDRESS__)
#define NEAP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NEAP_ASAN 1
#endif
#endif

#ifdef NEAP_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef NEAP_VALGRIND
#include <valgrind/memcheck.h>
#define NEAP_SLOW 1
#else
#define NEAP_SLOW (NEAP_MODE_POISON || NEAP_MODE_GUARD || NEAP_MODE_MALLOC)
#endif

/* Where a buf takes long to free, what ends after a time gets much more of it. */
#define NEAP_LONGER(usual, longer) (NEAP_SLOW ? (longer) : (usual))

#if NEAP_MODE_GUARD
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
/* A call of the system's own, which the specs of failing calls let be: it has no failure to tell. */
static inline void neap_close_pages(void *p, size_t bytes, int closed)
{
#if NEAP_MODE_GUARD
    size_t pages = (bytes + 4095) / 4096 * 4096;
    if (syscall(SYS_mprotect, p, pages, closed ? PROT_NONE : PROT_READ | PROT_WRITE) != 0) abort();
#endif
    (void)p;
    (void)bytes;
    (void)closed;
}

/* Nobody may touch these bytes until neap_unpoison(). */
static inline void neap_poison(void *p, size_t bytes)
{
#ifdef NEAP_ASAN
    ASAN_POISON_MEMORY_REGION(p, bytes);
#endif
#ifdef NEAP_VALGRIND
    VALGRIND_MAKE_MEM_NOACCESS(p, bytes);
#endif
    neap_close_pages(p, bytes, 1);
}

/* The bytes may be used; what is in them is undefined. */
static inline void neap_unpoison(void *p, size_t bytes)
{
#ifdef NEAP_ASAN
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
#endif
#ifdef NEAP_VALGRIND
    VALGRIND_MAKE_MEM_UNDEFINED(p, bytes);
#endif
    neap_close_pages(p, bytes, 0);
}

/* Pointers in this mapping keep what they point to from being reported as leaked. */
static inline void neap_root(const void *p, size_t bytes)
{
#ifdef NEAP_ASAN
    __lsan_register_root_region(p, bytes);
#endif
    (void)p;
    (void)bytes;
}

static inline void neap_no_root(const void *p, size_t bytes)
{
#ifdef NEAP_ASAN
    __lsan_unregister_root_region(p, bytes);
#endif
    (void)p;
    (void)bytes;
}
