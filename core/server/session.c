/*
 * The streams of an HTTP/2 connection. Inside h2_receive and h2_send they are only marked and put
 * into a list; session_run goes through that list, and there handlers may do as they like, also end
 * the connection. A stream's memory lives until both its exchange is freed and the session has
 * forgotten it.
 */
#include "server/session.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/pairs.h"
#include "http/h1_write.h"
#include "server/carrier.h"

#define KEPT_OUT_BYTES 4096u /* of a stream's buffer, for the next one */

static struct h2_stream *stream_of(struct h2_request *request)
{
    return LIST_OWNER(request, struct h2_stream, request);
}

void session_look(struct h2_stream *stream)
{
    if (stream->session && list_empty(&stream->news))
        list_append(&stream->session->news, &stream->news);
}

/* Its exchange has a peer still. */
static bool is_attached(const struct h2_stream *stream)
{
    return stream->exchange && stream->exchange->conn;
}

/* ---- life of a stream ---- */

/* With the buffer of the one before, which most answers fit into. */
static struct h2_stream *take_stream(struct server *server)
{
    struct h2_stream *stream;
    struct buf out;

    if (server->free_stream_count == 0)
        return mem_zalloc(sizeof(*stream));
    stream = server->free_streams[--server->free_stream_count];
    out = stream->out;
    *stream = (struct h2_stream){.out = out};
    return stream;
}

static void give_back(struct server *server, struct h2_stream *stream)
{
    if (stream->out.cap > KEPT_OUT_BYTES)
        buf_fini(&stream->out);
    stream->out.head = stream->out.tail = 0;
    server->free_streams[server->free_stream_count++] = stream;
}

void session_free_streams(struct server *server)
{
    while (server->free_stream_count > 0) {
        struct h2_stream *stream = server->free_streams[--server->free_stream_count];

        buf_fini(&stream->out);
        mem_free(stream);
    }
}

static struct h2_stream *stream_new(struct session *session, struct exchange *exchange)
{
    struct server *server = session->conn->server;
    struct h2_stream *stream = take_stream(server);

    stream->session = session;
    stream->exchange = exchange;
    stream->stamp_ms = loop_now_ms(server->loop);
    stream->request.arena = &exchange->arena;
    stream->request.head = &exchange->head;
    stream->request.trailers = &exchange->trailers;
    exchange->stream = stream;
    exchange->carrier = &h2_carrier;
    list_init(&stream->news);
    list_init(&stream->sending);
    list_init(&stream->node);
    list_append(&session->streams, &stream->node);
    session->exchanges++;
    session->active++;
    return stream;
}

/* One that outlives its connection may outlive the server. */
static void free_when_unused(struct h2_stream *stream)
{
    struct server *server;

    if (stream->exchange || (stream->session && !stream->is_closed))
        return;
    list_remove(&stream->node);
    list_remove(&stream->news);
    list_remove(&stream->sending);
    buf_fini(&stream->in);
    server = stream->session ? stream->session->conn->server : NULL;
    if (server && server->free_stream_count < FREE_STREAMS) {
        give_back(server, stream);
        return;
    }
    buf_fini(&stream->out);
    mem_free(stream);
}

/* The exchange has no connection any more, by detaching or because both are done with it. */
static void leave(struct h2_stream *stream)
{
    struct session *session = stream->session;

    if (--session->active == 0)
        session->conn->stamp_ms = loop_now_ms(session->conn->server->loop);
}

void session_exchange_gone(struct h2_stream *stream)
{
    stream->exchange = NULL;
    stream->request.arena = NULL; /* nobody wants what still comes */
    if (stream->session)
        stream->session->exchanges--;
    free_when_unused(stream);
}

/* ---- what the session tells ---- */

static struct h2_request *on_begin(void *owner)
{
    struct session *session = owner;
    struct conn *conn = session->conn;

    if (session->exchanges >= session->limits->max_concurrent_streams)
        return NULL;
    conn->fresh = false;
    return &stream_new(session, exchange_new(conn))->request;
}

static void on_refused(void *owner)
{
    struct session *session = owner;

    server_report_drop(session->conn, NULL, REASON_H2_STREAMS);
}

