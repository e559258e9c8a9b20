/*
 * req: what Lua sees of a request. Nothing is copied into Lua before it is asked for. Names are
 * looked up in one table: an integer is a getter in C, a function is a method; what the Lua library
 * adds (query, cookies …) is computed once and kept in the request's cache table.
 */
#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "bind/aux.h"
#include "bind/request.h"
#include "bind/vm_priv.h"
#include "http/h2.h"
#include "net/addr.h"
#include "server/exchange.h"

enum { VALUE_CACHE = 1, VALUE_HEADERS = 2 };

#define QUEUE_BYTES 1041 /* of a queue's name; as the setting */

enum getter {
    GET_METHOD = 1,
    GET_PATH,
    GET_PATH_BASE,
    GET_TARGET,
    GET_QUERY_STRING,
    GET_HOST,
    GET_SCHEME,
    GET_PROTOCOL,
    GET_ID,
    GET_CONNECTION_ID,
    GET_CLIENT,
    GET_PEER,
    GET_SERVER,
    GET_HEADERS,
    GET_BODY,
    GET_LIMITS,
    GET_TLS,
    GET_CTX,
    GET_PARAMS,
    GET_CAN_DELEGATE,
    GET_USER,
};

static const struct {
    const char *name;
    enum getter getter;
    bool settable; /* for the handler's own use; nothing in the server changes by it */
} getters[] = {
    {"method", GET_METHOD, true},
    {"path", GET_PATH, true},
    {"path_base", GET_PATH_BASE, true},
    {"target", GET_TARGET, true},
    {"query_string", GET_QUERY_STRING, true},
    {"host", GET_HOST, true},
    {"scheme", GET_SCHEME, true},
    {"protocol", GET_PROTOCOL, true},
    {"id", GET_ID, false},
    {"can_delegate", GET_CAN_DELEGATE, false},
    {"connection_id", GET_CONNECTION_ID, false},
    {"client", GET_CLIENT, true},
    {"peer", GET_PEER, false},
    {"server", GET_SERVER, true},
    {"headers", GET_HEADERS, false},
    {"body", GET_BODY, false},
    {"limits", GET_LIMITS, false},
    {"tls", GET_TLS, false},
    {"ctx", GET_CTX, true},
    {"params", GET_PARAMS, true},
    {"user", GET_USER, true},
};

/*
 * Pushes the cache table of the box at index 1; false and nothing pushed when the request has none.
 * The request keeps it for the boxes of its later stages; a box that has met it finds it faster.
 */
static bool push_cache(lua_State *L, struct request *request)
{
    if (lua_getiuservalue(L, 1, VALUE_CACHE) == LUA_TTABLE)
        return true;
    lua_pop(L, 1);
    if (request->cache_ref == LUA_NOREF)
        return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, request->cache_ref);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, VALUE_CACHE);
    return true;
}

/* Pushes cache[key at 2]; false and nothing pushed when it is nil or there is no cache. */
static bool push_cached(lua_State *L, struct request *request)
{
    if (!push_cache(L, request))
        return false;
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        lua_pop(L, 2);
        return false;
    }
    lua_remove(L, -2);
    return true;
}

/* Keeps the value on top under the key at 2. */
static int keep(lua_State *L, struct request *request)
{
    if (!push_cache(L, request)) {
        lua_createtable(L, 0, 4);
        lua_pushvalue(L, -1);
        request->cache_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, VALUE_CACHE);
    }
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return 1;
}

static int push_address(lua_State *L, struct request *request, const struct net_addr *addr)
{
    char ip[NET_ADDR_TEXT];

    if (push_cached(L, request))
        return 1;
    lua_createtable(L, 0, 2);
    lua_pushlstring(L, ip, net_addr_ip(addr, ip));
    lua_setfield(L, -2, "ip");
    lua_pushinteger(L, addr->port);
    lua_setfield(L, -2, "port");
    return keep(L, request);
}

static int push_new_box(lua_State *L, struct request *request, enum box_type type)
{
    if (push_cached(L, request))
        return 1;
    push_box(L, request, type, 0);
    return keep(L, request);
}

