/*
 * Opens an HTTP/2 session to the specs, with an owner that they script: it writes down what
 * happens, may call back into Lua while it does, and answers as it is told. What the session is fed
 * lies in memory of exactly its size, gone after the call, and a request's arena is gone when its
 * stream is closed: the sanitizers see who looks there later.
 */
#include "bind/probe.h"

#include <lauxlib.h>
#include <nghttp2/nghttp2.h>

#include "base/err.h"
#include "bind/probe_events.h"
#include "http/h2.h"

#define SESSION_TYPE  "moonquay.probe.h2"
#define INFLATER_TYPE "moonquay.probe.hpack"

struct stream {
    struct h2_request request; /* first: the session hands out this */
    struct request_head head;
    struct fields trailers, trailing;
    struct arena arena;
    struct stream *next;
    struct buf content; /* of the response, not yet pulled */
    bool last;          /* no more content comes */
};

struct session {
    struct probe_events log;
    struct h2 *h2;
    struct message_limits message;
    struct h2_limits limits;
    struct stream *streams;
    bool consume;     /* content is consumed as it comes */
    bool refuse;      /* begin refuses */
    unsigned refused; /* streams */
};

static struct session *check_session(lua_State *L)
{
    struct session *self = luaL_checkudata(L, 1, SESSION_TYPE);

    luaL_argcheck(L, self->h2, 1, "the session is closed");
    self->log = (struct probe_events){L, 1};
    return self;
}

static struct stream *find_stream(struct session *self, lua_Integer id)
{
    struct stream *stream = self->streams;

    while (stream && stream->request.id != id)
        stream = stream->next;
    return stream;
}

static struct stream *check_stream(lua_State *L, struct session *self)
{
    struct stream *stream = find_stream(self, luaL_checkinteger(L, 2));

    luaL_argcheck(L, stream, 2, "no such stream");
    return stream;
}

/* ---- the owner */

static struct h2_request *on_begin(void *owner)
{
    struct session *self = owner;

    if (self->refuse)
        return NULL;

    struct stream *stream = mem_zalloc(sizeof(*stream));

    arena_init(&stream->arena);
    stream->request.arena = &stream->arena;
    stream->request.head = &stream->head;
    stream->request.trailers = &stream->trailers;
    stream->next = self->streams;
    self->streams = stream;
    return &stream->request;
}

static const char *framing_name(enum framing framing)
{
    static const char *const names[] = {
        [FRAMING_NONE] = "none", [FRAMING_SIZED] = "sized", [FRAMING_UNSIZED] = "unsized"};

    return names[framing];
}

static void event_head(struct session *self, const struct h2_request *request)
{
    static const char *const forms[] = {[TARGET_ORIGIN] = "origin",
                                        [TARGET_ABSOLUTE] = "absolute",
                                        [TARGET_AUTHORITY] = "authority",
                                        [TARGET_ASTERISK] = "asterisk"};
    const struct request_head *head = request->head;

    probe_event_string(&self->log, "method", head->method);
    probe_event_string(&self->log, "target", head->target.raw);
    probe_event_string(&self->log, "path", head->target.path.at ? head->target.path : SPAN(""));
    if (head->target.has_query)
        probe_event_string(&self->log, "query", head->target.query);
    probe_event_string(&self->log, "form", span_str(forms[head->target.form]));
    probe_event_string(&self->log, "target_scheme", head->target.scheme);
    probe_event_string(&self->log, "host", head->host);
    probe_event_string(&self->log, "scheme", request->scheme);
    probe_event_string(&self->log, "authority", request->authority);
    probe_event_string(&self->log, "protocol", request->protocol);
    probe_event_string(&self->log, "version", head->version);
    probe_event_integer(&self->log, "major", head->major);
    probe_event_integer(&self->log, "minor", head->minor);
    probe_event_string(&self->log, "framing", span_str(framing_name(head->framing)));
    probe_event_integer(&self->log, "content_length", (lua_Integer)head->content_length);
    probe_event_bool(&self->log, "keep_alive", head->keep_alive);
    probe_event_bool(&self->log, "expect_continue", head->expect_continue);
    probe_event_fields(&self->log, "fields", &head->fields);
}

