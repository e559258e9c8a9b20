/* See aux.h. */
#include "bind/aux.h"

#include <math.h>

#include "base/err.h"
#include "bind/vm_priv.h"

#define ERROR_TYPE "moonquay.error"
#define VM_KEY     "moonquay.vm"

void vm_attach(struct vm *vm, lua_State *L)
{
    *(struct vm **)lua_getextraspace(L) = vm;
    lua_pushlightuserdata(L, vm);
    lua_setfield(L, LUA_REGISTRYINDEX, VM_KEY);
}

struct vm *vm_of(lua_State *L)
{
    struct vm *vm = *(struct vm **)lua_getextraspace(L);

    if (vm)
        return vm;
    /* A thread made before the state got its vm has no copy of the pointer. */
    lua_getfield(L, LUA_REGISTRYINDEX, VM_KEY);
    vm = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (vm == NULL)
        luaL_error(L, "moonquay.core is not loaded in this state");
    *(struct vm **)lua_getextraspace(L) = vm;
    return vm;
}

static int error_tostring(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "message");
    if (!lua_isstring(L, -1))
        lua_getfield(L, 1, "code");
    luaL_tolstring(L, -1, NULL);
    return 1;
}

void l_push_error_meta(lua_State *L)
{
    if (!luaL_newmetatable(L, ERROR_TYPE))
        return;
    lua_pushcfunction(L, error_tostring);
    lua_setfield(L, -2, "__tostring");
}

void l_push_error(lua_State *L, int code, const char *message)
{
    lua_createtable(L, 0, 2);
    lua_pushstring(L, err_name(code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, message ? message : err_message(code));
    lua_setfield(L, -2, "message");
    l_push_error_meta(L);
    lua_setmetatable(L, -2);
}

int l_fail(lua_State *L, int code, const char *message)
{
    lua_pushnil(L);
    l_push_error(L, code, message);
    return 2;
}

void l_push_span(lua_State *L, struct span text)
{
    lua_pushlstring(L, text.at ? text.at : "", text.len);
}

static int push_text(lua_State *L)
{
    l_push_span(L, buf_span(lua_touserdata(L, 1)));
    return 1;
}

void l_push_buf(lua_State *L, struct buf *text)
{
    lua_pushcfunction(L, push_text);
    lua_pushlightuserdata(L, text);
    int status = lua_pcall(L, 1, 1, 0);

    buf_fini(text);
    if (status != LUA_OK)
        lua_error(L);
}

struct span l_check_span(lua_State *L, int index)
{
    size_t len;
    const char *at = luaL_checklstring(L, index, &len);

    return span_of(at, len);
}

struct span l_to_span(lua_State *L, int index)
{
    size_t len = 0;
    const char *at = lua_tolstring(L, index, &len);

    return span_of(at, len);
}

double l_check_seconds(lua_State *L, int index)
{
    double seconds = luaL_checknumber(L, index);

    luaL_argcheck(L, isfinite(seconds) && seconds >= 0, index,
                  "seconds must be a number from 0 on");
    return seconds;
}
