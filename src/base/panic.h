/* panic.h - what happens when neap itself is wrong.
 *
 * neap_assert() checks what neap promises to itself, in every build; a failed
 * one is a bug of neap, is printed with its place, and aborts. What a peer or a
 * script does never reaches one. Thread: any. */
#pragma once

__attribute__((cold)) _Noreturn void neap_panic(const char *file, int line, const char *message);

#define neap_assert(condition, message)                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) neap_panic(__FILE__, __LINE__, message);            \
    } while (0)
