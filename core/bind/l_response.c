/*
 * res: status, headers and content of the answer. Content is handed to the exchange piece by piece;
 * where the client is slow, the task waits.
 */
#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "bind/aux.h"
#include "bind/callbacks.h"
#include "bind/l_json.h"
#include "bind/request.h"
#include "bind/vm_priv.h"
#include "http/status.h"
#include "server/exchange.h"

enum { VALUE_HEADERS = 1 };

/* False: nobody gets the answer, and what a handler still does to it is no mistake, but nothing. */
static bool check_unstarted(lua_State *L, struct request *request, const char *what)
{
    if (exchange_void(request->exchange))
        return false;
    if (request->exchange->phase >= EXCHANGE_STARTED)
        luaL_error(L, "the response started at %s: its %s can no longer be changed",
                   request->started_at ? request->started_at : "the end of the handler", what);
    return true;
}

/* Remembers where a response is started by Lua code, for check_unstarted. */
static void begin_write(lua_State *L, struct request *request)
{
    request_check_io(L, request);
    if (request->exchange->phase == EXCHANGE_OPEN)
        request->started_at = request_here(L, request);
}

/* ---- writing ---- */

/*
 * The client is gone: nothing happens to the answer any more. HTTP.sys's ThrowWriteExceptions
 * decides whether that is an error (reference section 8.5).
 */
static int write_failed(lua_State *L, struct request *request, int code)
{
    if (code == ERR_TOO_LARGE)
        return luaL_error(L, "more content than the Content-Length header says");
    if (code == ERR_STATE && !exchange_void(request->exchange))
        return luaL_error(L, "the response has been finished");
    if ((code == ERR_CLOSED || code == ERR_STATE) && request->cancel)
        code = request->cancel; /* the same, more exactly */
    /* Something is missing: the client must not take what it got for the whole answer. */
    if (request->cancel || request->exchange->phase == EXCHANGE_STARTED)
        request_abort(request);
    l_fail(L, code, NULL);
    return request->throw_write_errors ? lua_error(L) : 2;
}

/* Nothing is written any more, but a handler that goes on writing lets others run. */
static int write_cancelled(lua_State *L, int status, lua_KContext code)
{
    (void)status;
    return write_failed(L, check_request(L, 1, BOX_RESPONSE), (int)code);
}

/* A writer that was cancelled does not wait: what it has not written yet is missing. */
static int wait_room(lua_State *L, struct request *request, lua_KFunction k, lua_KContext context)
{
    int cancel = task_waiter(L)->cancel;

    if (cancel)
        return task_give_turn(L, write_cancelled, cancel);
    return request_wait_room(L, request, k, context);
}

static int write_k(lua_State *L, int status, lua_KContext written)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);
    struct span data = l_to_span(L, 2);

    if (status == LUA_YIELD && task_waiter(L)->woken < 0)
        return write_failed(L, request, task_waiter(L)->woken);
    while ((size_t)written < data.len) {
        ssize_t taken =
            request_write(L, request, span_of(data.at + written, data.len - (size_t)written));

        if (taken == ERR_AGAIN)
            return wait_room(L, request, write_k, written);
        if (taken < 0)
            return write_failed(L, request, (int)taken);
        written += taken;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/*
 * 0, or why nothing can be written: the client is gone, or the writer is a task that was cancelled,
 * whose piece would be missing in what others write (reference section 8.5). The request's own task
 * is cancelled with it, or for an answer that says so.
 */
static int writer_cancelled(lua_State *L, struct request *request)
{
    const struct task *writer = task_waiter(L);

    if (request->cancel)
        return request->cancel;
    if (writer->cancel == 0 || writer == request->task)
        return 0;
    request_abort(request);
    return writer->cancel;
}

static int write_now(lua_State *L, struct request *request)
{
    struct span data = l_to_span(L, 2);

    /* Empty content starts the response all the same. */
    if (data.len == 0) {
        ssize_t code = exchange_write(request->exchange, data);

        if (code < 0)
            return write_failed(L, request, (int)code);
    }
    return write_k(L, LUA_OK, 0);
}

static int write_started(lua_State *L, int status, lua_KContext context)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);
    int cancel = writer_cancelled(L, request); /* while on_starting functions waited */

    (void)status;
    (void)context;
    return cancel < 0 ? task_give_turn(L, write_cancelled, cancel) : write_now(L, request);
}

