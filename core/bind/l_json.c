/*
 * The writer walks a Lua value and appends to a buffer; it makes no Lua string and runs no Lua
 * code, so it can neither yield nor raise on the way. It remembers the steps from the root to where
 * it is, for the message. The reader lets libjansson check and build the whole text first, because
 * a half-built Lua value of a text that proves wrong would be work for an attacker's pleasure.
 */
#include "bind/l_json.h"

#include <jansson.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

/* Keys in the registry; only the addresses matter. */
static const char array_key = 'a', object_key = 'o', null_key = 'n';

/* --- writing
 * ------------------------------------------------------------------------------------------- */

/* One step of the path: a member's name, or an element's number when name is NULL. */
struct step {
    const char *name;
    size_t len;
    lua_Integer number;
};

struct writer {
    lua_State *L;
    struct buf *out;
    size_t most;      /* length of out that must not be passed */
    const char *what; /* set by the one failure */
    int code, depth;
    struct step steps[JSON_MAX_DEPTH];
};

static bool fail(struct writer *writer, int code, const char *what)
{
    writer->code = code;
    writer->what = what;
    return false;
}

static bool put(struct writer *writer, const char *bytes, size_t len)
{
    struct buf *out = writer->out;

    if (len == 0)
        return true;
    if (len > writer->most - buf_len(out))
        return fail(writer, ERR_TOO_LARGE, "more than 256 MiB");
    if (out->cap - out->tail < len)
        buf_reserve(out, len);
    memcpy(out->data + out->tail, bytes, len);
    buf_added(out, len);
    return true;
}

static bool put_byte(struct writer *writer, char c)
{
    return put(writer, &c, 1);
}

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/*
 * True when a byte of the word is a control, '"', '\' or above ASCII. Only such a byte borrows from
 * the next one, so that no other word raises an alarm.
 */
static bool word_is_special(uint64_t word)
{
    const uint64_t quote = word ^ EACH_BYTE('"'), backslash = word ^ EACH_BYTE('\\');
    const uint64_t below =
        (word - EACH_BYTE(0x20)) | (quote - EACH_BYTE(1)) | (backslash - EACH_BYTE(1));

    return ((below | word) & EACH_BYTE(0x80)) != 0;
}

static bool byte_is_special(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\' || c >= 0x80;
}

/* How many bytes from at on can be copied as they are, UTF-8 sequences not looked at. */
static size_t plain_run(const char *at, size_t len)
{
    size_t run = 0;
    uint64_t word;

    for (; len - run >= sizeof(word); run += sizeof(word)) {
        memcpy(&word, at + run, sizeof(word));
        if (word_is_special(word))
            break;
    }
    while (run < len && !byte_is_special((unsigned char)at[run]))
        run++;
    return run;
}

/*
 * Length of the UTF-8 sequence at text (RFC 3629: no surrogates, shortest form), 0 when it is none.
 */
static size_t utf8_sequence(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t need = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    unsigned char low = 0x80, high = 0xbf;

    if (at[0] < 0xc2 || at[0] > 0xf4 || len < need)
        return 0;
    if (at[0] == 0xe0)
        low = 0xa0;
    else if (at[0] == 0xed)
        high = 0x9f;
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return need;
}

static bool put_escape(struct writer *writer, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    static const char digits[] = "0123456789abcdef";
    const char *found = c ? strchr(from, c) : NULL;

    if (found)
        return put(writer, (char[]){'\\', to[found - from]}, 2);
    return put(writer, (char[]){'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]}, 6);
}

static bool put_string(struct writer *writer, const char *at, size_t len)
{
    size_t start = 0, i = 0; /* [start, i) is to be copied as it is */

    if (!put_byte(writer, '"'))
        return false;
    while ((i += plain_run(at + i, len - i)) < len) {
        unsigned char c = (unsigned char)at[i];

        if (c >= 0x80) {
            size_t sequence = utf8_sequence(at + i, len - i);

            if (sequence == 0)
                return fail(writer, ERR_INVALID, "a string that is not UTF-8");
            i += sequence;
            continue;
        }
        if (!put(writer, at + start, i - start) || !put_escape(writer, c))
            return false;
        start = ++i;
    }
    return put(writer, at + start, len - start) && put_byte(writer, '"');
}

static bool put_integer(struct writer *writer, lua_Integer value)
{
    char text[24], *at = text + sizeof(text);
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    do
        *--at = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (value < 0)
        *--at = '-';
    return put(writer, at, (size_t)(text + sizeof(text) - at));
}

/* The fewest digits, of 15 to 17, that read back as the same number. */
static bool put_float(struct writer *writer, lua_Number value)
{
    char text[40], *point = text;
    int digits = 15, len;

    if (!isfinite(value))
        return fail(writer, ERR_INVALID, isnan(value) ? "NaN" : "infinity");
    if (value != 0 && fabs(value) < 1e15 && value == trunc(value)) /* zero may be -0.0 */
        return put_integer(writer, (lua_Integer)value) && put(writer, ".0", 2);
    do
        len = snprintf(text, sizeof(text), "%.*g", digits, value);
    while (strtod(text, NULL) != value && ++digits <= 17);

    point += strspn(text, "-0123456789");
    if (*point == '\0')
        return put(writer, text, (size_t)len) && put(writer, ".0", 2);
    if (*point == 'e')
        return put(writer, text, (size_t)len);

    /* Whatever the program's locale takes for a point, JSON has a point. */
    char *fraction = point + strcspn(point, "0123456789");

    return put(writer, text, (size_t)(point - text)) && put_byte(writer, '.') &&
           put(writer, fraction, (size_t)(text + len - fraction));
}

enum mark { MARK_NONE, MARK_ARRAY, MARK_OBJECT };

static bool top_is(lua_State *L, const char *key)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);

    bool same = lua_rawequal(L, -1, -2);

    lua_pop(L, 1);
    return same;
}

