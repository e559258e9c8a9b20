/*
 * A connection whose other end is a host: it carries the requests for one app that the host has let
 * in. Who the client is, how long it may take and whether it is served at all was decided there;
 * here the request goes straight to its handler, or back.
 */
#include "base/err.h"
#include "base/pairs.h"
#include "server/origin.h"
#include "server/server_priv.h"
#include "server/session.h"

/* What a host may send: it has held its clients' requests against its own limits. */
#define HEAD_BYTES  (32u << 20)
#define MOST_FIELDS 70000u
#define MOST_CALLS  65535u

void channel_limits_init(struct server *server)
{
    server->channel_message = (struct message_limits){
        .max_request_head_bytes = HEAD_BYTES,
        .max_target_bytes = HEAD_BYTES,
        .max_field_length = HEAD_BYTES,
        .max_authorization_length = HEAD_BYTES,
        .max_fields = MOST_FIELDS,
    };
    server->channel_limits = (struct h2_limits){
        .message = &server->channel_message,
        .max_concurrent_streams = MOST_CALLS,
        .stream_window_bytes = server->h2_limits.stream_window_bytes,
        .header_table_bytes = server->h2_limits.header_table_bytes,
        .is_channel = true,
    };
}

void channel_new(struct server *server, struct app *app, struct stream *stream)
{
    struct conn *conn = conn_open(server, stream);

    conn->channel = conn->app = app;
    conn->peer.family = NET_UNIX;
    session_new(conn);
    conn_send_soon(conn); /* the host sends nothing before it knows that somebody is there */
}

/* ---- a request ---- */

/* A host that speaks another language than we: its request is answered, and its log will tell. */
static void refuse(struct exchange *exchange)
{
    static const struct refusal why = {502, "Internal", "the host sent what this app cannot read"};

    exchange_refuse(exchange, &why);
}

/* The prefix belongs to another process on the same queue: the longest of our own that fits counts,
 * or none does (reference section 3.2). */
static void find_base(struct exchange *exchange)
{
    const struct server *server = exchange->server;
    const struct prefix_port *port =
        prefix_table_port(server->prefixes, exchange->https, exchange->origin->local.port);
    struct prefix_match match = {.value = NULL};
    char ip[NET_ADDR_TEXT];
    size_t ip_len = net_addr_ip(&exchange->origin->local, ip);

    if (port &&
        prefix_port_match(port, exchange->head.host, span_of(ip, ip_len), &exchange->head.target,
                          &exchange->arena, &match) == PREFIX_FOUND &&
        match.value == exchange->app) {
        exchange->path_base = match.base;
        exchange->path = match.path;
    }
}

static void split_path(struct exchange *exchange)
{
    struct span path = exchange->head.target.path;
    size_t base = exchange->origin->base > 0 ? (size_t)exchange->origin->base : 0;

    exchange->path_base = span_of(path.at, base);
    exchange->path = span_skip(path, base);
    if (exchange->origin->base < 0)
        find_base(exchange);
}

void channel_enter(struct exchange *exchange)
{
    struct app *app = exchange->conn->channel;

    app_join(app, exchange);
    if (origin_read(exchange) < 0) {
        refuse(exchange);
        return;
    }
    split_path(exchange);
    if (!admission_hand_over(app, exchange))
        exchange_refuse_busy(exchange, "AppShutdown", NULL);
}

/* ---- notes ---- */

static void send_note(struct exchange *exchange, const struct buf *pairs)
{
    h2_note(exchange->stream->session->h2, &exchange->stream->request, buf_span(pairs));
    conn_send_soon(exchange->conn);
}

static void add_limit(struct buf *pairs, const char *key, const char *setting, int64_t value)
{
    char text[32];

    settings_number_text(setting, value, text, sizeof(text));
    pairs_add(pairs, key, text);
}

void channel_note_limits(struct exchange *exchange)
{
    struct buf pairs = {0};

    add_limit(&pairs, "entity_body", "timeouts.entity_body", exchange->limit_entity_body_ms);
    add_limit(&pairs, "min_send", "timeouts.min_send_bytes_per_second", exchange->limit_min_send);
    send_note(exchange, &pairs);
    buf_fini(&pairs);
}

void channel_note_close(struct exchange *exchange)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "close", "1");
    send_note(exchange, &pairs);
    buf_fini(&pairs);
}
