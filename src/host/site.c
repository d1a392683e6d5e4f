/* site.c - the place in a script that a call stands at, as debug.getinfo would tell it, but without
 * a table: each task is told where it was spawned, and each slice that is watched where it was made. */
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "host/functions.h"

/* where(level): "file:line" of the function at that level, 1 being the one that asks. */
int neap_host_where(lua_State *L)
{
    lua_Debug site;
    if (!lua_getstack(L, (int)luaL_checkinteger(L, 1), &site)) {
        lua_pushliteral(L, "?");
        return 1;
    }
    lua_getinfo(L, "Sl", &site);
    char digits[16], *at = digits + sizeof digits;
    unsigned line = site.currentline > 0 ? (unsigned)site.currentline : 0;
    do *--at = (char)('0' + line % 10);
    while (line /= 10);
    *--at = ':';
    size_t count = (size_t)(digits + sizeof digits - at), size = strlen(site.short_src);
    char text[LUA_IDSIZE + sizeof digits];
    memcpy(text, site.short_src, size);
    memcpy(text + size, at, count);
    lua_pushlstring(L, text, size + count);
    return 1;
}

/* frame(level): the function at that level, 1 being the one that asks, and its line; or nothing. */
int neap_host_frame(lua_State *L)
{
    lua_Debug frame;
    if (!lua_getstack(L, (int)luaL_checkinteger(L, 1), &frame)) return 0;
    lua_getinfo(L, "fl", &frame);
    lua_pushinteger(L, frame.currentline);
    return 2;
}
