/* Queries, cookies and multipart forms for the Lua library, which shapes them into tables. */
#include "bind/l_form.h"

#include <lauxlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "bind/aux.h"
#include "http/cookie.h"
#include "http/multipart.h"
#include "http/query.h"

/* ---- pairs ---- */

/* An arena that Lua owns: what raises on the way cannot lose it. */
static int arena_gc(lua_State *L)
{
    arena_fini(lua_touserdata(L, 1));
    return 0;
}

static struct arena *push_arena(lua_State *L)
{
    struct arena *arena = lua_newuserdatauv(L, sizeof(*arena), 0);

    arena_init(arena);
    if (luaL_newmetatable(L, "moonquay.arena")) {
        lua_pushcfunction(L, arena_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return arena;
}

/* parse_query(text) -> { name, value, name, value, … } */
static int parse_query(lua_State *L)
{
    struct span text = l_check_span(L, 1);
    struct arena *arena = push_arena(L);
    struct query_pair pair;

    lua_newtable(L);
    for (lua_Integer i = 1; query_next(&text, &pair, arena); i += 2) {
        l_push_span(L, pair.name);
        lua_rawseti(L, -2, i);
        l_push_span(L, pair.value);
        lua_rawseti(L, -2, i + 1);
    }
    arena_fini(arena);
    return 1;
}

/* parse_cookies(text) -> { name, value, … } */
static int parse_cookies(lua_State *L)
{
    struct span text = l_check_span(L, 1);
    struct cookie_pair pair;

    lua_newtable(L);
    for (lua_Integer i = 1; cookie_next(&text, &pair); i += 2) {
        l_push_span(L, pair.name);
        lua_rawseti(L, -2, i);
        l_push_span(L, pair.value);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* ---- Set-Cookie ---- */

/*
 * Raises at the line of the app: the caller of the Lua function that calls cookie(), since the one
 * in between is the library's.
 */
static void refuse_cookie(lua_State *L, const char *text)
{
    luaL_where(L, 2);
    lua_pushfstring(L, "%scookie %s", lua_tostring(L, -1), text);
    lua_error(L);
}

/* What cookie_write() found wrong, in the words of whoever has to mend it. */
static void explain_fault(lua_State *L, const struct cookie *cookie, const char *what)
{
    static const struct {
        const char *what, *text;
    } rows[] = {
        {"value", "its value holds a byte that no cookie may hold (control, space, quote, comma, "
                  "semicolon, backslash, or none of ASCII)"},
        {"path", "its path holds a control character or a semicolon"},
        {"domain", "its domain holds a control character or a semicolon"},
        {"expires", "expires lies outside the years that a date can tell"},
    };

    if (strcmp(what, "name") == 0)
        refuse_cookie(L, "names are made of letters, digits and !#$%&'*+-.^_`|~");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(what, rows[i].what) == 0)
            what = rows[i].text;
    refuse_cookie(L, lua_pushfstring(L, "%s: %s", cookie->name.at, what));
}

static struct span text_option(lua_State *L, const char *name)
{
    lua_getfield(L, 3, name);
    if (lua_isnil(L, -1))
        return SPAN_NONE;
    if (lua_type(L, -1) != LUA_TSTRING)
        refuse_cookie(L, lua_pushfstring(L, "option %s must be a string", name));
    return l_to_span(L, -1); /* stays on the stack */
}

static bool flag_option(lua_State *L, const char *name)
{
    lua_getfield(L, 3, name);
    bool on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

static bool number_option(lua_State *L, const char *name, int64_t *value)
{
    int is_integer;

    if (lua_getfield(L, 3, name) == LUA_TNIL) {
        lua_pop(L, 1);
        return false;
    }
    *value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer)
        refuse_cookie(L, lua_pushfstring(L, "option %s must be a whole number of seconds", name));
    lua_pop(L, 1);
    return true;
}

static enum cookie_same_site same_site_option(lua_State *L)
{
    struct span word = text_option(L, "same_site");

    if (word.at == NULL)
        return COOKIE_SAME_SITE_UNSET;
    if (span_eq_nocase(word, SPAN("strict")))
        return COOKIE_STRICT;
    if (span_eq_nocase(word, SPAN("lax")))
        return COOKIE_LAX;
    if (!span_eq_nocase(word, SPAN("none")))
        refuse_cookie(L, "option same_site is \"strict\", \"lax\" or \"none\"");
    return COOKIE_NONE;
}

static const char *const cookie_options[] = {"path",      "domain",      "max_age",
                                             "expires",   "secure",      "http_only",
                                             "same_site", "partitioned", NULL};

static void check_option_names(lua_State *L)
{
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
        const char *const *known = cookie_options;

        while (*known && strcmp(*known, name) != 0)
            known++;
        if (*known == NULL)
            refuse_cookie(L, lua_pushfstring(L, "options do not include %s", name));
    }
}

/* cookie(name, value, options) -> value of a Set-Cookie field; raises on what no cookie may hold */
static int set_cookie(lua_State *L)
{
    struct cookie cookie = {0};
    struct buf out = {0};
    const char *what = NULL;

    lua_settop(L, 3);
    if (!lua_isstring(L, 1) || !lua_isstring(L, 2))
        refuse_cookie(L, "names and values must be strings");
    cookie.name = l_to_span(L, 1);
    cookie.value = l_to_span(L, 2);
    if (!lua_isnil(L, 3)) {
        if (!lua_istable(L, 3))
            refuse_cookie(L, "options must be a table");
        check_option_names(L);
        cookie.path = text_option(L, "path");
        cookie.domain = text_option(L, "domain");
        cookie.has_max_age = number_option(L, "max_age", &cookie.max_age);
        cookie.has_expires = number_option(L, "expires", &cookie.expires);
        cookie.secure = flag_option(L, "secure");
        cookie.http_only = flag_option(L, "http_only");
        cookie.partitioned = flag_option(L, "partitioned");
        cookie.same_site = same_site_option(L);
    }
    if (cookie_write(&out, &cookie, &what) < 0)
        explain_fault(L, &cookie, what);
    l_push_buf(L, &out);
    return 1;
}

/* ---- multipart ---- */

#define MULTIPART_TYPE "moonquay.multipart"

struct l_multipart {
    struct multipart reader;
    struct arena arena;
    bool open;
};

static int multipart_gc(lua_State *L)
{
    struct l_multipart *self = luaL_checkudata(L, 1, MULTIPART_TYPE);

    if (self->open) {
        multipart_fini(&self->reader);
        arena_fini(&self->arena);
    }
    self->open = false;
    return 0;
}

static uint32_t limit_option(lua_State *L, const char *name, uint32_t fallback)
{
    lua_Integer value = fallback;

    if (lua_istable(L, 2) && lua_getfield(L, 2, name) != LUA_TNIL)
        value = luaL_checkinteger(L, -1);
    luaL_argcheck(L, value > 0 && value <= INT32_MAX, 2, name);
    return (uint32_t)value;
}

/* multipart(content_type [, { max_part_head_bytes =, max_parts = }]) -> reader | nil, err */
static int new_multipart(lua_State *L)
{
    struct span type = l_check_span(L, 1);
    struct multipart_limits limits = {limit_option(L, "max_part_head_bytes", 8192),
                                      limit_option(L, "max_parts", 1000)};
    struct l_multipart *self = lua_newuserdatauv(L, sizeof(*self), 0);

    self->open = false;
    luaL_setmetatable(L, MULTIPART_TYPE);
    arena_init(&self->arena);
    int code = multipart_init(&self->reader, type, &limits, &self->arena);

    if (code < 0) {
        arena_fini(&self->arena);
        return l_fail(L, code, "the Content-Type is no multipart/form-data with a boundary");
    }
    self->open = true;
    return 1;
}

static void set_span(lua_State *L, const char *name, struct span text)
{
    if (text.at == NULL)
        return;
    l_push_span(L, text);
    lua_setfield(L, -2, name);
}

static void push_part(lua_State *L, const struct multipart *reader)
{
    set_span(L, "name", reader->name);
    set_span(L, "filename", reader->filename);
    set_span(L, "type", reader->type);
    lua_newtable(L);
    for (uint32_t i = 0; i < reader->fields.count; i++) {
        struct span name = reader->fields.at[i].name;
        char lower[64];

        for (size_t j = 0; j < name.len && j < sizeof(lower); j++)
            lower[j] = ascii_lower(name.at[j]);
        lua_pushlstring(L, lower, name.len < sizeof(lower) ? name.len : sizeof(lower));
        l_push_span(L, reader->fields.at[i].value);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "headers");
}

static void push_event(lua_State *L, const char *kind)
{
    lua_createtable(L, 2, 4);
    lua_pushstring(L, kind);
    lua_rawseti(L, -2, 1);
}

static int multipart_refused(lua_State *L, const struct multipart *reader)
{
    int status = reader->refusal.status ? reader->refusal.status : 400;

    l_fail(L, status == 413 ? ERR_TOO_LARGE : ERR_INVALID, reader->refusal.detail);
    lua_pushinteger(L, status);
    lua_setfield(L, -2, "status");
    return 2;
}

/* reader:feed(bytes, nil at the end) -> list of events | nil, err */
static int multipart_feed(lua_State *L)
{
    struct l_multipart *self = luaL_checkudata(L, 1, MULTIPART_TYPE);
    struct span data, in = lua_isnoneornil(L, 2) ? SPAN_NONE : l_check_span(L, 2);
    lua_Integer events = 0;

    lua_newtable(L);
    if (lua_isnoneornil(L, 2))
        return multipart_finish(&self->reader) < 0 ? multipart_refused(L, &self->reader) : 1;
    for (;;) {
        size_t used = 0;
        int event = multipart_next(&self->reader, in, &used, &data);

        in = span_of(in.at + used, in.len - used);
        if (event == ERR_AGAIN)
            return 1;
        if (event < 0)
            return multipart_refused(L, &self->reader);
        switch (event) {
        case MULTIPART_PART:
            push_event(L, "part");
            push_part(L, &self->reader);
            break;
        case MULTIPART_DATA:
            push_event(L, "data");
            l_push_span(L, data);
            lua_rawseti(L, -2, 2);
            break;
        case MULTIPART_PART_END:
            push_event(L, "part_end");
            arena_reset(&self->arena);
            break;
        default:
            push_event(L, "end");
            lua_rawseti(L, -2, ++events);
            return 1;
        }
        lua_rawseti(L, -2, ++events);
    }
}

static const luaL_Reg functions[] = {
    {"parse_query", parse_query},
    {"parse_cookies", parse_cookies},
    {"cookie", set_cookie},
    {"multipart", new_multipart},
    {NULL, NULL},
};

void l_form_open(lua_State *L)
{
    int core = lua_gettop(L);

    luaL_newmetatable(L, MULTIPART_TYPE);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, multipart_feed);
    lua_setfield(L, -2, "feed");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, multipart_gc);
    lua_setfield(L, -2, "__gc");
    lua_settop(L, core);
    luaL_setfuncs(L, functions, 0);
}
