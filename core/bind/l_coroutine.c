/*
 * A wait inside a user's coroutine must suspend the whole task, not return to the user's resume. So
 * resume and wrap look at why the inner coroutine was suspended: by its own yield, then they return
 * as ever; by the scheduler, then they suspend themselves too and, when the task goes on, resume
 * the inner one again.
 */
#include "bind/l_coroutine.h"

#include <lauxlib.h>

#include "base/err.h"
#include "base/log.h"
#include "bind/aux.h"
#include "bind/task.h"
#include "bind/vm_priv.h"

#define MARKS       "moonquay.threads" /* weak: coroutine to enum mark */
#define TRACE_VALUE "moonquay.trace.value"
#define TRACE_TEXT  "moonquay.trace.text"

static lua_State *check_coroutine(lua_State *L, int index)
{
    lua_State *co = lua_tothread(L, index);

    luaL_argexpected(L, co, index, "coroutine");
    return co;
}

/* Why Lua code must not resume or close a coroutine that it could otherwise. */
enum mark { MARK_NONE, MARK_WAITING, MARK_TASK };

static void push_marks(lua_State *L)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, MARKS) == LUA_TTABLE)
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, MARKS);
}

/* Sets the mark of the thread on top of L, which it pops. */
static void set_mark(lua_State *L, enum mark mark)
{
    push_marks(L);
    lua_insert(L, -2);
    if (mark == MARK_NONE)
        lua_pushnil(L);
    else
        lua_pushinteger(L, mark);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* The task has been parked already: an error here would let it run on beside its wait. */
static void mark_waiting(lua_State *L, lua_State *co, bool waiting)
{
    struct vm *vm = vm_of(L);

    vm_lift_limit(vm);
    lua_pushthread(co);
    lua_xmove(co, L, 1);
    set_mark(L, waiting ? MARK_WAITING : MARK_NONE);
    vm_set_limit(vm);
}

static enum mark mark_of(lua_State *L, lua_State *co)
{
    lua_getfield(L, LUA_REGISTRYINDEX, MARKS);
    lua_pushthread(co);
    lua_xmove(co, L, 1);
    lua_rawget(L, -2);
    enum mark mark = (enum mark)lua_tointeger(L, -1);
    lua_pop(L, 2);
    return mark;
}

void l_coroutine_reserve(lua_State *L)
{
    lua_pushvalue(L, -1);
    set_mark(L, MARK_TASK);
}

/*
 * The stack of a coroutine that died is lost with it, so it is kept, with the error value that it
 * belongs to, for the log. One is enough: what is reported is the error that escaped last.
 */
static void keep_trace(lua_State *L, lua_State *co)
{
    if (!lua_checkstack(co, 8))
        return;
    lua_getfield(L, LUA_REGISTRYINDEX, TRACE_VALUE);
    lua_pushvalue(co, -1);
    lua_xmove(co, L, 1);
    if (!lua_rawequal(L, -1, -2)) { /* the innermost stack is the one that tells */
        lua_setfield(L, LUA_REGISTRYINDEX, TRACE_VALUE);
        luaL_traceback(L, co, NULL, 0);
        lua_setfield(L, LUA_REGISTRYINDEX, TRACE_TEXT);
        lua_pop(L, 1);
    } else {
        lua_pop(L, 2);
    }
}

/* Runs pending <close> handlers of co; they cannot wait. Leaves an error value on co when one
 * failed. */
static int close_coroutine(lua_State *L, lua_State *co)
{
    struct vm *vm = vm_of(L);
    lua_State *outer = vm->innermost;

    vm->blocked++;
    vm->innermost = co;
    int status = lua_resetthread(co);
    vm->innermost = outer;
    vm->blocked--;
    return status;
}

/*
 * Resumes co with count arguments that lie on top of L. The number of results on L's top, -1 with
 * an error value there, or RESUME_PASS: the scheduler wants the whole task suspended.
 */
enum { RESUME_ERROR = -1, RESUME_PASS = -2 };

static int resume_into(lua_State *L, lua_State *co, int count)
{
    struct vm *vm = vm_of(L);
    lua_State *outer = vm->innermost;
    int results = 0, status;
    bool blocks = vm->running && !lua_isyieldable(L);

    if (!lua_checkstack(co, count)) {
        lua_pushliteral(L, "too many arguments to resume");
        return RESUME_ERROR;
    }
    lua_xmove(L, co, count);
    vm->blocked += blocks;
    vm->innermost = co;
    vm->yielding = YIELD_USER;
    status = lua_resume(co, L, count, &results);
    vm->innermost = outer;
    vm->blocked -= blocks;
    if (status > LUA_YIELD)
        cpu_insist(vm, L);
    if (status == LUA_YIELD && vm->yielding != YIELD_USER) {
        lua_pop(co, results);
        return RESUME_PASS;
    }
    if (status == LUA_OK || status == LUA_YIELD) {
        if (!lua_checkstack(L, results + 1)) {
            lua_pop(co, results);
            lua_pushliteral(L, "too many results to resume");
            return RESUME_ERROR;
        }
        lua_xmove(co, L, results);
        return results;
    }
    keep_trace(L, co);
    lua_xmove(co, L, 1);
    return RESUME_ERROR;
}

/* lua_resume itself refuses the dead and the running. */
static bool cannot_resume(lua_State *L, lua_State *co)
{
    switch (mark_of(L, co)) {
    case MARK_WAITING:
        lua_pushliteral(L, "cannot resume a coroutine that waits in another task");
        return true;
    case MARK_TASK:
        lua_pushliteral(L, "cannot resume a task");
        return true;
    default:
        return false;
    }
}

/* ---- resume ---- */

static int resume_continue(lua_State *L, int status, lua_KContext context);

static int resume_return(lua_State *L, lua_State *co, int results)
{
    if (results == RESUME_PASS) {
        mark_waiting(L, co, true);
        return lua_yieldk(L, 0, 0, resume_continue);
    }
    if (results == RESUME_ERROR) {
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, 1);
    lua_insert(L, -(results + 1));
    return results + 1;
}

static int resume_continue(lua_State *L, int status, lua_KContext context)
{
    lua_State *co = lua_tothread(L, 1);

    (void)status;
    (void)context;
    mark_waiting(L, co, false);
    return resume_return(L, co, resume_into(L, co, 0));
}

static int co_resume(lua_State *L)
{
    lua_State *co = check_coroutine(L, 1);

    if (cannot_resume(L, co))
        return resume_return(L, co, RESUME_ERROR);
    return resume_return(L, co, resume_into(L, co, lua_gettop(L) - 1));
}

/* ---- wrap ---- */

static int wrap_continue(lua_State *L, int status, lua_KContext context);

static int wrap_return(lua_State *L, lua_State *co, int results)
{
    if (results == RESUME_PASS) {
        mark_waiting(L, co, true);
        return lua_yieldk(L, 0, 0, wrap_continue);
    }
    if (results != RESUME_ERROR)
        return results;
    int dead = lua_status(co);

    if (dead != LUA_OK && dead != LUA_YIELD)
        close_coroutine(L, co); /* the error value is ours already */
    if (lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
        lua_pushvalue(L, -1);
        lua_setfield(L, LUA_REGISTRYINDEX, TRACE_VALUE); /* the same error, still */
    }
    return lua_error(L);
}

static int wrap_continue(lua_State *L, int status, lua_KContext context)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));

    (void)status;
    (void)context;
    mark_waiting(L, co, false);
    return wrap_return(L, co, resume_into(L, co, 0));
}

