/*
 * Opens the client's side of an HTTP/2 session to the specs, as probe_h2.c does the server's: what
 * happens is written down, what is fed lies in memory of exactly its size, and a call's arena is
 * gone when its stream is closed.
 */
#include "bind/probe.h"

#include <lauxlib.h>

#include "base/err.h"
#include "bind/probe_events.h"
#include "http/h2_client.h"

#define CLIENT_TYPE "moonquay.probe.h2_client"

struct call {
    struct h2_call call; /* first: the session hands out this */
    struct fields fields, trailers, trailing;
    struct arena arena;
    struct call *next;
    struct buf content; /* of the request, not yet pulled */
    bool last;
};

struct client {
    struct probe_events log;
    struct h2_client *client;
    struct h2_client_limits limits;
    struct call *calls;
    bool consume;
};

static struct client *check_client(lua_State *L)
{
    struct client *self = luaL_checkudata(L, 1, CLIENT_TYPE);

    luaL_argcheck(L, self->client, 1, "the session is closed");
    self->log = (struct probe_events){L, 1};
    return self;
}

static struct call *check_call(lua_State *L, struct client *self)
{
    lua_Integer id = luaL_checkinteger(L, 2);
    struct call *call = self->calls;

    while (call && call->call.id != id)
        call = call->next;
    luaL_argcheck(L, call, 2, "no such call");
    return call;
}

/* ---- events */

static void on_interim(void *owner, struct h2_call *call, int status)
{
    struct client *self = owner;

    probe_event_open(&self->log, "interim", call->id);
    probe_event_integer(&self->log, "status", status);
    probe_event_fields(&self->log, "fields", &call->interim);
    probe_event_close(&self->log);
}

static void on_head(void *owner, struct h2_call *call)
{
    struct client *self = owner;

    CHECK(call->is_open && call->head_done);
    probe_event_open(&self->log, "head", call->id);
    probe_event_integer(&self->log, "status", call->status);
    probe_event_fields(&self->log, "fields", call->fields);
    probe_event_bool(&self->log, "ended", call->ended);
    probe_event_close(&self->log);
}

static void on_data(void *owner, struct h2_call *call, struct span data)
{
    struct client *self = owner;

    probe_event_open(&self->log, "data", call->id);
    probe_event_string(&self->log, "bytes", data);
    probe_event_close(&self->log);
    if (self->consume)
        h2_client_consumed(self->client, call, data.len);
}

static void on_ended(void *owner, struct h2_call *call)
{
    struct client *self = owner;

    CHECK(call->ended);
    probe_event_open(&self->log, "ended", call->id);
    probe_event_fields(&self->log, "trailers", call->trailers);
    probe_event_close(&self->log);
}

static void on_closed(void *owner, struct h2_call *call, uint32_t code)
{
    struct client *self = owner;
    struct call *mine = (struct call *)call;

    CHECK(!call->is_open);
    probe_event_open(&self->log, "closed", call->id);
    probe_event_integer(&self->log, "code", code);
    probe_event_bool(&self->log, "is_sent", call->is_sent);
    probe_event_close(&self->log);
    arena_fini(&mine->arena);
}

static size_t on_pull(void *owner, struct h2_call *call, char *into, size_t room,
                      enum h2_more *more)
{
    struct call *mine = (struct call *)call;
    size_t held = buf_len(&mine->content), len = held < room ? held : room;

    (void)owner;
    if (len > 0)
        memcpy(into, buf_span(&mine->content).at, len);
    buf_consume(&mine->content, len);
    *more = len < held ? H2_GOES_ON : mine->last ? H2_LAST : H2_LATER;
    return len;
}

static void on_note(void *owner, struct h2_call *call, struct span pairs)
{
    struct client *self = owner;

    probe_event_open(&self->log, "note", call->id);
    probe_event_string(&self->log, "pairs", pairs);
    probe_event_close(&self->log);
}

static void on_leaving(void *owner)
{
    struct client *self = owner;

    probe_event_open(&self->log, "leaving", 0);
    probe_event_close(&self->log);
}

static const struct h2_client_events events = {on_interim, on_head, on_data, on_ended,
                                               on_closed,  on_pull, on_note, on_leaving};

/* ---- making one */

