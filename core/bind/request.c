/*
 * From the server to a Lua handler and back: starts the task of a request, turns what the handler
 * returned or raised into an answer, and passes readiness and cancellation on to whoever waits.
 *
 * A request's task runs up to four functions one after the other, the stages: the handler, what is
 * left to send of its answer, the failure hook when it raised, and what asked to run after the
 * answer.
 */
#include "bind/request.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "bind/aux.h"
#include "bind/l_json.h"
#include "bind/vm_priv.h"

enum stage { STAGE_HANDLER, STAGE_RESPOND, STAGE_FAILURE, STAGE_AFTER };

static void request_ended(struct task *task, int status);
static void request_run(struct request *request);

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
    request->number = exchange->number;
    request->task = request->content_waiter = request->room_waiter = NULL;
    request->cancel_ref = request->after_ref = request->cache_ref = LUA_NOREF;
    request->cancel = 0;
    request->after_next = 0;
    request->stage = STAGE_HANDLER;
    request->overridden = false;
    request->allow_synchronous_io = vm->settings->allow_synchronous_io;
    request->throw_write_errors = vm->settings->throw_write_errors;
    request->started_at = request->reading_at = NULL;
    exchange->task = request;
    return request;
}

/* Boxes may outlive the request: its memory is used again, never freed before the state. */
static void request_over(struct request *request)
{
    struct vm *vm = request->vm;
    struct exchange *exchange = request->exchange;
    struct list *node;

    luaL_unref(vm->L, LUA_REGISTRYINDEX, request->cancel_ref);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, request->after_ref);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, request->cache_ref);
    request->exchange = NULL;
    request->number = 0;
    list_append(&vm->idle_requests, &request->node);
    exchange_release(exchange);
    vm->running_requests--;
    if (!list_empty(&vm->queued_requests) &&
        vm->running_requests < (uint64_t)vm->settings->max_concurrent_requests) {
        node = list_take(&vm->queued_requests);
        request_run(LIST_OWNER(node, struct request, node));
    }
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
             (long long)(exchange->head.framing == H1_SIZED ? exchange->head.content_length
                                                            : exchange->content_bytes),
             (long long)exchange->max_content);
    l_fail(L, code, text);
    lua_pushinteger(L, 413);
    lua_setfield(L, -2, "status");
    return 2;
}

/* Where Lua cannot be suspended: the worker itself waits, bounded, or the programmer is told. */
static int wait_blocking(lua_State *L, struct request *request, bool for_content)
{
    int64_t ms = request->vm->settings->cpu_limit_ms;

    if (!request->allow_synchronous_io)
        return luaL_error(L,
                          "cannot wait inside %s, and allow_synchronous_io is false: read and "
                          "write outside of it",
                          task_blocking_function(L));
    return exchange_block(request->exchange, for_content, ms > 60000 ? 60000 : (int)ms);
}

static int request_wait(lua_State *L, struct request *request, enum task_wait wait,
                        struct task **waiter, lua_KFunction k, lua_KContext context)
{
    struct task *task = task_waiter(L);

    if (task->cancel)
        return l_fail(L, task->cancel, NULL);
    if (!task_can_wait(L)) {
        int code = wait_blocking(L, request, wait == WAIT_CONTENT);

        return code < 0 ? l_fail(L, code, NULL) : k(L, LUA_OK, context);
    }
    if (*waiter)
        return luaL_error(L, "another task is %s this %s already",
                          wait == WAIT_CONTENT ? "reading" : "writing",
                          wait == WAIT_CONTENT ? "request's body" : "response");
    *waiter = task;
    return task_park(L, wait, k, context);
}

int request_wait_content(lua_State *L, struct request *request, lua_KFunction k,
                         lua_KContext context)
{
    return request_wait(L, request, WAIT_CONTENT, &request->content_waiter, k, context);
}