static void on_head(void *owner, struct h2_request *request)
{
    struct session *self = owner;

    CHECK(request->is_open && request->head_done);
    probe_event_open(&self->log, "head", request->id);
    event_head(self, request);
    probe_event_bool(&self->log, "ended", request->ended);
    probe_event_integer(&self->log, "bytes", request->head_bytes);
    if (request->refusal.status) {
        probe_event_integer(&self->log, "status", request->refusal.status);
        probe_event_string(&self->log, "reason", span_str(request->refusal.reason));
        probe_event_string(&self->log, "detail", span_str(request->refusal.detail));
    }
    probe_event_close(&self->log);
}

static void on_data(void *owner, struct h2_request *request, struct span data)
{
    struct session *self = owner;

    CHECK(request->is_open && !request->ended && data.len > 0);
    probe_event_open(&self->log, "data", request->id);
    probe_event_string(&self->log, "bytes", data);
    probe_event_close(&self->log);
    if (self->consume)
        h2_consumed(self->h2, request, data.len);
}

static void on_ended(void *owner, struct h2_request *request)
{
    struct session *self = owner;

    CHECK(request->is_open && request->ended);
    probe_event_open(&self->log, "ended", request->id);
    probe_event_fields(&self->log, "trailers", request->trailers);
    probe_event_integer(&self->log, "content_bytes", (lua_Integer)request->content_bytes);
    probe_event_close(&self->log);
}

static void on_closed(void *owner, struct h2_request *request, uint32_t code)
{
    struct session *self = owner;
    struct stream *stream = (struct stream *)request;

    CHECK(!request->is_open);
    arena_fini(&stream->arena);
    probe_event_open(&self->log, "closed", request->id);
    probe_event_integer(&self->log, "code", code);
    probe_event_close(&self->log);
}

static size_t on_pull(void *owner, struct h2_request *request, char *into, size_t room,
                      enum h2_more *more)
{
    struct session *self = owner;
    struct stream *stream = (struct stream *)request;

    probe_event_open(&self->log, "pull", request->id);
    probe_event_integer(&self->log, "room", (lua_Integer)room);
    probe_event_close(&self->log);

    size_t held = buf_len(&stream->content), len = held < room ? held : room;

    if (len > 0)
        memcpy(into, buf_span(&stream->content).at, len);
    buf_consume(&stream->content, len);
    *more = len < held ? H2_GOES_ON : stream->last ? H2_LAST : H2_LATER;
    return len;
}

static void on_refused(void *owner)
{
    ((struct session *)owner)->refused++;
}

static void on_note(void *owner, struct h2_request *request, struct span pairs)
{
    struct session *self = owner;

    probe_event_open(&self->log, "note", request->id);
    probe_event_string(&self->log, "pairs", pairs);
    probe_event_close(&self->log);
}

static const struct h2_events events = {on_begin, on_refused, on_head, on_data,
                                        on_ended, on_closed,  on_pull, on_note};

/* ---- making one */

static uint32_t number_field(lua_State *L, const char *key, lua_Integer otherwise)
{
    lua_getfield(L, 1, key);

    lua_Integer number = luaL_optinteger(L, -1, otherwise);

    lua_pop(L, 1);
    return (uint32_t)number;
}

static bool bool_field(lua_State *L, int index, const char *key)
{
    lua_getfield(L, index, key);

    bool truth = lua_toboolean(L, -1);

    lua_pop(L, 1);
    return truth;
}

static void read_limits(lua_State *L, struct session *self)
{
    self->message = (struct message_limits){
        .max_request_head_bytes = number_field(L, "max_request_head_bytes", 131072),
        .max_target_bytes = number_field(L, "max_target_bytes", 16384),
        .max_field_length = number_field(L, "max_field_length", 16384),
        .max_authorization_length = number_field(L, "max_authorization_length", 65536),
        .max_fields = number_field(L, "max_fields", 1000),
        .target = {.segment_max_length = number_field(L, "url_segment_max_length", 260),
                   .segment_max_count = number_field(L, "url_segment_max_count", 255)}};
    self->limits =
        (struct h2_limits){.message = &self->message,
                           .max_concurrent_streams = number_field(L, "max_concurrent_streams", 100),
                           .stream_window_bytes = number_field(L, "stream_window_bytes", 65535),
                           .header_table_bytes = number_field(L, "header_table_bytes", 4096),
                           .max_resets = number_field(L, "max_resets", 200),
                           .max_settings = number_field(L, "max_settings", 20),
                           .max_pings = number_field(L, "max_pings", 50),
                           .max_empty_frames = number_field(L, "max_empty_frames", 20),
                           .max_other_frames = number_field(L, "max_other_frames", 500),
                           .max_continuations = number_field(L, "max_continuations", 8)};
}

