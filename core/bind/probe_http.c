/*
 * Opens core/http to the specs. Whatever a reader is fed lies in memory of exactly its size, which
 * is freed before the next piece comes: a reader that looks past the end, or keeps a span into
 * bytes that it gave back, is seen by the sanitizers.
 */
#include "bind/probe.h"

#include <lauxlib.h>

#include "base/err.h"
#include "http/date.h"
#include "http/fields.h"
#include "http/h1_read.h"
#include "http/h1_write.h"
#include "http/status.h"
#include "http/target.h"

#define FIELDS_TYPE "moonquay.probe.fields"

static struct span check_span(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);

    return span_of(text, len);
}

/* A field of the table at index as a span; SPAN_NONE when it is nil. The table keeps the string
 * alive. */
static struct span span_field(lua_State *L, int index, const char *key)
{
    struct span text = SPAN_NONE;

    if (lua_getfield(L, index, key) != LUA_TNIL)
        text = check_span(L, -1);
    lua_pop(L, 1);
    return text;
}

static bool bool_field(lua_State *L, int index, const char *key)
{
    lua_getfield(L, index, key);

    bool truth = lua_toboolean(L, -1);

    lua_pop(L, 1);
    return truth;
}

static lua_Integer integer_field(lua_State *L, int index, const char *key, lua_Integer otherwise)
{
    lua_getfield(L, index, key);

    lua_Integer number = luaL_optinteger(L, -1, otherwise);

    lua_pop(L, 1);
    return number;
}

static void set_span(lua_State *L, const char *key, struct span text)
{
    if (text.at)
        lua_pushlstring(L, text.at, text.len);
    else
        lua_pushnil(L);
    lua_setfield(L, -2, key);
}

/* The limits table at index, or nothing there; the defaults are DESIGN section 5's. */
static struct message_limits check_limits(lua_State *L, int index)
{
    lua_settop(L, index > lua_gettop(L) ? index : lua_gettop(L));
    if (lua_isnil(L, index)) {
        lua_newtable(L);
        lua_replace(L, index);
    }
    luaL_checktype(L, index, LUA_TTABLE);
    return (struct message_limits){
        .max_request_head_bytes =
            (uint32_t)integer_field(L, index, "max_request_head_bytes", 131072),
        .max_target_bytes = (uint32_t)integer_field(L, index, "max_target_bytes", 16384),
        .max_field_length = (uint32_t)integer_field(L, index, "max_field_length", 16384),
        .max_authorization_length =
            (uint32_t)integer_field(L, index, "max_authorization_length", 65536),
        .max_fields = (uint32_t)integer_field(L, index, "max_fields", 1000),
        .target = {
            .segment_max_length = (uint32_t)integer_field(L, index, "url_segment_max_length", 260),
            .segment_max_count = (uint32_t)integer_field(L, index, "url_segment_max_count", 255),
        }};
}

/* Pieces of a message, held like a connection's input: what a reader did not take comes again with
 * more. */
struct feed {
    lua_State *L;
    int pieces, next;
    char *held; /* exactly len bytes */
    size_t len;
};

static void check_pieces(lua_State *L, int index)
{
    luaL_checktype(L, index, LUA_TTABLE);
    for (lua_Integer i = 1; i <= luaL_len(L, index); i++) {
        lua_geti(L, index, i);
        luaL_checktype(L, -1, LUA_TSTRING);
        lua_pop(L, 1);
    }
}

static void feed_hold(struct feed *feed, struct span old, struct span more)
{
    char *held = mem_alloc(old.len + more.len);

    if (old.len > 0)
        memcpy(held, old.at, old.len);
    if (more.len > 0)
        memcpy(held + old.len, more.at, more.len);
    mem_free(feed->held);
    feed->held = held;
    feed->len = old.len + more.len;
}

static bool feed_more(struct feed *feed)
{
    struct span piece;

    if (feed->next >= (int)lua_rawlen(feed->L, feed->pieces))
        return false;
    lua_rawgeti(feed->L, feed->pieces, ++feed->next);
    piece.at = lua_tolstring(feed->L, -1, &piece.len);
    feed_hold(feed, span_of(feed->held, feed->len), piece);
    lua_pop(feed->L, 1);
    return true;
}

