/* seed: gives LuaJIT the same random numbers in each start, so that its traces are the same.
 *
 *     SEED=1 LD_PRELOAD=build/bench/seed.so luajit ...
 *
 * LuaJIT asks the system for 32 random bytes by syscall(SYS_getrandom); which loops it compiles,
 * and the order of its hash tables, follow from them. Counts of instructions are to be repeatable:
 * every byte is SEED here. For counting only. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

enum { ARGUMENTS = 6 };

long syscall(long number, ...);

__attribute__((visibility("default"))) long syscall(long number, ...)
{
    long arguments[ARGUMENTS];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < ARGUMENTS; i++) arguments[i] = va_arg(list, long);
    va_end(list);
    const char *seed = getenv("SEED");
    if (number == SYS_getrandom && seed) {
        memset((void *)arguments[0], atoi(seed), (size_t)arguments[1]);
        return arguments[1];
    }
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}
