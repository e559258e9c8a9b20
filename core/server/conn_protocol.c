/*
 * What a connection speaks: TLS or not, HTTP/1.1 or HTTP/2. Decided once, when its first bytes are
 * there, or with a request that asks for an upgrade.
 */
#include "base/err.h"
#include "base/log.h"
#include "server/session.h"
#include "tls/tls_stream.h"

/* ---- TLS ---- */

void conn_begin_tls(struct conn *conn, struct span received)
{
    struct server *server = conn->server;
    struct net_addr local = conn_socket_local(conn);
    int fd = stream_plain_release(conn->stream);

    CHECK(server->tls != NULL);
    conn->stream = tls_stream_new(server->tls, server->loop, fd, &local, received);
    stream_owned_by(conn->stream, conn, conn_ready);
}

/* The peer must see the alert: it closes first, within a limit. */
void conn_tls_failed(struct conn *conn)
{
    struct log_line line;
    char peer[NET_ADDR_TEXT];

    if (log_wants(LOG_DEBUG)) {
        net_addr_text(&conn->peer, peer);
        log_begin(&line, LOG_DEBUG, "tls_failed", tls_stream_failure(conn->stream));
        log_int(&line, "connection", (int64_t)conn->number);
        log_str(&line, "peer", peer);
        log_end(&line);
    }
    server_report_drop(conn, NULL, REASON_TLS_HANDSHAKE);
    conn->reason = CLOSE_TLS;
    stream_shutdown(conn->stream);
    conn->state = CONN_LINGERING;
    conn->stamp_ms = loop_now_ms(conn->server->loop);
    timeouts_look(conn);
    conn_update_interest(conn);
}

/* ---- HTTP/2 ---- */

/* HTTP/2 without TLS stays on this machine. */
static bool may_speak_h2c(const struct conn *conn)
{
    struct net_addr local;

    if (conn->https || !conn->server->settings->h2_cleartext)
        return false;
    local = conn_socket_local((struct conn *)(uintptr_t)conn);
    return local.family == NET_UNIX || net_addr_loopback(&local);
}

bool conn_speaks_h2(struct conn *conn, struct span bytes, bool *known)
{
    struct span magic = SPAN("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    size_t len = bytes.len < magic.len ? bytes.len : magic.len;

    *known = true;
    if (conn->channel)
        return true;
    if (conn->https)
        return span_eq(tls_stream_alpn(conn->stream), SPAN("h2"));
    if (memcmp(bytes.at, magic.at, len) != 0 || !may_speak_h2c(conn))
        return false;
    *known = len == magic.len || conn->peer_ended;
    return len == magic.len || !conn->peer_ended;
}

/* RFC 7540 section 3.2. A request with content goes on over HTTP/1.1. */
static bool asks_for_h2(struct conn *conn)
{
    const struct request_head *head = &conn->exchange->head;

    return conn->server->settings->h2_cleartext && /* else no field is looked at */
           fields_has_token(&head->fields, FIELD_UPGRADE, SPAN("h2c")) &&
           fields_has_token(&head->fields, FIELD_CONNECTION, SPAN("upgrade")) &&
           fields_has_token(&head->fields, FIELD_CONNECTION, SPAN("http2-settings")) &&
           !request_is_http10(head) && head->framing == FRAMING_NONE && may_speak_h2c(conn);
}

bool conn_upgrade(struct conn *conn)
{
    const struct fields *fields = &conn->exchange->head.fields;
    const struct field *settings;

    if (!asks_for_h2(conn))
        return false;
    settings = fields_find(fields, SPAN("HTTP2-Settings"), 0);
    if (settings == NULL ||
        fields_find(fields, SPAN("HTTP2-Settings"), (uint32_t)(settings - fields->at) + 1))
        return false; /* exactly one */
    return session_upgrade(conn, conn->exchange, settings->value) == 0;
}
