/* functions.h - what the neap command offers to its own Lua code as C functions of the interpreter, in
 * package.loaded["neap.host"]; a stock luajit has none of it. */
#pragma once
#include <lua.h>

int neap_host_where(lua_State *L);
int neap_host_known_site(lua_State *L);
int neap_host_on_runaway(lua_State *L);

/* The interpreter that the guard interrupts. */
void neap_host_guard(lua_State *L);
