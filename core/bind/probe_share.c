/*
 * Opens the host's side of channels to the specs: a server whose app is a dispatch, on a loop that
 * turns when a spec says so. Clients and apps are the other ends of socket pairs, which the spec
 * writes and reads itself.
 */
#include "bind/probe.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "server/server.h"
#include "share/dispatch.h"

#define HOST_TYPE  "moonquay.probe.host"
#define READ_BYTES 1048576
#define TURNS      4 /* what one turn defers the next does */

enum { UV_RENEWED = 1, UV_COUNT = UV_RENEWED };

struct host {
    lua_State *L; /* of the call that runs; the host is at index 1 */
    struct loop *loop;
    struct tally *tally;
    int tally_fd;
    struct settings settings;
    struct server *server;
    struct server_entry entry;
    struct dispatch *dispatch;
    struct app *app; /* NULL: closed */
    int closing;     /* apps that are closed, and not gone */
};

static struct host *check_host(lua_State *L)
{
    struct host *self = luaL_checkudata(L, 1, HOST_TYPE);

    luaL_argcheck(L, self->loop, 1, "the host is closed");
    self->L = L;
    return self;
}

static void on_renew(void *owner, uint64_t process, unsigned worker)
{
    struct host *self = owner;
    lua_State *L = self->L;

    lua_getiuservalue(L, 1, UV_RENEWED);
    lua_pushfstring(L, "%I:%d", (LUAI_UACINT)process, (int)worker);
    lua_seti(L, -2, luaL_len(L, -2) + 1);
    lua_pop(L, 1);
}

static void read_settings(lua_State *L, struct host *self)
{
    struct err_text why;

    settings_init(&self->settings);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
        if (settings_set(&self->settings, luaL_checkstring(L, -2), luaL_checkstring(L, -1), "spec",
                         &why) < 0)
            luaL_error(L, "%s", why.text);
}

static void open_app(struct host *self, const char *prefix, uint32_t most_stream_id)
{
    struct url_prefix parsed;

    self->dispatch = dispatch_new(&(struct dispatch_parts){
        .loop = self->loop,
        .tally = self->tally,
        .owner = self,
        .renew = on_renew,
        .most_stream_id = most_stream_id,
        .most_refusals = 3,
    });
    self->app =
        app_new(self->server, 0, "shared", &self->settings, dispatch_handler(self->dispatch));
    dispatch_serve(self->dispatch, self->app);
    CHECK(url_prefix_parse(&parsed, span_str(prefix), NULL) == 0);
    CHECK(app_add_prefix(self->app, &parsed) == 0);
    url_prefix_fini(&parsed);
}

/* host({ setting = text … } [, most_stream_id]) -> host; its app is at all of http, port 80 */
static int l_host(lua_State *L)
{
    static const struct net_addr addr = {.ip = {127, 0, 0, 1}, .family = NET_IPV4, .port = 80};

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);

    struct host *self = lua_newuserdatauv(L, sizeof(*self), UV_COUNT);

    memset(self, 0, sizeof(*self));
    lua_newtable(L);
    lua_setiuservalue(L, -2, UV_RENEWED);
    read_settings(L, self);
    self->loop = loop_new();
    self->tally = tally_create(1, &self->tally_fd);
    luaL_setmetatable(L, HOST_TYPE);
    self->server = server_new(&(struct server_parts){
        .loop = self->loop, .settings = &self->settings, .tally = self->tally});
    server_entry_init(&self->entry, self->server, &addr, false);
    open_app(self, "http://*:80/", (uint32_t)luaL_optinteger(L, 2, 0));
    return 1;
}

static int l_host_gc(lua_State *L)
{
    struct host *self = luaL_checkudata(L, 1, HOST_TYPE);

    if (self->loop == NULL)
        return 0;
    self->L = L;
    server_abort(self->server);
    loop_turn(self->loop, false);
    dispatch_free(self->dispatch);
    server_free(self->server);
    settings_fini(&self->settings);
    loop_free(self->loop);
    self->loop = NULL;
    tally_close(self->tally);
    close(self->tally_fd);
    return 0;
}

struct gone {
    struct host *host;
    struct dispatch *dispatch;
};

static void on_gone(void *owner)
{
    struct gone *gone = owner;

    gone->host->closing--;
    dispatch_free(gone->dispatch);
    mem_free(gone);
}

/* host:close_app(): its links stay until it is gone */
static int l_host_close_app(lua_State *L)
{
    struct host *self = check_host(L);
    struct gone *gone = mem_alloc(sizeof(*gone));

    *gone = (struct gone){self, self->dispatch};
    self->closing++;
    app_close(self->app, on_gone, gone);
    self->app = NULL;
    self->dispatch = NULL;
    return 0;
}

/* host:open_app([prefix]) */
static int l_host_open_app(lua_State *L)
{
    open_app(check_host(L), luaL_optstring(L, 2, "http://*:80/"), 0);
    return 0;
}

static void parse_prefix(lua_State *L, struct url_prefix *prefix)
{
    struct err_text why;

    if (url_prefix_parse(prefix, span_str(luaL_checkstring(L, 2)), &why) < 0)
        luaL_error(L, "%s", why.text);
}

/* host:reserve(prefix) -> true | nil, error */
static int l_host_reserve(lua_State *L)
{
    struct host *self = check_host(L);
    struct url_prefix prefix;
    int code;

    parse_prefix(L, &prefix);
    code = server_reserve_prefix(self->server, &prefix);
    url_prefix_fini(&prefix);
    if (code == 0) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, err_name(code));
    return 2;
}

