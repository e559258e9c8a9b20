/*
 * What the server refuses or drops: counted by its reason, told in the HTTP error log, and, when
 * somebody got an answer for it, in the server's own log.
 */
#include <string.h>

#include "base/log.h"
#include "server/error_log.h"
#include "server/reason.h"
#include "server/session.h"

static void count(struct server *server, const struct app *app, enum reason reason)
{
    server->slot->counter[COUNTER_REFUSED]++;
    server->slot->reason[reason]++;
    if (app)
        app->tally->counter[APP_REFUSED]++;
}

/* Of what was received, which may be refused before the reader has looked at its version. */
static enum error_version version_of(const struct exchange *exchange)
{
    struct span version = exchange->head.version;

    if (version.at == NULL)
        return ERROR_VERSION_NONE;
    if (exchange->head.major == 2)
        return ERROR_VERSION_2;
    if (version.len != 8 || memcmp(version.at, "HTTP/1.", 7) != 0 || version.at[7] < '0' ||
        version.at[7] > '9')
        return ERROR_VERSION_UNKNOWN;
    return version.at[7] == '0' ? ERROR_VERSION_1_0 : ERROR_VERSION_1_1;
}

static void add_to_error_log(struct server *server, struct error_entry *entry)
{
    entry->unix_ms = (int64_t)(loop_wall_seconds(server->loop) * 1000);
    error_log_add(server->error_log, entry);
}

static void log_entry(struct conn *conn, const struct exchange *exchange, enum reason reason,
                      int status)
{
    struct net_addr local, client = conn->proxy ? conn->proxy->client : conn->peer;
    struct error_entry entry = {.client = &client, .reason = reason, .status = status};

    if (conn->server->error_log == NULL)
        return;
    local = conn_local(conn);
    entry.server = &local;
    if (exchange) {
        entry.client = exchange_client(exchange);
        entry.method = exchange->head.method;
        entry.target = exchange->head.target.raw;
        entry.version = version_of(exchange);
        entry.stream = exchange->stream ? (uint32_t)exchange->stream->request.id : 0;
    }
    if (exchange && exchange->app)
        entry.queue = span_str(exchange->app->settings->request_queue_name);
    add_to_error_log(conn->server, &entry);
}

void server_report(struct conn *conn, const struct exchange *exchange, const struct refusal *why)
{
    enum reason reason = reason_find(why->reason);
    struct log_line line;
    char peer[NET_ADDR_TEXT], id[EXCHANGE_ID_BYTES];

    count(conn->server, exchange->app, reason);
    log_entry(conn, exchange, reason, why->status);
    if (!log_wants(LOG_INFO))
        return;
    net_addr_text(exchange_client(exchange), peer);
    log_begin(&line, LOG_INFO, "request_refused", why->detail);
    log_span(&line, "request", span_of(id, exchange_id(exchange, id)));
    log_int(&line, "status", why->status);
    log_str(&line, "reason", why->reason);
    log_str(&line, "peer", peer);
    log_int(&line, "connection", (int64_t)conn->number);
    log_end(&line);
}

/* What conn_close.c says of a connection. */
static void log_stream_closed(const struct conn *conn, const struct exchange *exchange,
                              enum reason reason)
{
    struct log_line line;
    char peer[NET_ADDR_TEXT], id[EXCHANGE_ID_BYTES];

    net_addr_text(&conn->peer, peer);
    log_begin(&line, LOG_DEBUG, "stream_closed", NULL);
    log_str(&line, "reason", reason_name(reason));
    log_int(&line, "connection", (int64_t)conn->number);
    log_int(&line, "stream", exchange->stream->request.id);
    log_span(&line, "request", span_of(id, exchange_id(exchange, id)));
    log_str(&line, "peer", peer);
    log_end(&line);
}

void server_report_drop(struct conn *conn, const struct exchange *exchange, enum reason reason)
{
    count(conn->server, exchange ? exchange->app : NULL, reason);
    log_entry(conn, exchange, reason, 0);
    if (exchange && exchange->stream && log_wants(LOG_DEBUG))
        log_stream_closed(conn, exchange, reason);
}

void server_report_broken(struct conn *conn, const struct refusal *why)
{
    enum reason reason = reason_find(why->reason);
    struct log_line line;
    char peer[NET_ADDR_TEXT];

    count(conn->server, NULL, reason);
    log_entry(conn, NULL, reason, 0);
    if (!log_wants(LOG_INFO))
        return;
    net_addr_text(conn->proxy ? &conn->proxy->client : &conn->peer, peer);
    log_begin(&line, LOG_INFO, "session_ended", why->detail);
    log_str(&line, "reason", why->reason);
    log_str(&line, "peer", peer);
    log_int(&line, "connection", (int64_t)conn->number);
    log_end(&line);
}

void server_report_refused(struct server *server, const struct server_entry *entry,
                           const struct net_addr *peer)
{
    struct log_line line;
    char text[NET_ADDR_TEXT];

    count(server, NULL, REASON_CONNECTIONS_REFUSED);
    if (server->error_log)
        add_to_error_log(server, &(struct error_entry){.client = peer,
                                                       .server = &entry->addr,
                                                       .reason = REASON_CONNECTIONS_REFUSED});
    net_addr_text(peer, text);
    log_begin(&line, LOG_INFO, "connection_refused", "server.max_connections is reached");
    log_str(&line, "reason", reason_name(REASON_CONNECTIONS_REFUSED));
    log_str(&line, "peer", text);
    log_end(&line);
}
