/*
 * From the server to a Lua handler: starts the task of a request, lets it wait for content and
 * room, and passes readiness and cancellation on to whoever waits. How the request is answered is
 * in answer.c.
 */
#include "bind/request.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "bind/answer.h"
#include "bind/aux.h"
#include "bind/vm_priv.h"
#include "http/h2.h"

/* ---- life ---- */

static struct request *request_new(struct lua_app *app, struct exchange *exchange)
{
    struct vm *vm = app->vm;
    struct list *node = list_take(&vm->idle_requests);
    struct request *request =
        node ? LIST_OWNER(node, struct request, node) : mem_zalloc(sizeof(*request));

    list_init(&request->node);
    request->vm = vm;
    request->app = app;
    request->exchange = exchange;
    request->number = ++vm->last_request;
    request->task = request->content_waiter = request->room_waiter = NULL;
    request->certificate_waiter = NULL;
    request->cancel_ref = request->after_ref = request->cache_ref = LUA_NOREF;
    request->start_ref = request->end_ref = LUA_NOREF;
    request->starting = STARTING_LATER;
    request->ending = false;
    request->cancel = 0;
    request->blocked_ms = 0;
    request->after_next = 0;
    request->header_bytes = 0;
    request->stage = 0; /* the handler */
    request->overridden = false;
    request->allow_synchronous_io = vm->settings->allow_synchronous_io;
    request->throw_write_errors = vm->settings->throw_write_errors;
    request->started_at = request->reading_at = NULL;
    exchange->task = request;
    return request;
}

/* Most requests have none. */
static void release_refs(const struct request *request)
{
    lua_State *L = request->vm->L;

    if (request->cancel_ref != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, request->cancel_ref);
    if (request->after_ref != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, request->after_ref);
    if (request->start_ref != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, request->start_ref);
    if (request->end_ref != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, request->end_ref);
    if (request->cache_ref != LUA_NOREF)
        luaL_unref(L, LUA_REGISTRYINDEX, request->cache_ref);
}

/* Boxes may outlive the request: its memory is used again, never freed before the state. */
static void request_free(struct request *request)
{
    struct exchange *exchange = request->exchange;

    request->exchange = NULL;
    request->number = 0;
    list_append(&request->vm->idle_requests, &request->node);
    exchange_release(exchange);
}

static void wake_waiters(struct request *request, bool reader, bool writer, int code)
{
    if (reader && request->content_waiter)
        task_wake(request->content_waiter, WAIT_CONTENT, code);
    if (writer && request->room_waiter)
        task_wake(request->room_waiter, WAIT_ROOM, code);
}

static void wake_certificate_waiter(struct request *request, int code)
{
    if (request->certificate_waiter)
        task_wake(request->certificate_waiter, WAIT_EVENT, code);
}

/* A task that is not the request's own may still wait for something of it. */
void request_over(struct request *request)
{
    wake_waiters(request, true, true, ERR_CLOSED);
    wake_certificate_waiter(request, ERR_CLOSED);
    release_refs(request);
    request_free(request);
}

/* Cheaper than luaL_checkudata, which looks the type's name up for each call of a method. */
struct request_box *check_box(lua_State *L, int index, enum box_type type)
{
    struct request_box *box = lua_touserdata(L, index);

    if (box == NULL || lua_rawlen(L, index) != sizeof(*box) || box->type != type) {
        const struct vm *vm = vm_of(L);

        lua_rawgeti(L, LUA_REGISTRYINDEX, vm->box_metatables[type - BOX_REQUEST]);
        lua_getfield(L, -1, "__name");
        luaL_typeerror(L, index, lua_tostring(L, -1));
    }
    return box;
}

struct request *check_request(lua_State *L, int index, enum box_type type)
{
    struct request_box *box = check_box(L, index, type);

    if (box->request->number != box->number)
        luaL_error(L, "request %I has ended: take what you need from it before the handler returns",
                   (LUAI_UACINT)box->number);
    return box->request;
}

