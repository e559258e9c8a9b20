/*
 * Queries, cookies, media types, multipart forms and JSON for the specs. Every input is copied into
 * a block of exactly its size, so that the sanitizers see a reader that looks past its end.
 */
#include "bind/probe.h"

#include <lauxlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "bind/l_json.h"
#include "http/cookie.h"
#include "http/media_type.h"
#include "http/multipart.h"
#include "http/query.h"

#define WORK_TYPE "moonquay.probe.form"

/* What one call works with, freed by the collector also when the call raises. */
struct work {
    struct arena arena;
    struct buf out;
    struct multipart multipart;
};

static int work_gc(lua_State *L)
{
    struct work *work = luaL_checkudata(L, 1, WORK_TYPE);

    arena_fini(&work->arena);
    buf_fini(&work->out);
    multipart_fini(&work->multipart);
    return 0;
}

static struct work *push_work(lua_State *L)
{
    struct work *work = lua_newuserdatauv(L, sizeof(*work), 0);

    *work = (struct work){0};
    arena_init(&work->arena);
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

static void push_span(lua_State *L, struct span text)
{
    if (text.at)
        lua_pushlstring(L, text.at, text.len);
    else
        lua_pushnil(L);
}

/* Appends {name, value} to the list at index. */
static void add_pair(lua_State *L, int list, struct span name, struct span value)
{
    lua_createtable(L, 2, 0);
    push_span(L, name);
    lua_rawseti(L, -2, 1);
    push_span(L, value);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
}

/* form.query(text) -> { {name, value}, … } */
static int query(lua_State *L)
{
    struct work *work = push_work(L);
    struct span text = push_copy(L, 1);
    struct query_pair pair;

    lua_newtable(L);
    int list = lua_gettop(L);

    while (query_next(&text, &pair, &work->arena))
        add_pair(L, list, pair.name, pair.value);
    return 1;
}

/* form.cookies(text) -> { {name, value}, … } */
static int cookies(lua_State *L)
{
    struct span text = push_copy(L, 1);
    struct cookie_pair pair;

    lua_newtable(L);
    int list = lua_gettop(L);

    while (cookie_next(&text, &pair))
        add_pair(L, list, pair.name, pair.value);
    return 1;
}

/* A string of the table at 1; the table keeps it alive. */
static struct span string_field(lua_State *L, const char *name)
{
    struct span text = SPAN_NONE;

    if (lua_getfield(L, 1, name) != LUA_TNIL)
        text.at = luaL_checklstring(L, -1, &text.len);
    lua_pop(L, 1);
    return text;
}

static bool flag_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    bool value = lua_toboolean(L, -1);

    lua_pop(L, 1);
    return value;
}

static bool integer_field(lua_State *L, int index, const char *name, int64_t *value)
{
    bool present = lua_getfield(L, index, name) != LUA_TNIL;

    if (present)
        *value = luaL_checkinteger(L, -1);
    lua_pop(L, 1);
    return present;
}

/* form.set_cookie { name=, value=, path=, … } -> text | nil, what, length of what was appended */
static int set_cookie(lua_State *L)
{
    static const char *const same_sites[] = {"unset", "strict", "lax", "none", NULL};
    struct cookie cookie = {0};
    const char *what = NULL;

    luaL_checktype(L, 1, LUA_TTABLE);
    cookie.name = string_field(L, "name");
    cookie.value = string_field(L, "value");
    cookie.path = string_field(L, "path");
    cookie.domain = string_field(L, "domain");
    cookie.has_max_age = integer_field(L, 1, "max_age", &cookie.max_age);
    cookie.has_expires = integer_field(L, 1, "expires", &cookie.expires);
    cookie.secure = flag_field(L, "secure");
    cookie.http_only = flag_field(L, "http_only");
    cookie.partitioned = flag_field(L, "partitioned");
    lua_getfield(L, 1, "same_site");
    cookie.same_site = (enum cookie_same_site)luaL_checkoption(L, -1, "unset", same_sites);

    struct work *work = push_work(L);

    if (cookie_write(&work->out, &cookie, &what) < 0) {
        lua_pushnil(L);
        lua_pushstring(L, what);
        lua_pushinteger(L, (lua_Integer)buf_len(&work->out));
        return 3;
    }
    push_span(L, buf_span(&work->out));
    return 1;
}

/* form.media_type_is(value, type) -> boolean */
static int media_is(lua_State *L)
{
    struct span value = push_copy(L, 1), type = push_copy(L, 2);

    lua_pushboolean(L, media_type_is(value, type));
    return 1;
}