static void on_head(void *owner, struct h2_request *request)
{
    (void)owner;
    stream_of(request)->has_head = true;
    session_look(stream_of(request));
}

/* Content that nobody will read. A client that sends little of it is not told to stop. */
static void drain(struct h2_stream *stream, size_t bytes)
{
    if (!stream->ignores_rest || stream->exchange == NULL)
        return; /* the peer gets no more room */
    stream->exchange->drained_bytes += bytes;
    if (stream->exchange->drained_bytes <= DRAIN_BYTES) {
        h2_consumed(stream->session->h2, &stream->request, bytes);
        return;
    }
    stream->drops_rest = true;
    session_look(stream);
}

static void on_data(void *owner, struct h2_request *request, struct span data)
{
    struct h2_stream *stream = stream_of(request);
    struct session *session = owner;

    if (stream->exchange == NULL || stream->exchange->phase >= EXCHANGE_FINISHED) {
        drain(stream, data.len);
        return;
    }
    stream->stamp_ms = loop_now_ms(session->conn->server->loop);
    buf_append(&stream->in, data);
    stream->has_bytes = true;
    session_look(stream);
}

static void on_ended(void *owner, struct h2_request *request)
{
    (void)owner;
    stream_of(request)->has_bytes = true;
    session_look(stream_of(request));
}

static void on_closed(void *owner, struct h2_request *request, uint32_t code)
{
    struct h2_stream *stream = stream_of(request);

    (void)owner;
    stream->is_closed = true;
    stream->close_code = code;
    session_look(stream);
}

static size_t on_pull(void *owner, struct h2_request *request, char *into, size_t room,
                      enum h2_more *more)
{
    struct h2_stream *stream = stream_of(request);
    size_t have = buf_len(&stream->out), bytes = have < room ? have : room;

    (void)owner;
    if (bytes > 0)
        memcpy(into, buf_span(&stream->out).at, bytes);
    buf_consume(&stream->out, bytes);
    stream->pressure_bytes += bytes;
    if (bytes < have) {
        *more = H2_GOES_ON;
    } else {
        list_remove(&stream->sending);
        stream->pressure_ms = 0;
        stream->all_pulled = stream->out_ended;
        if (stream->ignores_rest)
            stream->stamp_ms = loop_now_ms(stream->session->conn->server->loop);
        *more = stream->out_ended && !stream->resets ? H2_LAST : H2_LATER;
    }
    if (bytes == have || buf_len(&stream->out) < OUT_HIGH_BYTES / 2)
        session_look(stream);
    return bytes;
}

/* What we would have seen of the client ourselves: it has ended its side, or sent what is no
 * content.
 */
static void on_note(void *owner, struct h2_request *request, struct span pairs)
{
    struct h2_stream *stream = stream_of(request);

    (void)owner;
    if (pairs_find(pairs, "left"))
        stream->client_left = true;
    if (pairs_find(pairs, "malformed"))
        stream->malformed = stream->has_bytes = true;
    if (pairs_find(pairs, "delegated")) {
        stream->has_delegate_reply = true;
        stream->delegate_reply = atoi(pairs_find(pairs, "delegated"));
    }
    session_look(stream);
}

static const struct h2_events events = {
    .begin = on_begin,
    .refused = on_refused,
    .head = on_head,
    .data = on_data,
    .ended = on_ended,
    .closed = on_closed,
    .pull = on_pull,
    .note = on_note,
};

/* ---- the session ---- */

struct session *session_new(struct conn *conn)
{
    struct session *session = mem_zalloc(sizeof(*session));

    session->conn = conn;
    list_init(&session->streams);
    list_init(&session->news);
    list_init(&session->sending);
    session->limits = conn->channel ? &conn->server->channel_limits : &conn->server->h2_limits;
    session->h2 = h2_new(session->limits, &events, session);
    conn->session = session;
    conn->state = CONN_SESSION;
    return session;
}

