/*
 * The small rooms around the server for the specs: error log, addresses, tally and access
 * log. What writes to a descriptor gets a pipe here, and its text is returned.
 */
#include "bind/probe.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/addr.h"
#include "route/tally.h"
#include "server/access_log.h"

#define PIPE_BYTES (1 << 20)

static struct span check_span(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);

    return span_of(text, len);
}

static void open_pipe(lua_State *L, int ends[2])
{
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        luaL_error(L, "pipe");
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
}

/* Pushes what lies in the pipe. */
static void push_pipe(lua_State *L, int fd)
{
    luaL_Buffer buffer;
    ssize_t got;

    luaL_buffinit(L, &buffer);
    while ((got = read(fd, luaL_prepbuffer(&buffer), LUAL_BUFFERSIZE)) > 0)
        luaL_addsize(&buffer, (size_t)got);
    luaL_pushresult(&buffer);
}

static int push_failure(lua_State *L, int code)
{
    lua_pushnil(L);
    lua_pushstring(L, err_name(code));
    return 2;
}

/* ---- log */

/* Adds key and value of the pair at index; an integer as such, a string that starts with "json:" as
 * JSON. */
static void add_field(lua_State *L, struct log_line *line, int index)
{
    lua_rawgeti(L, index, 1);
    lua_rawgeti(L, index, 2);
    const char *key = lua_tostring(L, -2);

    if (lua_isinteger(L, -1)) {
        log_int(line, key, lua_tointeger(L, -1));
    } else {
        struct span value = check_span(L, -1);

        if (value.len > 5 && memcmp(value.at, "json:", 5) == 0)
            log_json(line, key, span_of(value.at + 5, value.len - 5));
        else
            log_span(line, key, value);
    }
    lua_pop(L, 2);
}

/*
 * log(threshold, format, process, level, event, message, { { key, value }, … }) -> text written
 */
static int probe_log(lua_State *L)
{
    int threshold = log_level_parse(check_span(L, 1)), level = log_level_parse(check_span(L, 4));
    bool is_json = strcmp(luaL_checkstring(L, 2), "json") == 0;
    const char *process = luaL_checkstring(L, 3), *event = luaL_checkstring(L, 5);
    struct log_line line;
    int ends[2];

    luaL_argcheck(L, threshold >= 0, 1, "no level");
    luaL_argcheck(L, level >= 0, 4, "no level");
    open_pipe(L, ends);
    log_setup(ends[1], (enum log_level)threshold, is_json ? LOG_JSON : LOG_TEXT, process);
    log_begin(&line, (enum log_level)level, event, luaL_optstring(L, 6, NULL));
    for (int i = 1, count = lua_istable(L, 7) ? (int)lua_rawlen(L, 7) : 0; i <= count; i++) {
        lua_rawgeti(L, 7, i);
        add_field(L, &line, lua_gettop(L));
        lua_pop(L, 1);
    }
    log_end(&line);
    log_setup(STDERR_FILENO, LOG_INFO, LOG_TEXT, "");
    push_pipe(L, ends[0]);
    close(ends[0]);
    return 1;
}

/* log_event(message or nil) -> text written, at level info */
static int probe_log_event(lua_State *L)
{
    int ends[2];

    open_pipe(L, ends);
    log_setup(ends[1], LOG_INFO, LOG_TEXT, "");
    if (lua_isnil(L, 1))
        log_event(LOG_INFO, "event", NULL);
    else
        log_event(LOG_INFO, "event", "%s", luaL_checkstring(L, 1));
    log_reopen(STDERR_FILENO);
    push_pipe(L, ends[0]);
    close(ends[0]);
    return 1;
}

static int probe_quote(lua_State *L)
{
    struct buf out = {0};

    log_quote(&out, check_span(L, 1));
    lua_pushlstring(L, buf_span(&out).at, buf_len(&out));
    buf_fini(&out);
    return 1;
}

/* ---- addr */

/* addr_parse(text, port) -> { ip, text, port, family, loopback } after a way through sockaddr |
 * nil, err */
static int probe_addr(lua_State *L)
{
    struct sockaddr_storage storage;
    struct net_addr addr;
    char text[NET_ADDR_TEXT];
    int code = net_addr_parse(&addr, check_span(L, 1), (uint16_t)luaL_optinteger(L, 2, 0));

    if (code < 0)
        return push_failure(L, code);
    socklen_t len = net_addr_to(&addr, &storage);

    addr = net_addr_from((struct sockaddr *)&storage, len);
    lua_newtable(L);
    lua_pushlstring(L, text, net_addr_ip(&addr, text));
    lua_setfield(L, -2, "ip");
    lua_pushlstring(L, text, net_addr_text(&addr, text));
    lua_setfield(L, -2, "text");
    lua_pushinteger(L, addr.port);
    lua_setfield(L, -2, "port");
    lua_pushinteger(L, addr.family == NET_IPV4 ? 4 : 6);
    lua_setfield(L, -2, "family");
    lua_pushboolean(L, net_addr_loopback(&addr));
    lua_setfield(L, -2, "loopback");
    return 1;
}

/* addr_from(bytes of a sockaddr) -> "IP:PORT", family number */
static int probe_addr_from(lua_State *L)
{
    struct span bytes = check_span(L, 1);
    struct sockaddr_storage storage = {0};
    char text[NET_ADDR_TEXT];

    luaL_argcheck(L, bytes.len <= sizeof(storage), 1, "too long");
    memcpy(&storage, bytes.at, bytes.len);
    struct net_addr addr = net_addr_from((struct sockaddr *)&storage, (socklen_t)bytes.len);

    lua_pushlstring(L, text, net_addr_text(&addr, text));
    lua_pushboolean(L, net_addr_loopback(&addr));
    return 2;
}

