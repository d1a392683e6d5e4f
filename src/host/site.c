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

/* known_site(of_functions, level): of_functions[f] is false where f is not looked at, else a table of
 * numbers by line. Returns the number at the first level, from the given one on, whose function is
 * looked at, 1 being the one that asks; nil and a level where there is none; nothing behind the last. */
int neap_host_known_site(lua_State *L)
{
    lua_Debug frame;
    for (int level = (int)lua_tointeger(L, 2); lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "fl", &frame);
        lua_rawget(L, 1);
        int known = lua_type(L, -1);
        if (known == LUA_TBOOLEAN) {
            lua_settop(L, 2);
            continue;
        }
        if (known == LUA_TTABLE) lua_rawgeti(L, -1, frame.currentline);
        if (known == LUA_TTABLE && !lua_isnil(L, -1)) return 1;
        lua_pushnil(L);
        lua_pushinteger(L, level);
        return 2;
    }
    return 0;
}
