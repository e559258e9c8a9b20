/*
 * What stands behind a proxy, for the specs: sets of addresses, PROXY headers, Forwarded fields and
 * what they say together. Every input is copied into a block of exactly its size, so that the
 * sanitizers see a reader that looks past its end.
 */
#include "bind/probe.h"

#include <lauxlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "http/forwarded.h"
#include "net/addr_set.h"
#include "net/proxy_protocol.h"
#include "server/proxied.h"

#define WORK_TYPE "moonquay.probe.proxy"

/* What one call works with, freed by the collector also when the call raises. */
struct work {
    struct arena arena;
    struct fields fields;
    struct addr_set set;
};

static int work_gc(lua_State *L)
{
    struct work *work = luaL_checkudata(L, 1, WORK_TYPE);

    arena_fini(&work->arena);
    addr_set_fini(&work->set);
    return 0;
}

static struct work *push_work(lua_State *L)
{
    struct work *work = lua_newuserdatauv(L, sizeof(*work), 0);

    *work = (struct work){0};
    arena_init(&work->arena);
    fields_init(&work->fields, &work->arena);
    if (luaL_newmetatable(L, WORK_TYPE)) {
        lua_pushcfunction(L, work_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return work;
}

/* The string at index in a block of its own, which is pushed. */
static struct span push_copy(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);

    return span_of(memcpy(lua_newuserdatauv(L, len, 0), text, len), len);
}

static struct net_addr check_addr(lua_State *L, int index)
{
    struct net_addr addr = {.family = NET_NONE};
    struct span text = {0};

    text.at = luaL_checklstring(L, index, &text.len);
    if (span_eq(text, SPAN("unix")))
        addr.family = NET_UNIX;
    else if (!span_eq(text, SPAN("-")) && net_addr_parse(&addr, text, 0) < 0)
        luaL_argerror(L, index, "an address, unix or -");
    return addr;
}

static void set_span(lua_State *L, const char *key, struct span text)
{
    if (text.at == NULL)
        return;
    lua_pushlstring(L, text.at, text.len);
    lua_setfield(L, -2, key);
}

static void set_addr(lua_State *L, const char *key, const struct net_addr *addr)
{
    char text[NET_ADDR_TEXT];

    lua_pushlstring(L, text, net_addr_text(addr, text));
    lua_setfield(L, -2, key);
}

/* addr_set(text, { address, … }) -> { is in it, … } | nil, message, exit code, count afterwards */
static int probe_addr_set(lua_State *L)
{
    struct work *work;
    struct err_text why = {0};

    luaL_checktype(L, 2, LUA_TTABLE);
    work = push_work(L);
    work->set = (struct addr_set){.at = NULL, .count = 1, .has_unix = true}; /* to be forgotten */
    if (addr_set_parse(&work->set, luaL_checkstring(L, 1), &why) < 0) {
        lua_pushnil(L);
        lua_pushstring(L, why.text);
        lua_pushinteger(L, why.exit_code);
        lua_pushinteger(L, work->set.count + work->set.has_unix);
        return 4;
    }
    lua_newtable(L);
    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; i++) {
        struct net_addr addr = check_addr(L, -1);

        lua_pushboolean(L, addr_set_has(&work->set, &addr));
        lua_rawseti(L, -3, i);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return 1;
}

static int push_header(lua_State *L, const struct proxy_header *header, size_t used)
{
    lua_newtable(L);
    lua_pushinteger(L, header->version);
    lua_setfield(L, -2, "version");
    lua_pushinteger(L, (lua_Integer)used);
    lua_setfield(L, -2, "used");
    lua_pushboolean(L, header->has_addresses);
    lua_setfield(L, -2, "has_addresses");
    set_addr(L, "source", &header->source);
    set_addr(L, "destination", &header->destination);
    return 1;
}

/*
 * header(pieces) -> { version, used, has_addresses, source, destination } | nil, err, detail.
 * Shows more until there is an answer other than "again".
 */
static int probe_header(lua_State *L)
{
    struct proxy_header header = {0};
    size_t used = 0;
    int rc = ERR_AGAIN;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_pushliteral(L, "");
    for (lua_Integer i = 1; rc == ERR_AGAIN && lua_rawgeti(L, 1, i) != LUA_TNIL; i++) {
        lua_concat(L, 2);
        rc = proxy_protocol_read(push_copy(L, 2), &header, &used);
        lua_settop(L, 2);
    }
    if (rc == 0)
        return push_header(L, &header, used);
    luaL_argcheck(L, used == 0 && !header.has_addresses, 1, "something was taken");
    luaL_argcheck(L, (rc == ERR_INVALID) == (header.detail != NULL), 1, "detail");
    lua_pushnil(L);
    lua_pushstring(L, err_name(rc));
    lua_pushstring(L, header.detail);
    return 3;
}

/* Adds the lines {{name, value} …} at index; their copies stay on the stack. */
static void add_lines(lua_State *L, int index, struct fields *fields)
{
    luaL_checktype(L, index, LUA_TTABLE);
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, index); i++) {
        luaL_checkstack(L, 8, "lines");
        lua_rawgeti(L, index, i);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);

        struct span name = push_copy(L, -2), value = push_copy(L, -2);

        fields_add(fields, name, value);
    }
    luaL_checkstack(L, 8, "results");
}

