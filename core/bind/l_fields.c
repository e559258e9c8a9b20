/*
 * req.headers, res.headers and res.trailers: field lines in their order, looked up without regard
 * to case. Reading gives all values of a name joined; all(name) gives them one by one. What is set
 * is checked at once: a name or value that could end a line never gets into a message.
 */
#include <lauxlib.h>

#include "base/err.h"
#include "bind/aux.h"
#include "bind/request.h"
#include "http/fields.h"
#include "server/exchange.h"

static struct request_box *check_fields(lua_State *L, struct fields **fields)
{
    struct request *request = check_request(L, 1, BOX_FIELDS);
    struct request_box *box = lua_touserdata(L, 1);

    switch (box->which) {
    case FIELDS_REQUEST:
        *fields = &request->exchange->head.fields;
        break;
    case FIELDS_RESPONSE:
        *fields = &request->exchange->fields;
        break;
    default:
        *fields = &request->exchange->response_trailers;
        break;
    }
    return box;
}

int l_fields_push(lua_State *L, struct request *request, enum fields_which which)
{
    push_box(L, request, BOX_FIELDS, 0)->which = (uint16_t)which;
    return 1;
}

/* All that a handler may set for one answer, replaced values and interim responses included: it
 * stays in memory with the request. */
#define HEADER_BYTES (1 << 20)

/* ---- rules ---- */

/* Reference section 8.9: fields that make no sense, or harm, after the content. */
static const char *const no_trailers[] = {"transfer-encoding",
                                          "content-length",
                                          "host",
                                          "cache-control",
                                          "expect",
                                          "max-forwards",
                                          "pragma",
                                          "range",
                                          "te",
                                          "if-match",
                                          "if-none-match",
                                          "if-modified-since",
                                          "if-unmodified-since",
                                          "if-range",
                                          "www-authenticate",
                                          "authorization",
                                          "proxy-authenticate",
                                          "proxy-authorization",
                                          "set-cookie",
                                          "cookie",
                                          "age",
                                          "expires",
                                          "date",
                                          "location",
                                          "retry-after",
                                          "vary",
                                          "warning",
                                          "content-encoding",
                                          "content-type",
                                          "content-range",
                                          "trailer",
                                          "connection",
                                          "keep-alive",
                                          "upgrade",
                                          NULL};

static bool listed(struct span name, const char *const *list)
{
    for (; *list; list++)
        if (span_eq_nocase(name, span_str(*list)))
            return true;
    return false;
}

static bool has_prefix(struct span name, struct span prefix)
{
    return name.len >= prefix.len && span_eq_nocase(span_of(name.at, prefix.len), prefix);
}

/* Names that the core knows are tokens, and none of the server's own. */
static void check_name(lua_State *L, struct span name, enum field_id id, enum fields_which which)
{
    if (which == FIELDS_TRAILERS && listed(name, no_trailers))
        luaL_error(L, "%s cannot be a trailer", name.at);
    if (id == FIELD_TRANSFER_ENCODING || id == FIELD_UPGRADE)
        luaL_error(L, "%s is written by the server", name.at);
    if (id != FIELD_OTHER)
        return;
    if (!field_name_valid(name))
        luaL_error(L, "'%s' is no header name", name.at);
    if (has_prefix(name, SPAN("moonquay-")))
        luaL_error(L, "headers that begin with moonquay- are the server's own");
    if (span_eq_nocase(name, SPAN("keep-alive")))
        luaL_error(L, "%s is written by the server", name.at);
}

static bool all_digits(struct span value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] < '0' || value.at[i] > '9')
            return false;
    return value.len > 0 && value.len < 19;
}

static void check_value(lua_State *L, struct span name, enum field_id id, struct span value)
{
    if (!field_value_valid(value))
        luaL_error(L, "the value of header '%s' holds a control character (CR, LF, NUL …)",
                   name.at);
    if (id == FIELD_CONTENT_LENGTH && !all_digits(value))
        luaL_error(L, "Content-Length must be a number of bytes from 0 on, not '%s'", value.at);
    if (id == FIELD_CONNECTION && !span_eq_nocase(value, SPAN("close")) &&
        !span_eq_nocase(value, SPAN("keep-alive")))
        luaL_error(L, "Connection can only be set to close or keep-alive");
}

/* ---- setting ---- */

static void add_value(lua_State *L, struct request *request, struct fields *fields,
                      struct span name, enum field_id id, int index)
{
    int type = lua_type(L, index);

    if (type != LUA_TSTRING && type != LUA_TNUMBER)
        luaL_error(
            L, "the value of header '%s' must be a string, a number or a list of them, not a %s",
            name.at, luaL_typename(L, index));
    /* A copy: what lua_tolstring makes of a number must not change the caller's value. */
    if (type == LUA_TNUMBER)
        lua_pushvalue(L, index);
    struct span value = span_trim(l_to_span(L, type == LUA_TNUMBER ? -1 : index));

    check_value(L, name, id, value);
    request->header_bytes += name.len + value.len;
    if (request->header_bytes > HEADER_BYTES)
        luaL_error(L, "more than %d bytes of headers were set in this request", HEADER_BYTES);
    fields_add(fields, arena_copy(fields->arena, name), arena_copy(fields->arena, value));
    if (type == LUA_TNUMBER)
        lua_pop(L, 1);
}

