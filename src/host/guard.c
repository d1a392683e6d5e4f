/* guard.c - the runaway guard's way into the interpreter: a hook, set from a signal handler, as
 * luajit does at Control-C. It runs when the interpreter gets control next (compiled code looks at
 * no hooks), tells Lua where that is, and is gone. */
#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/functions.h"
#include "neap.h"

static lua_State *interpreter;
static int report = LUA_NOREF;
static lua_Hook hook_before;
static int mask_before, count_before;
static volatile sig_atomic_t hooked;

static void on_hook(lua_State *L, lua_Debug *unused)
{
    (void)unused;
    lua_sethook(L, hook_before, mask_before, count_before);
    hooked = 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, report);
    luaL_traceback(L, L, NULL, 0);
    if (lua_pcall(L, 1, 0, 0) != 0) lua_pop(L, 1);
}

static void interrupt(void)
{
    if (hooked || report == LUA_NOREF) return;
    hooked = 1;
    hook_before = lua_gethook(interpreter);
    mask_before = lua_gethookmask(interpreter);
    count_before = lua_gethookcount(interpreter);
    lua_sethook(interpreter, on_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

/* on_runaway(fn): fn(traceback) is called in the middle of whatever has run for too long. */
int neap_host_on_runaway(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    report = luaL_ref(L, LUA_REGISTRYINDEX);
    neap_guard_on_interrupt(interrupt);
    return 0;
}

void neap_host_guard(lua_State *L)
{
    interpreter = L;
}
