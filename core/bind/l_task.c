/*
 * spawn, join, cancel, sleep and events. A handle outlives its task and keeps its results; a task
 * that failed and that nobody asked about is reported when its handle goes.
 */
#include "bind/l_task.h"

#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "bind/aux.h"
#include "bind/request.h"
#include "bind/task.h"
#include "bind/vm_priv.h"

#define TASK_TYPE  "moonquay.task"
#define EVENT_TYPE "moonquay.event"

struct l_task {
    struct task *task; /* valid while number is the task's */
    uint64_t number;
    struct list waiters;
    bool done, failed, asked;
};

struct l_event {
    struct list waiters;
    bool set;
};

static void wake_all(struct list *waiters)
{
    struct list *node;

    while ((node = list_take(waiters)) != NULL)
        task_wake(LIST_OWNER(node, struct task, waiting), WAIT_EVENT, 0);
}

/* Parks the running task in waiters, for at most seconds (negative: no limit). */
static int wait_in(lua_State *L, struct list *waiters, double seconds, lua_KFunction k)
{
    struct task *task = task_waiter(L);

    if (!task_can_wait(L))
        return task_refuse_wait(L);
    list_append(waiters, &task->waiting);
    if (seconds >= 0)
        loop_alarm_start(task->vm->loop, &task->alarm, seconds);
    return task_park(L, WAIT_EVENT, k, 0);
}

/* ---- sleep ---- */

/* What sleep and event:wait return: true, or nil and why the wait ended early. */
static int waited(lua_State *L, int status, lua_KContext context)
{
    int code = task_waiter(L)->woken;

    (void)status;
    (void)context;
    if (code < 0)
        return l_fail(L, code, NULL);
    lua_pushboolean(L, 1);
    return 1;
}

/* sleep(seconds) -> true | nil, err */
static int l_sleep(lua_State *L)
{
    double seconds = l_check_seconds(L, 1);
    struct task *task = task_waiter(L);

    if (task->cancel)
        return task_fail_cancelled(L);
    if (!task_can_wait(L))
        return task_refuse_wait(L);
    loop_alarm_start(task->vm->loop, &task->alarm, seconds);
    return task_park(L, WAIT_ALARM, waited, 0);
}

/* ---- spawn ---- */

static struct l_task *check_task(lua_State *L)
{
    return luaL_checkudata(L, 1, TASK_TYPE);
}

/* Turns the message at index into an error value. */
static void make_error(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    lua_createtable(L, 0, 3);
    lua_pushliteral(L, "error");
    lua_setfield(L, -2, "code");
    lua_pushvalue(L, index);
    lua_setfield(L, -2, "message");
    l_push_error_meta(L);
    lua_setmetatable(L, -2);
    lua_replace(L, index);
}

/* The error of a task as a value that says where it arose. In: error value on top of L; a string
 * becomes an error table. */
