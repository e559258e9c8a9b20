/* The settings for the specs: the table, its values, tls bindings, hosting, configuration files. */
#include <lauxlib.h>

#include "base/err.h"
#include "bind/config_file.h"
#include "bind/probe.h"
#include "server/hosting.h"
#include "server/settings.h"
#include "server/tls_binding.h"

static int push_failure(lua_State *L, int code)
{
    lua_pushnil(L);
    lua_pushstring(L, err_name(code));
    return 2;
}

static int push_refusal(lua_State *L, const struct err_text *text)
{
    lua_pushnil(L);
    lua_pushstring(L, text->text);
    lua_pushinteger(L, text->exit_code);
    return 3;
}

/* Pushes the value in force. */
static void push_value(lua_State *L, const struct settings *settings, const char *key)
{
    const char *text = settings_text(settings, key);
    char value[64];

    if (text == NULL)
        settings_get(settings, key, value, sizeof(value));
    lua_pushstring(L, text ? text : value);
}

/* set(key, value, where) -> text in force | nil, message, exit code; through a copy, whose original
 * is gone */
static int probe_set(lua_State *L)
{
    const char *key = luaL_checkstring(L, 1), *value = luaL_checkstring(L, 2);
    const char *where = luaL_optstring(L, 3, "--set");
    struct settings original, settings;
    struct err_text text = {0};
    int code, checked = settings_check(key, value, where, &text);

    settings_init(&original);
    code = settings_set(&original, key, value, where, &text);
    CHECK(code == checked);
    settings_copy(&settings, &original);
    settings_fini(&original);
    if (code == 0)
        push_value(L, &settings, key);
    settings_fini(&settings);
    return code == 0 ? 1 : push_refusal(L, &text);
}

/* get(key) -> the default as text | nil, err */
static int probe_get(lua_State *L)
{
    const char *key = luaL_checkstring(L, 1);
    struct settings settings;

    if (settings_scope(key) < 0)
        return push_failure(L, ERR_NOT_FOUND);
    settings_init(&settings);
    push_value(L, &settings, key);
    settings_fini(&settings);
    return 1;
}

/* about(key) -> "server" or "app", "start" or "any time", per request | nil, err */
static int probe_about(lua_State *L)
{
    const char *key = luaL_checkstring(L, 1);
    int scope = settings_scope(key);

    if (scope < 0)
        return push_failure(L, scope);
    lua_pushstring(L, scope == SETTING_SERVER ? "server" : "app");
    lua_pushstring(L, settings_when(key) == SETTING_AT_START ? "start" : "any time");
    lua_pushboolean(L, settings_per_request(key));
    return 3;
}

/* number(key, value) -> the number in force, and as text | nil, message, exit code */
static int probe_number(lua_State *L)
{
    const char *key = luaL_checkstring(L, 1), *value = luaL_checkstring(L, 2);
    struct err_text text = {0};
    char shown[64];
    int64_t number;

    if (settings_number(key, value, "", &number, &text) < 0)
        return push_refusal(L, &text);
    settings_number_text(key, number, shown, sizeof(shown));
    lua_pushinteger(L, number);
    lua_pushstring(L, shown);
    return 2;
}

static void add_key(void *arg, const char *key)
{
    lua_State *L = arg;

    lua_pushstring(L, key);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

static int probe_keys(lua_State *L)
{
    lua_newtable(L);
    settings_each(add_key, L);
    return 1;
}

/* items(list) -> { item, … } */
static int probe_items(lua_State *L)
{
    const char *rest = luaL_checkstring(L, 1);
    struct span item;

    lua_newtable(L);
    for (lua_Integer i = 1; settings_item(&rest, &item); i++) {
        lua_pushlstring(L, item.at, item.len);
        lua_rawseti(L, -2, i);
    }
    return 1;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* "" when none was given, else all of them with a comma between. */
static void set_files(lua_State *L, const char *name, char files[][TLS_BINDING_PATH])
{
    luaL_Buffer all;

    luaL_buffinit(L, &all);
    for (unsigned i = 0; i < TLS_CERTS_MOST && files[i][0]; i++) {
        if (i > 0)
            luaL_addchar(&all, ',');
        luaL_addstring(&all, files[i]);
    }
    luaL_pushresult(&all);
    lua_setfield(L, -2, name);
}

/* bindings(text) -> { { name =, … }, … } | nil, why */
static int probe_bindings(lua_State *L)
{
    const char *rest = luaL_checkstring(L, 1);
    struct tls_binding binding;
    char why[256];
    int code;

    lua_newtable(L);
    for (lua_Integer i = 1; (code = tls_binding_next(&rest, &binding, why, sizeof(why))) > 0; i++) {
        lua_newtable(L);
        set_text(L, "name", binding.name);
        set_text(L, "address", binding.address);
        set_text(L, "port", binding.port);
        set_files(L, "certificate", binding.certificate);
        set_files(L, "key", binding.key);
        set_files(L, "ocsp", binding.ocsp);
        set_text(L, "min_version", binding.min_version);
        set_text(L, "max_version", binding.max_version);
        set_text(L, "client_certificate", binding.client_certificate);
        set_text(L, "client_authorities", binding.client_authorities);
        lua_rawseti(L, -2, i);
    }
    if (code == 0)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* hosting(url_prefixes, urls, urls_from, prefer_urls, attached, default_urls) -> list, is_urls,
 * warning | nil */
static int probe_hosting(lua_State *L)
{
    struct hosting hosting = {
        .url_prefixes = luaL_optstring(L, 1, NULL),
        .urls = luaL_optstring(L, 2, NULL),
        .urls_from = luaL_optstring(L, 3, NULL),
        .prefer_urls = lua_toboolean(L, 4),
        .attached = lua_toboolean(L, 5),
        .default_urls = luaL_optstring(L, 6, NULL),
    };
    struct hosting_choice choice = hosting_choose(&hosting);
    char warning[200];

    lua_pushstring(L, choice.list);
    lua_pushboolean(L, choice.is_urls);
    if (hosting_warning(&hosting, choice.note, warning, sizeof(warning)) == 0)
        return 2;
    lua_pushstring(L, warning);
    return 3;
}

/* The strings of a list of pairs, as a list. */
static void push_pairs(lua_State *L, struct span pairs)
{
    lua_newtable(L);
    for (lua_Integer i = 1; pairs.len > 0; i++) {
        size_t length = strlen(pairs.at) + 1;

        lua_pushstring(L, pairs.at);
        lua_rawseti(L, -2, i);
        pairs = span_of(pairs.at + length, pairs.len - length);
    }
}

/* config_file(path, lua_dir) -> { key, value, place key, place, … } | nil, message, exit code */
static int probe_config_file(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1), *lua_dir = luaL_checkstring(L, 2);
    struct buf pairs = {0};
    struct err_text text = {0};
    int code = config_file_read(path, lua_dir, &pairs, &text);

    if (code == 0)
        push_pairs(L, buf_span(&pairs));
    buf_fini(&pairs);
    return code == 0 ? 1 : push_refusal(L, &text);
}

static const luaL_Reg functions[] = {
    {"about", probe_about}, {"bindings", probe_bindings}, {"config_file", probe_config_file},
    {"get", probe_get},     {"hosting", probe_hosting},   {"items", probe_items},
    {"keys", probe_keys},   {"number", probe_number},     {"set", probe_set},
    {NULL, NULL},
};

int probe_settings_open(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