int session_upgrade(struct conn *conn, struct exchange *exchange, struct span settings)
{
    enum conn_state before = conn->state;
    struct session *session = session_new(conn);
    struct h2_stream *stream = stream_new(session, exchange);

    if (h2_upgrade(session->h2, settings, &stream->request) < 0) {
        exchange->carrier = &h1_carrier;
        exchange->stream = NULL;
        session_exchange_gone(stream);
        session_free(session);
        conn->session = NULL;
        conn->state = before;
        return ERR_INVALID;
    }
    h1_write_switch(conn_out(conn), SPAN("h2c"));
    exchange->head.major = 2;
    exchange->head.minor = 0;
    conn->exchange = NULL;
    conn->fresh = false;
    stream->has_head = true;
    session_look(stream);
    return 0;
}

/* What ends each request; other reasons are told once, for the connection. */
static bool tells_each(enum conn_close_reason reason)
{
    return reason == CLOSE_RESET || reason == CLOSE_DRAIN;
}

static void detach(struct h2_stream *stream, enum conn_close_reason reason)
{
    struct exchange *exchange = stream->exchange;
    enum reason word = conn_close_word(exchange, reason);

    if (exchange->phase < EXCHANGE_FINISHED && tells_each(reason) && word != REASON_NONE)
        server_report_drop(stream->session->conn, exchange, word);
    leave(stream);
    exchange_detach(exchange, conn_close_code(reason));
}

/* Streams stay in the list: the library may have something to say of them until it is freed. */
void session_close(struct session *session, enum conn_close_reason reason)
{
    struct list done, *node;

    list_init(&done);
    while ((node = list_take(&session->streams)) != NULL) {
        struct h2_stream *stream = LIST_OWNER(node, struct h2_stream, node);

        list_append(&done, node);
        if (is_attached(stream))
            detach(stream, reason);
    }
    while ((node = list_take(&done)) != NULL)
        list_append(&session->streams, node);
}

void session_free(struct session *session)
{
    struct list *node;

    if (session == NULL)
        return;
    h2_free(session->h2);
    while ((node = list_take(&session->streams)) != NULL) {
        struct h2_stream *stream = LIST_OWNER(node, struct h2_stream, node);

        list_remove(&stream->news);
        list_remove(&stream->sending);
        stream->session = NULL;
        free_when_unused(stream);
    }
    mem_free(session);
}

/* Some of it is found while a frame is still on its way, and known when GOAWAY has left. */
static void note_trouble(struct session *session)
{
    const struct refusal *trouble = h2_trouble(session->h2);

    if (session->broken || trouble->reason == NULL)
        return;
    session->broken = true;
    server_report_broken(session->conn, trouble);
}

void session_receive(struct session *session, struct span in)
{
    struct conn *conn = session->conn;
    int64_t now_ms = loop_now_ms(conn->server->loop);

    if (session->broken)
        return;
    if (session->active == 0)
        conn_quiet(conn);
    if (h2_receive(session->h2, in, now_ms) < 0)
        note_trouble(session);
}

/* ---- acting on it ---- */

/* A request that breaks the rules has its stream reset by the library, often before its head is
 * complete. */
static enum reason word_of_closed(const struct h2_stream *stream)
{
    if (stream->request.reset)
        return REASON_H2_PROTOCOL;
    return stream->has_head ? REASON_CLIENT_RESET : conn_close_word(stream->exchange, CLOSE_RESET);
}

/* The peer has reset it, or it has ended on both sides. */
static void run_closed(struct h2_stream *stream)
{
    struct exchange *exchange = stream->exchange;
    struct conn *conn = stream->session->conn;

    if (!is_attached(stream)) {
        free_when_unused(stream);
        return;
    }
    leave(stream);
    if (exchange->phase == EXCHANGE_FINISHED && buf_len(&stream->out) == 0) {
        exchange_done(exchange);
        return;
    }
    enum reason word = word_of_closed(stream);

    if (word != REASON_NONE)
        server_report_drop(conn, exchange, word);
    exchange_detach(exchange, ERR_RESET);
}

/*
 * What the message would have had over HTTP/1.1, where handlers look for it: a Host field, and one
 * Cookie field (RFC 9113 sections 8.3.1 and 8.2.3).
 */
static void complete_fields(struct request_head *head)
{
    struct fields *fields = &head->fields;
    const struct field *cookie = fields_find_id(fields, FIELD_COOKIE, 0);

    if (cookie && fields_find_id(fields, FIELD_COOKIE, (uint32_t)(cookie - fields->at) + 1))
        fields_set(fields, cookie->name, fields_combined(fields, cookie->name));
    if (fields_find_id(fields, FIELD_HOST, 0) == NULL)
        fields_add(fields, SPAN("host"), head->host);
}