static int push_table(lua_State *L, struct request *request)
{
    if (push_cached(L, request))
        return 1;
    lua_newtable(L);
    return keep(L, request);
}

static int push_headers(lua_State *L, struct request *request)
{
    if (lua_getiuservalue(L, 1, VALUE_HEADERS) == LUA_TUSERDATA)
        return 1;
    l_fields_push(L, request, FIELDS_REQUEST);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, VALUE_HEADERS);
    return 1;
}

static int get(lua_State *L, struct request *request, enum getter getter)
{
    struct exchange *exchange = request->exchange;
    const struct request_head *head = &exchange->head;
    struct net_addr local;
    char id[EXCHANGE_ID_BYTES];

    switch (getter) {
    case GET_METHOD:
        l_push_span(L, head->method);
        return 1;
    case GET_PATH:
        l_push_span(L, exchange->path);
        return 1;
    case GET_PATH_BASE:
        l_push_span(L, exchange->path_base);
        return 1;
    case GET_TARGET:
        l_push_span(L, head->target.raw);
        return 1;
    case GET_QUERY_STRING:
        l_push_span(L, head->target.query);
        return 1;
    case GET_HOST:
        l_push_span(L, exchange_host(exchange));
        return 1;
    case GET_SCHEME:
        l_push_span(L, exchange_scheme(exchange));
        return 1;
    case GET_PROTOCOL:
        l_push_span(L, request_protocol(head));
        return 1;
    case GET_ID:
        lua_pushlstring(L, id, exchange_id(exchange, id));
        return 1;
    case GET_CONNECTION_ID:
        lua_pushinteger(L, (lua_Integer)exchange->connection_number);
        return 1;
    case GET_CLIENT:
        return push_address(L, request, exchange_client(exchange));
    case GET_PEER:
        return push_address(L, request, &exchange->peer);
    case GET_SERVER:
        local = exchange_local(exchange);
        return push_address(L, request, &local);
    case GET_HEADERS:
        return push_headers(L, request);
    case GET_BODY:
        return push_new_box(L, request, BOX_BODY);
    case GET_LIMITS:
        return push_new_box(L, request, BOX_LIMITS);
    case GET_TLS:
        if (push_cached(L, request))
            return 1;
        l_tls_push(L, request);
        return lua_isnil(L, -1) ? 1 : keep(L, request);
    case GET_CTX:
    case GET_PARAMS:
        return push_table(L, request);
    case GET_CAN_DELEGATE:
        lua_pushboolean(L, exchange_may_delegate(exchange));
        return 1;
    default: /* user: nobody sets it but the app itself */
        return push_cached(L, request) ? 1 : 0;
    }
}

/* Upvalues: members (name to getter in C, or method), getters of the Lua library. */
static int request_index(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_REQUEST);

    if (request->overridden && push_cached(L, request))
        return 1;
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    int type = lua_rawget(L, lua_upvalueindex(1));

    if (type == LUA_TNUMBER)
        return get(L, request, (enum getter)lua_tointeger(L, -1));
    if (type != LUA_TNIL)
        return 1;
    lua_settop(L, 2);
    if (push_cached(L, request))
        return 1;
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL)
        return 1;
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1); /* no wait: a getter only looks at the head */
    return lua_isnil(L, -1) ? 1 : keep(L, request);
}

static int request_newindex(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_REQUEST);
    const char *name = luaL_checkstring(L, 2);

    for (size_t i = 0; i < sizeof(getters) / sizeof(getters[0]); i++) {
        if (!getters[i].settable || strcmp(getters[i].name, name) != 0)
            continue;
        lua_settop(L, 3);
        keep(L, request);
        request->overridden = true;
        return 0;
    }
    return luaL_error(L, "req.%s cannot be set: keep what is yours in req.ctx", name);
}

/* req:cancelled() -> false, or the code why ("closed", "reset", "timeout") */
static int request_cancelled(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_REQUEST);

    if (request->cancel == 0)
        lua_pushboolean(L, 0);
    else
        lua_pushstring(L, err_name(request->cancel));
    return 1;
}

/* req:on_cancel(fn): fn(code) runs as a task of its own when the client leaves before the answer is
 * complete; at once when it has left already */
