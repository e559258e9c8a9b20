/*
 * What a failed coroutine leaves for the log: message and stack, and below it the stack of the
 * coroutine of the user's in which the error arose, or of the code that spun, which its own stack
 * does not show.
 */
#include <lauxlib.h>

#include "bind/aux.h"
#include "bind/task.h"
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

/* The stack of the task that the error value at index came from, kept in it by task:join; 0 when
 * there is none. */
static int push_task_trace(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE)
        return 0;
    lua_pushliteral(L, "traceback");
    if (lua_rawget(L, index) == LUA_TSTRING)
        return 1;
    lua_pop(L, 1);
    return 0;
}

void push_failure(lua_State *L, lua_State *T, int index)
{
    luaL_checkstack(L, 12, "traceback");
    lua_pushvalue(T, index);
    lua_xmove(T, L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "moonquay.trace.value");
    bool from_coroutine = lua_rawequal(L, -1, -2) && !lua_isnil(L, -1);
    lua_pop(L, 1);
    int of_task = push_task_trace(L, lua_gettop(L));

    luaL_tolstring(L, -1 - of_task, NULL);
    lua_remove(L, -2 - of_task);
    luaL_traceback(L, T, lua_tostring(L, -1), 0);
    lua_remove(L, -2);
    if (of_task) {
        lua_pushfstring(L, "%s\ninside a task: %s", lua_tostring(L, -1), lua_tostring(L, -2));
        lua_replace(L, -3);
        lua_pop(L, 1);
    }
    append_kept(L, "while running: ", "moonquay.spin");
    if (from_coroutine)
        append_kept(L, "inside a coroutine: ", "moonquay.trace.text");
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "moonquay.trace.value");
}

static int describe(lua_State *L)
{
    lua_State *T = lua_touserdata(L, 1);

    lua_settop(L, 0);
    push_failure(L, T, -1);
    return 1;
}

void push_task_failure(struct task *task)
{
    lua_State *L = task->vm->L;

    lua_pushcfunction(L, describe);
    lua_pushlightuserdata(L, task->T);
    if (task_call(task, 1) == LUA_OK)
        return;
    /* What went wrong with the text says more than nothing; its own text is not asked for. */
    const char *why = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1);

    lua_pushfstring(L, "an error value whose text fails: %s", why);
    lua_remove(L, -2);
}
