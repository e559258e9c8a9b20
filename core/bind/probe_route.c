/*
 * Opens the prefixes of core/route to the specs. A table holds whole numbers above 0; what a
 * look-up is given lies in memory of exactly its size.
 */
#include "bind/probe.h"

#include <lauxlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "bind/aux.h"
#include "http/target.h"
#include "route/prefix_table.h"
#include "route/url_prefix.h"

#define TABLE_TYPE "moonquay.probe.prefixes"

static const char *const buckets[] = {
    [PREFIX_STRONG] = "strong",
    [PREFIX_HOST] = "host",
    [PREFIX_IP] = "ip",
    [PREFIX_WEAK] = "weak",
};

static const char *const results[] = {
    [PREFIX_FOUND] = "found",
    [PREFIX_NO_HOST] = "no_host",
    [PREFIX_NO_PATH] = "no_path",
    [PREFIX_FORBIDDEN] = "forbidden",
};

/* Reads the string at index as a prefix, from memory of exactly its size. */
static int parse(lua_State *L, int index, struct url_prefix *prefix, struct err_text *why)
{
    struct span text = l_check_span(L, index);
    char *copy = mem_alloc(text.len);
    int code;

    memcpy(copy, text.at, text.len);
    code = url_prefix_parse(prefix, span_of(copy, text.len), why);
    mem_free(copy);
    return code;
}

/* A string that must be a prefix; url_prefix_fini is the caller's. */
static void check_prefix(lua_State *L, int index, struct url_prefix *prefix)
{
    struct err_text why;

    if (parse(L, index, prefix, &why) < 0)
        luaL_argerror(L, index, why.text);
}

static void set_string(lua_State *L, const char *key, struct span text)
{
    lua_pushlstring(L, text.at, text.len);
    lua_setfield(L, -2, key);
}

static void set_bool(lua_State *L, const char *key, bool truth)
{
    lua_pushboolean(L, truth);
    lua_setfield(L, -2, key);
}

/* prefix(text) -> table | nil, error's name, message, exit code */
static int l_prefix(lua_State *L)
{
    struct url_prefix prefix;
    struct err_text why;
    struct buf printed = {0};
    int code = parse(L, 1, &prefix, &why);

    if (code < 0) {
        lua_pushnil(L);
        lua_pushstring(L, err_name(code));
        lua_pushstring(L, why.text);
        lua_pushinteger(L, why.exit_code);
        return 4;
    }
    url_prefix_print(&prefix, &printed);
    lua_newtable(L);
    set_string(L, "text", buf_span(&printed));
    set_string(L, "host", prefix.host);
    set_string(L, "path", prefix.path);
    set_string(L, "bucket", span_str(buckets[prefix.bucket]));
    set_bool(L, "https", prefix.https);
    set_bool(L, "subdomains", prefix.subdomains);
    set_bool(L, "wildcard_top", url_prefix_is_wildcard_top(&prefix));
    lua_pushinteger(L, prefix.port);
    lua_setfield(L, -2, "port");
    buf_fini(&printed);
    url_prefix_fini(&prefix);
    return 1;
}

/* prefix_equal(text, text) -> boolean */
static int l_prefix_equal(lua_State *L)
{
    struct url_prefix a, b;

    check_prefix(L, 1, &a);
    check_prefix(L, 2, &b);
    lua_pushboolean(L, url_prefix_equal(&a, &b));
    url_prefix_fini(&a);
    url_prefix_fini(&b);
    return 1;
}

/* prefix_set_port(text, port) -> canonical text, host, path, those of a copy made before */
static int l_prefix_set_port(lua_State *L)
{
    lua_Integer port = luaL_checkinteger(L, 2);
    struct url_prefix prefix, copy;

    luaL_argcheck(L, port > 0 && port <= 65535, 2, "a port");
    check_prefix(L, 1, &prefix);
    url_prefix_copy(&copy, &prefix);
    url_prefix_set_port(&prefix, (uint16_t)port);
    l_push_span(L, prefix.canonical);
    l_push_span(L, prefix.host);
    l_push_span(L, prefix.path);
    url_prefix_fini(&prefix);
    l_push_span(L, copy.canonical);
    l_push_span(L, copy.host);
    l_push_span(L, copy.path);
    url_prefix_fini(&copy);
    return 6;
}

static struct prefix_table *check_table(lua_State *L)
{
    return *(struct prefix_table **)luaL_checkudata(L, 1, TABLE_TYPE);
}

/* table() -> an empty one */
static int l_table(lua_State *L)
{
    struct prefix_table **box = lua_newuserdatauv(L, sizeof(struct prefix_table *), 0);

    *box = NULL;
    luaL_setmetatable(L, TABLE_TYPE);
    *box = prefix_table_new();
    return 1;
}

static int l_table_gc(lua_State *L)
{
    struct prefix_table **box = luaL_checkudata(L, 1, TABLE_TYPE);

    prefix_table_free(*box);
    *box = NULL;
    return 0;
}

