/*
 * Exchanges over HTTP/1.1: the connection carries one at a time, so that what happens to the one
 * happens to the other. How an answer is framed, and whether the connection outlives it, is decided
 * here.
 */
#include "base/err.h"
#include "http/h1_write.h"
#include "server/carrier.h"

static int h1_content(struct exchange *exchange, struct span *data)
{
    struct conn *conn = exchange->conn;
    size_t used = 0;
    int code = h1_read_content(&exchange->content, conn_bytes(conn), &used, data);

    conn_take(conn, used);
    switch (code) {
    case H1_DATA:
    case H1_END:
        return code;
    case ERR_AGAIN:
        if (conn->peer_ended)
            return exchange_content_failed(exchange, ERR_CLOSED);
        exchange->wants_content = true;
        exchange->unhelpful = conn_bytes(conn).len;
        conn_content_wanted(conn);
        return ERR_AGAIN;
    default:
        conn->close_after = conn->linger = true;
        return exchange_content_failed(exchange, code);
    }
}

/* The connection is read on when a run is asked for. */
static void h1_used(struct exchange *exchange, ssize_t bytes)
{
    (void)exchange;
    (void)bytes;
}

static bool h1_has_bytes(const struct exchange *exchange)
{
    return conn_bytes(exchange->conn).len > 0;
}

/* Whether this answer is the connection's last (RFC 9112 section 9.3). */
static bool last_answer(const struct exchange *exchange, enum h1_length framing)
{
    const struct conn *conn = exchange->conn;

    if (conn->close_after || exchange->close || !exchange->head.keep_alive ||
        exchange->server->draining || framing == H1_LENGTH_CLOSE ||
        (conn->peer_ended && conn_bytes(conn).len == 0))
        return true;
    if (fields_has_token(&exchange->fields, FIELD_CONNECTION, SPAN("close")))
        return true;
    if (exchange_content_broken(exchange))
        return true;
    if (exchange->content_phase != CONTENT_UNREAD || exchange->head.framing == FRAMING_NONE)
        return false;
    /* Never asked for: a client that waits for 100 may or may not send it. Too long: not worth
     * reading. */
    return exchange->head.expect_continue ||
           (exchange->head.framing == FRAMING_SIZED && exchange->head.content_length > DRAIN_BYTES);
}

static enum h1_length framing_of(const struct exchange *exchange)
{
    if (exchange_has_no_content(exchange))
        return H1_LENGTH_ABSENT;
    if (exchange->length >= 0)
        return H1_LENGTH_KNOWN;
    if (exchange_is_head(exchange))
        return H1_LENGTH_ABSENT;
    return request_is_http10(&exchange->head) ? H1_LENGTH_CLOSE : H1_LENGTH_CHUNKED;
}

static void h1_head(struct exchange *exchange)
{
    struct conn *conn = exchange->conn;
    struct h1_response response = {
        .status = exchange->status,
        .reason = exchange->reason,
        .fields = &exchange->fields,
        .date = exchange_date(exchange),
        .server = exchange_server_name(exchange),
        .framing = framing_of(exchange),
        .length = exchange->length >= 0 ? (uint64_t)exchange->length : 0,
    };

    exchange->chunked = response.framing == H1_LENGTH_CHUNKED;
    response.close = conn->close_after = last_answer(exchange, response.framing);
    /* A client that did not ask for the end may be sending its next request. */
    conn->linger |= response.close && exchange->head.keep_alive;
    response.keep_alive_10 = request_is_http10(&exchange->head) && !response.close;
    h1_write_head(conn_out(conn), &response);
    conn_send_soon(conn);
}

static void h1_interim(struct exchange *exchange, int status, const struct fields *fields)
{
    h1_write_interim(conn_out(exchange->conn), status, fields);
    conn_send_soon(exchange->conn);
}

static int write_chunked(struct conn *conn, struct span data)
{
    if (data.len < OUT_DIRECT_BYTES) {
        h1_write_chunk(conn_out(conn), data);
        return 0;
    }
    buf_printf(conn_out(conn), "%zx\r\n", data.len);
    return conn_send(conn, (struct span[]){data, SPAN("\r\n")}, 2);
}

static int write_plain(struct conn *conn, struct span data)
{
    if (data.len >= OUT_DIRECT_BYTES)
        return conn_send(conn, &data, 1);
    buf_append(conn_out(conn), data);
    return 0;
}

static int h1_room(struct exchange *exchange)
{
    struct conn *conn = exchange->conn;

    if (buf_len(&conn->out) < OUT_HIGH_BYTES)
        return 0;
    if (conn_send(conn, NULL, 0) < 0)
        return ERR_CLOSED;
    if (buf_len(&conn->out) < OUT_HIGH_BYTES / 2)
        return 0;
    exchange->wants_room = true;
    conn_update_interest(conn);
    return ERR_AGAIN;
}

static int h1_write(struct exchange *exchange, struct span data)
{
    struct conn *conn = exchange->conn;
    int code = exchange->chunked ? write_chunked(conn, data) : write_plain(conn, data);

    if (code == 0)
        conn_send_soon(conn);
    return code;
}

static void h1_finish(struct exchange *exchange, struct span data)
{
    struct buf *out = conn_out(exchange->conn);

    if (exchange_drops_content(exchange))
        return;
    if (data.len > 0 && exchange->chunked)
        h1_write_chunk(out, data);
    else
        buf_append(out, data);
    if (exchange->chunked)
        h1_write_end(out, &exchange->response_trailers);
}

static void h1_finished(struct exchange *exchange)
{
    conn_exchange_ended(exchange->conn);
}

static int h1_flush(struct exchange *exchange)
{
    int code = conn_send(exchange->conn, NULL, 0);

    if (code == 0)
        conn_update_interest(exchange->conn);
    return code;
}

/* After a malformed message nobody knows where the next one would begin. */
static void h1_refusing(struct exchange *exchange)
{
    exchange->close = true;
    exchange->conn->linger = true;
}

static void h1_drop(struct exchange *exchange, enum conn_close_reason reason)
{
    struct conn *conn = exchange->conn;

    if (reason == CLOSE_BUSY)
        conn_send(conn, NULL, 0); /* the answers before it are not taken back */
    conn_close(conn, reason);
}

/* The answer is on its way: the rest is read away as ever. */
static void h1_drop_rest(struct exchange *exchange)
{
    (void)exchange;
}

const struct carrier h1_carrier = {
    .content = h1_content,
    .used = h1_used,
    .has_bytes = h1_has_bytes,
    .head = h1_head,
    .interim = h1_interim,
    .room = h1_room,
    .write = h1_write,
    .finish = h1_finish,
    .finished = h1_finished,
    .flush = h1_flush,
    .refusing = h1_refusing,
    .drop = h1_drop,
    .drop_rest = h1_drop_rest,
};