static int wrap_call(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));

    if (cannot_resume(L, co))
        return wrap_return(L, co, RESUME_ERROR);
    return wrap_return(L, co, resume_into(L, co, lua_gettop(L)));
}

static int co_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);

    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrap_call, 1);
    return 1;
}

/* ---- yield, close ---- */

static int co_yield (lua_State *L)
{
    struct vm *vm = vm_of(L);

    if (vm->running && vm->running->T == L)
        return luaL_error(L, "attempt to yield from outside a coroutine (a task waits with "
                             "moonquay.sleep, events or input and output)");
    vm->yielding = YIELD_USER;
    return lua_yield(L, lua_gettop(L));
}

static int co_close(lua_State *L)
{
    lua_State *co = check_coroutine(L, 1);
    lua_Debug frame;

    if (co == L || (lua_status(co) == LUA_OK && lua_getstack(co, 0, &frame) > 0))
        return luaL_error(L, "cannot close a %s coroutine", co == L ? "running" : "normal");
    switch (mark_of(L, co)) {
    case MARK_WAITING:
        return luaL_error(L, "cannot close a coroutine that waits in another task");
    case MARK_TASK:
        return luaL_error(L, "cannot close a task");
    default:
        break;
    }
    if (close_coroutine(L, co) == LUA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_xmove(co, L, 1);
    return 2;
}

/* The coroutine that T resumes and that the scheduler suspended, NULL when T waits by itself. */
static lua_State *waiting_in(lua_State *T)
{
    lua_Debug frame;
    lua_State *co = NULL;
    int top = lua_gettop(T);

    if (lua_status(T) != LUA_YIELD || !lua_checkstack(T, 4) || !lua_getstack(T, 0, &frame))
        return NULL;
    lua_getinfo(T, "f", &frame);
    lua_CFunction function = lua_tocfunction(T, -1);

    if (function == co_resume && lua_getlocal(T, &frame, 1))
        co = lua_tothread(T, -1);
    else if (function == wrap_call && lua_getupvalue(T, -1, 1))
        co = lua_tothread(T, -1);
    lua_settop(T, top);
    return co && mark_of(T, co) == MARK_WAITING ? co : NULL;
}

void l_coroutine_close_waiting(lua_State *T)
{
    lua_State *co = waiting_in(T);

    if (co == NULL)
        return;
    l_coroutine_close_waiting(co);
    mark_waiting(T, co, false);
    if (close_coroutine(T, co) != LUA_OK)
        log_event(LOG_ERROR, "close_failed", "%s",
                  lua_type(co, -1) == LUA_TSTRING ? lua_tostring(co, -1) : "error in __close");
}

static const luaL_Reg functions[] = {
    {"resume", co_resume}, {"wrap", co_wrap}, {"yield", co_yield },
    {"close", co_close},   {NULL, NULL},
};

void l_coroutine_install(lua_State *L)
{
    lua_getglobal(L, "coroutine");
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
