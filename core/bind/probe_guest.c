/*
 * Opens the app's side of channels to the specs: a server with one app, whose handler answers each
 * request with what it sees of it. The host's end of a channel is a descriptor that the spec writes
 * and reads itself, with what probe_share.c has for that.
 */
#include "bind/probe.h"

#include <lauxlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "server/app.h"
#include "server/exchange.h"
#include "server/server.h"
#include "tls/tls_facts.h"

#define GUEST_TYPE "moonquay.probe.guest"
#define TURNS      4

struct guest {
    struct loop *loop;
    struct tally *tally;
    int tally_fd;
    struct settings settings;
    struct handler handler;
    struct server *server;
    struct app *app;
    bool drained;
};

/* ---- the handler ---- */

static void add(struct buf *text, const char *key, struct span value)
{
    buf_printf(text, "%s=%.*s\n", key, (int)value.len, value.at ? value.at : "");
}

static void add_address(struct buf *text, const char *key, struct net_addr addr)
{
    char out[NET_ADDR_TEXT];

    add(text, key, span_of(out, net_addr_text(&addr, out)));
}

static void add_tls(struct buf *text, struct exchange *exchange)
{
    struct tls_facts facts;
    struct tls_peer peer;

    if (!exchange_tls_facts(exchange, &facts))
        return;
    add(text, "version", facts.version);
    add(text, "cipher", facts.cipher);
    add(text, "group", facts.group);
    add(text, "sni", facts.sni);
    add(text, "alpn", facts.alpn);
    add(text, "resumed", facts.is_resumed ? SPAN("yes") : SPAN("no"));
    if (!exchange_tls_peer(exchange, &peer))
        return;
    add(text, "subject", peer.subject);
    add(text, "verification", peer.verification);
    add(text, "verified", peer.is_verified ? SPAN("yes") : SPAN("no"));
}

static void on_start(void *context, struct exchange *exchange)
{
    char id[EXCHANGE_ID_BYTES];
    struct buf text = {0};

    (void)context;
    add(&text, "id", span_of(id, exchange_id(exchange, id)));
    add(&text, "protocol", request_protocol(&exchange->head));
    add(&text, "target", exchange->head.target.raw);
    add(&text, "base", exchange->path_base);
    add(&text, "path", exchange->path);
    add(&text, "scheme", exchange_scheme(exchange));
    add(&text, "host", exchange_host(exchange));
    add_address(&text, "peer", exchange->peer);
    add_address(&text, "client", *exchange_client(exchange));
    add_address(&text, "local", exchange_local(exchange));
    buf_printf(&text, "connection=%llu\nfields=%u\n",
               (unsigned long long)exchange->connection_number, exchange->head.fields.count);
    add_tls(&text, exchange);
    exchange_finish(exchange, buf_span(&text));
    buf_fini(&text);
    exchange_release(exchange);
}

static void on_event(struct exchange *exchange)
{
    (void)exchange;
}

static void on_cancelled(struct exchange *exchange, int code)
{
    (void)exchange, (void)code;
}

/* ---- the guest ---- */

static struct guest *check_guest(lua_State *L)
{
    struct guest *self = luaL_checkudata(L, 1, GUEST_TYPE);

    luaL_argcheck(L, self->loop, 1, "the guest is closed");
    return self;
}

/* guest([prefix]) -> guest; the prefix is its own, for a base that the host does not know */
static int l_guest(lua_State *L)
{
    const char *own = luaL_optstring(L, 1, "http://own/app/");
    struct url_prefix prefix;
    struct guest *self = lua_newuserdatauv(L, sizeof(*self), 0);

    memset(self, 0, sizeof(*self));
    settings_init(&self->settings);
    self->loop = loop_new();
    self->tally = tally_create(1, &self->tally_fd);
    luaL_setmetatable(L, GUEST_TYPE);
    self->handler = (struct handler){.start = on_start,
                                     .readable = on_event,
                                     .writable = on_event,
                                     .certified = on_event,
                                     .cancelled = on_cancelled};
    self->server = server_new(&(struct server_parts){
        .loop = self->loop, .settings = &self->settings, .tally = self->tally});
    self->app = app_new(self->server, 0, "guest", &self->settings, &self->handler);
    CHECK(url_prefix_parse(&prefix, span_str(own), NULL) == 0);
    CHECK(app_add_prefix(self->app, &prefix) == 0);
    url_prefix_fini(&prefix);
    return 1;
}

static int l_guest_gc(lua_State *L)
{
    struct guest *self = luaL_checkudata(L, 1, GUEST_TYPE);

    if (self->loop == NULL)
        return 0;
    server_abort(self->server);
    loop_turn(self->loop, false);
    server_free(self->server);
    settings_fini(&self->settings);
    loop_free(self->loop);
    self->loop = NULL;
    tally_close(self->tally);
    close(self->tally_fd);
    return 0;
}

/* guest:channel() -> fd, of the host's end */
static int l_guest_channel(lua_State *L)
{
    struct guest *self = check_guest(L);
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return luaL_error(L, "socketpair");
    server_accept_channel(self->server, self->app, ends[0]);
    lua_pushinteger(L, ends[1]);
    return 1;
}

/* guest:turn() */
static int l_guest_turn(lua_State *L)
{
    struct guest *self = check_guest(L);

    for (int i = 0; i < TURNS; i++)
        loop_turn(self->loop, false);
    return 0;
}

static void on_drained(void *owner)
{
    ((struct guest *)owner)->drained = true;
}

/* guest:drain() */
static int l_guest_drain(lua_State *L)
{
    struct guest *self = check_guest(L);

    server_drain(self->server, on_drained, self);
    return 0;
}

/* guest:state() -> { channels=, clients=, drained= } */
static int l_guest_state(lua_State *L)
{
    struct guest *self = check_guest(L);

    lua_newtable(L);
    lua_pushinteger(L, server_connections(self->server));
    lua_setfield(L, -2, "channels");
    lua_pushinteger(L, tally_gauge_sum(self->tally, GAUGE_CONNECTIONS));
    lua_setfield(L, -2, "clients");
    lua_pushboolean(L, self->drained);
    lua_setfield(L, -2, "drained");
    return 1;
}

static const luaL_Reg methods[] = {
    {"channel", l_guest_channel}, {"turn", l_guest_turn}, {"drain", l_guest_drain},
    {"state", l_guest_state},     {"__gc", l_guest_gc},   {NULL, NULL},
};

int probe_guest_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"guest", l_guest}, {NULL, NULL}};

    luaL_newmetatable(L, GUEST_TYPE);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
