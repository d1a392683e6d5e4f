/* coverage_hook.c - notes which lines of lua/neap ran, for tools/coverage; loaded with LD_PRELOAD
 * into each process of the specs, with the JIT compiler off:
 *
 *     LD_PRELOAD=…/hook.so COVERAGE=<directory> ./neap test      // *.lua.txt: "<name> <line>"
 *
 * It begins when the interpreter's libraries are opened, so that it sees what is loaded, and shares
 * the one hook that there is: who sets another sees nothing of it. What a signal ends writes no
 * count.
 *
 * Limits: files, and lines of each; what is more ends the process. Thread: one. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include <dlfcn.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 200, LINES = 4000, NAME_BYTES = 100 };

static struct {
    char name[NAME_BYTES];
    unsigned char ran[LINES];
} files[FILES];
static int file_count;
static const char *latest_source; /* of a module: it stays */
static int latest;

static void end_here(const char *why)
{
    fprintf(stderr, "coverage: %s\n", why);
    abort();
}

static int file_of(const char *name)
{
    for (int i = 0; i < file_count; i++)
        if (strcmp(files[i].name, name) == 0) return i;
    if (file_count == FILES || strlen(name) >= NAME_BYTES) end_here("too many files");
    strcpy(files[file_count].name, name);
    return file_count++;
}

/* Is it a file of lua/neap, and not what one of them has made of a string? */
static int find_file(const char *source)
{
    static const char place[] = "/lua/neap/";
    const char *at = source[0] == '@' ? strstr(source, place) : NULL;
    if (!at || strcmp(source + strlen(source) - 4, ".lua") != 0) return 0;
    latest = file_of(at + sizeof place - 1);
    latest_source = source;
    return 1;
}

static void note(lua_State *L, lua_Debug *at)
{
    lua_getinfo(L, "S", at);
    if (at->source != latest_source && !find_file(at->source)) return;
    if (at->currentline >= LINES) end_here("too many lines");
    files[latest].ran[at->currentline] = 1;
}

static void write_lines(void)
{
    char name[1000];
    struct timespec now; /* a number of a process may come again, and the file be another user's */
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(name, sizeof name, "%s/%d.%ld.lua.txt", getenv("COVERAGE"), (int)getpid(),
             now.tv_nsec);
    FILE *out = fopen(name, "w");
    if (!out) end_here(name);
    for (int i = 0; i < file_count; i++)
        for (int line = 1; line < LINES; line++)
            if (files[i].ran[line]) fprintf(out, "%s %d\n", files[i].name, line);
    fclose(out);
}

/* ---- the hook, shared ---- */

static lua_Hook other;
static int other_mask, other_count;

static void both(lua_State *L, lua_Debug *at)
{
    if (at->event == LUA_HOOKLINE) note(L, at);
    if (other && other_mask & 1 << at->event) other(L, at);
}

int lua_sethook(lua_State *L, lua_Hook hook, int mask, int count)
{
    int (*set)(lua_State *, lua_Hook, int, int);
    *(void **)&set = dlsym(RTLD_NEXT, "lua_sethook");
    other = mask ? hook : NULL;
    other_mask = hook ? mask : 0;
    other_count = count;
    return set(L, both, other_mask | LUA_MASKLINE, count);
}

lua_Hook lua_gethook(lua_State *L)
{
    (void)L;
    return other;
}

int lua_gethookmask(lua_State *L)
{
    (void)L;
    return other_mask;
}

int lua_gethookcount(lua_State *L)
{
    (void)L;
    return other_count;
}

void luaL_openlibs(lua_State *L)
{
    void (*open)(lua_State *);
    *(void **)&open = dlsym(RTLD_NEXT, "luaL_openlibs");
    open(L);
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    if (!getenv("COVERAGE")) return;
    lua_sethook(L, NULL, 0, 0);
    atexit(write_lines);
}
