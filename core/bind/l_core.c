/*
 * The module moonquay.core: what the Lua library is built on. In a server it is there from the
 * start; a stock interpreter loads it from core.so, with a loop of its own that turns while the
 * script waits.
 */
#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "bind/aux.h"
#include "bind/l_coroutine.h"
#include "bind/l_form.h"
#include "bind/l_json.h"
#include "bind/l_local.h"
#include "bind/l_option.h"
#include "bind/l_server.h"
#include "bind/l_task.h"
#include "bind/request.h"
#include "bind/vm_priv.h"
#include "http/status.h"

static int l_now(lua_State *L)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

static int l_time(lua_State *L)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* fail(code, message [, fields]) -> error value */
static int l_make_error(lua_State *L)
{
    luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 3);
    lua_createtable(L, 0, 4);
    if (lua_istable(L, 3)) {
        for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
            lua_rawset(L, 4);
        }
    }
    lua_pushvalue(L, 1);
    lua_setfield(L, 4, "code");
    lua_pushvalue(L, 2);
    lua_setfield(L, 4, "message");
    l_push_error_meta(L);
    lua_setmetatable(L, 4);
    return 1;
}

/* reason(status) -> the standard phrase, "" when there is none */
static int l_reason(lua_State *L)
{
    l_push_span(L, status_reason((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* ---- log ---- */

static void log_value(lua_State *L, struct log_line *line)
{
    const char *key = lua_tostring(L, -2);

    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        log_span(line, key, l_to_span(L, -1));
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, -1)) {
            log_int(line, key, lua_tointeger(L, -1));
            break;
        }
        lua_pushvalue(L, -1);
        log_span(line, key, l_to_span(L, -1));
        lua_pop(L, 1);
        break;
    case LUA_TBOOLEAN:
        log_json(line, key, lua_toboolean(L, -1) ? SPAN("true") : SPAN("false"));
        break;
    default:
        log_str(line, key, luaL_typename(L, -1));
    }
}

/* log(level, message [, fields]); inside a request the line carries its id */
static int l_log(lua_State *L)
{
    int level = log_level_parse(l_check_span(L, 1));
    const char *message = luaL_checkstring(L, 2);
    struct task *task = task_running(L);
    struct log_line line;
    char id[EXCHANGE_ID_BYTES];

    luaL_argcheck(L, level >= 0, 1, "a level is error, warn, info or debug");
    if (!lua_isnoneornil(L, 3))
        luaL_checktype(L, 3, LUA_TTABLE);
    if (!log_wants((enum log_level)level))
        return 0;
    log_begin(&line, (enum log_level)level, "app", message);
    if (task && task->request && task->request->number == task->request_number)
        log_span(&line, "request", span_of(id, exchange_id(task->request->exchange, id)));
    if (lua_istable(L, 3)) {
        for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1))
            if (lua_type(L, -2) == LUA_TSTRING)
                log_value(L, &line);
    }
    log_end(&line);
    return 0;
}

/* ---- the server ---- */

/* shutdown(): the server drains and ends, as by SIGTERM */
static int l_shutdown(lua_State *L)
{
    struct vm *vm = vm_of(L);

    if (vm->loading)
        return luaL_error(L, "os.exit was called while the app was loaded");
    if (vm->shutdown == NULL)
        return luaL_error(L, "there is no server to shut down here");
    vm->shutdown(vm->shutdown_owner);
    return 0;
}

/* ---- loading ---- */

/* load_app(path) -> handler | nil, message: what a server would call for each request */
static int l_load_app(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    lua_settop(L, 1);
    if (luaL_loadfilex(L, path, "t") != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_call(L, 0, 1); /* no wait: but a script's main thread turns the loop itself */
    if (!vm_push_hook(vm_of(L), L, "loaded"))
        return 1;
    lua_insert(L, -2);
    lua_call(L, 1, 2); /* no wait: it only looks at what was returned */
    return 2;
}

static const luaL_Reg functions[] = {
    {"now", l_now}, {"time", l_time},         {"fail", l_make_error},   {"reason", l_reason},
    {"log", l_log}, {"shutdown", l_shutdown}, {"load_app", l_load_app}, {NULL, NULL},
};

void core_open(struct vm *vm, lua_State *L)
{
    l_coroutine_install(L);
    luaL_newlib(L, functions);
    l_option_open(L);
    l_server_open(L);
    lua_pushliteral(L, MOONQUAY_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushboolean(L, vm->owned);
    lua_setfield(L, -2, "in_server");
    lua_pushboolean(L, vm->settings->development);
    lua_setfield(L, -2, "development");
    l_push_error_meta(L);
    lua_setfield(L, -2, "error_metatable");
    lua_newtable(L);
    lua_pushvalue(L, -1);
    vm->hooks_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_setfield(L, -2, "hooks");
    l_json_open(L);
    lua_setfield(L, -2, "json");
    l_task_open(L);
    l_form_open(L);
    l_local_open(L);
    l_request_open(L);
    l_response_open(L);
    l_fields_open(L);
    l_body_open(L);
    l_limits_open(L);
    l_tls_open(L);
}
