/*
 * What an exchange has of its connection's TLS: the facts of the handshake, and a certificate that
 * the client is asked for after it.
 */
#include "base/err.h"
#include "server/exchange.h"
#include "server/origin.h"
#include "server/server_priv.h"
#include "tls/tls_stream.h"

const struct stream *exchange_tls(const struct exchange *exchange)
{
    const struct conn *conn = exchange->conn;

    return conn && conn->https ? conn->stream : NULL;
}

bool exchange_tls_facts(const struct exchange *exchange, struct tls_facts *facts)
{
    const struct stream *stream = exchange_tls(exchange);

    if (exchange->origin && exchange->origin->has_tls) {
        *facts = exchange->origin->tls;
        return true;
    }
    return stream && tls_stream_facts(stream, facts);
}

bool exchange_tls_peer(struct exchange *exchange, struct tls_peer *peer)
{
    const struct stream *stream = exchange_tls(exchange);
    const struct origin *origin = exchange->origin;

    if (origin)
        return origin->certificate.at &&
               tls_peer_read(peer, origin->certificate, origin->verification, &exchange->arena);
    return stream && tls_stream_peer(stream, &exchange->arena, peer);
}

/* The client's answer comes behind all that it has sent before: content that nobody has read would
 * keep us from ever getting there. */
int exchange_ask_certificate(struct exchange *exchange)
{
    struct conn *conn = exchange->conn;
    int code;

    if (conn == NULL)
        return ERR_CLOSED;
    if (!conn->https)
        return ERR_UNSUPPORTED;
    if (exchange_has_content(exchange))
        return ERR_STATE;
    code = tls_stream_ask_certificate(conn->stream);
    if (code < 0)
        return code;
    conn->asked_ms = loop_now_ms(conn->server->loop);
    conn->asking = true;
    timeouts_look(conn);
    return 0;
}

void conn_look_for_certificate(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;

    if (!conn->asking || conn->state == CONN_CLOSED || tls_stream_is_asking(conn->stream))
        return;
    conn->asking = false;
    if (conn->state == CONN_HANDLING && exchange->handed)
        exchange->app->handler->certified(exchange);
}
