/*
 * The way of a request from its head to its handler, in the order of the reference (section 18.1):
 * who is the client, which app, may its connection count there, is somebody known, is a handler
 * free or a place in the queue. Who is refused here never meets the handler.
 */
#include "base/err.h"
#include "base/log.h"
#include "server/origin.h"
#include "server/proxied.h"
#include "server/session.h"
#include "tls/tls_stream.h"

/* ---- who ---- */

/* NULL, or what is wrong with what its proxies say. */
static const struct refusal *find_client(struct exchange *exchange)
{
    struct proxied proxied;
    int code;

    if (!exchange->conn->trusted)
        return NULL;
    code = proxied_resolve(&exchange->head.fields, exchange_client(exchange),
                           &exchange->server->trusted, &exchange->arena, &proxied,
                           &exchange->reader.refusal);
    if (code < 0)
        return &exchange->reader.refusal;
    exchange->by_proxy = true;
    exchange->client = proxied.client;
    exchange->scheme = proxied.scheme;
    exchange->host = proxied.host;
    return NULL;
}

/* Names that a host alone may use reach no handler, whoever made them up. */
static void drop_reserved(struct fields *fields)
{
    uint32_t kept, i = 0;

    while (i < fields->count &&
           (fields->at[i].id != FIELD_OTHER || !origin_is_reserved(fields->at[i].name)))
        i++;
    for (kept = i; i < fields->count; i++)
        if (fields->at[i].id != FIELD_OTHER || !origin_is_reserved(fields->at[i].name))
            fields->at[kept++] = fields->at[i];
    fields->count = kept;
}

/* ---- which app ---- */

static const struct refusal no_host = {400, "Hostname", "no app is registered for this host"};
static const struct refusal no_path = {404, "NotFound", "no app is registered for this path"};
static const struct refusal kept = {503, "N/A", NULL}; /* its owner is not there */
static const struct refusal forbidden = {403, "Forbidden", "dot segments that lead above the root"};
static const struct refusal misdirected = {421, "Misdirected",
                                           "another connection is needed for this host"};
static const struct refusal anonymous = {401, "AuthRequired", "the app serves nobody unknown"};

/* The host in a Host field, without its port. */
static struct span bare_host(struct span host)
{
    const char *colon = host.len ? memrchr(host.at, ':', host.len) : NULL;

    if (colon && memchr(colon, ']', host.len - (size_t)(colon - host.at)) == NULL)
        host.len = (size_t)(colon - host.at);
    return host;
}

/* A client that was let in for one host is not thereby let in for another (RFC 9110 s.15.5.20). */
static bool is_misdirected(const struct exchange *exchange)
{
    const struct conn *conn = exchange->conn;

    return conn->https && !tls_stream_serves(conn->stream, bare_host(exchange->head.host));
}

static const struct last_port *port_of(const struct conn *conn)
{
    struct last_port *last = &conn->server->last_port;

    if (last->port && last->number == conn->port && last->https == conn->https)
        return last;
    last->port = prefix_table_port(conn->server->prefixes, conn->https, conn->port);
    last->number = conn->port;
    last->https = conn->https;
    last->needs_ip = last->port && prefix_port_needs_ip(last->port);
    return last;
}

/* What the prefixes of addresses are about: where the connection ends here, whatever its proxy says
 * of its own. In ip where no text is kept for all connections. */
static struct span local_ip(struct conn *conn, char ip[NET_ADDR_TEXT])
{
    struct net_addr local;

    if (conn->local == NULL) {
        local = conn_socket_local(conn);
        if (conn->local == NULL)
            return span_of(ip, net_addr_ip(&local, ip));
    }
    return span_of(conn->local->ip, conn->local->ip_len);
}

/* NULL, or why there is no app. */
static const struct refusal *route(struct exchange *exchange)
{
    struct conn *conn = exchange->conn;
    const struct last_port *last = port_of(conn);
    struct prefix_match match;
    char ip[NET_ADDR_TEXT];

    if (last->port == NULL)
        return &no_host; /* its last prefix went while the connection stayed */
    switch (prefix_port_match(last->port, exchange->head.host,
                              last->needs_ip ? local_ip(conn, ip) : SPAN_NONE,
                              &exchange->head.target, &exchange->arena, &match)) {
    case PREFIX_FOUND:
        if (app_is_reserved(match.value))
            return &kept;
        app_join(match.value, exchange);
        exchange->path_base = match.base;
        exchange->path = match.path;
        return NULL;
    case PREFIX_NO_PATH:
        return &no_path;
    case PREFIX_FORBIDDEN:
        return &forbidden;
    default:
        return &no_host;
    }
}

/* ---- connections of an app ---- */

