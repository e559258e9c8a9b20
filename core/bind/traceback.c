/*
 * What a failed coroutine leaves for the log: message and stack, and below it the stack of the
 * coroutine of the user's in which the error arose, or of the code that spun, which its own stack
 * does not show.
 */
#include <lauxlib.h>

#include "bind/aux.h"
#include "bind/vm_priv.h"

static void append_kept(lua_State *L, const char *title, const char *key)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, key) == LUA_TSTRING) {
        lua_pushfstring(L, "%s\n%s%s", lua_tostring(L, -2), title, lua_tostring(L, -1));
        lua_replace(L, -3);
        lua_pushnil(L);
        lua_setfield(L, LUA_REGISTRYINDEX, key);
    }
    lua_pop(L, 1);
}

void push_failure(lua_State *L, lua_State *T, int index)
{
    luaL_checkstack(L, 12, "traceback");
    lua_pushvalue(T, index);
    lua_xmove(T, L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "moonquay.trace.value");
    bool from_coroutine = lua_rawequal(L, -1, -2) && !lua_isnil(L, -1);
    lua_pop(L, 1);
    luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    luaL_traceback(L, T, lua_tostring(L, -1), 0);
    lua_remove(L, -2);
    append_kept(L, "while running: ", "moonquay.spin");
    if (from_coroutine)
        append_kept(L, "inside a coroutine: ", "moonquay.trace.text");
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "moonquay.trace.value");
}
