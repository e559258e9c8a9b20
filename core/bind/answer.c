/*
 * What a handler returned or raised, as an answer. A request's task runs up to four functions one
 * after the other, the stages: the handler, what is left to send of its answer, the failure hook
 * when it raised, and what asked to run after the answer.
 */
#include "bind/answer.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "bind/aux.h"
#include "bind/callbacks.h"
#include "bind/l_json.h"
#include "bind/request.h"
#include "bind/vm_priv.h"

#define BARE_BYTES 128

enum stage { STAGE_HANDLER, STAGE_RESPOND, STAGE_FAILURE, STAGE_AFTER };

static void log_failure(const struct request *request, const char *event, const char *message,
                        const char *traceback)
{
    const struct exchange *exchange = request->exchange;
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

/* The answer when there is no hook, the hook failed as well, or there is no way to ask one. */
static struct span prepare_bare(struct request *request, char *text, size_t room)
{
    struct exchange *exchange = request->exchange;
    char id[EXCHANGE_ID_BYTES];

    exchange_id(exchange, id);
    exchange_reset_response(exchange);
    exchange->status = 500;
    fields_add(&exchange->fields, SPAN("Content-Type"), SPAN("text/plain; charset=utf-8"));
    return span_of(text, (size_t)snprintf(text, room, "Internal Server Error (request %s)\n", id));
}

static void finish(struct request *request, struct span content)
{
    struct exchange *exchange = request->exchange;
    char text[BARE_BYTES];
    int code = request_finish(request, content);

    /* Who was told to stop has not written less by mistake. */
    if (code == ERR_INVALID && request->cancel == 0)
        log_failure(request, "response_short", "fewer bytes were written than Content-Length says",
                    NULL);
    if (code == ERR_TOO_LARGE) {
        log_failure(request, "response_long", "the content is longer than Content-Length says",
                    NULL);
        if (exchange->phase == EXCHANGE_OPEN)
            request_finish(request, prepare_bare(request, text, sizeof(text)));
        else
            exchange_fail(exchange);
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

/* First registered, first run. */
static bool push_after(struct request *request, lua_State *T)
{
    if (request->after_ref == LUA_NOREF)
        return false;
    lua_rawgeti(T, LUA_REGISTRYINDEX, request->after_ref);
    bool found = lua_rawgeti(T, -1, ++request->after_next) != LUA_TNIL;

    lua_remove(T, -2);
    return found;
}

static void after_answer(struct request *request)
{
    if (request->end_ref == LUA_NOREF && request->after_ref == LUA_NOREF) {
        request_over(request);
        return;
    }
    if (!request->ending)
        exchange_flush(request->exchange);
    request->ending = true;
    task_reset(request->task);

    lua_State *T = request->task->T;

    if (!callbacks_push_completed(request, T) && !push_after(request, T)) {
        request_over(request);
        return;
    }
    push_box(T, request, BOX_REQUEST, 2);
    push_box(T, request, BOX_RESPONSE, 1);
    run_stage(request, STAGE_AFTER, 2);
}

static int send_whole_k(lua_State *L, int status, lua_KContext sent)
{
    struct request *request = task_running(L)->request;
    struct span content = l_to_span(L, 1);

    (void)status;
    if (request->exchange->phase == EXCHANGE_OPEN &&
        exchange_start(request->exchange, (int64_t)content.len) == ERR_TOO_LARGE)
        return luaL_error(L, "the content is longer than Content-Length says");
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

static int send_started(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return send_whole_k(L, LUA_OK, 0);
}

static int send_whole(lua_State *L)
{
    struct request *request = task_running(L)->request;

    if (callbacks_wait_for_start(request))
        return callbacks_before_start(L, request, send_started, 0);
    return send_whole_k(L, LUA_OK, 0);
}

/* Sends the text at index of T's stack in a stage of its own: its start and room may take a wait.
 */
static void send_in_stage(struct request *request, int index, enum stage stage)
{
    lua_State *T = request->task->T;

    lua_pushvalue(T, index);
    lua_replace(T, 1);
    lua_settop(T, 1);
    lua_pushcfunction(T, send_whole);
    lua_insert(T, 1);
    run_stage(request, stage, 1);
}

/* Content that lies at index of T's stack. */
static void send_string(struct request *request, int index)
{
    lua_State *T = request->task->T;
    struct span content = l_to_span(T, index);

    if (content.len <= EXCHANGE_WHOLE && !callbacks_wait_for_start(request)) {
        finish(request, content);
        after_answer(request);
        return;
    }
    send_in_stage(request, index, STAGE_RESPOND);
}

/* The answer is complete, or as complete as it will be. */
static void answered(struct request *request)
{
    if (callbacks_wait_for_start(request)) {
        lua_pushliteral(request->task->T, "");
        send_in_stage(request, -1, STAGE_RESPOND);
        return;
    }
    if (request->exchange->phase < EXCHANGE_FINISHED)
        finish(request, SPAN_NONE);
    after_answer(request);
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
    if (buf_len(&text) <= EXCHANGE_WHOLE && !callbacks_wait_for_start(request)) {
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

    /* A text and nothing else, the commonest of all, is told by one look. */
    if (results == 1 && lua_type(T, 1) == LUA_TSTRING && exchange->phase == EXCHANGE_OPEN) {
        default_type(exchange, SPAN("text/plain; charset=utf-8"));
        send_string(request, 1);
        return;
    }
    while (results > 0 && lua_isnil(T, results))
        lua_settop(T, --results);
    if (results == 0 || exchange_void(exchange)) {
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
            respond_by_hook(request, results); /* which says whose mistake it is */
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

static void bare_failure(struct request *request)
{
    char text[BARE_BYTES];
    struct span content = prepare_bare(request, text, sizeof(text));

    if (callbacks_wait_for_start(request)) {
        l_push_span(request->task->T, content);
        send_in_stage(request, -1, STAGE_FAILURE);
        return;
    }
    request_finish(request, content);
    after_answer(request);
}

/* All that was declared has been written: an error behind that takes nothing from the client. */
static bool is_complete(const struct exchange *exchange)
{
    return exchange->length >= 0 && exchange->sent == (uint64_t)exchange->length;
}

/*
 * The error value lies on top of L, its message and stack as text below it. A response that has
 * started cannot be taken back: the connection is broken off, so that the client knows.
 */
static void answer_failure(struct request *request, lua_State *L)
{
    struct exchange *exchange = request->exchange;

    if (exchange->phase >= EXCHANGE_STARTED) {
        if (exchange->phase == EXCHANGE_STARTED && is_complete(exchange))
            finish(request, SPAN_NONE);
        else if (exchange->phase == EXCHANGE_STARTED)
            exchange_fail(exchange);
        task_reset(request->task);
        after_answer(request);
        return;
    }
    exchange_reset_response(exchange);
    task_reset(request->task);
    if (request->starting == STARTING_NOW)
        callbacks_skip_start(request); /* they run in another task */

    lua_State *T = request->task->T;

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

/* The error at index is a table that we have made. */
static bool is_own_error(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index))
        return false;
    l_push_error_meta(L);
    bool ours = lua_rawequal(L, -1, -2);

    lua_pop(L, 2);
    return ours;
}

/* The handler passes on that its time is over, which has been told. */
static bool is_time_over(const struct request *request, lua_State *L, int index)
{
    index = lua_absindex(L, index);
    if (request->cancel != ERR_TIMEOUT || !is_own_error(L, index))
        return false;
    lua_pushliteral(L, "code");
    lua_rawget(L, index);
    bool over =
        lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), err_name(ERR_TIMEOUT)) == 0;

    lua_pop(L, 1);
    return over;
}

/*
 * An error of our own that says its status is an answer, not a fault, unless it says 500 or more.
 * Another table's field of that name, such as a foreign server's answer, means something else.
 */
static int status_of_error(lua_State *L, int index)
{
    lua_Integer status = 0;

    index = lua_absindex(L, index);
    if (!is_own_error(L, index))
        return 0;
    lua_pushliteral(L, "status");
    lua_rawget(L, index);
    if (lua_isinteger(L, -1))
        status = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return status >= 400 && status <= 599 ? (int)status : 0;
}

/* Whether the error on top of L is logged. Behind the answer nobody is answered by it. */
static bool is_fault(const struct request *request, lua_State *L)
{
    int status = status_of_error(L, -1);

    if (is_time_over(request, L, -1))
        return false;
    return status == 0 || status >= 500 || request->stage == STAGE_AFTER;
}

static void request_failed(struct request *request, int status)
{
    struct vm *vm = request->vm;
    lua_State *L = vm->L;

    if (status == LUA_ERRMEM) {
        vm->slot->counter[COUNTER_MEMORY_LIMIT]++;
        lua_gc(L, LUA_GCCOLLECT);
    }
    push_task_failure(request->task);
    lua_pushvalue(request->task->T, -1);
    lua_xmove(request->task->T, L, 1);
    if (request->task->killed && request->cancel) {
        log_failure(request, "handler_closed",
                    request->cancel == ERR_TIMEOUT ? "its time was over and the handler went on"
                                                   : "the client left and the handler went on",
                    NULL);
    } else if (is_fault(request, L)) {
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

void answer_stage_ended(struct task *task, int status)
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