/* A connection counts for each app that it has had a request for (reference section 14.2). */
static bool join(struct conn *conn, struct app *app)
{
    struct server *server = app->server;
    int64_t limit = app->settings->max_connections;

    if (limit == SETTING_NONE || limit == SETTING_UNLIMITED)
        app->tally->gauge[APP_CONNECTIONS]++;
    else if (!tally_app_take(server->tally, server->slot, app->index, APP_CONNECTIONS, 1, limit))
        return false;
    conn->joined |= (uint64_t)1 << app->index;
    return true;
}

void admission_conn_gone(struct conn *conn)
{
    for (uint64_t left = conn->joined; left; left &= left - 1)
        conn->server->apps[__builtin_ctzll(left)]->tally->gauge[APP_CONNECTIONS]--;
    conn->joined = 0;
}

/* ---- the queue ---- */

static bool has_room(const struct app *app)
{
    if (app->handler->has_room)
        return app->handler->has_room(app->handler->context);
    return app->running < app->settings->max_concurrent_requests;
}

static void hand_over(struct app *app, struct exchange *exchange)
{
    app->running++;
    app->tally->gauge[APP_RUNNING]++;
    exchange->handed = true;
    exchange->handed_ms = loop_now_ms(app->server->loop);
    app->handler->start(app->handler->context, exchange);
}

/* The memory that it holds: its head, and content that may arrive meanwhile. */
static int64_t bytes_of(const struct exchange *exchange)
{
    const struct h2_stream *stream = exchange->stream;
    int64_t ahead = stream ? exchange->server->h2_limits.stream_window_bytes : IN_AHEAD_BYTES;
    int64_t head = stream ? stream->request.head_bytes : exchange->reader.head_bytes;

    return exchange->head.framing == FRAMING_NONE ? head : head + ahead;
}

/* Nobody will take what waits. */
static bool is_over(const struct server *server)
{
    return server->draining && !server->keeps_waiting;
}

static void enqueue(struct app *app, struct exchange *exchange)
{
    const struct settings *settings = app->settings;

    if (is_over(app->server)) {
        exchange_refuse_busy(exchange, "AppShutdown", "the server is stopping");
        return;
    }
    exchange->waiting.bytes = bytes_of(exchange);
    if (queue_put(&app->queue, &exchange->waiting, settings->request_queue_limit,
                  settings->request_queue_limit_bytes) < 0) {
        exchange_refuse_busy(exchange, "QueueFull", "too many requests wait for the app");
        return;
    }
    exchange->queued_ms = loop_now_ms(app->server->loop);
    if (app->handler->has_room) /* who shares the places has not seen it before */
        app_pull(app);
}

static bool still_has(const struct conn *conn, const struct exchange *exchange)
{
    return conn->exchange == exchange || (conn->session && session_has(conn->session, exchange));
}

/* A client that has only ended its side gets its answer, from a handler that knows. The exchange
 * may have ended, and with it the connection, which is freed later. */
static void start_waiting(struct app *app, struct exchange *exchange)
{
    struct conn *conn = exchange->conn;

    hand_over(app, exchange);
    if (conn->peer_ended && still_has(conn, exchange))
        exchange_cancel(exchange, ERR_CLOSED);
}

/* Takes what there is room for, at most max_accepts in a turn of the loop. */
static void pull(struct loop_call *call)
{
    struct app *app = LIST_OWNER(call, struct app, pull);
    uint64_t turn = loop_turns(app->server->loop);
    struct queue_entry *entry;

    if (app->taken_turn != turn) {
        app->taken_turn = turn;
        app->taken = 0;
    }
    while (has_room(app) && app->taken < app->settings->max_accepts &&
           (entry = queue_take(&app->queue)) != NULL) {
        app->taken++;
        start_waiting(app, LIST_OWNER(entry, struct exchange, waiting));
    }
    if (app->queue.length > 0 && has_room(app))
        loop_defer_turn(app->server->loop, &app->pull);
}

void admission_init(struct app *app)
{
    struct server *server = app->server;

    queue_init(&app->queue, server->tally, server->slot, app->index);
    app->tally = &server->slot->app[app->index];
    loop_call_init(&app->pull, pull);
}

void app_apply_settings(struct app *app)
{
    server_apply_settings(app->server);
    app_pull(app); /* there may be room now */
}

/* Who has no request waits for nothing of it. */
void admission_leave(struct exchange *exchange)
{
    struct app *app = exchange->app;

    if (!exchange->handed)
        return;
    exchange->handed = exchange->wants_content = exchange->wants_room = false;
    app->running--;
    app->tally->gauge[APP_RUNNING]--;
    app_pull(app); /* soon and not here, or quick requests would nest */
}

void app_pull(struct app *app)
{
    if (app->queue.length > 0)
        loop_defer(app->server->loop, &app->pull);
}