static void push_hop(lua_State *L, const struct forwarded_hop *hop)
{
    static const char *const nodes[] = {
        [FORWARDED_UNSAID] = "unsaid", [FORWARDED_IP] = "ip", [FORWARDED_HIDDEN] = "hidden"};

    lua_newtable(L);
    lua_pushstring(L, nodes[hop->node]);
    lua_setfield(L, -2, "node");
    set_span(L, "ip", hop->ip);
    set_span(L, "proto", hop->proto);
    set_span(L, "host", hop->host);
    if (hop->port > 0) {
        lua_pushinteger(L, hop->port);
        lua_setfield(L, -2, "port");
    }
}

/* forwarded(lines, x) -> { hop, … } | nil, err, detail; x: the X-Forwarded-… lines */
static int probe_forwarded(lua_State *L)
{
    bool is_x = lua_toboolean(L, 2);
    struct work *work = push_work(L);
    struct forwarded out = {.detail = NULL};
    int rc;

    add_lines(L, 1, &work->fields);
    rc = is_x ? forwarded_read_x(&out, &work->fields)
              : forwarded_read(&out, &work->fields, &work->arena);
    if (rc < 0) {
        lua_pushnil(L);
        lua_pushstring(L, err_name(rc));
        lua_pushstring(L, out.detail);
        return 3;
    }
    lua_newtable(L);
    for (uint32_t i = 0; i < out.count; i++) {
        push_hop(L, &out.at[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* resolve(lines, from, trusted) -> { client, scheme, host } | nil, status, reason, detail */
static int probe_resolve(lua_State *L)
{
    struct net_addr from = check_addr(L, 2);
    struct work *work = push_work(L);
    struct proxied out;
    struct refusal why = {0};

    if (addr_set_parse(&work->set, luaL_checkstring(L, 3), NULL) < 0)
        return luaL_argerror(L, 3, "a set of addresses");
    add_lines(L, 1, &work->fields);
    if (proxied_resolve(&work->fields, &from, &work->set, &work->arena, &out, &why) < 0) {
        lua_pushnil(L);
        lua_pushinteger(L, why.status);
        lua_pushstring(L, why.reason);
        lua_pushstring(L, why.detail);
        return 4;
    }
    lua_newtable(L);
    set_addr(L, "client", &out.client);
    set_span(L, "scheme", out.scheme);
    set_span(L, "host", out.host);
    return 1;
}

static const luaL_Reg functions[] = {
    {"addr_set", probe_addr_set},
    {"forwarded", probe_forwarded},
    {"header", probe_header},
    {"resolve", probe_resolve},
    {NULL, NULL},
};

int probe_proxy_open(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