/* What json.array or json.object said about the table on top. */
static enum mark mark_of(lua_State *L)
{
    enum mark mark = MARK_NONE;

    if (!lua_getmetatable(L, -1))
        return MARK_NONE;
    if (top_is(L, &array_key))
        mark = MARK_ARRAY;
    else if (top_is(L, &object_key))
        mark = MARK_OBJECT;
    lua_pop(L, 1);
    return mark;
}

static bool put_value(struct writer *writer);

/* The value on top, which lies behind this step. */
static bool put_step(struct writer *writer, struct step step)
{
    writer->steps[writer->depth++] = step;
    if (!put_value(writer))
        return false;
    writer->depth--;
    return true;
}

/*
 * The table, its first key and value are on top, and the key is a string. Leaves the table on top.
 */
static bool put_members(struct writer *writer)
{
    lua_State *L = writer->L;
    char before = '{';

    do {
        if (lua_type(L, -2) != LUA_TSTRING)
            return fail(writer, ERR_INVALID, "a table with a key that is no string");

        struct step step = {.number = 0};

        step.name = lua_tolstring(L, -2, &step.len);
        if (!put_byte(writer, before) || !put_string(writer, step.name, step.len) ||
            !put_byte(writer, ':') || !put_step(writer, step))
            return false;
        lua_pop(L, 1);
        before = ',';
    } while (lua_next(L, -2));
    return put_byte(writer, '}');
}

/* n when the keys of the table on top are exactly 1..n, else -1. */
static lua_Integer count_elements(lua_State *L)
{
    lua_Integer count = 0, largest = 0;

    lua_pushnil(L);
    for (; lua_next(L, -2); lua_pop(L, 1), count++) {
        lua_Integer key = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;

        if (key < 1) {
            lua_pop(L, 2);
            return -1;
        }
        if (key > largest)
            largest = key;
    }
    return count == largest ? count : -1;
}

static bool put_element(struct writer *writer, lua_Integer number)
{
    return put_byte(writer, number == 1 ? '[' : ',') &&
           put_step(writer, (struct step){.number = number});
}

/*
 * As put_members, for a first key that is no string. next() gives the keys of nearly every array in
 * order; only when it does not, the keys are looked at first and the elements fetched one by one.
 */
static bool put_elements(struct writer *writer)
{
    lua_State *L = writer->L;
    lua_Integer number = 1, count;

    while (lua_isinteger(L, -2) && lua_tointeger(L, -2) == number) {
        if (!put_element(writer, number))
            return false;
        number++;
        lua_pop(L, 1);
        if (!lua_next(L, -2))
            return put_byte(writer, ']');
    }
    lua_pop(L, 2);
    count = count_elements(L);
    if (count < 0)
        return fail(writer, ERR_INVALID, "a table whose keys are neither 1..n nor all strings");
    for (; number <= count; number++) {
        lua_rawgeti(L, -1, number);
        if (!put_element(writer, number))
            return false;
        lua_pop(L, 1);
    }
    return put_byte(writer, ']');
}

/* The table on top. */
static bool put_table(struct writer *writer)
{
    lua_State *L = writer->L;

    if (writer->depth == JSON_MAX_DEPTH)
        return fail(writer, ERR_INVALID, "tables nested deeper than 128 (does one hold itself?)");
    if (!lua_checkstack(L, 6))
        return fail(writer, ERR_INVALID, "tables nested deeper than the Lua stack allows");

    enum mark mark = mark_of(L);

    lua_pushnil(L);
    if (!lua_next(L, -2))
        return put(writer, mark == MARK_ARRAY ? "[]" : "{}", 2);

    bool named = lua_type(L, -2) == LUA_TSTRING;

    if (mark == MARK_ARRAY && named)
        return fail(writer, ERR_INVALID, "a table marked as an array with a key that is a string");
    if (mark == MARK_OBJECT || named)
        return put_members(writer);
    return put_elements(writer);
}

