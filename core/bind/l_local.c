/*
 * server(handler):connect() gives one end of a socket pair whose other end the real server serves:
 * heads, limits and framing are those of production, only the network is left out.
 */
#include "bind/l_local.h"

#include <errno.h>
#include <lauxlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "bind/aux.h"
#include "bind/request.h"
#include "bind/vm_priv.h"
#include "server/app.h"
#include "server/server.h"
#include "share/dispatch.h"

#define SERVER_TYPE     "moonquay.server"
#define CONNECTION_TYPE "moonquay.connection"
#define RECEIVE_BYTES   65536
#define LOCAL_PORT      80 /* that connections seem to come to */

struct l_server {
    struct local_server *local; /* NULL once closed */
};

/* One direction: who waits for it. */
struct l_way {
    struct loop_io io;
    bool watching;
    struct task *waiter;
};

struct l_connection {
    int fd; /* -1 when closed */
    struct vm *vm;
    struct l_way in, out; /* one task may send while another receives */
};

/* ---- server ---- */

/* Its connections and tasks may need it after the collector took its handle: kept with the state.
 */
struct local_server {
    struct local_server *next;
    struct server *server;
    struct server_entry entry;
    struct app *served;
    struct lua_app app;
    struct local_host *host; /* NULL: connections come to the server itself */
};

/* A host in front of the server, as if that were an app in a process of its own. */
struct local_host {
    const struct settings *settings;
    struct server *server;
    struct dispatch *dispatch;
    struct app *shared;
    struct app *guest;
    struct server *guests;
};

/* A pair of sockets in place of those that a registrar hands out. */
static void connect_host(void *owner, uint64_t process, unsigned worker)
{
    struct local_host *host = owner;
    const struct dispatch_peer peer = {
        .process = process,
        .worker = worker,
        .most_running = host->settings->max_concurrent_requests,
        .gets_credentials = host->settings->authentication_forward_authorization,
    };
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return;
    server_accept_channel(host->guests, host->guest, ends[0]);
    dispatch_connect(host->dispatch, &peer, ends[1]);
}

static int server_gc(lua_State *L)
{
    struct l_server *self = luaL_checkudata(L, 1, SERVER_TYPE);

    if (self->local == NULL)
        return 0;
    if (self->local->host)
        server_abort(self->local->host->server);
    server_abort(self->local->server); /* tasks learn of it */
    lua_app_fini(&self->local->app);
    self->local = NULL;
    return 0;
}

static void open_host(struct vm *vm, struct local_server *local, const struct server_parts *parts)
{
    struct local_host *host = mem_zalloc(sizeof(*host));
    const struct dispatch_parts dispatch = {
        .loop = vm->loop,
        .tally = vm->tally,
        .slot = vm->slot_index,
        .owner = host,
        .renew = connect_host,
        .most_stream_id = 199, /* a long test meets more than one */
    };

    host->settings = vm->settings;
    host->server = server_new(parts);
    host->dispatch = dispatch_new(&dispatch);
    host->shared = app_new(host->server, 1, "test", vm->settings, dispatch_handler(host->dispatch));
    host->guests = local->server;
    host->guest = local->served;
    dispatch_serve(host->dispatch, host->shared);
    local->host = host;
    connect_host(host, 1, 0);
}

static void open_server(struct vm *vm, struct local_server *local, bool is_shared)
{
    const struct server_parts parts = {
        .loop = vm->loop,
        .settings = vm->settings,
        .tally = vm->tally,
        .slot = vm->slot_index,
    };
    const struct net_addr addr = {.ip = {127, 0, 0, 1}, .family = NET_IPV4, .port = LOCAL_PORT};

    local->server = server_new(&parts);
    local->served = app_new(local->server, 0, "test", vm->settings, &local->app.handler);
    if (is_shared)
        open_host(vm, local, &parts);
    server_entry_init(&local->entry, is_shared ? local->host->server : local->server, &addr, false);
}