/* ---- tally */

static void push_tally(lua_State *L, struct tally *tally)
{
    lua_newtable(L);
    for (int i = 0; i < GAUGES; i++) {
        lua_pushinteger(L, tally_gauge_sum(tally, (enum tally_gauge)i));
        lua_setfield(L, -2, tally_gauge_name((enum tally_gauge)i));
    }
    lua_pushinteger(L, tally_slots(tally));
    lua_setfield(L, -2, "slots");
    lua_pushinteger(L, (lua_Integer)tally_counter_sum(tally, COUNTER_REQUESTS));
    lua_setfield(L, -2, "served");
}

/*
 * tally(capacity, used, clear) -> { slots, requests, served } as a second mapping sees it, after
 * slot i was given i running and 10 i served requests, and slot clear (if any) was cleared.
 */
static int probe_tally(lua_State *L)
{
    unsigned capacity = (unsigned)luaL_checkinteger(L, 1), used = (unsigned)luaL_checkinteger(L, 2);
    int fd;
    struct tally *tally = tally_create(capacity, &fd);

    if (tally == NULL)
        return luaL_error(L, "no segment");
    tally_use(tally, used);
    for (unsigned i = 0; i < used; i++) {
        tally_slot(tally, i)->gauge[GAUGE_REQUESTS] = i;
        tally_slot(tally, i)->counter[COUNTER_REQUESTS] = 10 * i;
    }
    if (!lua_isnoneornil(L, 3))
        tally_clear(tally_slot(tally, (unsigned)luaL_checkinteger(L, 3)));
    struct tally *second = tally_attach(fd);

    if (second == NULL)
        return luaL_error(L, "cannot attach");
    push_tally(L, second);
    lua_pushboolean(L, ftruncate(fd, 0) == 0);
    lua_setfield(L, -2, "can_shrink");
    tally_close(second);
    tally_close(tally);
    close(fd);
    return 1;
}

/* tally_attach(path) -> what the segment in this file says, or false when it is none */
static int probe_tally_attach(lua_State *L)
{
    int fd = open(luaL_checkstring(L, 1), O_RDWR | O_CLOEXEC);
    struct tally *tally = fd < 0 ? NULL : tally_attach(fd);

    if (tally)
        push_tally(L, tally);
    else
        lua_pushboolean(L, 0);
    tally_close(tally);
    if (fd >= 0)
        close(fd);
    return 1;
}

/* ---- access log */

static struct span field_span(lua_State *L, const char *name)
{
    struct span text = SPAN_NONE;

    if (lua_getfield(L, 2, name) == LUA_TSTRING)
        text.at = lua_tolstring(L, -1, &text.len);
    lua_pop(L, 1); /* the table keeps it alive */
    return text;
}

static int64_t field_int(lua_State *L, const char *name)
{
    lua_getfield(L, 2, name);
    int64_t value = lua_tointeger(L, -1);

    lua_pop(L, 1);
    return value;
}

static void read_entry(lua_State *L, struct access_entry *entry, struct net_addr *client)
{
    struct span ip = field_span(L, "client");

    if (ip.len > 0 && net_addr_parse(client, ip, 0) < 0)
        luaL_error(L, "client");
    *entry = (struct access_entry){
        .client = client,
        .method = field_span(L, "method"),
        .target = field_span(L, "target"),
        .user_agent = field_span(L, "user_agent"),
        .referer = field_span(L, "referer"),
        .user = field_span(L, "user"),
        .request_id = field_span(L, "request_id"),
        .host = field_span(L, "host"),
        .unix_ms = field_int(L, "unix_ms"),
        .content_bytes = (uint64_t)field_int(L, "content_bytes"),
        .request_bytes = (uint64_t)field_int(L, "request_bytes"),
        .duration_us = field_int(L, "duration_us"),
        .status = (int)field_int(L, "status"),
        .protocol = field_int(L, "minor") ? SPAN("HTTP/1.1") : SPAN("HTTP/1.0"),
    };
    lua_getfield(L, 2, "aborted");
    entry->aborted = lua_toboolean(L, -1);
    lua_pop(L, 1);
}

/* access_log(format, entry, times) -> text before the flush, text after it */
static int probe_access_log(lua_State *L)
{
    bool is_json = strcmp(luaL_checkstring(L, 1), "json") == 0;
    struct net_addr client = {0};
    struct access_entry entry;
    int ends[2];

    luaL_checktype(L, 2, LUA_TTABLE);
    read_entry(L, &entry, &client);
    open_pipe(L, ends);
    struct access_log *log = access_log_new(ends[1], is_json ? ACCESS_JSON : ACCESS_COMBINED);

    for (lua_Integer i = luaL_optinteger(L, 3, 1); i > 0; i--)
        access_log_add(log, &entry);
    push_pipe(L, ends[0]);
    access_log_flush(log);
    push_pipe(L, ends[0]);
    access_log_free(log);
    close(ends[0]);
    return 2;
}

static const luaL_Reg functions[] = {
    {"access_log", probe_access_log},
    {"addr", probe_addr},
    {"addr_from", probe_addr_from},
    {"log", probe_log},
    {"log_event", probe_log_event},
    {"quote", probe_quote},
    {"tally", probe_tally},
    {"tally_attach", probe_tally_attach},
    {NULL, NULL},
};

int probe_server_open(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