/* res:write(data) -> true | nil, err; waits while the client is slow */
static int response_write(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);

    l_check_span(L, 2);
    lua_settop(L, 2);
    int cancel = writer_cancelled(L, request);

    if (cancel < 0)
        return task_give_turn(L, write_cancelled, cancel);
    begin_write(L, request);
    if (callbacks_wait_for_start(request))
        return callbacks_before_start(L, request, write_started, 0);
    return write_now(L, request);
}

static int flush_started(lua_State *L, int status, lua_KContext context)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);
    int code = exchange_flush(request->exchange);

    (void)status;
    (void)context;
    if (code < 0)
        return write_failed(L, request, code);
    lua_pushboolean(L, 1);
    return 1;
}

/* res:flush() -> true | nil, err: what was written goes out now and not at the next wait */
static int response_flush(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);

    begin_write(L, request);
    if (callbacks_wait_for_start(request))
        return callbacks_before_start(L, request, flush_started, 0);
    return flush_started(L, LUA_OK, 0);
}

static int finish_now(lua_State *L, struct request *request, struct span data)
{
    int code = request_finish(request, data);

    if (code == ERR_INVALID)
        return luaL_error(L, "fewer bytes were written than the Content-Length header says");
    if (code < 0 && data.len == 0) /* only the end could not be sent: never an error */
        return l_fail(L, request->cancel ? request->cancel : code, NULL);
    if (code < 0)
        return write_failed(L, request, code);
    lua_pushboolean(L, 1);
    return 1;
}

static int finish_k(lua_State *L, int status, lua_KContext written)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);
    struct span data = l_to_span(L, 2);

    if (status == LUA_YIELD && task_waiter(L)->woken < 0)
        return write_failed(L, request, task_waiter(L)->woken);
    if (written == 0 && request->exchange->phase == EXCHANGE_OPEN && data.len > EXCHANGE_WHOLE) {
        int code = exchange_start(request->exchange, (int64_t)data.len);

        if (code < 0)
            return write_failed(L, request, code);
    }
    while (data.len - (size_t)written > EXCHANGE_WHOLE / 2 &&
           request->exchange->phase == EXCHANGE_STARTED) {
        ssize_t taken =
            request_write(L, request, span_of(data.at + written, data.len - (size_t)written));

        if (taken == ERR_AGAIN)
            return wait_room(L, request, finish_k, written);
        if (taken < 0)
            return write_failed(L, request, (int)taken);
        written += taken;
    }
    return finish_now(L, request, span_of(data.at + written, data.len - (size_t)written));
}

static int finish_started(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return finish_k(L, LUA_OK, 0);
}

/* As soon as the response may start. */
static int finish_when_ready(lua_State *L, struct request *request)
{
    begin_write(L, request);
    if (callbacks_wait_for_start(request))
        return callbacks_before_start(L, request, finish_started, 0);
    return finish_k(L, LUA_OK, 0);
}

/* res:finish([data]) -> true | nil, err: the answer is complete; the handler may go on */
static int response_finish(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);

    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pushliteral(L, "");
        lua_replace(L, 2);
    }
    luaL_checkstring(L, 2);
    return finish_when_ready(L, request);
}