static void push_value(lua_State *L, const void *value)
{
    if (value)
        lua_pushinteger(L, (lua_Integer)(uintptr_t)value);
    else
        lua_pushnil(L);
}

/* table:add(text, number) -> true | nil, error's name, the number that was there */
static int l_table_add(lua_State *L)
{
    struct prefix_table *table = check_table(L);
    lua_Integer number = luaL_checkinteger(L, 3);
    struct url_prefix prefix;
    void *existing = NULL;
    int code;

    luaL_argcheck(L, number > 0, 3, "a number above 0");
    check_prefix(L, 2, &prefix);
    if (prefix.port == 0) {
        url_prefix_fini(&prefix);
        return luaL_argerror(L, 2, "a prefix with a port");
    }
    code = prefix_table_add(table, &prefix, (void *)(uintptr_t)number, &existing);
    url_prefix_fini(&prefix);
    if (code == 0) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, err_name(code));
    push_value(L, existing);
    return 3;
}

/* table:remove(text) -> number | nil */
static int l_table_remove(lua_State *L)
{
    struct prefix_table *table = check_table(L);
    struct url_prefix prefix;

    check_prefix(L, 2, &prefix);
    push_value(L, prefix_table_remove(table, &prefix));
    url_prefix_fini(&prefix);
    return 1;
}

static int l_table_generation(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)prefix_table_generation(check_table(L)));
    return 1;
}

static void push_pair(void *context, const struct url_prefix *prefix, void *value)
{
    lua_State *L = context;

    lua_createtable(L, 2, 0);
    l_push_span(L, prefix->canonical);
    lua_rawseti(L, -2, 1);
    push_value(L, value);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* table:each() -> { { text, number }, … } */
static int l_table_each(lua_State *L)
{
    struct prefix_table *table = check_table(L);

    lua_newtable(L);
    prefix_table_each(table, push_pair, L);
    return 1;
}

static const struct prefix_port *check_port(lua_State *L)
{
    return prefix_table_port(check_table(L), lua_toboolean(L, 2),
                             (uint16_t)luaL_checkinteger(L, 3));
}

/* table:needs_ip(https, port) -> boolean | nil when there is no such port */
static int l_table_needs_ip(lua_State *L)
{
    const struct prefix_port *port = check_port(L);

    if (port)
        lua_pushboolean(L, prefix_port_needs_ip(port));
    else
        lua_pushnil(L);
    return 1;
}

/* A copy of exactly the string's size; free_copy frees it. */
static struct span exact_copy(lua_State *L, int index)
{
    struct span text = SPAN("");

    text.at = luaL_optlstring(L, index, "", &text.len);

    char *copy = mem_alloc(text.len);

    memcpy(copy, text.at, text.len);
    return span_of(copy, text.len);
}

static void free_copy(struct span copy)
{
    mem_free((char *)(uintptr_t)copy.at);
}

/*
 * table:match(https, port, host, ip, raw target, method) -> "found", number, base, path
 * | "no_host" | "no_path" | "forbidden" | "no_port" | "bad_target", status
 */
static int l_table_match(lua_State *L)
{
    const struct prefix_port *port = check_port(L);
    struct span method = lua_isnoneornil(L, 7) ? SPAN("GET") : l_check_span(L, 7);
    struct span host = exact_copy(L, 4), ip = exact_copy(L, 5), raw = exact_copy(L, 6);
    const struct target_limits none = {0, 0};
    struct prefix_match match = {0};
    struct refusal why;
    struct target target;
    struct arena arena;
    int pushed = 1;

    arena_init(&arena);
    if (port == NULL) {
        lua_pushstring(L, "no_port");
    } else if (target_parse(&target, raw, method, &none, &arena, &why) < 0) {
        lua_pushstring(L, "bad_target");
        lua_pushinteger(L, why.status);
        pushed = 2;
    } else {
        enum prefix_found found = prefix_port_match(port, host, ip, &target, &arena, &match);

        lua_pushstring(L, results[found]);
        if (found == PREFIX_FOUND) {
            push_value(L, match.value);
            l_push_span(L, match.base);
            l_push_span(L, match.path);
            pushed = 4;
        }
    }
    arena_fini(&arena);
    free_copy(host);
    free_copy(ip);
    free_copy(raw);
    return pushed;
}

static const luaL_Reg table_methods[] = {
    {"add", l_table_add},
    {"remove", l_table_remove},
    {"generation", l_table_generation},
    {"each", l_table_each},
    {"needs_ip", l_table_needs_ip},
    {"match", l_table_match},
    {"__gc", l_table_gc},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"prefix", l_prefix},
    {"prefix_equal", l_prefix_equal},
    {"prefix_set_port", l_prefix_set_port},
    {"table", l_table},
    {NULL, NULL},
};

int probe_route_open(lua_State *L)
{
    luaL_newmetatable(L, TABLE_TYPE);
    luaL_setfuncs(L, table_methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
