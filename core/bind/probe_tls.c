/* Certificates for the specs. */
#include <lauxlib.h>

#include "base/err.h"
#include "bind/probe.h"
#include "tls/tls_cert.h"

static struct span check_span(lua_State *L, int at)
{
    size_t length;
    const char *text = luaL_checklstring(L, at, &length);

    return span_of(text, length);
}

static void push_cert(lua_State *L, const struct tls_cert *cert, int64_t now)
{
    char type[TLS_KEY_TYPE], warning[256];

    lua_newtable(L);
    lua_pushstring(L, tls_cert_key_type(cert, type));
    lua_setfield(L, -2, "key_type");
    lua_pushinteger(L, tls_cert_not_before(cert));
    lua_setfield(L, -2, "not_before");
    lua_pushinteger(L, tls_cert_not_after(cert));
    lua_setfield(L, -2, "not_after");
    if (tls_cert_warning(cert, now, warning, sizeof(warning))) {
        lua_pushstring(L, warning);
        lua_setfield(L, -2, "warning");
    }
}

/* cert(pem, key, now, host) -> { key_type, not_before, not_after, warning, covers } |
 * nil, message, exit code */
static int probe_cert(lua_State *L)
{
    struct span pem = check_span(L, 1), key = check_span(L, 2);
    int64_t now = luaL_checkinteger(L, 3);
    const char *host = luaL_optstring(L, 4, "");
    struct err_text why = {0};
    struct tls_cert *cert;
    int code = tls_cert_new(&cert, pem, &why);

    if (code == 0)
        code = tls_cert_set_key(cert, key, &why);
    if (code == 0) {
        push_cert(L, cert, now);
        lua_pushboolean(L, tls_cert_covers(cert, host));
        lua_setfield(L, -2, "covers");
    }
    tls_cert_free(cert);
    if (code == 0)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, why.text);
    lua_pushinteger(L, why.exit_code);
    return 3;
}

static const luaL_Reg functions[] = {
    {"cert", probe_cert},
    {NULL, NULL},
};

int probe_tls_open(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