static int request_on_cancel(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_REQUEST);

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    if (request->cancel)
        request_tell_cancel(L, request); /* it has happened */
    else
        request_add_function(L, &request->cancel_ref);
    return 0;
}

static int delegated_k(lua_State *L, int status, lua_KContext context)
{
    struct request *request = check_request(L, 1, BOX_REQUEST);
    int code = status == LUA_YIELD ? task_waiter(L)->woken : 0;

    (void)context;
    if (code == 0)
        code = request->exchange->delegate_code;
    if (code == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return l_fail(L, code,
                  code == ERR_NOT_FOUND    ? "there is no such request queue"
                  : code == ERR_PERMISSION ? "the queue is another user's (request_queue_acl)"
                  : code == ERR_STATE      ? "the host has passed on too much of the body already"
                  : code == ERR_LIMIT      ? "the request was delegated too often already"
                                           : NULL);
}

/* req:delegate(queue) -> true: the request queue of this name has the request, and nothing that is
 * done to res counts any more; nil, err */
static int request_delegate(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_REQUEST);
    const char *queue = luaL_checkstring(L, 2);
    int code;

    luaL_argcheck(L,
                  queue[0] && strlen(queue) == lua_rawlen(L, 2) && lua_rawlen(L, 2) < QUEUE_BYTES,
                  2, "no name of a request queue");
    lua_settop(L, 2);
    if (!task_can_wait(L))
        return task_refuse_wait(L);
    code = exchange_delegate(request->exchange, queue);
    if (code < 0)
        return l_fail(L, code,
                      code == ERR_UNSUPPORTED ? "the app is not behind a host"
                      : code == ERR_STATE     ? "the body was read, or the response has started"
                                              : NULL);
    return request_wait_certificate(L, request, delegated_k, 0);
}

/* req:abort(): breaks the answer off, the client sees a reset; the handler goes on like one whose
 * client has left. Without effect when the answer has ended. */
static int request_abort_call(lua_State *L)
{
    request_abort(check_request(L, 1, BOX_REQUEST));
    return 0;
}

/* req:reset([code]): as abort, and over HTTP/2 with this error code (RFC 9113 section 7; 8,
 * CANCEL); behind a complete answer it ends a request that is still being sent */
static int request_reset_call(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_REQUEST);
    lua_Integer code = luaL_optinteger(L, 2, H2_CANCEL);

    luaL_argcheck(L, code >= 0 && code <= UINT32_MAX, 2, "an error code is 0 to 4294967295");
    request_reset(request, (uint32_t)code);
    return 0;
}

static int request_tostring(lua_State *L)
{
    struct request_box *box = check_box(L, 1, BOX_REQUEST);

    if (box->request->number != box->number) {
        lua_pushfstring(L, "request %I (ended)", (LUAI_UACINT)box->number);
        return 1;
    }
    const struct request_head *head = &box->request->exchange->head;

    l_push_span(L, head->method);
    l_push_span(L, head->target.raw);
    lua_pushfstring(L, "%s %s", lua_tostring(L, -2), lua_tostring(L, -1));
    return 1;
}

static const luaL_Reg methods[] = {
    {"cancelled", request_cancelled}, {"on_cancel", request_on_cancel},
    {"abort", request_abort_call},    {"delegate", request_delegate},
    {"reset", request_reset_call},    {NULL, NULL},
};

void l_request_open(lua_State *L)
{
    int core = lua_gettop(L);

    new_box_metatable(L, BOX_REQUEST, "moonquay.request");
    lua_newtable(L);
    for (size_t i = 0; i < sizeof(getters) / sizeof(getters[0]); i++) {
        lua_pushinteger(L, getters[i].getter);
        lua_setfield(L, -2, getters[i].name);
    }
    luaL_setfuncs(L, methods, 0);
    lua_newtable(L);
    lua_createtable(L, 0, 2); /* core.request = { methods =, getters = } */
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "methods");
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "getters");
    lua_setfield(L, core, "request");
    lua_pushcclosure(L, request_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, request_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, request_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_settop(L, core);
}