static void feed_consume(struct feed *feed, size_t used)
{
    CHECK(used <= feed->len);
    feed_hold(feed, span_of(feed->held + used, feed->len - used), SPAN_NONE);
}

/* A message while it is read. */
struct reading {
    struct message_limits limits;
    struct arena arena;
    struct request_head head;
    struct h1_reader reader;
    struct feed feed;
    size_t used; /* bytes taken by the head */
};

static int feed_head(struct reading *reading)
{
    int rc;

    arena_init(&reading->arena);
    h1_reader_init(&reading->reader, &reading->limits, &reading->head, &reading->arena);
    do {
        size_t used;

        rc = h1_read_head(&reading->reader, span_of(reading->feed.held, reading->feed.len), &used);
        feed_consume(&reading->feed, used);
        reading->used += used;
    } while (rc == ERR_AGAIN && feed_more(&reading->feed));
    return rc;
}

static void reading_fini(struct reading *reading)
{
    arena_fini(&reading->arena);
    mem_free(reading->feed.held);
}

static int push_refusal(lua_State *L, const struct refusal *refusal)
{
    lua_pushnil(L);
    lua_pushinteger(L, refusal->status);
    lua_pushstring(L, refusal->reason);
    lua_pushstring(L, refusal->detail);
    return 4;
}

