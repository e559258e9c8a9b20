/*
 * The module moonquay.core: what the Lua library is built on. In a server it is there from the
 * start; a stock interpreter loads it from core.so, with a loop of its own that turns while the
 * script waits.
 */
#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"
#include "bind/aux.h"
#include "bind/l_coroutine.h"
#include "bind/l_form.h"
#include "bind/l_json.h"
#include "bind/l_local.h"
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

/* ---- settings ---- */

/* Pushes the value as text; false when it has none, and its type is pushed. */
static bool push_option_text(lua_State *L, int index)
{
    lua_Integer whole;

    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false");
        return true;
    case LUA_TNUMBER:
        /* 1e6 and 10/2 are whole numbers to whoever wrote them. */
        if (!lua_isinteger(L, index) &&
            lua_numbertointeger(floor(lua_tonumber(L, index)), &whole) &&
            (lua_Number)whole == lua_tonumber(L, index))
            lua_pushinteger(L, whole);
        else
            lua_pushvalue(L, index);
        return true;
    case LUA_TSTRING:
        lua_pushvalue(L, index);
        return true;
    default:
        lua_pushfstring(L, "(a %s)", luaL_typename(L, index));
        return false;
    }
}

/* A wrong option that ends the loading of the app has an exit code of its own. */
static int raise_option(lua_State *L, struct vm *vm, const char *message)
{
    if (vm->loading) {
        buf_fini(&vm->wrong_option);
        buf_append(&vm->wrong_option, span_str(message));
    }
    lua_pushstring(L, message); /* luaL_error would add its own place */
    return lua_error(L);
}

static void add_server_setting(struct vm *vm, const char *key, const char *value)
{
    buf_append(&vm->server_settings, span_of(key, strlen(key) + 1));
    buf_append(&vm->server_settings, span_of(value, strlen(value) + 1));
}

/* set_option(key, value [, level]): for moonquay.app { … }; raises with the allowed range */
static int l_set_option(lua_State *L)
{
    struct vm *vm = vm_of(L);
    const char *key = luaL_checkstring(L, 1);
    int level = (int)luaL_optinteger(L, 3, 1), code;
    bool server_wide = settings_scope(key) == SETTING_SERVER;
    struct settings *trial = vm->settings;
    struct err_text text = {0};
    const char *place, *value;
    size_t length;

    luaL_where(L, level); /* "app.lua:3: ", or "" */
    place = lua_tolstring(L, -1, &length);
    place = lua_pushlstring(L, place, length > 2 ? length - 2 : 0);
    if (!push_option_text(L, 2)) {
        settings_refuse(key, lua_tostring(L, -1), place, &text);
        return raise_option(L, vm, text.text);
    }
    value = lua_tostring(L, -1);
    if (server_wide) {
        trial = mem_alloc(sizeof(*trial));
        *trial = *vm->settings;
    }
    code = settings_set(trial, key, value, place, &text);
    if (server_wide)
        mem_free(trial);
    if (code < 0)
        return raise_option(L, vm, text.text);
    if (server_wide) {
        lua_pushfstring(L, "%s" VM_SETTING_PLACE, key);
        add_server_setting(vm, key, value);
        add_server_setting(vm, lua_tostring(L, -1), place);
    }
    return 0;
}

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
    {"now", l_now},           {"time", l_time},         {"fail", l_make_error},
    {"reason", l_reason},     {"log", l_log},           {"set_option", l_set_option},
    {"shutdown", l_shutdown}, {"load_app", l_load_app}, {NULL, NULL},
};

void core_open(struct vm *vm, lua_State *L)
{
    l_coroutine_install(L);
    luaL_newlib(L, functions);
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
}