static bool put_boolean(struct writer *writer, bool value)
{
    return value ? put(writer, "true", 4) : put(writer, "false", 5);
}

/* The value on top, which stays there (with garbage above it after a failure). */
static bool put_value(struct writer *writer)
{
    lua_State *L = writer->L;
    size_t len;

    switch (lua_type(L, -1)) {
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, -1, &len);

        return put_string(writer, text, len);
    }
    case LUA_TTABLE:
        return put_table(writer);
    case LUA_TNUMBER:
        return lua_isinteger(L, -1) ? put_integer(writer, lua_tointeger(L, -1))
                                    : put_float(writer, lua_tonumber(L, -1));
    case LUA_TBOOLEAN:
        return put_boolean(writer, lua_toboolean(L, -1));
    case LUA_TNIL:
        return put(writer, "null", 4);
    case LUA_TFUNCTION:
        return fail(writer, ERR_INVALID, "a function");
    case LUA_TTHREAD:
        return fail(writer, ERR_INVALID, "a coroutine");
    default:
        return top_is(L, &null_key) ? put(writer, "null", 4)
                                    : fail(writer, ERR_INVALID, "a userdata");
    }
}

static bool is_identifier(const struct step *step)
{
    for (size_t i = 0; i < step->len; i++) {
        char c = step->name[i], lower = ascii_lower(c);

        if (c != '_' && !(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9' && i > 0))
            return false;
    }
    return step->len > 0;
}

/* Where the writer stands, as Lua would spell it; long names and long paths are cut off. */
static void spell_path(const struct writer *writer, char *path, size_t size)
{
    size_t used = 0;

    for (int i = 0; i < writer->depth && used < size - 64; i++) {
        const struct step *step = &writer->steps[i];
        int len = step->len > 40 ? 40 : (int)step->len, written;

        if (step->name == NULL)
            written = snprintf(path + used, size - used, "[%lld]", (long long)step->number);
        else if (is_identifier(step))
            written = snprintf(path + used, size - used, ".%.*s", len, step->name);
        else
            written = snprintf(path + used, size - used, "[\"%.*s\"]", len, step->name);
        used += (size_t)written;
    }
    for (size_t i = 0; i < used; i++)
        if (path[i] < ' ' || path[i] > '~')
            path[i] = '?';
    path[used] = '\0';
}

int l_json_write(lua_State *L, int index, struct buf *out)
{
    int top = lua_gettop(L);
    size_t before = buf_len(out);
    struct writer writer = {.L = L, .out = out, .most = before + JSON_MAX_BYTES};

    luaL_checkstack(L, 6, NULL);
    lua_pushvalue(L, index);

    bool done = put_value(&writer);
    char path[256];

    if (done) {
        lua_settop(L, top);
        return 0;
    }
    out->tail = out->head + (uint32_t)before;
    spell_path(&writer, path, sizeof(path)); /* while the names are still on the stack */
    lua_settop(L, top);
    lua_pushfstring(L, "cannot write %s as JSON%s%s", writer.what, path[0] ? " at " : "", path);
    return writer.code;
}

/* --- reading
 * ------------------------------------------------------------------------------------------- */

static int null_tostring(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

static void new_metatable(lua_State *L, const char *name)
{
    lua_createtable(L, 0, 2);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
}

/* Makes json.null and the two marks, once a state. */
static void ensure(lua_State *L)
{
    int type = lua_rawgetp(L, LUA_REGISTRYINDEX, &null_key);

    lua_pop(L, 1);
    if (type != LUA_TNIL)
        return;
    new_metatable(L, "json.array");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
    new_metatable(L, "json.object");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &object_key);
    lua_newuserdatauv(L, 0, 0);
    new_metatable(L, "json.null");
    lua_pushcfunction(L, null_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &null_key);
}

#define TREE_TYPE "moonquay.json.tree"

/* Owns what libjansson built, so that an error of Lua's while it is copied loses nothing. */
static int tree_gc(lua_State *L)
{
    json_t **tree = lua_touserdata(L, 1);

    json_decref(*tree);
    *tree = NULL;
    return 0;
}

static json_t **push_tree(lua_State *L)
{
    json_t **tree = lua_newuserdatauv(L, sizeof(json_t *), 0);

    *tree = NULL;
    if (luaL_newmetatable(L, TREE_TYPE)) {
        lua_pushcfunction(L, tree_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return tree;
}

static bool push_value(lua_State *L, json_t *json, int depth);

static bool push_array(lua_State *L, const json_t *json, int depth)
{
    size_t size = json_array_size(json);

    lua_createtable(L, (int)size, 0);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
    lua_setmetatable(L, -2);
    for (size_t i = 0; i < size; i++) {
        if (!push_value(L, json_array_get(json, i), depth + 1))
            return false;
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return true;
}

static bool push_object(lua_State *L, json_t *json, int depth)
{
    lua_createtable(L, 0, (int)json_object_size(json));
    for (void *at = json_object_iter(json); at; at = json_object_iter_next(json, at)) {
        lua_pushstring(L, json_object_iter_key(at));
        if (!push_value(L, json_object_iter_value(at), depth + 1))
            return false;
        lua_rawset(L, -3);
    }
    return true;
}

/* False when json is nested too deep; what was pushed then is the caller's to drop. */
static bool push_value(lua_State *L, json_t *json, int depth)
{
    luaL_checkstack(L, 6, NULL);
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return depth < JSON_MAX_DEPTH && push_object(L, json, depth);
    case JSON_ARRAY:
        return depth < JSON_MAX_DEPTH && push_array(L, json, depth);
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(json), json_string_length(json));
        return true;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(json));
        return true;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(json));
        return true;
    default:
        lua_rawgetp(L, LUA_REGISTRYINDEX, &null_key);
        return true;
    }
}

int l_json_read(lua_State *L, struct span text)
{
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES;
    int top = lua_gettop(L);
    json_error_t error;

    luaL_checkstack(L, 6, NULL);
    ensure(L);

    json_t **tree = push_tree(L);

    *tree = json_loadb(text.len > 0 ? text.at : "", text.len, flags, &error);
    if (*tree == NULL) {
        lua_settop(L, top);
        lua_pushfstring(L, "line %d column %d: %s", error.line, error.column, error.text);
        return ERR_INVALID;
    }

    bool done = push_value(L, *tree, 0);

    json_decref(*tree); /* now, and not when the collector comes by */
    *tree = NULL;
    if (!done) {
        lua_settop(L, top);
        lua_pushfstring(L, "nested deeper than %d levels", JSON_MAX_DEPTH);
        return ERR_INVALID;
    }
    lua_replace(L, top + 1);
    return 0;
}

/* --- the module
 * ---------------------------------------------------------------------------------------- */

#define KEPT_BYTES 65536u

/* The buffer that encode writes into, kept from call to call while it is small. */
static int scratch_gc(lua_State *L)
{
    buf_fini(lua_touserdata(L, 1));
    return 0;
}

/* json.encode(value) -> string; raises when value cannot be written */
static int encode(lua_State *L)
{
    struct buf *scratch = lua_touserdata(L, lua_upvalueindex(1));

    luaL_checkany(L, 1);
    buf_consume(scratch, buf_len(scratch)); /* what a call that ran out of memory left */
    if (l_json_write(L, 1, scratch) < 0)
        return luaL_error(L, "%s", lua_tostring(L, -1));
    lua_pushlstring(L, buf_span(scratch).at, buf_len(scratch));
    if (scratch->cap > KEPT_BYTES)
        buf_fini(scratch);
    else
        buf_consume(scratch, buf_len(scratch));
    return 1;
}

/* json.decode(text) -> value | nil, err */
static int decode(lua_State *L)
{
    struct span text;

    text.at = luaL_checklstring(L, 1, &text.len);
    if (l_json_read(L, text) == 0)
        return 1;
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
    lua_pushstring(L, err_name(ERR_INVALID));
    lua_setfield(L, -2, "code");
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

static int mark(lua_State *L, const char *key)
{
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argcheck(L, mark_of(L) != MARK_NONE || !lua_getmetatable(L, 1), 1,
                  "a table without a metatable expected");
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

/* json.array([table]) -> the same table, written as an array even when it is empty */
static int array(lua_State *L)
{
    return mark(L, &array_key);
}

/* json.object([table]) -> the same table, written as an object, refused when it has elements */
static int object(lua_State *L)
{
    return mark(L, &object_key);
}

static const luaL_Reg functions[] = {
    {"decode", decode},
    {"array", array},
    {"object", object},
    {NULL, NULL},
};

int l_json_open(lua_State *L)
{
    ensure(L);
    luaL_newlib(L, functions);
    *(struct buf *)lua_newuserdatauv(L, sizeof(struct buf), 0) = (struct buf){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, scratch_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pushcclosure(L, encode, 1);
    lua_setfield(L, -2, "encode");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &null_key);
    lua_setfield(L, -2, "null");
    return 1;
}