static void push_fields(lua_State *L, const struct fields *fields)
{
    lua_createtable(L, (int)fields->count, 0);
    for (uint32_t i = 0; i < fields->count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushlstring(L, fields->at[i].name.at, fields->at[i].name.len);
        lua_seti(L, -2, 1);
        lua_pushlstring(L, fields->at[i].value.at, fields->at[i].value.len);
        lua_seti(L, -2, 2);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
}

/* Sets what a target says in the table on top. */
static void set_target(lua_State *L, const struct target *target)
{
    static const char *const forms[] = {[TARGET_ORIGIN] = "origin",
                                        [TARGET_ABSOLUTE] = "absolute",
                                        [TARGET_AUTHORITY] = "authority",
                                        [TARGET_ASTERISK] = "asterisk"};

    lua_pushstring(L, forms[target->form]);
    lua_setfield(L, -2, "form");
    set_span(L, "target", target->raw);
    set_span(L, "scheme", target->scheme);
    set_span(L, "authority", target->authority);
    lua_pushlstring(L, target->path.len ? target->path.at : "", target->path.len);
    lua_setfield(L, -2, "path");
    if (target->has_query)
        set_span(L, "query", target->query);
}

static void push_head(lua_State *L, const struct reading *reading)
{
    static const char *const framings[] = {
        [FRAMING_NONE] = "none", [FRAMING_SIZED] = "sized", [FRAMING_UNSIZED] = "chunked"};
    const struct request_head *head = &reading->head;

    lua_newtable(L);
    set_target(L, &head->target);
    set_span(L, "method", head->method);
    set_span(L, "host", head->host);
    push_fields(L, &head->fields);
    lua_setfield(L, -2, "fields");
    lua_pushinteger(L, head->minor);
    lua_setfield(L, -2, "minor");
    lua_pushstring(L, framings[head->framing]);
    lua_setfield(L, -2, "framing");
    lua_pushinteger(L, (lua_Integer)head->content_length);
    lua_setfield(L, -2, "content_length");
    lua_pushboolean(L, head->keep_alive);
    lua_setfield(L, -2, "keep_alive");
    lua_pushboolean(L, head->expect_continue);
    lua_setfield(L, -2, "expect_continue");
    lua_pushinteger(L, (lua_Integer)reading->used);
    lua_setfield(L, -2, "used");
}

/* What a head that could not be read gives: nil, "again", idle | nil, status, reason, detail. */
static int push_no_head(lua_State *L, const struct reading *reading, int rc)
{
    if (rc != ERR_AGAIN)
        return push_refusal(L, &reading->reader.refusal);
    lua_pushnil(L);
    lua_pushstring(L, "again");
    lua_pushboolean(L, h1_reader_idle(&reading->reader));
    return 3;
}

/* read_head(pieces, limits) -> head | nil, "again", idle | nil, status, reason, detail */
static int l_read_head(lua_State *L)
{
    struct reading reading = {.limits = check_limits(L, 2), .feed = {.L = L, .pieces = 1}};

    check_pieces(L, 1);

    int rc = feed_head(&reading), results = 1;

    if (rc < 0)
        results = push_no_head(L, &reading, rc);
    else
        push_head(L, &reading);
    reading_fini(&reading);
    return results;
}

/* Reads content to its end; the runs of data go into out. */
static int feed_content(struct reading *reading, struct h1_content *content, struct buf *out)
{
    int rc;

    do {
        struct span data;
        size_t used;

        rc = h1_read_content(content, span_of(reading->feed.held, reading->feed.len), &used, &data);
        CHECK((rc == H1_DATA) == (data.len > 0));
        buf_append(out, data);
        feed_consume(&reading->feed, used);
        reading->used += used;
    } while (rc == H1_DATA || (rc == ERR_AGAIN && feed_more(&reading->feed)));
    return rc;
}

static int push_content(lua_State *L, const struct reading *reading,
                        const struct h1_content *content, const struct buf *out, int rc)
{
    if (rc == ERR_INVALID)
        return push_refusal(L, &content->refusal);
    if (rc == ERR_AGAIN) {
        lua_pushnil(L);
        lua_pushstring(L, "again");
        return 2;
    }
    lua_pushlstring(L, out->data ? out->data + out->head : "", buf_len(out));
    if (content->trailers)
        push_fields(L, content->trailers);
    else
        lua_pushnil(L);
    lua_pushinteger(L, (lua_Integer)reading->used);
    return 3;
}

/*
 * read_content(pieces, limits, drop_trailers) -> content, trailers, used | nil, "again" |
 * nil, status, reason, detail. The pieces hold head and content.
 */
static int l_read_content(lua_State *L)
{
    struct reading reading = {.limits = check_limits(L, 2), .feed = {.L = L, .pieces = 1}};
    bool drop_trailers = lua_toboolean(L, 3);

    check_pieces(L, 1);

    int rc = feed_head(&reading), results;

    if (rc < 0) {
        results = push_no_head(L, &reading, rc);
    } else {
        struct h1_content content;
        struct fields trailers;
        struct buf out = {0};

        fields_init(&trailers, &reading.arena);
        h1_content_init(&content, &reading.head, &reading.limits, &reading.arena,
                        drop_trailers ? NULL : &trailers);
        rc = feed_content(&reading, &content, &out);
        results = push_content(L, &reading, &content, &out, rc);
        buf_fini(&out);
    }
    reading_fini(&reading);
    return results;
}

/* target(raw, method, limits) -> table | nil, status, reason, detail */
static int l_target(lua_State *L)
{
    struct span raw = check_span(L, 1), method = check_span(L, 2);
    struct message_limits limits = check_limits(L, 3);
    struct refusal why = {0};
    struct target target;
    struct arena arena;
    int results = 1;
    char *copy = mem_alloc(raw.len);

    memcpy(copy, raw.at, raw.len);
    arena_init(&arena);
    if (target_parse(&target, span_of(copy, raw.len), method, &limits.target, &arena, &why) < 0) {
        results = push_refusal(L, &why);
    } else {
        lua_newtable(L);
        set_target(L, &target);
        lua_pushboolean(L, target.path.at >= copy && target.path.at <= copy + raw.len);
        lua_setfield(L, -2, "borrowed");
    }
    arena_fini(&arena);
    mem_free(copy);
    return results;
}

/* authority_valid(text) -> boolean */
static int l_authority_valid(lua_State *L)
{
    struct span text = check_span(L, 1);
    char *copy = mem_alloc(text.len);

    memcpy(copy, text.at, text.len);
    lua_pushboolean(L, authority_valid(span_of(copy, text.len)));
    mem_free(copy);
    return 1;
}

struct l_fields {
    struct fields fields;
    struct arena arena;
};

static struct l_fields *check_fields(lua_State *L)
{
    return luaL_checkudata(L, 1, FIELDS_TYPE);
}

/* Adds the pairs of the list at index. */
static void add_pairs(lua_State *L, int index, struct l_fields *self)
{
    for (lua_Integer i = 1; i <= luaL_len(L, index); i++) {
        lua_geti(L, index, i);
        lua_geti(L, -1, 1);
        lua_geti(L, -2, 2);

        struct span name = arena_copy(&self->arena, check_span(L, -2));

        fields_add(&self->fields, name, arena_copy(&self->arena, check_span(L, -1)));
        lua_pop(L, 3);
    }
}

/* fields({{name, value} …}) -> fields */
static int l_fields(lua_State *L)
{
    struct l_fields *self = lua_newuserdatauv(L, sizeof(*self), 0);

    arena_init(&self->arena);
    fields_init(&self->fields, &self->arena);
    luaL_setmetatable(L, FIELDS_TYPE);
    if (lua_istable(L, 1))
        add_pairs(L, 1, self);
    return 1;
}

static int l_fields_gc(lua_State *L)
{
    arena_fini(&check_fields(L)->arena);
    return 0;
}

/* fields:list() -> {{name, value} …} */
static int l_fields_list(lua_State *L)
{
    push_fields(L, &check_fields(L)->fields);
    return 1;
}

static int push_found(lua_State *L, const struct fields *fields, const struct field *field)
{
    if (field == NULL)
        return 0;
    lua_pushlstring(L, field->value.at, field->value.len);
    lua_pushinteger(L, field - fields->at + 1);
    return 2;
}

/* fields:find(name, from) -> value, index | nothing; indices from 1 */
static int l_fields_find(lua_State *L)
{
    struct fields *fields = &check_fields(L)->fields;
    uint32_t from = (uint32_t)luaL_optinteger(L, 3, 1) - 1;

    return push_found(L, fields, fields_find(fields, check_span(L, 2), from));
}

/* fields:find_id(name, from), by the number of a known name */
static int l_fields_find_id(lua_State *L)
{
    struct fields *fields = &check_fields(L)->fields;
    uint32_t from = (uint32_t)luaL_optinteger(L, 3, 1) - 1;

    return push_found(L, fields, fields_find_id(fields, field_id_of(check_span(L, 2)), from));
}

/* fields:remove(name) -> count */
static int l_fields_remove(lua_State *L)
{
    lua_pushinteger(L, fields_remove(&check_fields(L)->fields, check_span(L, 2)));
    return 1;
}

/* fields:set(name, value) */
static int l_fields_set(lua_State *L)
{
    struct l_fields *self = check_fields(L);
    struct span name = check_span(L, 2), value = check_span(L, 3);

    fields_set(&self->fields, arena_copy(&self->arena, name), arena_copy(&self->arena, value));
    return 0;
}

/* fields:combined(name) -> value | nil */
static int l_fields_combined(lua_State *L)
{
    struct span value = fields_combined(&check_fields(L)->fields, check_span(L, 2));

    if (value.at == NULL)
        return 0;
    lua_pushlstring(L, value.at, value.len);
    return 1;
}

/* fields:has_token(known_name, token) -> boolean */
static int l_fields_has_token(lua_State *L)
{
    enum field_id id = field_id_of(check_span(L, 2));

    luaL_argcheck(L, id != FIELD_OTHER, 2, "no known name");
    lua_pushboolean(L, fields_has_token(&check_fields(L)->fields, id, check_span(L, 3)));
    return 1;
}

/* list(text) -> {element …} */
static int l_list(lua_State *L)
{
    struct span list = check_span(L, 1), element;

    lua_newtable(L);
    while (fields_list_next(&list, &element)) {
        lua_pushlstring(L, element.at, element.len);
        lua_seti(L, -2, luaL_len(L, -2) + 1);
    }
    return 1;
}

/* known_name(name) -> its lower-case spelling | nil */
static int l_known_name(lua_State *L)
{
    lua_pushstring(L, field_id_name(field_id_of(check_span(L, 1))));
    return 1;
}

/* name_valid(text), value_valid(text) -> boolean */
static int l_name_valid(lua_State *L)
{
    lua_pushboolean(L, field_name_valid(check_span(L, 1)));
    return 1;
}

static int l_value_valid(lua_State *L)
{
    lua_pushboolean(L, field_value_valid(check_span(L, 1)));
    return 1;
}

static int push_written(lua_State *L, struct buf *out)
{
    lua_pushlstring(L, out->data ? out->data + out->head : "", buf_len(out));
    buf_fini(out);
    return 1;
}

/* The fields at key of the table at index, left on the stack; NULL when there are none. */
static const struct fields *fields_field(lua_State *L, int index, const char *key)
{
    return lua_getfield(L, index, key) == LUA_TNIL
               ? NULL
               : &((struct l_fields *)luaL_checkudata(L, -1, FIELDS_TYPE))->fields;
}

/*
 * write_head { status=, reason=, fields=, framing="absent"|"known"|"chunked"|"close", length=,
 * close=, keep_alive_10=, date=, server= } -> bytes
 */
static int l_write_head(lua_State *L)
{
    static const char *const framings[] = {"absent", "known", "chunked", "close", NULL};
    struct buf out = {0};

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "framing");

    enum h1_length framing = (enum h1_length)luaL_checkoption(L, -1, "absent", framings);
    const struct fields *fields = fields_field(L, 1, "fields");
    struct h1_response response = {
        .framing = framing,
        .status = (int)integer_field(L, 1, "status", 200),
        .reason = span_field(L, 1, "reason"),
        .fields = fields,
        .length = (uint64_t)integer_field(L, 1, "length", 0),
        .close = bool_field(L, 1, "close"),
        .keep_alive_10 = bool_field(L, 1, "keep_alive_10"),
        .date = span_field(L, 1, "date"),
        .server = span_field(L, 1, "server"),
    };

    h1_write_head(&out, &response);
    return push_written(L, &out);
}

