/*
 * The end of a connection: once, for one reason, which tells what its handler learns, what the logs
 * say, and whether the peer sees a reset.
 */
#include "base/err.h"
#include "base/log.h"
#include "server/session.h"

int conn_close_code(enum conn_close_reason reason)
{
    switch (reason) {
    case CLOSE_PEER:
    case CLOSE_DONE:
    case CLOSE_ABORTED:
        return ERR_CLOSED;
    case CLOSE_HEADER_WAIT:
    case CLOSE_IDLE:
    case CLOSE_ENTITY_BODY:
    case CLOSE_MIN_SEND:
    case CLOSE_HANDLER:
    case CLOSE_CERTIFICATE:
    case CLOSE_LINGER:
        return ERR_TIMEOUT;
    case CLOSE_DRAIN:
        return ERR_CANCELLED;
    default:
        return ERR_RESET;
    }
}

enum reason conn_close_word(const struct exchange *exchange, enum conn_close_reason reason)
{
    switch (reason) {
    case CLOSE_RESET:
        if (exchange == NULL || exchange->phase == EXCHANGE_HEAD)
            return REASON_NONE;
        return exchange->handed || exchange->phase == EXCHANGE_FINISHED ? REASON_CONNECTION_DROPPED
                                                                        : REASON_CLIENT_RESET;
    case CLOSE_ABORTED:
        return REASON_REQUEST_CANCELLED;
    case CLOSE_PROXY_HEADER:
        return REASON_PROXY_HEADER;
    case CLOSE_HEADER_WAIT:
        return REASON_TIMER_HEADER_WAIT;
    case CLOSE_IDLE:
        return REASON_TIMER_CONNECTION_IDLE;
    case CLOSE_ENTITY_BODY:
        return REASON_TIMER_ENTITY_BODY;
    case CLOSE_MIN_SEND:
        return REASON_TIMER_MIN_BYTES_PER_SECOND;
    case CLOSE_HANDLER:
        return REASON_TIMER_HANDLER;
    case CLOSE_CERTIFICATE:
        return REASON_TIMER_SSL_RENEGOTIATION;
    case CLOSE_DRAIN:
        return exchange ? REASON_APP_SHUTDOWN : REASON_NONE;
    default:
        return REASON_NONE;
    }
}

/* In the words of the error log where it has one. */
static const char *close_name(const struct conn *conn, enum conn_close_reason reason)
{
    static const char *const names[] = {
        [CLOSE_NONE] = "none",     [CLOSE_PEER] = "peer_closed",  [CLOSE_RESET] = "peer_reset",
        [CLOSE_DONE] = "done",     [CLOSE_BUSY] = "busy",         [CLOSE_LINGER] = "lingered",
        [CLOSE_DRAIN] = "drained", [CLOSE_PROTOCOL] = "protocol", [CLOSE_TLS] = "tls_handshake",
    };
    enum reason word = conn_close_word(conn->exchange, reason);

    return word == REASON_NONE ? names[reason] : reason_name(word);
}

static void log_close(const struct conn *conn, enum conn_close_reason reason)
{
    struct log_line line;
    char peer[NET_ADDR_TEXT];

    if (!log_wants(LOG_DEBUG))
        return;
    net_addr_text(&conn->peer, peer);
    log_begin(&line, LOG_DEBUG, "connection_closed", NULL);
    log_str(&line, "reason", close_name(conn, reason));
    log_int(&line, "connection", (int64_t)conn->number);
    log_str(&line, "peer", peer);
    log_end(&line);
}

/* Where the end of an answer would look like that of a whole one. */
static bool breaks_off(enum conn_close_reason reason)
{
    switch (reason) {
    case CLOSE_ABORTED:
    case CLOSE_BUSY:
    case CLOSE_DRAIN:
    case CLOSE_ENTITY_BODY:
    case CLOSE_HANDLER:
    case CLOSE_CERTIFICATE:
    case CLOSE_MIN_SEND:
        return true;
    default:
        return false;
    }
}

void conn_close(struct conn *conn, enum conn_close_reason reason)
{
    struct exchange *exchange = conn->exchange;

    if (conn->state == CONN_CLOSED)
        return;
    if (conn->reason == CLOSE_TLS)
        reason = CLOSE_TLS; /* reported then; how the peer goes after that does not matter */
    log_close(conn, reason);
    if (conn_close_word(exchange, reason) != REASON_NONE)
        server_report_drop(conn, exchange, conn_close_word(exchange, reason));
    conn->state = CONN_CLOSED;
    conn->reason = (uint8_t)reason;
    conn->exchange = NULL;
    stream_close(conn->stream, breaks_off(reason));
    conn->stream = NULL;
    timeouts_stop(conn);
    admission_conn_gone(conn);
    list_remove(&conn->node);
    loop_defer(conn->server->loop, &conn->call); /* frees */
    if (exchange)
        exchange_detach(exchange, conn_close_code(reason));
    if (conn->session)
        session_close(conn->session, reason);
    server_conn_gone(conn->server, conn);
}