int exchange_requeue(struct exchange *exchange)
{
    struct app *app = exchange->app;

    CHECK(exchange->handed);
    if (exchange->conn == NULL || exchange->phase != EXCHANGE_OPEN || exchange->content_bytes > 0)
        return ERR_STATE;
    admission_leave(exchange);
    exchange->task = NULL;
    exchange->attempts++;
    if (is_over(app->server)) {
        exchange_refuse_busy(exchange, "AppShutdown", "the server is stopping");
        return 0;
    }
    if (app->server->apps[app->index] != app) { /* it was closed meanwhile */
        exchange_refuse_busy(exchange, "AppOffline", "the app is not running");
        return 0;
    }
    exchange->waiting.bytes = bytes_of(exchange);
    queue_put_back(&app->queue, &exchange->waiting);
    exchange->queued_ms = loop_now_ms(app->server->loop);
    timeouts_look(exchange->conn);
    app_pull(app);
    return 0;
}

void admission_forget(struct exchange *exchange)
{
    if (!queue_has(&exchange->waiting))
        return;
    queue_remove(&exchange->app->queue, &exchange->waiting);
}

void admission_expire(struct exchange *exchange)
{
    admission_forget(exchange);
    exchange_refuse_busy(exchange, "Timer_ReqQueue", "no handler was free in time");
}

static void refuse_waiting(struct app *app, const char *reason, const char *detail)
{
    struct queue_entry *entry;

    loop_call_cancel(&app->pull);
    while ((entry = queue_take(&app->queue)) != NULL)
        exchange_refuse_busy(LIST_OWNER(entry, struct exchange, waiting), reason, detail);
}

void admission_stop(struct app *app)
{
    refuse_waiting(app, "AppShutdown", "the server is stopping");
}

void admission_close(struct app *app)
{
    refuse_waiting(app, "AppOffline", "the app is not running");
}

/* ---- all of it ---- */

static void take_limits(struct exchange *exchange, const struct settings *settings)
{
    exchange->max_content = settings->max_request_body_size;
    exchange->limit_entity_body_ms = settings->timeout_entity_body_ms;
    exchange->limit_handler_ms = settings->timeout_handler_ms;
    exchange->limit_min_send = settings->min_send_bytes_per_second;
}

/* Whether the connection counts for the app, now or already. */
static bool may_join(struct conn *conn, struct app *app)
{
    return (conn->joined & (uint64_t)1 << app->index) || join(conn, app);
}

/* What the fast way found closed, in the same order. */
static void refuse_or_enqueue(struct app *app, struct exchange *exchange)
{
    const struct settings *settings = app->settings;

    if (app->handler == NULL)
        exchange_refuse_busy(exchange, "AppOffline", "the app is not running");
    else if (!settings->enabled)
        exchange_refuse_busy(exchange, "Disabled", "the app is disabled");
    else if (!(exchange->conn->joined & (uint64_t)1 << app->index))
        exchange_refuse_busy(exchange, "ConnLimit", "too many connections to the app");
    else if (!settings->authentication_allow_anonymous)
        exchange_refuse(exchange, &anonymous);
    else
        enqueue(app, exchange);
}

void admission_enter_again(struct exchange *exchange)
{
    struct app *app = exchange->app;

    app->tally->counter[APP_REQUESTS]++;
    take_limits(exchange, app->settings);
    may_join(exchange->conn, app);
    refuse_or_enqueue(app, exchange);
    if (exchange->conn && exchange->phase == EXCHANGE_OPEN)
        timeouts_look(exchange->conn);
    app_pull(app);
}

bool admission_hand_over(struct app *app, struct exchange *exchange)
{
    app->tally->counter[APP_REQUESTS]++;
    take_limits(exchange, app->settings);
    if (app->handler == NULL || !has_room(app))
        return false;
    hand_over(app, exchange);
    return true;
}

void admission_enter(struct exchange *exchange)
{
    struct conn *conn = exchange->conn;

    if (conn->channel) {
        channel_enter(exchange);
        return;
    }
    drop_reserved(&exchange->head.fields);

    const struct refusal *why = find_client(exchange);

    if (why == NULL)
        why = is_misdirected(exchange) ? &misdirected : route(exchange);
    if (why) {
        exchange_refuse(exchange, why);
        return;
    }
    struct app *app = exchange->app;
    const struct settings *settings = app->settings;

    conn->app = app;
    app->tally->counter[APP_REQUESTS]++;
    take_limits(exchange, settings);
    if (app->handler && settings->enabled && may_join(conn, app) &&
        settings->authentication_allow_anonymous && has_room(app) && app->queue.length == 0)
        hand_over(app, exchange);
    else
        refuse_or_enqueue(app, exchange);
}
