/*
 * Options that Lua code sets. They are checked by the server's own table (server/settings) and told
 * with the place of the call: an app's options at load, a route's when it is defined.
 */
#include "bind/l_option.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bind/aux.h"
#include "bind/vm_priv.h"
#include "server/settings.h"

#define VALUE_BYTES 64 /* of a number as text */

/* What all settings for the master take together: they travel in one message. */
#define ASKED_SETTINGS_BYTES (4 << 20)

static bool push_kind(lua_State *L, const char *kind)
{
    lua_pushfstring(L, "(a %s)", kind);
    return false;
}

/* For an option that can be absent nil says so. */
static bool push_nil(lua_State *L, const char *key)
{
    bool can_be = settings_takes(key, SETTING_FROM_NIL);

    lua_pushstring(L, can_be ? "none" : "nil");
    return can_be;
}

static bool push_number_text(lua_State *L, int index)
{
    lua_Integer whole;

    /* 1e6 and 10/2 are whole numbers to whoever wrote them. */
    if (!lua_isinteger(L, index) && lua_numbertointeger(floor(lua_tonumber(L, index)), &whole) &&
        (lua_Number)whole == lua_tonumber(L, index))
        lua_pushinteger(L, whole);
    else
        lua_pushvalue(L, index);
    return true;
}

/* The form of the value at index; -1: it can be no option. */
static int form_of(lua_State *L, int index, bool is_list)
{
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        return is_list ? SETTING_FROM_LIST : SETTING_FROM_TEXT;
    case LUA_TNUMBER:
        return SETTING_FROM_NUMBER;
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? SETTING_FROM_TRUE : SETTING_FROM_FALSE;
    default:
        return -1;
    }
}

bool option_push_text(lua_State *L, int index, const char *key, bool is_list)
{
    int form = form_of(L, index, is_list);
    size_t length;

    if (lua_isnil(L, index))
        return push_nil(L, key);
    if (form < 0 || !settings_takes(key, (enum setting_form)form))
        return push_kind(L, form == SETTING_FROM_LIST ? "list" : luaL_typename(L, index));
    if (form == SETTING_FROM_NUMBER)
        return push_number_text(L, index);
    if (form == SETTING_FROM_TRUE || form == SETTING_FROM_FALSE) {
        lua_pushstring(L, form == SETTING_FROM_TRUE ? "true" : "false");
        return true;
    }
    const char *text = lua_tolstring(L, index, &length);

    if (strlen(text) != length)
        return push_kind(L, "text with a NUL");
    lua_pushvalue(L, index);
    return true;
}

void option_add_pair(struct buf *pairs, const char *key, const char *value)
{
    buf_append(pairs, span_of(key, strlen(key) + 1));
    buf_append(pairs, span_of(value, strlen(value) + 1));
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

/* Pushes "app.lua:3", or "": where the function of that level is. */
static const char *push_place(lua_State *L, int level)
{
    size_t length;

    luaL_where(L, level); /* "app.lua:3: ", or "" */
    const char *place = lua_tolstring(L, -1, &length);

    return lua_pushlstring(L, place, length > 2 ? length - 2 : 0);
}

/* What a server's app sets is the master's to know: it tells every worker what is in force. */
static int note_for_master(struct vm *vm, const char *key, const char *value, const char *place,
                           struct err_text *text)
{
    char place_key[64];

    if (!vm->owned)
        return 0;
    snprintf(place_key, sizeof(place_key), "%s" VM_SETTING_PLACE, key);
    if (buf_len(&vm->asked_settings) + strlen(key) + strlen(value) + strlen(place_key) +
            strlen(place) + 4 >
        ASKED_SETTINGS_BYTES)
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE,
                       "%s: %s: the settings of an app take more than %d bytes", place, key,
                       ASKED_SETTINGS_BYTES);
    option_add_pair(&vm->asked_settings, key, value);
    option_add_pair(&vm->asked_settings, place_key, place);
    return 0;
}

static int take_setting(struct vm *vm, const char *key, const char *value, const char *place,
                        struct err_text *text)
{
    /* In a server what is for all of it is not this state's to change. */
    bool is_ours = !vm->owned || settings_scope(key) != SETTING_SERVER;
    int code = is_ours ? settings_set(vm->settings, key, value, place, text)
                       : settings_check(key, value, place, text);

    return code < 0 ? code : note_for_master(vm, key, value, place, text);
}

/* set_option(key, value [, level [, is_list [, place]]]): for moonquay.app { … }; raises with the
 * allowed range */
static int l_set_option(lua_State *L)
{
    struct vm *vm = vm_of(L);
    const char *key = luaL_checkstring(L, 1), *place = luaL_optstring(L, 5, NULL);
    struct err_text text = {0};

    luaL_checkany(L, 2);
    if (place == NULL)
        place = push_place(L, (int)luaL_optinteger(L, 3, 1));
    if (!option_push_text(L, 2, key, lua_toboolean(L, 4))) {
        settings_refuse(key, lua_tostring(L, -1), place, &text);
        return raise_option(L, vm, text.text);
    }
    if (take_setting(vm, key, lua_tostring(L, -1), place, &text) < 0)
        return raise_option(L, vm, text.text);
    return 0;
}

/* is_option_group(words) -> whether options begin with them and a dot */
static int l_is_option_group(lua_State *L)
{
    lua_pushboolean(L, settings_is_group(luaL_checkstring(L, 1)));
    return 1;
}

/* refuse_option(message [, level]): raises as set_option does, for what is wrong with the table */
static int l_refuse_option(lua_State *L)
{
    struct vm *vm = vm_of(L);
    const char *message = luaL_checkstring(L, 1), *place;
    struct err_text text;

    place = push_place(L, (int)luaL_optinteger(L, 2, 1));
    err_set(&text, EXIT_OPTION, ERR_INVALID, "%s%s%s", place, place[0] ? ": " : "", message);
    return raise_option(L, vm, text.text);
}

/* Pushes "1.5", "true" and the like as what they stand for. */
static void push_value(lua_State *L, const char *text)
{
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        lua_pushboolean(L, text[0] == 't');
    else if (lua_stringtonumber(L, text) == 0)
        lua_pushstring(L, text);
}

/*
 * check_option(key, value) -> value | nil, message: for routes, which may set options that hold for
 * one request. A size becomes a number of bytes, a time one of seconds; "unlimited" and "off" stay.
 */
static int l_check_option(lua_State *L)
{
    const char *key = luaL_checkstring(L, 1);
    struct err_text text = {0};
    char shown[VALUE_BYTES];
    int64_t number;
    int code;

    luaL_checkany(L, 2);
    luaL_argcheck(L, settings_per_request(key), 1, "holds for more than a request");
    if (!option_push_text(L, 2, key, false))
        code = settings_refuse(key, lua_tostring(L, -1), "", &text);
    else
        code = settings_number(key, lua_tostring(L, -1), "", &number, &text);
    if (code < 0) {
        lua_pushnil(L);
        lua_pushstring(L, text.text);
        return 2;
    }
    settings_number_text(key, number, shown, sizeof(shown));
    push_value(L, shown);
    return 1;
}

static const luaL_Reg functions[] = {
    {"set_option", l_set_option},
    {"check_option", l_check_option},
    {"refuse_option", l_refuse_option},
    {"is_option_group", l_is_option_group},
    {NULL, NULL},
};

void l_option_open(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