/* res:json(value [, status]) -> true | nil, err: the whole answer */
static int response_json(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);
    struct buf text = {0};

    luaL_checkany(L, 2);
    if (!check_unstarted(L, request, "content"))
        return write_failed(L, request, ERR_CLOSED);
    begin_write(L, request); /* may raise: before there is a text to lose */
    if (!lua_isnoneornil(L, 3)) {
        lua_Integer status = luaL_checkinteger(L, 3);

        luaL_argcheck(L, status >= 200 && status <= 999, 3, "a status is 200 to 999");
        request->exchange->status = (int)status;
    }
    if (l_json_write(L, 2, &text) < 0) {
        buf_fini(&text);
        return luaL_error(L, "%s", lua_tostring(L, -1));
    }
    struct fields *fields = &request->exchange->fields;

    if (fields_find_id(fields, FIELD_CONTENT_TYPE, 0) == NULL)
        fields_add(fields, SPAN("Content-Type"), SPAN("application/json"));
    if (buf_len(&text) <= EXCHANGE_WHOLE && !callbacks_wait_for_start(request)) {
        int code = request_finish(request, buf_span(&text));

        buf_fini(&text);
        if (code < 0)
            return write_failed(L, request, code);
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_settop(L, 1);
    l_push_buf(L, &text);
    return finish_when_ready(L, request);
}

static int response_informational(lua_State *L);

/* There is room again, or the client is gone. */
static int informational_k(lua_State *L, int status, lua_KContext context)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);
    int code = task_waiter(L)->woken;

    (void)status;
    (void)context;
    return code < 0 ? write_failed(L, request, code) : response_informational(L);
}

/* res:informational(status, headers) -> true | nil, err: 103 Early Hints and its like */
static int response_informational(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);
    lua_Integer status = luaL_checkinteger(L, 2);
    struct fields fields;

    luaL_argcheck(
        L, status >= 102 && status <= 199, 2,
        "an informational status is 102 to 199; 100 is sent at the first read of the body");
    fields_init(&fields, &request->exchange->arena);
    if (!lua_isnoneornil(L, 3))
        l_fields_from_table(L, 3, request, &fields);
    int code = exchange_inform(request->exchange, (int)status, &fields);

    if (code == ERR_AGAIN)
        return request_wait_room(L, request, informational_k, 0);
    if (code == ERR_STATE)
        check_unstarted(L, request, "interim responses");
    if (code < 0)
        return write_failed(L, request, code);
    lua_pushboolean(L, 1);
    return 1;
}

/* res:after(fn): fn(req, res) runs when the answer was handed to the system; it may wait */
static int response_after(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    request_add_function(L, &request->after_ref);
    return 0;
}

/* res:on_starting(fn): fn(req, res) runs once, just before status and headers are fixed, last
 * registered first; it may change them, and wait */
static int response_on_starting(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    callbacks_add_starting(L, request);
    return 0;
}

/* res:on_completed(fn): fn(req, res) runs when the response has ended in whatever way, last
 * registered first, before those of res:after; it may wait */
static int response_on_completed(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    callbacks_add_completed(L, request);
    return 0;
}

/* res:close_connection(): the connection takes no requests behind this one: Connection: close, or
 * GOAWAY in front of the response. Ignored when the response has started. */
static int response_close_connection(lua_State *L)
{
    struct exchange *exchange = check_request(L, 1, BOX_RESPONSE)->exchange;

    if (exchange->phase < EXCHANGE_STARTED)
        exchange->close = true;
    return 0;
}

/* ---- fields of the object ---- */

static int push_headers(lua_State *L, struct request *request)
{
    if (lua_getiuservalue(L, 1, VALUE_HEADERS) == LUA_TUSERDATA)
        return 1;
    l_fields_push(L, request, FIELDS_RESPONSE);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, VALUE_HEADERS);
    return 1;
}

enum getter {
    GET_STATUS = 1,
    GET_REASON,
    GET_HEADERS,
    GET_TRAILERS,
    GET_STARTED,
    GET_FINISHED,
    GET_REQUEST
};

static const struct {
    const char *name;
    enum getter getter;
} getters[] = {
    {"status", GET_STATUS},     {"reason", GET_REASON},   {"headers", GET_HEADERS},
    {"trailers", GET_TRAILERS}, {"started", GET_STARTED}, {"finished", GET_FINISHED},
    {"request", GET_REQUEST},
};