/* host:release(prefix) */
static int l_host_release(lua_State *L)
{
    struct host *self = check_host(L);
    struct url_prefix prefix;

    parse_prefix(L, &prefix);
    server_release_prefix(self->server, &prefix);
    url_prefix_fini(&prefix);
    return 0;
}

static void open_pair(lua_State *L, int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        luaL_error(L, "socketpair: %s", strerror(errno));
}

/* host:client() -> fd */
static int l_host_client(lua_State *L)
{
    static const struct net_addr peer = {.ip = {127, 0, 0, 1}, .family = NET_IPV4, .port = 4711};
    struct host *self = check_host(L);
    int ends[2];

    open_pair(L, ends);
    server_accept(&self->entry, ends[0], &peer);
    lua_pushinteger(L, ends[1]);
    return 1;
}

/* host:app(process, worker, most_running [, gets_credentials]) -> fd; column: the process */
static int l_host_app(lua_State *L)
{
    struct host *self = check_host(L);
    struct dispatch_peer peer = {
        .process = (uint64_t)luaL_checkinteger(L, 2),
        .worker = (unsigned)luaL_checkinteger(L, 3),
        .most_running = luaL_checkinteger(L, 4),
        .gets_credentials = lua_toboolean(L, 5),
    };
    int ends[2];

    peer.column = (unsigned)peer.process;
    open_pair(L, ends);
    lua_pushinteger(L, ends[1]);
    if (dispatch_connect(self->dispatch, &peer, ends[0]) < 0) {
        close(ends[1]);
        lua_pushnil(L);
    }
    return 1;
}

/* host:turn() */
static int l_host_turn(lua_State *L)
{
    struct host *self = check_host(L);

    for (int i = 0; i < TURNS; i++)
        loop_turn(self->loop, false);
    return 0;
}

/* host:write(fd, bytes) -> how many were taken | nil, error */
static int l_host_write(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 3, &len);
    ssize_t sent = send((int)luaL_checkinteger(L, 2), bytes, len, MSG_NOSIGNAL);

    if (sent < 0 && err_from_errno(errno) == ERR_AGAIN)
        sent = 0;
    if (sent < 0) {
        lua_pushnil(L);
        lua_pushstring(L, strerror(errno));
        return 2;
    }
    lua_pushinteger(L, sent);
    return 1;
}

/* host:read(fd) -> bytes, maybe none | nil at the end | nil, error */
static int l_host_read(lua_State *L)
{
    char *room = mem_alloc(READ_BYTES);
    ssize_t got = recv((int)luaL_checkinteger(L, 2), room, READ_BYTES, 0);
    int number = errno;

    if (got > 0)
        lua_pushlstring(L, room, (size_t)got);
    else if (got < 0 && err_from_errno(number) == ERR_AGAIN)
        lua_pushliteral(L, "");
    else
        lua_pushnil(L);
    mem_free(room);
    if (got >= 0 || !lua_isnil(L, -1))
        return 1;
    lua_pushstring(L, strerror(number));
    return 2;
}

/* host:shutdown(fd): nothing more will be written there */
static int l_host_shutdown(lua_State *L)
{
    shutdown((int)luaL_checkinteger(L, 2), SHUT_WR);
    return 0;
}

/* host:close(fd) */
static int l_host_close(lua_State *L)
{
    close((int)luaL_checkinteger(L, 2));
    return 0;
}

/* host:renewed() -> { "process:worker" … } since the last call */
static int l_host_renewed(lua_State *L)
{
    check_host(L);
    lua_getiuservalue(L, 1, UV_RENEWED);
    lua_newtable(L);
    lua_setiuservalue(L, 1, UV_RENEWED);
    return 1;
}

static void set_number(lua_State *L, const char *key, lua_Integer number)
{
    lua_pushinteger(L, number);
    lua_setfield(L, -2, key);
}

/* host:state([column]) -> { links=, closing=, connections=, running=, queued=, peer= } */
static int l_host_state(lua_State *L)
{
    struct host *self = check_host(L);
    unsigned column = (unsigned)luaL_optinteger(L, 2, 0);

    lua_newtable(L);
    set_number(L, "links", self->dispatch ? dispatch_links(self->dispatch) : 0);
    set_number(L, "closing", self->closing);
    set_number(L, "connections", tally_app_gauge_sum(self->tally, 0, APP_CONNECTIONS));
    set_number(L, "running", tally_app_gauge_sum(self->tally, 0, APP_RUNNING));
    set_number(L, "queued", tally_app_gauge_sum(self->tally, 0, APP_QUEUED));
    set_number(L, "peer", tally_peer_sum(self->tally, column));
    return 1;
}

static const luaL_Reg methods[] = {
    {"client", l_host_client},       {"app", l_host_app},           {"turn", l_host_turn},
    {"close_app", l_host_close_app}, {"open_app", l_host_open_app}, {"reserve", l_host_reserve},
    {"release", l_host_release},     {"write", l_host_write},       {"shutdown", l_host_shutdown},
    {"read", l_host_read},           {"close", l_host_close},       {"renewed", l_host_renewed},
    {"state", l_host_state},         {"__gc", l_host_gc},           {NULL, NULL},
};

int probe_share_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"host", l_host}, {NULL, NULL}};

    luaL_newmetatable(L, HOST_TYPE);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