static uint32_t number_field(lua_State *L, const char *key, lua_Integer otherwise)
{
    lua_getfield(L, 1, key);

    lua_Integer number = luaL_optinteger(L, -1, otherwise);

    lua_pop(L, 1);
    return (uint32_t)number;
}

/* client({ limit = …, consume = true }, callback(client, event)) -> client */
static int l_client(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);

    struct client *self = lua_newuserdatauv(L, sizeof(*self), PROBE_UV_COUNT);

    memset(self, 0, sizeof(*self));
    luaL_setmetatable(L, CLIENT_TYPE);
    lua_newtable(L);
    lua_setiuservalue(L, -2, PROBE_UV_EVENTS);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, PROBE_UV_CALLBACK);
    self->limits = (struct h2_client_limits){
        .max_concurrent_calls = number_field(L, "max_concurrent_calls", 1000),
        .stream_window_bytes = number_field(L, "stream_window_bytes", 65535),
        .header_table_bytes = number_field(L, "header_table_bytes", 4096),
        .max_head_bytes = number_field(L, "max_head_bytes", 131072),
        .max_fields = number_field(L, "max_fields", 1000),
        .most_stream_id = number_field(L, "most_stream_id", 0),
    };
    lua_getfield(L, 1, "consume");
    self->consume = lua_toboolean(L, -1);
    lua_pop(L, 1);
    self->client = h2_client_new(&self->limits, &events, self);
    return 1;
}

static int l_client_gc(lua_State *L)
{
    struct client *self = luaL_checkudata(L, 1, CLIENT_TYPE);

    h2_client_free(self->client);
    self->client = NULL;
    while (self->calls) {
        struct call *call = self->calls;

        self->calls = call->next;
        buf_fini(&call->content);
        arena_fini(&call->arena);
        mem_free(call);
    }
    return 0;
}

/* ---- what the specs do with it */

/* The pairs of the list at key of the table at 2 as fields in the arena. */
static void read_fields(lua_State *L, const char *key, struct fields *fields, struct arena *arena)
{
    fields_init(fields, arena);
    if (lua_getfield(L, 2, key) == LUA_TTABLE)
        for (lua_Integer i = 1; i <= luaL_len(L, -1); i++) {
            struct span name, value;

            lua_geti(L, -1, i);
            lua_geti(L, -1, 1);
            lua_geti(L, -2, 2);
            name.at = luaL_checklstring(L, -2, &name.len);
            value.at = luaL_checklstring(L, -1, &value.len);
            fields_add(fields, arena_copy(arena, name), arena_copy(arena, value));
            lua_pop(L, 3);
        }
    lua_pop(L, 1);
}

static struct span span_field(lua_State *L, const char *key)
{
    struct span text = SPAN_NONE;

    if (lua_getfield(L, 2, key) != LUA_TNIL)
        text.at = luaL_checklstring(L, -1, &text.len);
    lua_pop(L, 1); /* the table keeps it */
    return text;
}

static bool skips_x_skip(const struct field *field)
{
    return span_eq_nocase(field->name, SPAN("x-skip"));
}

/* client:call({ method=, path=, fields=, more=, content=, last=, trailers= }) -> id | nil: too
 * large. Fields named x-skip are left out. */
static int l_client_call(lua_State *L)
{
    struct client *self = check_client(L);
    struct call *call;
    struct fields fields, more;
    struct arena arena;

    luaL_checktype(L, 2, LUA_TTABLE);
    arena_init(&arena);
    read_fields(L, "fields", &fields, &arena);
    call = mem_zalloc(sizeof(*call));
    arena_init(&call->arena);
    call->next = self->calls;
    self->calls = call;
    read_fields(L, "trailers", &call->trailing, &call->arena);
    read_fields(L, "more", &more, &call->arena);
    call->call.arena = &call->arena;
    call->call.fields = &call->fields;
    call->call.trailers = &call->trailers;
    call->call.trailing = &call->trailing;

    struct h2_call_head head = {
        .method = span_field(L, "method"),
        .scheme = SPAN("http"),
        .authority = span_field(L, "authority"),
        .path = span_field(L, "path"),
        .protocol = span_field(L, "protocol"),
        .fields = &fields,
        .skips = skips_x_skip,
        .more = &more,
        .more_is_unique = 1,
    };
    struct span content = span_field(L, "content");

    if (head.method.at == NULL)
        head.method = SPAN("GET");
    if (head.path.at == NULL && head.protocol.at == NULL)
        head.path = SPAN("/");
    head.has_content = content.at != NULL;
    buf_append(&call->content, content);
    lua_getfield(L, 2, "last");
    call->last = lua_isnil(L, -1) || lua_toboolean(L, -1);
    if (h2_client_call(self->client, &call->call, &head) < 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, call->call.id);
    arena_fini(&arena); /* all of it was copied */
    return 1;
}