int request_wait_room(lua_State *L, struct request *request, lua_KFunction k, lua_KContext context)
{
    return request_wait(L, request, WAIT_ROOM, &request->room_waiter, k, context);
}

/* ---- answering ---- */

static void finish(struct request *request, struct span content)
{
    struct exchange *exchange = request->exchange;
    int code = exchange_finish(exchange, content);

    if (code == ERR_INVALID)
        log_event(LOG_ERROR, "response_short", "fewer bytes were written than Content-Length says");
    if (code == ERR_TOO_LARGE) {
        log_event(LOG_ERROR, "response_long", "the content is longer than Content-Length says");
        exchange_abort(exchange);
    }
}

static void default_type(struct exchange *exchange, struct span type)
{
    if (fields_find_id(&exchange->fields, FIELD_CONTENT_TYPE, 0) == NULL)
        fields_add(&exchange->fields, SPAN("Content-Type"), type);
}

/* Runs a C or Lua function that lies on T below its arguments as the next stage. */
static void run_stage(struct request *request, enum stage stage, int arguments)
{
    request->stage = (uint8_t)stage;
    task_again(request->task, arguments);
}

static void after_answer(struct request *request)
{
    lua_State *T = request->task->T;

    if (request->after_ref == LUA_NOREF) {
        request_over(request);
        return;
    }
    if (request->after_next == 0)
        exchange_flush(request->exchange);
    task_reset(request->task);
    lua_rawgeti(T, LUA_REGISTRYINDEX, request->after_ref);
    /* First registered, first run. */
    if (lua_rawgeti(T, -1, ++request->after_next) == LUA_TNIL) {
        request_over(request);
        return;
    }
    lua_remove(T, -2);
    push_box(T, request, BOX_REQUEST, 2);
    push_box(T, request, BOX_RESPONSE, 1);
    run_stage(request, STAGE_AFTER, 2);
}

/* The answer is complete, or as complete as it will be. */
static void answered(struct request *request)
{
    struct exchange *exchange = request->exchange;

    if (exchange->phase < EXCHANGE_FINISHED)
        finish(request, SPAN_NONE);
    after_answer(request);
}

static int send_whole_k(lua_State *L, int status, lua_KContext sent)
{
    struct request *request = task_running(L)->request;
    struct span content = l_to_span(L, 1);

    (void)status;
    if (request->exchange->phase == EXCHANGE_OPEN)
        exchange_start(request->exchange, (int64_t)content.len);
    while ((size_t)sent < content.len) {
        ssize_t taken = exchange_write(request->exchange,
                                       span_of(content.at + sent, content.len - (size_t)sent));

        if (taken == ERR_AGAIN)
            return request_wait_room(L, request, send_whole_k, sent);
        if (taken < 0)
            return 0; /* the client is gone: nobody to tell */
        sent += taken;
    }
    return 0;
}

int request_send_whole(lua_State *L)
{
    return send_whole_k(L, LUA_OK, 0);
}

/* Content that lies at index of T's stack. */
static void send_string(struct request *request, int index)
{
    lua_State *T = request->task->T;
    struct span content = l_to_span(T, index);

    if (content.len <= EXCHANGE_WHOLE) {
        finish(request, content);
        after_answer(request);
        return;
    }
    lua_pushvalue(T, index);
    lua_replace(T, 1);
    lua_settop(T, 1);
    lua_pushcfunction(T, request_send_whole);
    lua_insert(T, 1);
    run_stage(request, STAGE_RESPOND, 1);
}

static void fail_with(struct request *request, const char *message);

static void send_json(struct request *request, int index)
{
    lua_State *T = request->task->T;
    struct buf text = {0};

    if (l_json_write(T, index, &text) < 0) {
        buf_fini(&text);
        lua_State *L = request->vm->L;

        lua_pushstring(L, lua_tostring(T, -1));
        fail_with(request, lua_tostring(L, -1));
        lua_pop(L, 1);
        return;
    }
    default_type(request->exchange, SPAN("application/json"));
    if (buf_len(&text) <= EXCHANGE_WHOLE) {
        finish(request, buf_span(&text));
        buf_fini(&text);
        after_answer(request);
        return;
    }
    lua_settop(T, 0);
    l_push_span(T, buf_span(&text));
    buf_fini(&text);
    send_string(request, 1);
}

