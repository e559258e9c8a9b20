/*
 * req.tls: what the handshake has agreed on, and who the client says it is. The facts are taken
 * when a handler first asks, into a table that stays when the client leaves; only a certificate
 * that is asked for later changes it.
 */
#include <lauxlib.h>

#include "base/err.h"
#include "bind/aux.h"
#include "bind/request.h"
#include "server/exchange.h"
#include "tls/tls_facts.h"

enum { VALUE_FACTS = 1 };

/* Absent texts stay nil. */
static void set_span(lua_State *L, const char *name, struct span text)
{
    if (text.at == NULL)
        return;
    l_push_span(L, text);
    lua_setfield(L, -2, name);
}

/* { dns = { … }, ip = { … }, … }: the kinds that the certificate has. */
static void push_names(lua_State *L, const struct tls_peer *peer)
{
    lua_newtable(L);
    for (unsigned i = 0; i < peer->name_count; i++) {
        if (lua_getfield(L, -1, peer->names[i].kind) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, -1);
            lua_setfield(L, -3, peer->names[i].kind);
        }
        l_push_span(L, peer->names[i].value);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        lua_pop(L, 1);
    }
}

static void push_peer(lua_State *L, const struct tls_peer *peer)
{
    lua_createtable(L, 0, 9);
    set_span(L, "subject", peer->subject);
    set_span(L, "issuer", peer->issuer);
    set_span(L, "serial", peer->serial);
    set_span(L, "fingerprint", peer->fingerprint);
    set_span(L, "verification", peer->verification);
    lua_pushinteger(L, peer->not_before);
    lua_setfield(L, -2, "not_before");
    lua_pushinteger(L, peer->not_after);
    lua_setfield(L, -2, "not_after");
    lua_pushboolean(L, peer->is_verified);
    lua_setfield(L, -2, "verified");
    push_names(L, peer);
    lua_setfield(L, -2, "names");
}

/* Sets client_certificate of the facts on top, if the client has shown one. */
static void set_peer(lua_State *L, struct request *request)
{
    struct tls_peer peer;

    if (!exchange_tls_peer(request->exchange, &peer))
        return;
    push_peer(L, &peer);
    lua_setfield(L, -2, "client_certificate");
}

int l_tls_push(lua_State *L, struct request *request)
{
    struct tls_facts facts;

    if (!exchange_tls_facts(request->exchange, &facts)) {
        lua_pushnil(L);
        return 1;
    }
    push_box(L, request, BOX_TLS, 1);
    lua_createtable(L, 0, 8);
    set_span(L, "version", facts.version);
    set_span(L, "cipher", facts.cipher);
    set_span(L, "group", facts.group);
    set_span(L, "sni", facts.sni);
    set_span(L, "alpn", facts.alpn);
    lua_pushboolean(L, facts.is_resumed);
    lua_setfield(L, -2, "resumed");
    set_peer(L, request);
    lua_setiuservalue(L, -2, VALUE_FACTS);
    return 1;
}

/* ---- a certificate after the handshake ---- */

/* The certificate of the facts at 2, or nil. */
static int push_certificate(lua_State *L)
{
    lua_getfield(L, 2, "client_certificate");
    return 1;
}

static int asked_k(lua_State *L, int status, lua_KContext context)
{
    struct request *request = check_request(L, 1, BOX_TLS);
    int code = status == LUA_YIELD ? task_waiter(L)->woken : 0;

    (void)context;
    if (code < 0)
        return l_fail(L, code, NULL);
    lua_settop(L, 2);
    set_peer(L, request);
    return push_certificate(L);
}

static const char *why_not(const struct request *request, int code)
{
    if (code == ERR_STATE && exchange_has_content(request->exchange))
        return "the request's body must be read before";
    if (code == ERR_STATE)
        return "the binding's client_certificate is not \"delay\", or another task asks already";
    if (code == ERR_UNSUPPORTED)
        return "the connection cannot ask now: that takes HTTP/1.1 over TLS 1.3 and a client that "
               "knows it";
    return NULL;
}

/*
 * tls:request_certificate() -> the certificate, as in client_certificate; nil when the client has
 * none; nil, err
 */
static int tls_request_certificate(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_TLS);
    int code;

    lua_settop(L, 1);
    lua_getiuservalue(L, 1, VALUE_FACTS);
    if (lua_getfield(L, 2, "client_certificate") != LUA_TNIL)
        return 1;
    if (!task_can_wait(L))
        return task_refuse_wait(L);
    code = exchange_ask_certificate(request->exchange);
    if (code < 0)
        return l_fail(L, code, why_not(request, code));
    lua_settop(L, 2);
    return request_wait_certificate(L, request, asked_k, 0);
}

/* Upvalue: the methods. */
static int tls_index(lua_State *L)
{
    check_box(L, 1, BOX_TLS);
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 1;
    lua_getiuservalue(L, 1, VALUE_FACTS);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    return 1;
}

static int tls_newindex(lua_State *L)
{
    return luaL_error(L, "req.tls cannot be changed");
}

static const luaL_Reg methods[] = {
    {"request_certificate", tls_request_certificate},
    {NULL, NULL},
};

void l_tls_open(lua_State *L)
{
    int core = lua_gettop(L);

    new_box_metatable(L, BOX_TLS, "moonquay.tls");
    luaL_newlib(L, methods);
    lua_pushcclosure(L, tls_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, tls_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_settop(L, core);
}