struct request_box *push_box(lua_State *L, struct request *request, enum box_type type, int values)
{
    struct request_box *box = lua_newuserdatauv(L, sizeof(*box), values);

    box->type = (uint16_t)type;
    box->which = 0;
    box->request = request;
    box->number = request->number;
    lua_rawgeti(L, LUA_REGISTRYINDEX, request->vm->box_metatables[type - BOX_REQUEST]);
    lua_setmetatable(L, -2);
    return box;
}

void new_box_metatable(lua_State *L, enum box_type type, const char *name)
{
    luaL_newmetatable(L, name);
    lua_pushvalue(L, -1);
    vm_of(L)->box_metatables[type - BOX_REQUEST] = luaL_ref(L, LUA_REGISTRYINDEX);
}

const char *request_here(lua_State *L, struct request *request)
{
    lua_Debug frame;
    char place[LUA_IDSIZE + 16];

    for (int level = 1; lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "Sl", &frame);
        if (frame.currentline <= 0)
            continue;
        int len = snprintf(place, sizeof(place), "%s:%d", frame.short_src, frame.currentline);
        return arena_copy(&request->exchange->arena, span_of(place, (size_t)len)).at;
    }
    return "the server";
}

void request_add_function(lua_State *L, int *ref)
{
    if (*ref == LUA_NOREF) {
        lua_newtable(L);
        *ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, *ref);
    lua_insert(L, -2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

/* ---- waiting ---- */

int request_fail(lua_State *L, struct request *request, int code)
{
    char text[160];

    if (code != ERR_TOO_LARGE)
        return l_fail(L, code, code == ERR_INVALID ? "the request's content is malformed" : NULL);
    struct exchange *exchange = request->exchange;

    snprintf(text, sizeof(text),
             "the request's content is larger than max_request_body_size (%lld bytes, limit %lld)",
             (long long)(exchange->head.framing == FRAMING_SIZED ? exchange->head.content_length
                                                                 : exchange->content_bytes),
             (long long)exchange->max_content);
    l_fail(L, code, text);
    lua_pushinteger(L, 413);
    lua_setfield(L, -2, "status");
    return 2;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int refuse_second(lua_State *L, enum task_wait wait)
{
    return luaL_error(L, "another task is %s already",
                      wait == WAIT_CONTENT ? "reading this request's body"
                      : wait == WAIT_ROOM  ? "writing this response"
                                           : "asking for this client's certificate");
}

/*
 * Where Lua cannot be suspended the worker itself waits. Bounded over all waits of the request, or
 * a client that sends a byte now and then would keep the worker.
 */
static int wait_blocking(lua_State *L, struct request *request, bool for_content)
{
    int64_t left = request->vm->settings->cpu_limit_ms - request->blocked_ms, since = now_ms();

    if (for_content ? request->content_waiter : request->room_waiter)
        return refuse_second(L, for_content ? WAIT_CONTENT : WAIT_ROOM);
    if (left <= 0)
        return ERR_TIMEOUT;
    int code = exchange_block(request->exchange, for_content, left > 60000 ? 60000 : (int)left);

    request->blocked_ms += now_ms() - since + 1;
    return code;
}

void request_check_io(lua_State *L, const struct request *request)
{
    if (!request->allow_synchronous_io && !task_can_wait(L))
        luaL_error(L,
                   "cannot wait inside %s, and allow_synchronous_io is false: read and write "
                   "outside of it",
                   task_blocking_function(L));
}

int request_content(lua_State *L, struct request *request, struct span *run)
{
    int code;

    while ((code = exchange_content(request->exchange, run)) == ERR_AGAIN && !task_can_wait(L))
        if ((code = wait_blocking(L, request, true)) < 0)
            break;
    return code;
}

ssize_t request_write(lua_State *L, struct request *request, struct span data)
{
    ssize_t code;

    while ((code = exchange_write(request->exchange, data)) == ERR_AGAIN && !task_can_wait(L))
        if ((code = wait_blocking(L, request, false)) < 0)
            break;
    return code;
}

int request_finish(struct request *request, struct span data)
{
    int code = exchange_finish(request->exchange, data);

    if (request->exchange->phase >= EXCHANGE_FINISHED)
        wake_waiters(request, true, true, 0); /* they look again, and find the end */
    return code;
}

static int request_wait(lua_State *L, enum task_wait wait, struct task **waiter, lua_KFunction k,
                        lua_KContext context)
{
    struct task *task = task_waiter(L);

    if (task->cancel)
        return task_fail_cancelled(L);
    if (*waiter)
        return refuse_second(L, wait);
    if (!task_can_wait(L))
        return task_refuse_wait(L);
    task_wait_at(task, waiter);
    return task_park(L, wait, k, context);
}

int request_wait_content(lua_State *L, struct request *request, lua_KFunction k,
                         lua_KContext context)
{
    return request_wait(L, WAIT_CONTENT, &request->content_waiter, k, context);
}

int request_wait_room(lua_State *L, struct request *request, lua_KFunction k, lua_KContext context)
{
    return request_wait(L, WAIT_ROOM, &request->room_waiter, k, context);
}

int request_wait_certificate(lua_State *L, struct request *request, lua_KFunction k,
                             lua_KContext context)
{
    return request_wait(L, WAIT_EVENT, &request->certificate_waiter, k, context);
}

/* ---- what the server calls ---- */

/* An exact route is found here, which spares Lua a call and two look-ups; else the app itself is
 * run. */
static void push_handler(const struct request *request, lua_State *T)
{
    const struct lua_app *app = request->app;
    const struct exchange *exchange = request->exchange;

    if (app->routes_ref != LUA_NOREF) {
        lua_rawgeti(T, LUA_REGISTRYINDEX, app->routes_ref);
        l_push_span(T, exchange->path);
        if (lua_rawget(T, -2) == LUA_TTABLE) {
            l_push_span(T, exchange->head.method);
            if (lua_rawget(T, -2) == LUA_TFUNCTION) {
                lua_replace(T, 1);
                lua_settop(T, 1);
                return;
            }
        }
        lua_settop(T, 0);
    }
    lua_rawgeti(T, LUA_REGISTRYINDEX, app->handler_ref);
}

/* How many of req and res the function at 1 takes: what nobody can see is not made. */
static int arguments_of_handler(const struct lua_app *app, lua_State *T)
{
    int arguments = 2;

    if (app->few_ref == LUA_NOREF)
        return arguments;
    lua_rawgeti(T, LUA_REGISTRYINDEX, app->few_ref);
    lua_pushvalue(T, 1);
    if (lua_rawget(T, 2) == LUA_TNUMBER)
        arguments = (int)lua_tointeger(T, -1);
    lua_settop(T, 1);
    return arguments;
}

/* The task that runs the handler, its function and arguments on the stack. */
static struct task *request_task(struct request *request)
{
    struct vm *vm = request->vm;
    struct task *task = task_new(vm, answer_stage_ended, request);

    task->request = request;
    task->request_number = request->number;
    request->task = task;
    push_handler(request, task->T);
    task->arguments = arguments_of_handler(request->app, task->T);
    if (task->arguments > 0)
        push_box(task->T, request, BOX_REQUEST, 2);
    if (task->arguments > 1)
        push_box(task->T, request, BOX_RESPONSE, 1);
    return task;
}

static void on_start(void *context, struct exchange *exchange)
{
    struct task *task = request_task(request_new(context, exchange));

    task_start(task, task->arguments);
}

static void on_readable(struct exchange *exchange)
{
    wake_waiters(exchange->task, true, false, 0);
}

static void on_writable(struct exchange *exchange)
{
    wake_waiters(exchange->task, false, true, 0);
}

static void on_certified(struct exchange *exchange)
{
    wake_certificate_waiter(exchange->task, 0);
}

static void cancel_function_ended(struct task *task, int status)
{
    if (status == LUA_OK)
        return;
    lua_State *L = task->vm->L;

    push_task_failure(task);
    log_event(LOG_ERROR, "on_cancel_failed", "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
}

void request_tell_cancel(lua_State *L, struct request *request)
{
    struct vm *vm = request->vm;

    vm_lift_limit(vm); /* Lua may be running: a write found that the client is gone */
    struct task *task = task_new(vm, cancel_function_ended, NULL);

    lua_xmove(L, task->T, 1);
    lua_pushstring(task->T, err_name(request->cancel));
    task->detached = true;
    task_again(task, 1);
    vm_set_limit(vm);
}

static void run_cancel_functions(struct request *request)
{
    lua_State *L = request->vm->L;

    lua_rawgeti(L, LUA_REGISTRYINDEX, request->cancel_ref);
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
        lua_rawgeti(L, -1, i);
        request_tell_cancel(L, request);
    }
    lua_pop(L, 1);
}

static void cancel_running(struct request *request, int code)
{
    request->cancel = code;
    /* First, so that they still find the request when its handler has nothing more to do. */
    if (request->cancel_ref != LUA_NOREF)
        run_cancel_functions(request);
    task_cancel(request->task, code);
    wake_certificate_waiter(request, code);
    wake_waiters(request, true, true, code); /* also those that are not the request's own */
}

void request_reset(struct request *request, uint32_t code)
{
    if (request->exchange->phase < EXCHANGE_FINISHED && request->cancel == 0)
        cancel_running(request, ERR_CLOSED); /* else its functions have been told why */
    exchange_reset(request->exchange, code);
}

void request_abort(struct request *request)
{
    if (request->exchange->phase < EXCHANGE_FINISHED)
        request_reset(request, H2_CANCEL);
}

static void on_cancelled(struct exchange *exchange, int code)
{
    struct request *request = exchange->task;

    if (request == NULL)
        return;
    cancel_running(request, code);
}

void requests_init(struct vm *vm)
{
    list_init(&vm->idle_requests);
}

void lua_app_init(struct lua_app *app, struct vm *vm)
{
    app->vm = vm;
    app->handler_ref = app->routes_ref = app->few_ref = LUA_NOREF;
    app->handler = (struct handler){
        .context = app,
        .start = on_start,
        .readable = on_readable,
        .writable = on_writable,
        .certified = on_certified,
        .cancelled = on_cancelled,
    };
}

void requests_fini(struct vm *vm)
{
    struct list *node;

    while ((node = list_take(&vm->idle_requests)) != NULL)
        mem_free(LIST_OWNER(node, struct request, node));
}

/* Notes in the table at few how many arguments the function on top takes, if fewer than two. */
static void note_arguments(lua_State *L, int few)
{
    lua_Debug info;

    if (!lua_isfunction(L, -1))
        return;
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">u", &info);
    if (info.isvararg || info.nparams >= 2)
        return;
    lua_pushvalue(L, -1);
    lua_pushinteger(L, info.nparams);
    lua_rawset(L, few);
}

static void note_routes(lua_State *L, int routes, int few)
{
    for (lua_pushnil(L); lua_next(L, routes); lua_pop(L, 1)) {
        if (!lua_istable(L, -1))
            continue;
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
            note_arguments(L, few);
    }
}

void lua_app_take(struct lua_app *app, lua_State *L)
{
    int routes = lua_gettop(L), few = routes + 1;

    lua_newtable(L);
    lua_pushvalue(L, routes - 1);
    note_arguments(L, few);
    lua_pop(L, 1);
    if (lua_istable(L, routes))
        note_routes(L, routes, few);
    lua_pushnil(L);
    if (lua_next(L, few)) {
        lua_pop(L, 2);
        app->few_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    } else {
        lua_pop(L, 1);
    }
    if (lua_istable(L, routes))
        app->routes_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    else
        lua_pop(L, 1);
    app->handler_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void lua_app_fini(struct lua_app *app)
{
    luaL_unref(app->vm->L, LUA_REGISTRYINDEX, app->handler_ref);
    luaL_unref(app->vm->L, LUA_REGISTRYINDEX, app->routes_ref);
    luaL_unref(app->vm->L, LUA_REGISTRYINDEX, app->few_ref);
    app->handler_ref = app->routes_ref = LUA_NOREF;
}