/* Anything but the common cases: the Lua library's respond(req, res, …). */
static void respond_by_hook(struct request *request, int results)
{
    lua_State *T = request->task->T;

    if (!vm_push_hook(request->vm, T, "respond")) {
        fail_with(request, "the handler returned something that is no answer");
        return;
    }
    lua_insert(T, 1);
    push_box(T, request, BOX_REQUEST, 2);
    lua_insert(T, 2);
    push_box(T, request, BOX_RESPONSE, 1);
    lua_insert(T, 3);
    run_stage(request, STAGE_RESPOND, results + 2);
}

/* The four rules of what a handler returns (lua-api-notes section 1). */
static void respond(struct request *request)
{
    struct exchange *exchange = request->exchange;
    lua_State *T = request->task->T;
    int results = lua_gettop(T), content = 1;

    while (results > 0 && lua_isnil(T, results))
        lua_settop(T, --results);
    if (results == 0 || exchange->phase == EXCHANGE_ABORTED) {
        answered(request);
        return;
    }
    /* `return res:write(…)` hands on its true, or its nil and error: that is no second answer. */
    if (exchange->phase >= EXCHANGE_STARTED && (lua_isnil(T, 1) || lua_isboolean(T, 1))) {
        answered(request);
        return;
    }
    if (exchange->phase >= EXCHANGE_STARTED) {
        char message[256];

        snprintf(message, sizeof(message),
                 "the handler wrote to res (at %s) and also returned a value: do one of the two",
                 request->started_at ? request->started_at : "?");
        fail_with(request, message);
        return;
    }
    if (lua_type(T, 1) == LUA_TNUMBER) {
        lua_Integer status = lua_tointeger(T, 1);

        if (!lua_isinteger(T, 1) || status < 200 || status > 999) {
            fail_with(request, "the handler returned a number that is no status (200 to 999)");
            return;
        }
        exchange->status = (int)status;
        content = 2;
    }
    if (results < content) {
        answered(request);
    } else if (results > content) {
        respond_by_hook(request, results);
    } else if (lua_type(T, content) == LUA_TSTRING) {
        default_type(exchange, SPAN("text/plain; charset=utf-8"));
        send_string(request, content);
    } else if (lua_type(T, content) == LUA_TTABLE) {
        send_json(request, content);
    } else {
        respond_by_hook(request, results);
    }
}

/* ---- failing ---- */

static void log_failure(struct request *request, const char *event, const char *message,
                        const char *traceback)
{
    struct exchange *exchange = request->exchange;
    struct log_line line;
    char id[EXCHANGE_ID_BYTES];

    log_begin(&line, LOG_ERROR, event, message);
    log_span(&line, "request", span_of(id, exchange_id(exchange, id)));
    log_span(&line, "method", exchange->head.method);
    log_span(&line, "target", exchange->head.target.raw);
    if (traceback)
        log_str(&line, "traceback", traceback);
    log_end(&line);
}

/* The last word: no hook, or the hook failed as well. */
static void bare_failure(struct request *request)
{
    struct exchange *exchange = request->exchange;
    char text[128], id[EXCHANGE_ID_BYTES];

    if (exchange->phase >= EXCHANGE_STARTED) {
        exchange_abort(exchange);
    } else {
        exchange_id(exchange, id);
        exchange_reset_response(exchange);
        exchange->status = 500;
        default_type(exchange, SPAN("text/plain; charset=utf-8"));
        int len = snprintf(text, sizeof(text), "Internal Server Error (request %s)\n", id);
        finish(request, span_of(text, (size_t)len));
    }
    after_answer(request);
}