/* The fields at index, NULL when there are none. */
static const struct fields *opt_fields(lua_State *L, int index)
{
    return lua_isnoneornil(L, index)
               ? NULL
               : &((struct l_fields *)luaL_checkudata(L, index, FIELDS_TYPE))->fields;
}

/* write_interim(status, fields) -> bytes */
static int l_write_interim(lua_State *L)
{
    int status = (int)luaL_checkinteger(L, 1);
    const struct fields *fields = opt_fields(L, 2);
    struct buf out = {0};

    h1_write_interim(&out, status, fields);
    return push_written(L, &out);
}

/* write_chunk(data) -> bytes */
static int l_write_chunk(lua_State *L)
{
    struct span data = check_span(L, 1);
    struct buf out = {0};

    h1_write_chunk(&out, data);
    return push_written(L, &out);
}

/* write_end(trailers) -> bytes */
static int l_write_end(lua_State *L)
{
    const struct fields *trailers = opt_fields(L, 1);
    struct buf out = {0};

    h1_write_end(&out, trailers);
    return push_written(L, &out);
}

/* status_reason(status) -> text */
static int l_status_reason(lua_State *L)
{
    struct span reason = status_reason((int)luaL_checkinteger(L, 1));

    lua_pushlstring(L, reason.at, reason.len);
    return 1;
}