/* form.media_type_parameter(value, name) -> string | nil */
static int media_parameter(lua_State *L)
{
    struct work *work = push_work(L);
    struct span value = push_copy(L, 1), name = push_copy(L, 2);

    push_span(L, media_type_parameter(value, name, &work->arena));
    return 1;
}

static void set_span(lua_State *L, const char *name, struct span value)
{
    push_span(L, value);
    lua_setfield(L, -2, name);
}

/* Pushes the part that begins, with data "" for what follows. */
static void push_part(lua_State *L, const struct multipart *multipart)
{
    lua_newtable(L);
    set_span(L, "name", multipart->name);
    set_span(L, "filename", multipart->filename);
    set_span(L, "type", multipart->type);
    set_span(L, "data", SPAN(""));
    lua_newtable(L);
    for (uint32_t i = 0; i < multipart->fields.count; i++)
        add_pair(L, lua_gettop(L), multipart->fields.at[i].name, multipart->fields.at[i].value);
    lua_setfield(L, -2, "fields");
}

static int push_refusal(lua_State *L, const struct refusal *refusal)
{
    lua_pushnil(L);
    lua_pushinteger(L, refusal->status);
    lua_pushstring(L, refusal->reason);
    lua_pushstring(L, refusal->detail);
    return 4;
}

/* What happened, added to the list of parts at index. */
static void note_event(lua_State *L, struct work *work, int parts, int event, struct span data)
{
    lua_Integer count = (lua_Integer)lua_rawlen(L, parts);

    if (event == MULTIPART_PART) {
        push_part(L, &work->multipart);
        lua_rawseti(L, parts, count + 1);
        return;
    }
    if (event == MULTIPART_END) {
        lua_pushboolean(L, true);
        lua_setfield(L, parts, "closed");
        return;
    }
    lua_rawgeti(L, parts, count);
    if (event == MULTIPART_PART_END) {
        lua_pushboolean(L, true);
        lua_setfield(L, -2, "complete");
        arena_reset(&work->arena);
    } else {
        lua_getfield(L, -1, "data");
        push_span(L, data);
        lua_concat(L, 2);
        lua_setfield(L, -2, "data");
    }
    lua_pop(L, 1);
}

/*
 * form.multipart(content_type, { piece, … } [, { max_part_head_bytes=, max_parts= }])
 *   -> { {name=, filename=, type=, data=, complete=, fields={{name, value}, …}}, …, closed= }
 *    | nil, status, reason, detail; status is 0 when the content type is refused
 */
static int multipart(lua_State *L)
{
    int64_t most_head = 16384, most_parts = 1000;
    struct work *work;

    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    if (lua_istable(L, 3)) {
        integer_field(L, 3, "max_part_head_bytes", &most_head);
        integer_field(L, 3, "max_parts", &most_parts);
    }
    work = push_work(L);

    struct multipart_limits limits = {(uint32_t)most_head, (uint32_t)most_parts};
    struct multipart *form = &work->multipart;

    if (multipart_init(form, push_copy(L, 1), &limits, &work->arena) < 0)
        return push_refusal(L, &(struct refusal){0, "Header", "no multipart/form-data"});
    lua_newtable(L);
    int parts = lua_gettop(L);

    for (lua_Integer i = 1; lua_rawgeti(L, 2, i) != LUA_TNIL; i++) {
        struct span in = push_copy(L, -1), data = SPAN_NONE;
        size_t used;
        int event;

        while ((event = multipart_next(form, in, &used, &data)) > 0) {
            note_event(L, work, parts, event, data);
            in = span_of(in.at + used, in.len - used);
        }
        if (event == ERR_INVALID)
            return push_refusal(L, &form->refusal);
        luaL_argcheck(L, event == ERR_AGAIN && used == in.len, 2, "a piece was left unread");
        lua_settop(L, parts);
    }
    if (multipart_finish(form) < 0)
        return push_refusal(L, &form->refusal);
    lua_settop(L, parts);
    return 1;
}

static const luaL_Reg functions[] = {
    {"query", query},
    {"cookies", cookies},
    {"set_cookie", set_cookie},
    {"media_type_is", media_is},
    {"media_type_parameter", media_parameter},
    {"multipart", multipart},
    {NULL, NULL},
};

int probe_form_open(lua_State *L)
{
    luaL_newlib(L, functions);
    l_json_open(L);
    lua_setfield(L, -2, "json");
    return 1;
}