/* session({ limit = …, consume = false, refuse = false }, callback(session, event)) -> session */
static int l_session(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    luaL_checktype(L, 1, LUA_TTABLE);

    struct session *self = lua_newuserdatauv(L, sizeof(*self), PROBE_UV_COUNT);

    memset(self, 0, sizeof(*self));
    luaL_setmetatable(L, SESSION_TYPE);
    lua_newtable(L);
    lua_setiuservalue(L, -2, PROBE_UV_EVENTS);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, PROBE_UV_CALLBACK);
    read_limits(L, self);
    self->limits.is_channel = bool_field(L, 1, "is_channel");
    self->consume = bool_field(L, 1, "consume");
    self->refuse = bool_field(L, 1, "refuse");
    self->h2 = h2_new(&self->limits, &events, self);
    return 1;
}

static int l_session_gc(lua_State *L)
{
    struct session *self = luaL_checkudata(L, 1, SESSION_TYPE);

    h2_free(self->h2);
    self->h2 = NULL;
    while (self->streams) {
        struct stream *stream = self->streams;

        self->streams = stream->next;
        buf_fini(&stream->content);
        arena_fini(&stream->arena);
        mem_free(stream);
    }
    return 0;
}

/* ---- what the specs do with it */

/* Results of a receiver: true, or nil with reason and detail. */
static int push_outcome(lua_State *L, const struct session *self, int rc)
{
    if (rc == 0) {
        lua_pushboolean(L, true);
        return 1;
    }
    CHECK(rc == ERR_INVALID && h2_trouble(self->h2)->reason);
    lua_pushnil(L);
    lua_pushstring(L, h2_trouble(self->h2)->reason);
    lua_pushstring(L, h2_trouble(self->h2)->detail);
    return 3;
}

/* session:receive(bytes, now_ms) -> true | nil, reason, detail */
static int l_session_receive(lua_State *L)
{
    struct session *self = check_session(L);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    lua_Integer now_ms = luaL_optinteger(L, 3, 0);
    char *copy = mem_alloc(len);

    memcpy(copy, bytes, len);

    int rc = h2_receive(self->h2, span_of(copy, len), now_ms);

    mem_free(copy);
    return push_outcome(L, self, rc);
}

/* session:trouble() -> reason, detail | nothing */
static int l_session_trouble(lua_State *L)
{
    const struct refusal *trouble = h2_trouble(check_session(L)->h2);

    lua_pushstring(L, trouble->reason);
    lua_pushstring(L, trouble->detail);
    return trouble->reason ? 2 : 0;
}

/* session:send(most) -> bytes */
static int l_session_send(lua_State *L)
{
    struct session *self = check_session(L);
    struct buf out = {0};

    h2_send(self->h2, &out, (size_t)luaL_optinteger(L, 2, 1 << 28));
    lua_pushlstring(L, out.data ? buf_span(&out).at : "", buf_len(&out));
    buf_fini(&out);
    return 1;
}

/* session:events() -> { event … } since the last call */
static int l_session_events(lua_State *L)
{
    check_session(L);
    lua_getiuservalue(L, 1, PROBE_UV_EVENTS);
    lua_newtable(L);
    lua_setiuservalue(L, 1, PROBE_UV_EVENTS);
    return 1;
}

/* The pairs of the list at key of the table at index as fields in the arena. */
static void read_fields(lua_State *L, int index, const char *key, struct fields *fields,
                        struct arena *arena)
{
    fields_init(fields, arena);
    if (lua_getfield(L, index, key) != LUA_TNIL) {
        for (lua_Integer i = 1; i <= luaL_len(L, -1); i++) {
            size_t name_len, value_len;

            lua_geti(L, -1, i);
            lua_geti(L, -1, 1);
            lua_geti(L, -2, 2);

            const char *name = luaL_checklstring(L, -2, &name_len);
            const char *value = luaL_checklstring(L, -1, &value_len);

            fields_add(fields, arena_copy(arena, span_of(name, name_len)),
                       arena_copy(arena, span_of(value, value_len)));
            lua_pop(L, 3);
        }
    }
    lua_pop(L, 1);
}

