/* main.c - the neap command: an interpreter that finds neap's Lua code and library from
 * its own path, never from the current directory, and lets lua/neap/command.lua do the
 * rest. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/functions.h"
#include "neap.h"

enum {
    PATH_BYTES = PATH_MAX + 64,
    DESCRIPTORS_MAX = 1048576, /* the limit that is set; some systems have a thousand times that */
};

/* A server may have as many connections as it is allowed to have, without a word to the shell. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    rlim_t most = limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
    if (limit.rlim_cur >= most) return;
    limit.rlim_cur = most;
    setrlimit(RLIMIT_NOFILE, &limit); /* else it stays as it is */
}

/* No socket becomes standard input or output because that was closed. */
static void fill_standard_descriptors(void)
{
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

/* The directory that the program lies in. */
static bool find_home(char *home)
{
    ssize_t n = readlink("/proc/self/exe", home, PATH_MAX - 1);
    if (n <= 0) return false;
    home[n] = 0;
    char *slash = strrchr(home, '/');
    if (!slash) return false;
    *slash = 0;
    return true;
}

static bool exists(const char *directory, const char *file)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s%s", directory, file);
    return access(path, R_OK) == 0;
}

static void prepend(lua_State *L, const char *field, const char *templates)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, field);
    lua_pushfstring(L, "%s;%s", templates, lua_tostring(L, -1));
    lua_setfield(L, -3, field);
    lua_pop(L, 2);
}

/* Where lua/ and the library lie, seen from the program. An installed one looks only where it
 * was installed; one in its tree may be the plain build or a variant under build/. */
#ifdef NEAP_INSTALLED
static const char *const places[][2] = {{"/../share/neap", "/../lib"}};
#else
static const char *const places[][2] = {{"/lua", "/build"}, {"/../../lua", ""}};
#endif

static bool set_paths(lua_State *L, const char *home)
{
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char file[64];
        snprintf(file, sizeof file, "%s/neap/init.lua", places[i][0]);
        if (!exists(home, file)) continue;
        lua_pushfstring(L, "%s%s/?.lua;%s%s/?/init.lua", home, places[i][0], home, places[i][0]);
        prepend(L, "path", lua_tostring(L, -1));
        lua_pushfstring(L, "%s%s/?.so", home, places[i][1]);
        prepend(L, "cpath", lua_tostring(L, -1));
        lua_pop(L, 2);
        return true;
    }
    fprintf(stderr, "neap: its Lua code is not at %s%s\n", home, places[0][0]);
    return false;
}

static void offer_functions(lua_State *L)
{
    static const luaL_Reg functions[] = {{"where", neap_host_where},
                                         {"known_site", neap_host_known_site},
                                         {"on_runaway", neap_host_on_runaway},
                                         {NULL, NULL}};
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaded");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_setfield(L, -2, "neap.host");
    lua_pop(L, 2);
}

static int add_traceback(lua_State *L)
{
    if (lua_isstring(L, 1)) luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* The exit status of require("neap.command")(words). */
static int run(lua_State *L, int argc, char **argv)
{
    lua_pushcfunction(L, add_traceback);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "neap.command");
    int failed = lua_pcall(L, 1, 1, 1);
    if (!failed) {
        lua_createtable(L, argc, 0);
        for (int i = 0; i < argc; i++) {
            lua_pushstring(L, argv[i]);
            lua_rawseti(L, -2, i);
        }
        failed = lua_pcall(L, 1, 1, 1);
    }
    if (!failed) return (int)lua_tointeger(L, -1);
    const char *message = lua_tostring(L, -1);
    fprintf(stderr, "neap: %s\n", message ? message : "an error that is not a string");
    return 1;
}

static void nothing(int number)
{
    (void)number;
}

/* A pipe or socket whose reader has gone is an error of the write, and no end of the process. A
 * handler, since what is ignored stays so in the programs that this one starts. */
static void survive_broken_pipes(void)
{
    struct sigaction action = {.sa_handler = nothing, .sa_flags = (int)SA_RESTART};
    sigaction(SIGPIPE, &action, NULL);
}

int main(int argc, char **argv)
{
    survive_broken_pipes();
    fill_standard_descriptors();
    raise_descriptor_limit();
    lua_State *L = luaL_newstate();
    if (!L) {
        fprintf(stderr, "neap: no memory for the interpreter\n");
        return 1;
    }
    luaL_openlibs(L);
    offer_functions(L);
    neap_host_guard(L);
    char home[PATH_MAX];
    int status = find_home(home) && set_paths(L, home) ? run(L, argc, argv) : 1;
    neap_guard_on_interrupt(NULL);
    lua_close(L);
    return status;
}