/* client:content(id, bytes, last): more of the request, and h2_client_resume */
static int l_client_content(lua_State *L)
{
    struct client *self = check_client(L);
    struct call *call = check_call(L, self);
    size_t len;
    const char *bytes = luaL_checklstring(L, 3, &len);

    buf_append(&call->content, span_of(bytes, len));
    call->last = lua_toboolean(L, 4);
    h2_client_resume(self->client, &call->call);
    return 0;
}

/* client:consumed(id, bytes) */
static int l_client_consumed(lua_State *L)
{
    struct client *self = check_client(L);

    h2_client_consumed(self->client, &check_call(L, self)->call, (size_t)luaL_checkinteger(L, 3));
    return 0;
}

/* client:reset(id, code) */
static int l_client_reset(lua_State *L)
{
    struct client *self = check_client(L);

    h2_client_reset(self->client, &check_call(L, self)->call, (uint32_t)luaL_checkinteger(L, 3));
    return 0;
}

/* client:note(id, pairs) */
static int l_client_note(lua_State *L)
{
    struct client *self = check_client(L);
    struct call *call = check_call(L, self);
    struct span pairs;

    pairs.at = luaL_checklstring(L, 3, &pairs.len);
    h2_client_note(self->client, &call->call, pairs);
    return 0;
}

/* client:leave() */
static int l_client_leave(lua_State *L)
{
    h2_client_leave(check_client(L)->client);
    return 0;
}

static int push_outcome(lua_State *L, const struct client *self, int code)
{
    if (code == 0) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, h2_client_trouble(self->client));
    return 2;
}

/* client:receive(bytes) -> true | nil, trouble */
static int l_client_receive(lua_State *L)
{
    struct client *self = check_client(L);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    char *copy = mem_alloc(len);

    memcpy(copy, bytes, len);

    int code = h2_client_receive(self->client, span_of(copy, len));

    mem_free(copy);
    return push_outcome(L, self, code);
}

/* client:send() -> bytes, trouble | nil */
static int l_client_send(lua_State *L)
{
    struct client *self = check_client(L);
    struct buf out = {0};
    int code = h2_client_send(self->client, &out, 1 << 28);

    lua_pushlstring(L, out.data ? buf_span(&out).at : "", buf_len(&out));
    buf_fini(&out);
    if (code == 0)
        return 1;
    lua_pushstring(L, h2_client_trouble(self->client));
    return 2;
}

/* client:events() -> { event … } since the last call */
static int l_client_events(lua_State *L)
{
    check_client(L);
    lua_getiuservalue(L, 1, PROBE_UV_EVENTS);
    lua_newtable(L);
    lua_setiuservalue(L, 1, PROBE_UV_EVENTS);
    return 1;
}

/* client:state() -> { room=, worn=, calls=, wants_send= } */
static int l_client_state(lua_State *L)
{
    const struct h2_client *client = check_client(L)->client;

    lua_newtable(L);
    lua_pushboolean(L, h2_client_has_room(client));
    lua_setfield(L, -2, "room");
    lua_pushboolean(L, h2_client_is_worn(client));
    lua_setfield(L, -2, "worn");
    lua_pushboolean(L, h2_client_wants_send(client));
    lua_setfield(L, -2, "wants_send");
    lua_pushinteger(L, h2_client_calls(client));
    lua_setfield(L, -2, "calls");
    return 1;
}

static const luaL_Reg methods[] = {
    {"call", l_client_call},       {"content", l_client_content}, {"consumed", l_client_consumed},
    {"reset", l_client_reset},     {"note", l_client_note},       {"leave", l_client_leave},
    {"receive", l_client_receive}, {"send", l_client_send},       {"events", l_client_events},
    {"state", l_client_state},     {"__gc", l_client_gc},         {NULL, NULL},
};

int probe_h2_client_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"client", l_client}, {NULL, NULL}};

    luaL_newmetatable(L, CLIENT_TYPE);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