static struct span span_field(lua_State *L, int index, const char *key)
{
    struct span text = SPAN_NONE;

    if (lua_getfield(L, index, key) != LUA_TNIL)
        text.at = luaL_checklstring(L, -1, &text.len);
    lua_pop(L, 1); /* the table keeps it */
    return text;
}

/* Appends the string at index, if any, to the content. */
static void add_content(lua_State *L, int index, struct stream *stream)
{
    size_t len;
    const char *bytes = luaL_optlstring(L, index, "", &len);

    buf_append(&stream->content, span_of(bytes, len));
}

/*
 * session:respond(id, { status=, fields=, length=, no_content=, date=, server=, content=, more=,
 * trailers= }): content is all there is, unless more
 */
static int l_session_respond(lua_State *L)
{
    struct session *self = check_session(L);
    struct stream *stream = check_stream(L, self);
    struct arena arena;
    struct fields fields;

    luaL_checktype(L, 3, LUA_TTABLE);
    arena_init(&arena);
    read_fields(L, 3, "fields", &fields, &arena);
    if (stream->request.is_open && !stream->request.responded) {
        read_fields(L, 3, "trailers", &stream->trailing, &stream->arena);
        stream->request.trailing = &stream->trailing;
        lua_getfield(L, 3, "content");
        add_content(L, lua_gettop(L), stream);
        stream->last = !bool_field(L, 3, "more");
    }
    lua_getfield(L, 3, "status");
    lua_getfield(L, 3, "length");

    struct h2_response response = {.status = (int)luaL_optinteger(L, -2, 200),
                                   .fields = &fields,
                                   .length = luaL_optinteger(L, -1, -1),
                                   .no_content = bool_field(L, 3, "no_content"),
                                   .date = span_field(L, 3, "date"),
                                   .server = span_field(L, 3, "server")};

    h2_respond(self->h2, &stream->request, &response);
    arena_fini(&arena); /* nothing of it may be needed when the frame leaves */
    return 0;
}

/* session:inform(id, status, { fields = }) */
static int l_session_inform(lua_State *L)
{
    struct session *self = check_session(L);
    struct stream *stream = check_stream(L, self);
    struct arena arena;
    struct fields fields;

    luaL_checktype(L, 4, LUA_TTABLE);
    arena_init(&arena);
    read_fields(L, 4, "fields", &fields, &arena);
    h2_inform(self->h2, &stream->request, (int)luaL_checkinteger(L, 3), &fields);
    arena_fini(&arena);
    return 0;
}

/* session:content(id, bytes, last): more content, and h2_resume */
static int l_session_content(lua_State *L)
{
    struct session *self = check_session(L);
    struct stream *stream = check_stream(L, self);

    add_content(L, 3, stream);
    stream->last = lua_toboolean(L, 4);
    h2_resume(self->h2, &stream->request);
    return 0;
}

/* session:consumed(id, bytes) */
static int l_session_consumed(lua_State *L)
{
    struct session *self = check_session(L);

    h2_consumed(self->h2, &check_stream(L, self)->request, (size_t)luaL_checkinteger(L, 3));
    return 0;
}

/* session:note(id, pairs) */
static int l_session_note(lua_State *L)
{
    struct session *self = check_session(L);
    size_t len;
    const char *pairs = luaL_checklstring(L, 3, &len);

    h2_note(self->h2, &check_stream(L, self)->request, span_of(pairs, len));
    return 0;
}

/* session:reset(id, code) */
static int l_session_reset(lua_State *L)
{
    struct session *self = check_session(L);

    h2_reset(self->h2, &check_stream(L, self)->request, (uint32_t)luaL_checkinteger(L, 3));
    return 0;
}

/* session:shut_down(soon) */
static int l_session_shut_down(lua_State *L)
{
    h2_shut_down(check_session(L)->h2, lua_toboolean(L, 2));
    return 0;
}

/* session:terminate(code) */
static int l_session_terminate(lua_State *L)
{
    h2_terminate(check_session(L)->h2, (uint32_t)luaL_checkinteger(L, 2));
    return 0;
}

