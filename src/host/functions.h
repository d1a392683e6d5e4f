/* functions.h - what the neap command offers to its own Lua code as C functions of the interpreter, in
 * package.loaded["neap.host"]; a stock luajit has none of it. */
#pragma once
#include <lua.h>

int neap_host_where(lua_State *L);
