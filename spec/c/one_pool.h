/* one_pool.h - for tests that need one pool and one allocator of it. */
#pragma once

#include "helper.h"

static struct neap_handle pool, allocator;

static inline void start(uint32_t reserve)
{
    pool = pool_make(0);
    allocator = allocator_make(pool, reserve);
}

static inline void finish(void)
{
    assert_int_equal(neap_allocator_release(AT(allocator)), NEAP_OK);
    pool_end(pool);
}