/*
 * The error value lies on top of L, its message and stack as text below it. A response that has
 * started cannot be taken back: the connection is broken off, so that the client knows.
 */
static void answer_failure(struct request *request, lua_State *L)
{
    struct exchange *exchange = request->exchange;
    lua_State *T = request->task->T;

    if (exchange->phase >= EXCHANGE_STARTED) {
        if (exchange->phase == EXCHANGE_STARTED)
            exchange_abort(exchange);
        task_reset(request->task);
        after_answer(request);
        return;
    }
    exchange_reset_response(exchange);
    task_reset(request->task);
    if (request->stage == STAGE_FAILURE || !vm_push_hook(request->vm, T, "failure")) {
        bare_failure(request);
        return;
    }
    push_box(T, request, BOX_REQUEST, 2);
    push_box(T, request, BOX_RESPONSE, 1);
    lua_pushvalue(L, -1);
    lua_pushvalue(L, -3);
    lua_xmove(L, T, 2);
    run_stage(request, STAGE_FAILURE, 4);
}

/* An error that the binding itself found. */
static void fail_with(struct request *request, const char *message)
{
    lua_State *L = request->vm->L;

    log_failure(request, "handler_failed", message, NULL);
    request->vm->slot->counter[COUNTER_HANDLER_ERRORS]++;
    lua_pushstring(L, message);
    lua_pushvalue(L, -1);
    answer_failure(request, L);
    lua_pop(L, 2);
}

/*
 * An error of our own that says its status is an answer, not a fault, unless it says 500 or more.
 * Another table's field of that name, such as a foreign server's answer, means something else.
 */
static int status_of_error(lua_State *L, int index)
{
    lua_Integer status = 0;

    index = lua_absindex(L, index);
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index))
        return 0;
    l_push_error_meta(L);
    bool ours = lua_rawequal(L, -1, -2);

    lua_pop(L, 2);
    if (!ours)
        return 0;
    lua_pushliteral(L, "status");
    lua_rawget(L, index);
    if (lua_isinteger(L, -1))
        status = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return status >= 400 && status <= 599 ? (int)status : 0;
}

/* May raise only for want of memory; the caller is protected. In: request; out: text, error value.
 */
static int describe_failure(lua_State *L)
{
    struct request *request = lua_touserdata(L, 1);
    lua_State *T = request->task->T;

    lua_settop(L, 0);
    push_failure(L, T, -1);
    lua_pushvalue(T, -1);
    lua_xmove(T, L, 1);
    return 2;
}

static void request_failed(struct request *request, int status)
{
    struct vm *vm = request->vm;
    lua_State *L = vm->L;

    if (status == LUA_ERRMEM) {
        vm->slot->counter[COUNTER_MEMORY_LIMIT]++;
        lua_gc(L, LUA_GCCOLLECT);
    }
    lua_pushcfunction(L, describe_failure);
    lua_pushlightuserdata(L, request);
    if (lua_pcall(L, 1, 2, 0) != LUA_OK) {
        lua_settop(L, -2);
        lua_pushliteral(L, "not enough memory");
        lua_pushliteral(L, "not enough memory");
    }
    if (request->task->killed && request->cancel) {
        log_failure(request, "handler_closed", "the client left and the handler went on", NULL);
    } else if (status_of_error(L, -1) == 0 || status_of_error(L, -1) >= 500) {
        const char *text = lua_tostring(L, -2), *stack = text ? strchr(text, '\n') : NULL;

        vm->slot->counter[COUNTER_HANDLER_ERRORS]++;
        lua_pushlstring(L, text ? text : "error",
                        stack ? (size_t)(stack - text) : strlen(text ? text : "error"));
        log_failure(request, status == LUA_ERRMEM ? "memory_limit" : "handler_failed",
                    lua_tostring(L, -1), stack ? stack + 1 : NULL);
        lua_pop(L, 1);
    }
    answer_failure(request, L);
    lua_pop(L, 2);
}

