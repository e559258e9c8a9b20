/*
 * req.limits: what an app's settings say for all its requests, changed for one (reference section
 * 5). The size of the content until it is read, the rest at any time. Values are judged by the
 * settings' own table.
 */
#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "bind/l_option.h"
#include "bind/request.h"
#include "server/exchange.h"
#include "server/settings.h"

#define VALUE_BYTES 64 /* of a number as text */

/* What a limits box stands for: req.limits itself, or req.limits.timeouts. */
enum limits_which { LIMITS_ALL, LIMITS_TIMEOUTS };

static enum limits_which which_of(lua_State *L)
{
    return (enum limits_which)check_box(L, 1, BOX_LIMITS)->which;
}

static bool has_body(const struct request *request)
{
    return request->exchange->head.framing != FRAMING_NONE;
}

/* ---- times and rates, which the exchange keeps */

struct timed_limit {
    const char *name; /* in its table */
    const char *key;  /* the setting that it is for one request */
    size_t at;        /* in struct exchange */
};

static const struct timed_limit rate = {"min_send_bytes_per_second",
                                        "timeouts.min_send_bytes_per_second",
                                        offsetof(struct exchange, limit_min_send)};

static const struct timed_limit timeouts[] = {
    {"entity_body", "timeouts.entity_body", offsetof(struct exchange, limit_entity_body_ms)},
    {"handler", "timeouts.handler", offsetof(struct exchange, limit_handler_ms)},
};

static int64_t *field_of(struct request *request, const struct timed_limit *limit)
{
    return (int64_t *)(void *)((char *)request->exchange + limit->at);
}

static const struct timed_limit *find_timeout(const char *name)
{
    for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++)
        if (strcmp(timeouts[i].name, name) == 0)
            return &timeouts[i];
    return NULL;
}

/* A number, or "off". */
static int push_limit(lua_State *L, struct request *request, const struct timed_limit *limit)
{
    char text[VALUE_BYTES];

    settings_number_text(limit->key, *field_of(request, limit), text, sizeof(text));
    if (lua_stringtonumber(L, text) == 0)
        lua_pushstring(L, text);
    return 1;
}

static int set_limit(lua_State *L, struct request *request, const struct timed_limit *limit)
{
    struct err_text text = {0};
    int64_t number;
    int code;

    if (!option_push_text(L, 3, limit->key, false))
        code = settings_refuse(limit->key, lua_tostring(L, -1), "", &text);
    else
        code = settings_number(limit->key, lua_tostring(L, -1), "", &number, &text);
    if (code < 0)
        return luaL_error(L, "limits: %s", text.text);
    *field_of(request, limit) = number;
    exchange_limits_changed(request->exchange);
    return 0;
}

static int timeouts_index(lua_State *L, struct request *request, const char *name)
{
    const struct timed_limit *limit = find_timeout(name);

    return limit ? push_limit(L, request, limit) : 0;
}

static int timeouts_newindex(lua_State *L, struct request *request, const char *name)
{
    const struct timed_limit *limit = find_timeout(name);

    if (limit == NULL)
        return luaL_error(
            L,
            "limits.timeouts.%s cannot be set for one request: there are entity_body and handler",
            name);
    return set_limit(L, request, limit);
}

/* ---- the size of the content */

static int push_max_body(lua_State *L, const struct request *request)
{
    if (!has_body(request))
        return 0;
    if (request->exchange->max_content == SETTING_UNLIMITED)
        lua_pushliteral(L, "unlimited");
    else
        lua_pushinteger(L, request->exchange->max_content);
    return 1;
}

static int set_max_body(lua_State *L, struct request *request)
{
    int64_t bytes = 0;

    if (!has_body(request))
        return 0; /* nothing to limit: ignored, as the reference has it */
    if (request->exchange->content_phase != CONTENT_UNREAD)
        return luaL_error(L,
                          "limits.max_request_body_size is read-only: body reading started at %s",
                          request->reading_at ? request->reading_at : "an earlier call");
    if (lua_type(L, 3) == LUA_TSTRING) {
        if (strcmp(lua_tostring(L, 3), "unlimited") == 0)
            bytes = SETTING_UNLIMITED;
        else if (settings_parse_size(lua_tostring(L, 3), &bytes) < 0)
            bytes = -1;
    } else {
        int is_integer;

        bytes = lua_tointegerx(L, 3, &is_integer);
        bytes = is_integer ? bytes : -1;
    }
    if (bytes < 0)
        return luaL_error(
            L,
            "limits.max_request_body_size must be a number of bytes from 0 on, a size such as "
            "\"10MB\", or moonquay.UNLIMITED, not %s",
            luaL_tolstring(L, 3, NULL));
    request->exchange->max_content = bytes;
    return 0;
}

/* ---- the table */

static int push_timeouts(lua_State *L, struct request *request)
{
    push_box(L, request, BOX_LIMITS, 0)->which = LIMITS_TIMEOUTS;
    return 1;
}

static int limits_index(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_LIMITS);
    const char *name = luaL_checkstring(L, 2);

    if (which_of(L) == LIMITS_TIMEOUTS)
        return timeouts_index(L, request, name);
    if (strcmp(name, "max_request_body_size") == 0)
        return push_max_body(L, request);
    if (strcmp(name, rate.name) == 0)
        return push_limit(L, request, &rate);
    if (strcmp(name, "timeouts") == 0)
        return push_timeouts(L, request);
    if (strcmp(name, "read_only") == 0)
        lua_pushboolean(L, has_body(request) && request->exchange->content_phase != CONTENT_UNREAD);
    else if (strcmp(name, "allow_synchronous_io") == 0)
        lua_pushboolean(L, request->allow_synchronous_io);
    else
        return 0;
    return 1;
}

static int limits_newindex(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_LIMITS);
    const char *name = luaL_checkstring(L, 2);

    if (which_of(L) == LIMITS_TIMEOUTS)
        return timeouts_newindex(L, request, name);
    if (strcmp(name, "max_request_body_size") == 0)
        return set_max_body(L, request);
    if (strcmp(name, rate.name) == 0)
        return set_limit(L, request, &rate);
    if (strcmp(name, "allow_synchronous_io") == 0) {
        luaL_checktype(L, 3, LUA_TBOOLEAN);
        request->allow_synchronous_io = lua_toboolean(L, 3);
        return 0;
    }
    return luaL_error(L,
                      "limits.%s cannot be set: there are max_request_body_size, "
                      "allow_synchronous_io, min_send_bytes_per_second and, in limits.timeouts, "
                      "entity_body and handler",
                      name);
}

void l_limits_open(lua_State *L)
{
    int core = lua_gettop(L);

    new_box_metatable(L, BOX_LIMITS, "moonquay.limits");
    lua_pushcfunction(L, limits_index);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, limits_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_settop(L, core);
}