static void set_field(lua_State *L, struct request *request, struct fields *fields,
                      struct span name, enum field_id id, int index)
{
    if (fields->count > 0)
        fields_remove(fields, name);
    if (lua_isnil(L, index))
        return;
    if (lua_type(L, index) != LUA_TTABLE) {
        add_value(L, request, fields, name, id, index);
        return;
    }
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, index); i <= n; i++) {
        lua_rawgeti(L, index, i);
        add_value(L, request, fields, name, id, lua_gettop(L));
        lua_pop(L, 1);
    }
}

static void check_changeable(lua_State *L, struct request_box *box)
{
    struct exchange *exchange = box->request->exchange;

    if (box->which == FIELDS_REQUEST || exchange_void(exchange))
        return;
    if (box->which == FIELDS_TRAILERS ? exchange->phase >= EXCHANGE_FINISHED
                                      : exchange->phase >= EXCHANGE_STARTED)
        luaL_error(L, "the response started at %s: its %s can no longer be changed",
                   box->request->started_at ? box->request->started_at : "the end of the handler",
                   box->which == FIELDS_TRAILERS ? "trailers" : "headers");
}

static int fields_newindex(lua_State *L)
{
    struct fields *fields;
    struct request_box *box = check_fields(L, &fields);
    struct span name = l_check_span(L, 2);
    enum field_id id = field_id_of(name);

    luaL_checkany(L, 3);
    check_changeable(L, box);
    if (box->which != FIELDS_REQUEST)
        check_name(L, name, id, (enum fields_which)box->which);
    set_field(L, box->request, fields, name, id, 3);
    return 0;
}

/* headers:add(name, value) adds a line behind those that are there */
static int fields_add_line(lua_State *L)
{
    struct fields *fields;
    struct request_box *box = check_fields(L, &fields);
    struct span name = l_check_span(L, 2);
    enum field_id id = field_id_of(name);

    check_changeable(L, box);
    check_name(L, name, id, (enum fields_which)box->which);
    add_value(L, box->request, fields, name, id, 3);
    return 0;
}

/* headers:remove(name) -> how many lines there were */
static int fields_remove_lines(lua_State *L)
{
    struct fields *fields;
    struct request_box *box = check_fields(L, &fields);

    check_changeable(L, box);
    lua_pushinteger(L, fields_remove(fields, l_check_span(L, 2)));
    return 1;
}

void l_fields_from_table(lua_State *L, int index, struct request *request, struct fields *fields)
{
    index = lua_absindex(L, index);
    luaL_checktype(L, index, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "a header name must be a string");
        struct span name = l_to_span(L, -2);
        enum field_id id = field_id_of(name);

        check_name(L, name, id, FIELDS_RESPONSE);
        set_field(L, request, fields, name, id, lua_gettop(L));
    }
}

/* ---- getting ---- */

/* headers:all(name) -> list of values, empty when there is none */
static int fields_all(lua_State *L)
{
    struct fields *fields;

    check_fields(L, &fields);
    struct span name = l_check_span(L, 2);
    const struct field *field = fields_find(fields, name, 0);

    lua_newtable(L);
    for (lua_Integer i = 1; field; i++) {
        l_push_span(L, field->value);
        lua_rawseti(L, -2, i);
        field = fields_find(fields, name, (uint32_t)(field - fields->at) + 1);
    }
    return 1;
}

static int fields_next(lua_State *L)
{
    struct fields *fields;

    check_fields(L, &fields);
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(1));

    if (i >= (lua_Integer)fields->count)
        return 0;
    lua_pushinteger(L, i + 1);
    lua_replace(L, lua_upvalueindex(1));
    l_push_span(L, fields->at[i].name);
    l_push_span(L, fields->at[i].value);
    return 2;
}

/* pairs(headers): name and value of each line, in order, names as they were sent */
static int fields_pairs(lua_State *L)
{
    struct fields *fields;

    check_fields(L, &fields);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, fields_next, 1);
    lua_pushvalue(L, 1);
    return 2;
}

static int fields_index(lua_State *L)
{
    struct fields *fields;

    check_fields(L, &fields);
    if (lua_type(L, 2) != LUA_TSTRING)
        return 0;
    struct span name = l_to_span(L, 2);
    const struct field *field = fields_find(fields, name, 0);

    if (field == NULL) {
        lua_rawget(L, lua_upvalueindex(1));
        return 1;
    }
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 1; /* methods come first: a header called "all" is found by headers:all("all") */
    l_push_span(L, fields_combined(fields, name));
    return 1;
}

static int fields_len(lua_State *L)
{
    struct fields *fields;

    check_fields(L, &fields);
    lua_pushinteger(L, fields->count);
    return 1;
}

static const luaL_Reg methods[] = {
    {"all", fields_all},
    {"add", fields_add_line},
    {"remove", fields_remove_lines},
    {NULL, NULL},
};

void l_fields_open(lua_State *L)
{
    int core = lua_gettop(L);

    new_box_metatable(L, BOX_FIELDS, "moonquay.headers");
    luaL_newlib(L, methods);
    lua_pushcclosure(L, fields_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, fields_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, fields_pairs);
    lua_setfield(L, -2, "__pairs");
    lua_pushcfunction(L, fields_len);
    lua_setfield(L, -2, "__len");
    lua_settop(L, core);
}