/* session:upgrade(settings, method) -> boolean */
static int l_session_upgrade(lua_State *L)
{
    struct session *self = check_session(L);
    size_t len;
    const char *settings = luaL_checklstring(L, 2, &len);
    struct stream *stream = (struct stream *)on_begin(self);

    stream->head.method = arena_copy(&stream->arena, span_str(luaL_optstring(L, 3, "GET")));
    lua_pushboolean(L, h2_upgrade(self->h2, span_of(settings, len), &stream->request) == 0);
    return 1;
}

/* session:refuse(whether): begin refuses from now on */
static int l_session_refuse(lua_State *L)
{
    check_session(L)->refuse = lua_toboolean(L, 2);
    return 0;
}

/* session:refused() -> streams */
static int l_session_refused(lua_State *L)
{
    lua_pushinteger(L, check_session(L)->refused);
    return 1;
}

/* session:state() -> { wants_send=, over=, streams= } */
static int l_session_state(lua_State *L)
{
    struct session *self = check_session(L);

    lua_newtable(L);
    lua_pushboolean(L, h2_wants_send(self->h2));
    lua_setfield(L, -2, "wants_send");
    lua_pushboolean(L, h2_is_over(self->h2));
    lua_setfield(L, -2, "over");
    lua_pushinteger(L, h2_streams(self->h2));
    lua_setfield(L, -2, "streams");
    return 1;
}

/* ---- HPACK, for what comes back */

struct inflater {
    nghttp2_hd_inflater *inflater;
};

/* inflater() -> inflater */
static int l_inflater(lua_State *L)
{
    struct inflater *self = lua_newuserdatauv(L, sizeof(*self), 0);

    self->inflater = NULL;
    luaL_setmetatable(L, INFLATER_TYPE);
    if (nghttp2_hd_inflate_new(&self->inflater) != 0)
        return luaL_error(L, "no inflater");
    return 1;
}

static int l_inflater_gc(lua_State *L)
{
    struct inflater *self = luaL_checkudata(L, 1, INFLATER_TYPE);

    nghttp2_hd_inflate_del(self->inflater);
    self->inflater = NULL;
    return 0;
}

/* inflater:fields(block) -> {{name, value} …} of a whole field block; raises when it is malformed
 */
static int l_inflater_fields(lua_State *L)
{
    struct inflater *self = luaL_checkudata(L, 1, INFLATER_TYPE);
    size_t len;
    const uint8_t *at = (const uint8_t *)luaL_checklstring(L, 2, &len);
    lua_Integer count = 0;
    int flags = 0;

    lua_newtable(L);
    do {
        nghttp2_nv nv;
        ssize_t taken;

        flags = 0;
        taken = nghttp2_hd_inflate_hd2(self->inflater, &nv, &flags, at, len, 1);
        if (taken < 0)
            return luaL_error(L, "a malformed field block: %s", nghttp2_strerror((int)taken));
        at += taken;
        len -= (size_t)taken;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            lua_newtable(L);
            lua_pushlstring(L, (const char *)nv.name, nv.namelen);
            lua_seti(L, -2, 1);
            lua_pushlstring(L, (const char *)nv.value, nv.valuelen);
            lua_seti(L, -2, 2);
            lua_seti(L, -2, ++count);
        }
    } while (!(flags & NGHTTP2_HD_INFLATE_FINAL));
    nghttp2_hd_inflate_end_headers(self->inflater);
    return 1;
}

static const luaL_Reg session_methods[] = {
    {"receive", l_session_receive},
    {"trouble", l_session_trouble},
    {"send", l_session_send},
    {"events", l_session_events},
    {"respond", l_session_respond},
    {"inform", l_session_inform},
    {"content", l_session_content},
    {"consumed", l_session_consumed},
    {"note", l_session_note},
    {"reset", l_session_reset},
    {"shut_down", l_session_shut_down},
    {"terminate", l_session_terminate},
    {"upgrade", l_session_upgrade},
    {"refuse", l_session_refuse},
    {"refused", l_session_refused},
    {"state", l_session_state},
    {"__gc", l_session_gc},
    {NULL, NULL},
};

static const luaL_Reg inflater_methods[] = {
    {"fields", l_inflater_fields},
    {"__gc", l_inflater_gc},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"session", l_session},
    {"inflater", l_inflater},
    {NULL, NULL},
};

static void new_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int probe_h2_open(lua_State *L)
{
    new_type(L, SESSION_TYPE, session_methods);
    new_type(L, INFLATER_TYPE, inflater_methods);
    luaL_newlib(L, functions);
    return 1;
}
