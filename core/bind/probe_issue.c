/* Certificates that are made, described and verified, for the specs: at any time, by any name. */
#include "bind/probe.h"

#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "bind/aux.h"
#include "tls/tls_describe.h"
#include "tls/tls_issue.h"
#include "tls/tls_verify.h"

static int push_wrong(lua_State *L, int code, const struct err_text *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why->text);
    lua_pushstring(L, err_name(code));
    return 3;
}

/* name(text) -> canonical | nil */
static int probe_name(lua_State *L)
{
    char canonical[TLS_ISSUE_NAME_ROOM];

    if (tls_issue_name(luaL_checkstring(L, 1), canonical))
        lua_pushstring(L, canonical);
    else
        lua_pushnil(L);
    return 1;
}

/* client(text) -> whether a client can have this name */
static int probe_client(lua_State *L)
{
    lua_pushboolean(L, tls_issue_client(luaL_checkstring(L, 1)));
    return 1;
}

static const char *text_field(lua_State *L, int at, const char *key)
{
    const char *text;

    lua_getfield(L, at, key);
    text = lua_tostring(L, -1); /* the table keeps it */
    lua_pop(L, 1);
    return text;
}

static lua_Integer number_field(lua_State *L, int at, const char *key, lua_Integer other)
{
    lua_Integer number;

    lua_getfield(L, at, key);
    number = luaL_optinteger(L, -1, other);
    lua_pop(L, 1);
    return number;
}

/* What is asked for: { names = {…}, client =, now =, days =, rsa = }; names is room for its texts.
 */
static struct tls_issue check_issue(lua_State *L, int at, const char *names[TLS_ISSUE_NAMES_MOST])
{
    struct tls_issue issue = {.names = names};

    luaL_checktype(L, at, LUA_TTABLE);
    lua_getfield(L, at, "rsa");
    issue.key = lua_toboolean(L, -1) ? TLS_ISSUE_RSA : TLS_ISSUE_ECDSA;
    lua_pop(L, 1);
    issue.client = text_field(L, at, "client");
    issue.now = number_field(L, at, "now", 0);
    issue.days = (unsigned)number_field(L, at, "days", 30);
    lua_getfield(L, at, "names");
    for (lua_Integer i = 1; lua_istable(L, -1) && i <= luaL_len(L, -1); i++) {
        lua_geti(L, -1, i);
        luaL_argcheck(L, i <= TLS_ISSUE_NAMES_MOST, at, "too many names");
        names[issue.name_count++] = luaL_checkstring(L, -1); /* the table keeps it */
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return issue;
}

static int push_made(lua_State *L, int code, struct buf *certificate, struct buf *key,
                     const struct err_text *why)
{
    if (code == 0) {
        l_push_buf(L, certificate);
        l_push_buf(L, key);
        return 2;
    }
    buf_fini(certificate);
    buf_fini(key);
    return push_wrong(L, code, why);
}

/* authority(what) -> certificate, key | nil, message, error name */
static int probe_authority(lua_State *L)
{
    const char *names[TLS_ISSUE_NAMES_MOST];
    struct tls_issue issue = check_issue(L, 1, names);
    struct buf certificate = {0}, key = {0};
    struct err_text why = {0};
    int code = tls_issue_authority(&issue, &certificate, &key, &why);

    return push_made(L, code, &certificate, &key, &why);
}

static int read_cert(struct tls_cert **cert, struct span pem, struct span key, struct err_text *why)
{
    int code = tls_cert_new(cert, pem, why);

    return code == 0 && key.at ? tls_cert_set_key(*cert, key, why) : code;
}

/* certificate(what, authority's certificate, its key) -> certificate, key | nil, message, error
 * name */
static int probe_certificate(lua_State *L)
{
    const char *names[TLS_ISSUE_NAMES_MOST];
    struct tls_issue issue = check_issue(L, 1, names);
    struct span pem = l_check_span(L, 2), secret = l_check_span(L, 3);
    struct buf certificate = {0}, key = {0};
    struct err_text why = {0};
    struct tls_cert *authority;
    int code = read_cert(&authority, pem, secret, &why);

    if (code == 0)
        code = tls_issue_certificate(&issue, authority, &certificate, &key, &why);
    tls_cert_free(authority);
    return push_made(L, code, &certificate, &key, &why);
}

/* is_of(certificate, authority's certificate) -> whether it was signed by that one */
static int probe_is_of(lua_State *L)
{
    struct span pem = l_check_span(L, 1), authority_pem = l_check_span(L, 2);
    struct tls_cert *cert = NULL, *authority = NULL;
    struct err_text why = {0};
    int code = tls_cert_new(&cert, pem, &why);

    if (code == 0)
        code = tls_cert_new(&authority, authority_pem, &why);
    if (code == 0)
        lua_pushboolean(L, tls_issue_is_of(cert, authority));
    tls_cert_free(cert);
    tls_cert_free(authority);
    return code == 0 ? 1 : push_wrong(L, code, &why);
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_number(lua_State *L, const char *key, int64_t number)
{
    lua_pushinteger(L, number);
    lua_setfield(L, -2, key);
}

static void set_bool(lua_State *L, const char *key, bool is_set)
{
    lua_pushboolean(L, is_set);
    lua_setfield(L, -2, key);
}

static void set_names(lua_State *L, const char *key, const struct tls_names *names)
{
    lua_newtable(L);
    for (size_t i = 0; i < names->count; i++) {
        lua_pushstring(L, names->texts[i]);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, key);
}

static void push_description(lua_State *L, const struct tls_description *one)
{
    lua_newtable(L);
    set_text(L, "subject", one->subject);
    set_text(L, "issuer", one->issuer);
    set_text(L, "serial", one->serial);
    set_text(L, "fingerprint", one->fingerprint);
    set_text(L, "key_type", one->key_type);
    set_number(L, "key_bits", one->key_bits);
    set_number(L, "not_before", one->not_before);
    set_number(L, "not_after", one->not_after);
    set_names(L, "names", &one->names);
    set_names(L, "permitted", &one->permitted);
    set_bool(L, "is_authority", one->is_authority);
    set_bool(L, "for_servers", one->for_servers);
    set_bool(L, "for_clients", one->for_clients);
}

/* describe(pem) -> { {subject =, …}, … } | nil, message, error name */
static int probe_describe(lua_State *L)
{
    struct tls_description *list;
    struct err_text why = {0};
    size_t count;
    int code = tls_describe(l_check_span(L, 1), &list, &count, &why);

    if (code < 0)
        return push_wrong(L, code, &why);
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        push_description(L, &list[i]);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    tls_descriptions_free(list, count);
    return 1;
}

/* verify(certificate, authorities, now) -> true | nil, message, error name */
static int probe_verify(lua_State *L)
{
    struct span pem = l_check_span(L, 1), trusted = l_check_span(L, 2);
    int64_t now = luaL_checkinteger(L, 3);
    struct tls_authorities *authorities = NULL;
    struct tls_cert *cert = NULL;
    struct err_text why = {0};
    int code = tls_cert_new(&cert, pem, &why);

    if (code == 0)
        code = tls_authorities_new(&authorities, trusted, &why);
    if (code == 0)
        code = tls_verify(cert, authorities, now, &why);
    tls_authorities_free(authorities);
    tls_cert_free(cert);
    if (code < 0)
        return push_wrong(L, code, &why);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    {"name", probe_name},
    {"client", probe_client},
    {"authority", probe_authority},
    {"is_of", probe_is_of},
    {"certificate", probe_certificate},
    {"describe", probe_describe},
    {"verify", probe_verify},
    {NULL, NULL},
};

int probe_issue_open(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