static void request_ended(struct task *task, int status)
{
    struct request *request = task->owner;

    if (status != LUA_OK && request->stage == STAGE_AFTER) {
        request_failed(request, status); /* logged; the answer is out */
        return;
    }
    if (status != LUA_OK)
        request_failed(request, status);
    else if (request->stage == STAGE_HANDLER)
        respond(request);
    else if (request->stage == STAGE_AFTER)
        after_answer(request);
    else
        answered(request);
}

/* ---- what the server calls ---- */

static void request_run(struct request *request)
{
    struct vm *vm = request->vm;
    struct task *task = task_new(vm, request_ended, request);

    vm->running_requests++;
    task->request = request;
    task->request_number = request->number;
    request->task = task;
    if (request->cancel)
        task->cancel = request->cancel;
    lua_rawgeti(task->T, LUA_REGISTRYINDEX, request->app->handler_ref);
    push_box(task->T, request, BOX_REQUEST, 2);
    push_box(task->T, request, BOX_RESPONSE, 1);
    task_start(task, 2);
}

static void on_start(void *context, struct exchange *exchange)
{
    struct lua_app *app = context;
    struct vm *vm = app->vm;
    struct request *request = request_new(app, exchange);

    if (vm->running_requests >= (uint64_t)vm->settings->max_concurrent_requests)
        list_append(&vm->queued_requests, &request->node);
    else
        request_run(request);
}

static void on_readable(struct exchange *exchange)
{
    struct request *request = exchange->task;
    struct task *task = request->content_waiter;

    request->content_waiter = NULL;
    if (task)
        task_wake(task, WAIT_CONTENT, 0);
}

static void on_writable(struct exchange *exchange)
{
    struct request *request = exchange->task;
    struct task *task = request->room_waiter;

    request->room_waiter = NULL;
    if (task)
        task_wake(task, WAIT_ROOM, 0);
}

static void cancel_function_ended(struct task *task, int status)
{
    if (status == LUA_OK)
        return;
    lua_State *L = task->vm->L;

    push_failure(L, task->T, -1);
    log_event(LOG_ERROR, "on_cancel_failed", "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
}

static void on_cancelled(struct exchange *exchange, int code)
{
    struct request *request = exchange->task;
    struct vm *vm = request->vm;

    if (request == NULL)
        return;
    request->cancel = code;
    request->content_waiter = request->room_waiter = NULL;
    if (request->task == NULL)
        return; /* still queued: it runs, and its first wait tells it */
    task_cancel(request->task, code);
    if (request->cancel_ref == LUA_NOREF)
        return;
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, request->cancel_ref);
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(vm->L, -1); i <= n; i++) {
        struct task *task = task_new(vm, cancel_function_ended, NULL);

        lua_rawgeti(vm->L, -1, i);
        lua_xmove(vm->L, task->T, 1);
        lua_pushstring(task->T, err_name(code));
        task->detached = true;
        task_again(task, 1);
    }
    lua_pop(vm->L, 1);
}

void requests_init(struct vm *vm)
{
    list_init(&vm->idle_requests);
    list_init(&vm->queued_requests);
}

void lua_app_init(struct lua_app *app, struct vm *vm)
{
    app->vm = vm;
    app->handler_ref = LUA_NOREF;
    app->handler = (struct handler){
        .context = app,
        .start = on_start,
        .readable = on_readable,
        .writable = on_writable,
        .cancelled = on_cancelled,
    };
}

void requests_fini(struct vm *vm)
{
    struct list *node;

    while ((node = list_take(&vm->queued_requests)) != NULL) {
        struct request *request = LIST_OWNER(node, struct request, node);

        exchange_release(request->exchange);
        mem_free(request);
    }
    while ((node = list_take(&vm->idle_requests)) != NULL)
        mem_free(LIST_OWNER(node, struct request, node));
}
