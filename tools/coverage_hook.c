/* coverage_hook.c - notes which lines of Lua ran, for spec/coverage.lua: the same in Lua makes the
 * specs take ten times as long.
 *
 *     local start = package.loadlib(path, "coverage_start")   -- start(directory)
 *     local write = package.loadlib(path, "coverage_write")   -- write(file): "<name> <line>" each
 *
 * LuaJIT has one hook for all coroutines. Only files below the directory are noted, and not what
 * one of them has made of a string.
 * Limits: files, and lines of each; what is more is an error. Thread: one. */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>

enum { FILES = 200, LINES = 4000, NAME_BYTES = 100 };

static struct {
    char name[NAME_BYTES];
    unsigned char ran[LINES];
} files[FILES];
static int file_count, latest;
static char directory[1000];
static size_t directory_size;

int coverage_start(lua_State *L);
int coverage_write(lua_State *L);

static int file_of(lua_State *L, const char *name)
{
    if (file_count && strcmp(files[latest].name, name) == 0) return latest;
    for (int i = 0; i < file_count; i++)
        if (strcmp(files[i].name, name) == 0) return i;
    if (file_count == FILES || strlen(name) >= NAME_BYTES) luaL_error(L, "too many files");
    strcpy(files[file_count].name, name);
    return file_count++;
}

static int is_file(const char *source)
{
    size_t size = strlen(source);
    return source[0] == '@' && strncmp(source + 1, directory, directory_size) == 0 &&
           strcmp(source + size - 4, ".lua") == 0;
}

static void note(lua_State *L, lua_Debug *at)
{
    lua_getinfo(L, "S", at);
    if (!is_file(at->source)) return;
    latest = file_of(L, at->source + 1 + directory_size);
    if (at->currentline >= LINES) luaL_error(L, "too many lines");
    files[latest].ran[at->currentline] = 1;
}

int coverage_start(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (strlen(name) >= sizeof directory) return luaL_error(L, "too long a name");
    strcpy(directory, name);
    directory_size = strlen(directory);
    lua_sethook(L, note, LUA_MASKLINE, 0);
    return 0;
}

int coverage_write(lua_State *L)
{
    FILE *out = fopen(luaL_checkstring(L, 1), "w");
    lua_sethook(L, NULL, 0, 0);
    if (!out) return luaL_error(L, "cannot write");
    for (int i = 0; i < file_count; i++)
        for (int line = 1; line < LINES; line++)
            if (files[i].ran[line]) fprintf(out, "%s %d\n", files[i].name, line);
    fclose(out);
    return 0;
}