static void run_head(struct h2_stream *stream)
{
    struct exchange *exchange = stream->exchange;

    stream->has_head = false;
    stream->stamp_ms = loop_now_ms(exchange->server->loop);
    if (stream->request.refusal.status) {
        exchange_refuse(exchange, &stream->request.refusal);
        return;
    }
    if (exchange->conn->channel == NULL) /* else as the host got it */
        complete_fields(&exchange->head);
    exchange_begin(exchange);
}

static void run_bytes(struct h2_stream *stream)
{
    struct exchange *exchange = stream->exchange;

    stream->has_bytes = false;
    if (exchange->wants_content) {
        exchange->wants_content = false;
        exchange->app->handler->readable(exchange);
    }
}

/* What is left to do once out is empty. */
static void run_sent(struct h2_stream *stream)
{
    bool drops_rest = stream->drops_rest && stream->all_pulled && !stream->request.ended;

    if (stream->resets || drops_rest)
        h2_reset(stream->session->h2, &stream->request, stream->reset_code);
}

void session_credit(struct h2_stream *stream)
{
    h2_consumed(stream->session->h2, &stream->request, stream->used_bytes);
    stream->used_bytes = 0;
}

/*
 * One thing at a time, since each may free the stream, or the session's connection: what is left
 * puts the stream back into the list.
 */
static void run_stream(struct h2_stream *stream)
{
    struct exchange *exchange = stream->exchange;
    bool attached = is_attached(stream);

    session_credit(stream);
    if (attached && stream->has_delegate_reply) {
        stream->has_delegate_reply = false;
        session_look(stream);
        exchange_delegated(exchange, stream->delegate_reply);
    } else if (stream->is_closed) {
        run_closed(stream);
    } else if (attached && stream->has_head) {
        if (stream->has_bytes)
            session_look(stream);
        run_head(stream);
    } else if (attached && stream->has_bytes) {
        session_look(stream);
        run_bytes(stream);
    } else if (attached && stream->client_left) {
        stream->client_left = false;
        session_look(stream);
        exchange_cancel(exchange, ERR_CLOSED);
    } else if (attached && exchange->wants_room && buf_len(&stream->out) < OUT_HIGH_BYTES / 2) {
        session_look(stream);
        exchange->wants_room = false;
        exchange->app->handler->writable(exchange);
    } else if (attached && stream->head_waits) {
        h2_carrier_send_head(exchange, false);
    } else if (buf_len(&stream->out) == 0) {
        run_sent(stream);
    }
}

void session_run(struct session *session)
{
    struct conn *conn = session->conn;
    struct list *node;

    if (session->broken)
        session_close(session, CLOSE_PROTOCOL); /* what it says no more counts */
    while (conn->state != CONN_CLOSED && (node = list_take(&session->news)) != NULL)
        run_stream(LIST_OWNER(node, struct h2_stream, news));
}

void session_write(struct session *session)
{
    h2_send(session->h2, conn_out(session->conn), OUT_HIGH_BYTES);
    note_trouble(session);
}

bool session_has_more(const struct session *session)
{
    return h2_wants_send(session->h2) || !list_empty(&session->news);
}

bool session_has(const struct session *session, const struct exchange *exchange)
{
    for (struct list *node = session->streams.next; node != &session->streams; node = node->next)
        if (LIST_OWNER(node, struct h2_stream, node)->exchange == exchange)
            return true;
    return false;
}

/* What a handler may still say; all else is said. */
static bool has_unfinished(const struct session *session)
{
    for (struct list *node = session->streams.next; node != &session->streams; node = node->next) {
        const struct h2_stream *stream = LIST_OWNER(node, struct h2_stream, node);

        if (is_attached(stream) && stream->exchange->phase < EXCHANGE_FINISHED)
            return true;
    }
    return false;
}

/* A peer that has ended its side opens no window any more: what waits for one waits for ever. */
bool session_is_over(const struct session *session)
{
    if (session->broken)
        return true;
    if (session->conn->peer_ended)
        return !has_unfinished(session);
    return session->active == 0 && h2_is_over(session->h2);
}