static void add_prefix(lua_State *L, struct local_server *local, struct span text)
{
    struct url_prefix prefix;
    struct err_text wrong;
    int code = url_prefix_parse(&prefix, text, &wrong);

    if (code == 0) {
        bool comes_here = prefix.port == LOCAL_PORT && !prefix.https;

        code = comes_here
                   ? app_add_prefix(local->host ? local->host->shared : local->served, &prefix)
                   : ERR_INVALID;
        if (code < 0)
            err_set(&wrong, EXIT_OPTION, code, "%.200s: %s", prefix.text,
                    comes_here ? "named twice"
                               : "the connections of a test come by http to port 80");
        url_prefix_fini(&prefix);
    }
    if (code < 0)
        luaL_error(L, "%s", wrong.text);
}

/* From the list at index; without one, every host and path. */
static void add_prefixes(lua_State *L, int index, struct local_server *local)
{
    if (lua_isnil(L, index)) {
        add_prefix(L, local, SPAN("http://*:80/"));
        return;
    }
    for (lua_Integer i = 1; lua_geti(L, index, i) != LUA_TNIL; i++) {
        add_prefix(L, local, l_check_span(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* server(handler [, routes [, prefixes [, shared]]]) -> server; the first two as load_app returned
 * them; shared: behind a host */
static int new_server(lua_State *L)
{
    struct vm *vm = vm_of(L);

    luaL_checkany(L, 1);
    lua_settop(L, 4);
    if (!lua_isnil(L, 3))
        luaL_checktype(L, 3, LUA_TTABLE);
    struct l_server *self = lua_newuserdatauv(L, sizeof(*self), 1);

    self->local = NULL;
    luaL_setmetatable(L, SERVER_TYPE);
    struct local_server *local = mem_zalloc(sizeof(*local));

    local->next = vm->local_servers;
    vm->local_servers = local;
    lua_app_init(&local->app, vm);
    open_server(vm, local, lua_toboolean(L, 4));
    self->local = local;
    add_prefixes(L, 3, local);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_app_take(&local->app, L);
    return 1;
}

void local_servers_apply(struct vm *vm)
{
    for (struct local_server *local = vm->local_servers; local; local = local->next)
        app_apply_settings(local->served);
}

static int server_connect(lua_State *L)
{
    struct l_server *self = luaL_checkudata(L, 1, SERVER_TYPE);
    struct net_addr peer = {.ip = {127, 0, 0, 1}, .family = NET_IPV4};
    struct l_connection *connection = lua_newuserdatauv(L, sizeof(*connection), 1);
    int ends[2];

    if (self->local == NULL)
        return luaL_error(L, "the server is closed");
    *connection = (struct l_connection){.fd = -1, .vm = vm_of(L)};
    luaL_setmetatable(L, CONNECTION_TYPE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1); /* the server lives as long as its connections */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return l_fail(L, err_from_errno(errno), NULL);
    connection->fd = ends[0];
    server_accept(&self->local->entry, ends[1], &peer);
    return 1;
}

/* ---- connection ---- */

static struct l_connection *check_connection(lua_State *L)
{
    struct l_connection *self = luaL_checkudata(L, 1, CONNECTION_TYPE);

    if (self->fd < 0)
        luaL_error(L, "the connection is closed");
    return self;
}

static void unwatch(struct l_connection *self, struct l_way *way)
{
    if (way->watching)
        loop_io_stop(self->vm->loop, &way->io);
    way->watching = false;
    way->waiter = NULL;
}

static void on_ready(struct l_connection *self, struct l_way *way)
{
    struct task *waiter = way->waiter;

    unwatch(self, way);
    if (waiter)
        task_wake(waiter, WAIT_EVENT, 0);
}

static void on_readable(struct loop_io *io, int events)
{
    struct l_connection *self = LIST_OWNER(io, struct l_connection, in.io);

    (void)events;
    on_ready(self, &self->in);
}

static void on_writable(struct loop_io *io, int events)
{
    struct l_connection *self = LIST_OWNER(io, struct l_connection, out.io);

    (void)events;
    on_ready(self, &self->out);
}

static int wait_ready(lua_State *L, struct l_connection *self, struct l_way *way, double seconds,
                      lua_KFunction k, lua_KContext context)
{
    struct task *task = task_waiter(L);
    bool reading = way == &self->in;

    if (task->cancel)
        return task_fail_cancelled(L);
    if (way->waiter)
        return luaL_error(L, "another task waits for this connection");
    if (!task_can_wait(L))
        return task_refuse_wait(L);
    unwatch(self, way); /* of one that was closed while it waited */
    task_wait_at(task, &way->waiter);
    way->watching = true;
    loop_io_start(self->vm->loop, &way->io, self->fd, reading ? LOOP_READ : LOOP_WRITE,
                  reading ? on_readable : on_writable);
    if (seconds >= 0)
        loop_alarm_start(self->vm->loop, &task->alarm, seconds);
    return task_park(L, WAIT_EVENT, k, context);
}

/* After a wait: 0, or why it ended. */
static int waited(lua_State *L, struct l_connection *self, struct l_way *way, int status)
{
    int code = status == LUA_YIELD ? task_waiter(L)->woken : 0;

    if (code < 0 && way->waiter == NULL)
        unwatch(self, way);
    return code;
}

static int send_k(lua_State *L, int status, lua_KContext sent)
{
    struct l_connection *self = lua_touserdata(L, 1);
    struct span data = l_to_span(L, 2);
    int code = waited(L, self, &self->out, status);

    while (code == 0 && (size_t)sent < data.len) {
        ssize_t done = send(self->fd, data.at + sent, data.len - (size_t)sent, MSG_NOSIGNAL);

        if (done < 0)
            code = err_from_errno(errno);
        else
            sent += done;
    }
    if (code == ERR_AGAIN)
        return wait_ready(L, self, &self->out, -1, send_k, sent);
    if (code < 0)
        return l_fail(L, code, NULL);
    lua_pushboolean(L, 1);
    return 1;
}

/* connection:send(bytes) -> true | nil, err */
static int connection_send(lua_State *L)
{
    check_connection(L);
    l_check_span(L, 2);
    lua_settop(L, 2);
    return send_k(L, LUA_OK, 0);
}

static int receive_k(lua_State *L, int status, lua_KContext context)
{
    struct l_connection *self = lua_touserdata(L, 1);
    int code = waited(L, self, &self->in, status);
    char bytes[RECEIVE_BYTES];

    if (code == 0) {
        ssize_t got = recv(self->fd, bytes, sizeof(bytes), 0);

        if (got > 0) {
            lua_pushlstring(L, bytes, (size_t)got);
            return 1;
        }
        code = got == 0 ? ERR_CLOSED : err_from_errno(errno);
    }
    if (code == ERR_AGAIN)
        return wait_ready(L, self, &self->in, luaL_optnumber(L, 2, -1), receive_k, context);
    return l_fail(L, code, NULL);
}

/* connection:receive([seconds]) -> bytes | nil, err; err.code is "closed" at the end */
static int connection_receive(lua_State *L)
{
    check_connection(L);
    lua_settop(L, 2);
    return receive_k(L, LUA_OK, 0);
}

/* connection:shutdown(): nothing more will be sent */
static int connection_shutdown(lua_State *L)
{
    shutdown(check_connection(L)->fd, SHUT_WR);
    return 0;
}

/* Nobody waits for what nobody holds; and when the state closes, the tasks are gone before. */
static int connection_gc(lua_State *L)
{
    struct l_connection *self = luaL_checkudata(L, 1, CONNECTION_TYPE);

    unwatch(self, &self->in);
    unwatch(self, &self->out);
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
    return 0;
}

/* connection:close(); whoever waits for it gets nil and "closed" */
static int connection_close(lua_State *L)
{
    struct l_connection *self = luaL_checkudata(L, 1, CONNECTION_TYPE);
    struct task *reader = self->in.waiter, *writer = self->out.waiter;

    connection_gc(L);
    if (reader)
        task_wake(reader, WAIT_EVENT, ERR_CLOSED);
    if (writer)
        task_wake(writer, WAIT_EVENT, ERR_CLOSED);
    return 0;
}

static const luaL_Reg connection_methods[] = {
    {"send", connection_send},
    {"receive", connection_receive},
    {"shutdown", connection_shutdown},
    {"close", connection_close},
    {NULL, NULL},
};

void l_local_open(lua_State *L)
{
    int core = lua_gettop(L);

    luaL_newmetatable(L, SERVER_TYPE);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, server_connect);
    lua_setfield(L, -2, "connect");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, server_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, CONNECTION_TYPE);
    luaL_newlib(L, connection_methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, connection_gc);
    lua_setfield(L, -2, "__gc");
    lua_settop(L, core);
    lua_pushcfunction(L, new_server);
    lua_setfield(L, core, "server");
}
