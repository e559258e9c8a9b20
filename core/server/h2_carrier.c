/*
 * Exchanges over HTTP/2, each on a stream of its own. Content goes through the stream's buffers, so
 * that the peer's windows decide how fast it leaves, and the handler's reading how fast it comes.
 */
#include "base/err.h"
#include "server/carrier.h"
#include "server/session.h"

static struct session *session_of(const struct exchange *exchange)
{
    return exchange->stream->session;
}

/* Nothing comes from the peer any more, although nobody has been told: a handler that blocks must
 * not wait for it. */
static bool is_lost(const struct exchange *exchange)
{
    return exchange->stream->is_closed || exchange->conn->peer_ended ||
           session_of(exchange)->broken;
}

/* ---- content of the request ---- */

static int h2_content(struct exchange *exchange, struct span *data)
{
    struct h2_stream *stream = exchange->stream;
    struct conn *conn = exchange->conn;

    if (buf_len(&stream->in) > 0) {
        *data = buf_span(&stream->in);
        stream->in.head = stream->in.tail; /* the bytes stay where they are until more come */
        return H1_DATA;
    }
    stream->in.head = stream->in.tail = 0;
    if (stream->request.ended)
        return H1_END;
    if (stream->malformed)
        return exchange_content_failed(exchange, ERR_INVALID);
    if (is_lost(exchange))
        return exchange_content_failed(exchange, ERR_CLOSED);
    exchange->wants_content = true;
    stream->stamp_ms = loop_now_ms(conn->server->loop);
    if (exchange->limit_entity_body_ms < conn->server->timer_ms)
        timeouts_look(conn); /* no other wait was so short: the timer does not know of it */
    return ERR_AGAIN;
}

/* What is given back at once is not credited in between. */
static void h2_used(struct exchange *exchange, ssize_t bytes)
{
    struct h2_stream *stream = exchange->stream;

    stream->used_bytes += (size_t)bytes;
    session_look(stream);
    conn_send_soon(exchange->conn);
}

static bool h2_has_bytes(const struct exchange *exchange)
{
    return buf_len(&exchange->stream->in) > 0 || exchange->stream->request.ended;
}

/* ---- the response ---- */

/* A head that nothing follows at once waits for the end of the turn: it may end the stream itself.
 */
static void h2_head(struct exchange *exchange)
{
    struct h2_stream *stream = exchange->stream;

    bool is_last =
        exchange->close || fields_has_token(&exchange->fields, FIELD_CONNECTION, SPAN("close"));

    if (is_last && exchange->conn->channel)
        channel_note_close(exchange);
    else if (is_last)
        h2_shut_down(stream->session->h2, false);
    stream->head_waits = true;
    session_look(stream);
    conn_send_soon(exchange->conn);
}

void h2_carrier_send_head(struct exchange *exchange, bool is_all)
{
    struct h2_stream *stream = exchange->stream;
    struct h2_response response = {
        .status = exchange->status,
        .fields = &exchange->fields,
        .length = exchange_has_no_content(exchange) ? -1 : exchange->length,
        .no_content = is_all,
    };

    if (!stream->head_waits)
        return;
    stream->head_waits = false;
    if (exchange->conn->channel == NULL) { /* else the host adds them */
        response.date = exchange_date(exchange);
        response.server = exchange_server_name(exchange);
    }
    h2_respond(stream->session->h2, &stream->request, &response);
}

static void h2_interim(struct exchange *exchange, int status, const struct fields *fields)
{
    h2_inform(session_of(exchange)->h2, &exchange->stream->request, status, fields);
    conn_send_soon(exchange->conn);
}

static int send_now(struct exchange *exchange)
{
    h2_carrier_send_head(exchange, false);
    return conn_send_frames(exchange->conn);
}

static int h2_room(struct exchange *exchange)
{
    struct h2_stream *stream = exchange->stream;

    if (buf_len(&stream->out) < OUT_HIGH_BYTES)
        return 0;
    if (send_now(exchange) < 0)
        return ERR_CLOSED;
    if (buf_len(&stream->out) < OUT_HIGH_BYTES / 2)
        return 0;
    if (is_lost(exchange))
        return ERR_CLOSED;
    exchange->wants_room = true;
    return ERR_AGAIN;
}

static void is_sending(struct h2_stream *stream)
{
    if (list_empty(&stream->sending))
        list_append(&stream->session->sending, &stream->sending);
}

static void add_to_out(struct h2_stream *stream, struct span data)
{
    if (data.len == 0)
        return;
    is_sending(stream);
    buf_append(&stream->out, data);
}

static int h2_write(struct exchange *exchange, struct span data)
{
    struct h2_stream *stream = exchange->stream;

    add_to_out(stream, data);
    h2_carrier_send_head(exchange, false);
    h2_resume(stream->session->h2, &stream->request);
    conn_send_soon(exchange->conn);
    return 0;
}

static void h2_finish(struct exchange *exchange, struct span data)
{
    struct h2_stream *stream = exchange->stream;
    bool is_all = data.len == 0 && exchange->response_trailers.count == 0;

    stream->out_ended = true;
    stream->request.trailing = &exchange->response_trailers;
    add_to_out(stream, data);
    if (stream->head_waits && is_all)
        stream->all_pulled = true;
    else
        is_sending(stream); /* the end, too, may have to wait for a window */
    if (stream->head_waits)
        h2_carrier_send_head(exchange, is_all);
    else
        h2_resume(stream->session->h2, &stream->request);
}

/* What no handler has any more is told here that it has sent enough, else by its release. */
static void h2_finished(struct exchange *exchange)
{
    if (exchange->released)
        session_ignore_rest(exchange->stream);
    conn_send_soon(exchange->conn);
}

static int h2_flush(struct exchange *exchange)
{
    int code = send_now(exchange);

    if (code == 0)
        conn_update_interest(exchange->conn);
    return code;
}

/* One stream's message is no other's. */
static void h2_refusing(struct exchange *exchange)
{
    (void)exchange;
}

static void h2_drop(struct exchange *exchange, enum conn_close_reason reason)
{
    session_drop(exchange->stream, reason);
}

static void h2_drop_rest(struct exchange *exchange)
{
    session_drop_rest(exchange->stream, exchange->reset_code);
}

const struct carrier h2_carrier = {
    .content = h2_content,
    .used = h2_used,
    .has_bytes = h2_has_bytes,
    .head = h2_head,
    .interim = h2_interim,
    .room = h2_room,
    .write = h2_write,
    .finish = h2_finish,
    .finished = h2_finished,
    .flush = h2_flush,
    .refusing = h2_refusing,
    .drop = h2_drop,
    .drop_rest = h2_drop_rest,
};