/* ---- the end ---- */

/* Who has a handler is told, and who waits for one when it has; what is no request yet becomes
 * none. False when there is nothing to do. */
static bool tell_of_end(struct h2_stream *stream)
{
    struct exchange *exchange = stream->exchange;

    if (!is_attached(stream) || exchange->cancelled || exchange->phase >= EXCHANGE_FINISHED)
        return false;
    if (exchange->handed)
        exchange_cancel(exchange, ERR_CLOSED);
    else if (exchange->phase == EXCHANGE_HEAD)
        session_drop(stream, CLOSE_RESET);
    else
        return false;
    return true;
}

void session_peer_ended(struct session *session)
{
    struct list *node = session->streams.next;

    /* A handler may end other streams, and the connection: after each it begins anew. */
    while (node != &session->streams) {
        bool told = tell_of_end(LIST_OWNER(node, struct h2_stream, node));

        if (session->conn->state == CONN_CLOSED)
            return;
        node = told ? session->streams.next : node->next;
    }
}

void session_drain(struct session *session)
{
    h2_shut_down(session->h2, true);
}

/* RFC 9113 section 6.8: so the peer knows what it may send again. */
void session_take_leave(struct session *session)
{
    if (session->broken || buf_len(&session->conn->out) > 0)
        return;
    h2_terminate(session->h2, H2_NO_ERROR);
    conn_send_frames(session->conn);
}

/* What a stream's reset says to the peer. */
static uint32_t code_of(const struct exchange *exchange, enum conn_close_reason reason)
{
    bool is_ours = reason == CLOSE_ABORTED || reason == CLOSE_BUSY || reason == CLOSE_HANDLER;

    return is_ours ? exchange->reset_code : H2_CANCEL;
}

void session_drop(struct h2_stream *stream, enum conn_close_reason reason)
{
    struct exchange *exchange = stream->exchange;
    struct conn *conn = stream->session->conn;
    enum reason word = conn_close_word(exchange, reason);

    conn_send_soon(conn);
    if (word != REASON_NONE)
        server_report_drop(conn, exchange, word);
    stream->reset_code = code_of(exchange, reason);
    /* What a handler has said before it breaks off is sent before. */
    stream->resets = reason == CLOSE_ABORTED && buf_len(&stream->out) > 0;
    if (!stream->resets)
        h2_reset(stream->session->h2, &stream->request, stream->reset_code);
    leave(stream);
    exchange_detach(exchange, conn_close_code(reason));
}

void session_drop_rest(struct h2_stream *stream, uint32_t code)
{
    if (stream->request.ended)
        return;
    stream->drops_rest = true;
    stream->reset_code = code;
    session_look(stream);
    conn_send_soon(stream->session->conn);
}

/*
 * As over HTTP/1.1 some of it is read away; a client that waits for 100 (Continue) sends nothing
 * more by itself, and some take a reset that comes with the answer for its loss.
 */
void session_ignore_rest(struct h2_stream *stream)
{
    if (stream->request.ended)
        return;
    stream->ignores_rest = true;
    drain(stream, buf_len(&stream->in));
    buf_fini(&stream->in);
    stream->stamp_ms = loop_now_ms(stream->session->conn->server->loop);
    timeouts_look(stream->session->conn);
}

void session_reset_now(struct h2_stream *stream)
{
    stream->resets = stream->ignores_rest = false;
    h2_reset(stream->session->h2, &stream->request, stream->reset_code);
    conn_send_soon(stream->session->conn);
}

/* ---- peers that take nothing ---- */

/* Nothing is left to do but what their windows hold back. */
void session_mark_pressure(struct session *session)
{
    int64_t now = loop_now_ms(session->conn->server->loop);
    struct list *node;
    bool is_new = false;

    for (node = session->sending.next; node != &session->sending; node = node->next) {
        struct h2_stream *stream = LIST_OWNER(node, struct h2_stream, sending);

        if (stream->pressure_ms != 0)
            continue;
        stream->pressure_ms = now;
        stream->pressure_bytes = 0;
        is_new = true;
    }
    if (is_new)
        timeouts_look(session->conn);
}
