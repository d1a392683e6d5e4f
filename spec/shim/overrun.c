/* overrun.c - writes to a slice from outside of neap, as C code that was handed a pointer does:
 *
 *     overrun alloc|copy|read|buffer <bytes beyond the end, or before it if negative>
 *     overrun released 0                 // after its end
 *
 * Each way to get a slice is one of its own; spec/modes_spec.lua builds it with the library in the
 * mode in which AddressSanitizer and valgrind see such a write. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "neap.h"

#define AT(handle) (handle).slot, (handle).gen

enum { SIZE = 24 };
static struct neap_handle pool, maker, slice;
static const char text[3 * SIZE + 1] =
    "what lies around it is no part of it, and nobody may write it";

static void must(int result)
{
    if (result < 0) exit(2);
}

/* The one in the middle of three. */
static void allocate(bool copy)
{
    struct neap_handle other;
    must(neap_allocator_create(AT(pool), 0, &maker));
    for (int i = 0; i < 3; i++) {
        struct neap_handle *made = i == 1 ? &slice : &other;
        must(copy ? neap_allocator_copy(AT(maker), text, SIZE, made)
                  : neap_allocator_alloc(AT(maker), SIZE, made));
    }
}

static void read_it(void)
{
    struct neap_handle other;
    must(neap_reader_create(AT(pool), 1000, &maker));
    must(neap_reader_feed(AT(maker), text, 3 * SIZE));
    must(neap_reader_read(AT(maker), SIZE, &other));
    must(neap_reader_read(AT(maker), SIZE, &slice));
}

static void take_it(void)
{
    must(neap_buffer_create(AT(pool), &maker));
    must(neap_buffer_put(AT(maker), text, SIZE));
    must(neap_buffer_take(AT(maker), &slice));
}

static void make(const char *way)
{
    if (strcmp(way, "read") == 0)
        read_it();
    else if (strcmp(way, "buffer") == 0)
        take_it();
    else
        allocate(strcmp(way, "copy") == 0);
}

int main(int count, char **words)
{
    const struct neap_pool_options options = {.classes = true};
    if (count != 3) return 2;
    int beyond = atoi(words[2]);
    must(neap_pool_create(&options, &pool));
    make(words[1]);
    volatile uint8_t *bytes = (uint8_t *)(uintptr_t)neap_slice_bytes(AT(slice));
    if (strcmp(words[1], "released") == 0) must(neap_slice_release(AT(slice)));
    if (beyond >= 0)
        bytes[SIZE - 1 + beyond] = 1;
    else
        bytes[beyond] = 1;
    puts("nothing was seen");
    return 0;
}