/* date_format(seconds) -> text */
static int l_date_format(lua_State *L)
{
    char text[DATE_BYTES];

    date_format(text, luaL_checkinteger(L, 1));
    lua_pushlstring(L, text, sizeof(text));
    return 1;
}

/* date_parse(text) -> seconds | nil */
static int l_date_parse(lua_State *L)
{
    struct span text = check_span(L, 1);
    char *copy = mem_alloc(text.len);
    int64_t seconds;

    memcpy(copy, text.at, text.len);
    if (date_parse(span_of(copy, text.len), &seconds) < 0)
        lua_pushnil(L);
    else
        lua_pushinteger(L, seconds);
    mem_free(copy);
    return 1;
}

static const luaL_Reg fields_methods[] = {
    {"list", l_fields_list},           {"find", l_fields_find}, {"find_id", l_fields_find_id},
    {"remove", l_fields_remove},       {"set", l_fields_set},   {"combined", l_fields_combined},
    {"has_token", l_fields_has_token}, {"__gc", l_fields_gc},   {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"read_head", l_read_head},
    {"read_content", l_read_content},
    {"target", l_target},
    {"authority_valid", l_authority_valid},
    {"fields", l_fields},
    {"list", l_list},
    {"known_name", l_known_name},
    {"name_valid", l_name_valid},
    {"value_valid", l_value_valid},
    {"write_head", l_write_head},
    {"write_interim", l_write_interim},
    {"write_chunk", l_write_chunk},
    {"write_end", l_write_end},
    {"status_reason", l_status_reason},
    {"date_format", l_date_format},
    {"date_parse", l_date_parse},
    {NULL, NULL},
};

int probe_http_open(lua_State *L)
{
    luaL_newmetatable(L, FIELDS_TYPE);
    luaL_setfuncs(L, fields_methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