static void wrap_error(lua_State *L, lua_State *T)
{
    push_failure(L, T, -1);
    if (lua_type(L, -2) == LUA_TSTRING)
        make_error(L, -2);
    if (lua_type(L, -2) == LUA_TTABLE) {
        lua_pushliteral(L, "traceback");
        if (lua_rawget(L, -3) == LUA_TNIL) {
            lua_pushliteral(L, "traceback");
            lua_pushvalue(L, -3);
            lua_rawset(L, -5);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* In: handle, task; protected, since it makes tables. */
static int store_results(lua_State *L)
{
    struct l_task *self = lua_touserdata(L, 1);
    struct task *task = lua_touserdata(L, 2);
    lua_State *T = task->T;

    if (self->failed) {
        lua_pushvalue(T, -1);
        lua_xmove(T, L, 1);
        wrap_error(L, T);
        lua_setiuservalue(L, 1, 1);
        return 0;
    }
    int results = lua_gettop(T);

    luaL_checkstack(L, results + 2, "too many results");
    lua_createtable(L, results, 1);
    lua_pushinteger(L, results);
    lua_setfield(L, -2, "n");
    lua_xmove(T, L, results);
    for (int i = results; i >= 1; i--)
        lua_rawseti(L, 3, i);
    lua_setiuservalue(L, 1, 1);
    return 0;
}

static void log_task_failure(lua_State *L, int handle)
{
    lua_getiuservalue(L, handle, 1);
    if (lua_type(L, -1) == LUA_TTABLE) {
        struct log_line line;

        lua_getfield(L, -1, "message");
        lua_getfield(L, -2, "traceback");
        log_begin(&line, LOG_ERROR, "task_failed", lua_tostring(L, -2));
        log_span(&line, "traceback", l_to_span(L, -1));
        log_end(&line);
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
}

static void spawned_ended(struct task *task, int status)
{
    struct l_task *self = task->owner;
    lua_State *L = task->vm->L;

    self->failed = status != LUA_OK;
    self->done = true;
    self->task = NULL;
    lua_pushcfunction(L, store_results);
    lua_rawgeti(L, LUA_REGISTRYINDEX, task->handle);
    lua_pushlightuserdata(L, task);
    if (task_call(task, 2) != LUA_OK) {
        self->failed = true;
        push_task_failure(task);
        make_error(L, -1);
        lua_rawgeti(L, LUA_REGISTRYINDEX, task->handle);
        lua_insert(L, -2);
        lua_setiuservalue(L, -2, 1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    if (self->failed && task->detached && task->cancel == 0) {
        self->asked = true;
        lua_rawgeti(L, LUA_REGISTRYINDEX, task->handle);
        log_task_failure(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    wake_all(&self->waiters);
}

static int spawn(lua_State *L, bool detached)
{
    struct vm *vm = vm_of(L);
    int arguments = lua_gettop(L);

    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (vm->closed)
        return luaL_error(L, "the state closes: no task starts any more");
    struct l_task *self = lua_newuserdatauv(L, sizeof(*self), 1);

    *self = (struct l_task){0};
    list_init(&self->waiters);
    luaL_setmetatable(L, TASK_TYPE);
    luaL_checkstack(L, 2, "too many arguments");
    vm_lift_limit(vm); /* a task that is half made would never end */
    struct task *task = task_new(vm, spawned_ended, self);

    self->task = task;
    self->number = task->number;
    lua_pushvalue(L, -1);
    task->handle = luaL_ref(L, LUA_REGISTRYINDEX);
    bool fits = lua_checkstack(task->T, arguments + 1);
    vm_set_limit(vm);
    /* What the main chunk of an app starts belongs to the app. */
    task->background = detached;
    task->detached = detached || vm->running == NULL || vm->running->unlimited;
    if (!task->detached)
        task_adopt(vm->running, task);
    lua_insert(L, 1);
    if (!fits) {
        task_kill(task);
        return luaL_error(L, "too many arguments");
    }
    lua_xmove(L, task->T, arguments);
    task_again(task, arguments - 1);
    return 1;
}

/* spawn(fn, …) -> task that ends with the task that spawned it */
static int l_spawn(lua_State *L)
{
    return spawn(L, false);
}

/* spawn_detached(fn, …) -> task of the app, for which a stop waits; its error is logged */
static int l_spawn_detached(lua_State *L)
{
    return spawn(L, true);
}

static int push_results(lua_State *L, struct l_task *self)
{
    self->asked = true;
    lua_getiuservalue(L, 1, 1);
    if (self->failed) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    int table = lua_gettop(L);

    lua_getfield(L, table, "n");
    int results = (int)lua_tointeger(L, -1);

    luaL_checkstack(L, results + 1, "too many results");
    lua_pushboolean(L, 1);
    for (int i = 1; i <= results; i++)
        lua_rawgeti(L, table, i);
    return results + 1;
}

static int joined(lua_State *L, int status, lua_KContext context)
{
    struct l_task *self = check_task(L);
    int code = task_waiter(L)->woken;

    (void)status;
    (void)context;
    if (self->done)
        return push_results(L, self);
    return l_fail(L, code < 0 ? code : ERR_CANCELLED, NULL);
}

/* task:join([seconds]) -> true, results … | nil, err */
static int task_join(lua_State *L)
{
    struct l_task *self = check_task(L);
    double seconds = lua_isnoneornil(L, 2) ? -1 : l_check_seconds(L, 2);
    struct task *waiter = task_waiter(L);

    lua_settop(L, 1);
    if (self->done)
        return push_results(L, self);
    if (self->task == waiter)
        return luaL_error(L, "a task cannot join itself");
    if (waiter->cancel)
        return task_fail_cancelled(L);
    return wait_in(L, &self->waiters, seconds, joined);
}

static bool alive(const struct l_task *self)
{
    return !self->done && self->task && self->task->number == self->number;
}

/* task:cancel(): each of its waits ends with nil, err "cancelled" */
static int l_task_cancel(lua_State *L)
{
    struct l_task *self = check_task(L);

    self->asked = true;
    if (alive(self))
        task_cancel(self->task, ERR_CANCELLED);
    return 0;
}

static int closed(lua_State *L, int status, lua_KContext context)
{
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

static int task_close(lua_State *L)
{
    struct l_task *self = check_task(L);

    if (!alive(self))
        return 0;
    self->asked = true;
    task_cancel(self->task, ERR_CANCELLED);
    if (!task_can_wait(L))
        return 0;
    return wait_in(L, &self->waiters, -1, closed);
}

static int task_gc(lua_State *L)
{
    struct l_task *self = check_task(L);

    if (self->failed && !self->asked)
        log_task_failure(L, 1);
    return 0;
}

static int task_index(lua_State *L)
{
    struct l_task *self = check_task(L);

    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "done") == 0) {
        lua_pushboolean(L, self->done);
        return 1;
    }
    lua_rawget(L, lua_upvalueindex(1));
    return 1;
}

/* ---- events ---- */

static struct l_event *check_event(lua_State *L)
{
    return luaL_checkudata(L, 1, EVENT_TYPE);
}

/* event() -> event that is not set */
static int l_event_new(lua_State *L)
{
    struct l_event *self = lua_newuserdatauv(L, sizeof(*self), 0);

    self->set = false;
    list_init(&self->waiters);
    luaL_setmetatable(L, EVENT_TYPE);
    return 1;
}

static int event_set(lua_State *L)
{
    struct l_event *self = check_event(L);

    self->set = true;
    wake_all(&self->waiters);
    return 0;
}

static int event_clear(lua_State *L)
{
    check_event(L)->set = false;
    return 0;
}

/* event:wait([seconds]) -> true | nil, err */
static int event_wait(lua_State *L)
{
    struct l_event *self = check_event(L);
    double seconds = lua_isnoneornil(L, 2) ? -1 : l_check_seconds(L, 2);
    struct task *task = task_waiter(L);

    if (self->set) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (task->cancel)
        return task_fail_cancelled(L);
    return wait_in(L, &self->waiters, seconds, waited);
}

/* ---- the module's part ---- */

/* running() -> a number that tells this task from others, nil outside */
static int l_running(lua_State *L)
{
    struct task *task = task_running(L);

    if (task == NULL)
        return 0;
    lua_pushinteger(L, (lua_Integer)task->number);
    return 1;
}

static int l_yieldable(lua_State *L)
{
    lua_pushboolean(L, task_can_wait(L));
    return 1;
}

static const luaL_Reg task_methods[] = {
    {"join", task_join},
    {"cancel", l_task_cancel},
    {NULL, NULL},
};

static const luaL_Reg event_methods[] = {
    {"set", event_set},
    {"clear", event_clear},
    {"wait", event_wait},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"sleep", l_sleep},     {"spawn", l_spawn},     {"spawn_detached", l_spawn_detached},
    {"event", l_event_new}, {"running", l_running}, {"yieldable", l_yieldable},
    {NULL, NULL},
};

void l_task_open(lua_State *L)
{
    int core = lua_gettop(L);

    luaL_newmetatable(L, TASK_TYPE);
    luaL_newlib(L, task_methods);
    lua_pushcclosure(L, task_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, task_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, task_close);
    lua_setfield(L, -2, "__close");
    luaL_newmetatable(L, EVENT_TYPE);
    luaL_newlib(L, event_methods);
    lua_setfield(L, -2, "__index");
    lua_settop(L, core);
    luaL_setfuncs(L, functions, 0);
}