static int get(lua_State *L, struct request *request, enum getter getter)
{
    struct exchange *exchange = request->exchange;

    switch (getter) {
    case GET_HEADERS:
        return push_headers(L, request);
    case GET_STATUS:
        lua_pushinteger(L, exchange->status);
        return 1;
    case GET_REASON:
        l_push_span(L, exchange->reason.at ? exchange->reason : status_reason(exchange->status));
        return 1;
    case GET_TRAILERS:
        return l_fields_push(L, request, FIELDS_TRAILERS);
    case GET_STARTED:
        lua_pushboolean(L, exchange->phase >= EXCHANGE_STARTED);
        return 1;
    case GET_FINISHED:
        lua_pushboolean(L, exchange->phase >= EXCHANGE_FINISHED);
        return 1;
    default:
        push_box(L, request, BOX_REQUEST, 2);
        return 1;
    }
}

/* Upvalue: members, name to getter or method; the Lua library adds to it. */
static int response_index(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);

    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) == LUA_TNUMBER)
        return get(L, request, (enum getter)lua_tointeger(L, -1));
    return 1;
}

static void set_status(lua_State *L, struct request *request)
{
    int is_integer;
    lua_Integer status = lua_tointegerx(L, 3, &is_integer);
    bool counts = check_unstarted(L, request, "status");

    if (!is_integer || status < 200 || status > 999)
        luaL_error(L, "a status is a whole number from 200 to 999, not %s",
                   luaL_tolstring(L, 3, NULL));
    if (counts)
        request->exchange->status = (int)status;
}

static void set_reason(lua_State *L, struct request *request)
{
    struct span reason = lua_isnil(L, 3) ? SPAN_NONE : l_check_span(L, 3);
    bool counts = check_unstarted(L, request, "reason");

    if (!field_value_valid(reason))
        luaL_error(L, "a reason phrase cannot hold control characters");
    if (counts)
        request->exchange->reason =
            reason.at ? arena_copy(&request->exchange->arena, reason) : SPAN_NONE;
}

static void replace_headers(lua_State *L, struct request *request)
{
    if (!check_unstarted(L, request, "headers"))
        return;
    fields_init(&request->exchange->fields, &request->exchange->arena);
    l_fields_from_table(L, 3, request, &request->exchange->fields);
}

static int response_newindex(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_RESPONSE);
    const char *name = luaL_checkstring(L, 2);

    if (strcmp(name, "status") == 0)
        set_status(L, request);
    else if (strcmp(name, "request") == 0)
        push_box(L, request, BOX_REQUEST, 2);
    else if (strcmp(name, "reason") == 0)
        set_reason(L, request);
    else if (strcmp(name, "headers") == 0)
        replace_headers(L, request);
    else
        return luaL_error(L, "res.%s cannot be set: res has status, reason, headers and trailers",
                          name);
    return 0;
}

static const luaL_Reg methods[] = {
    {"write", response_write},
    {"flush", response_flush},
    {"finish", response_finish},
    {"json", response_json},
    {"informational", response_informational},
    {"close_connection", response_close_connection},
    {"after", response_after},
    {"on_starting", response_on_starting},
    {"on_completed", response_on_completed},
    {NULL, NULL},
};

void l_response_open(lua_State *L)
{
    int core = lua_gettop(L);

    new_box_metatable(L, BOX_RESPONSE, "moonquay.response");
    luaL_newlib(L, methods);
    for (size_t i = 0; i < sizeof(getters) / sizeof(getters[0]); i++) {
        lua_pushinteger(L, getters[i].getter);
        lua_setfield(L, -2, getters[i].name);
    }
    lua_createtable(L, 0, 1); /* core.response = { methods = } */
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "methods");
    lua_setfield(L, core, "response");
    lua_pushcclosure(L, response_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, response_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_settop(L, core);
}
