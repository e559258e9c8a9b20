/*
 * One accepted connection that speaks HTTP/1.1: it reads heads, hands exchanges to the handler one
 * after the other, and sends what they write. A turn reads once, handles everything that the read
 * brought, and writes once. An idle connection holds no buffer.
 */
#include <poll.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/h1_write.h"
#include "http/status.h"
#include "net/proxy_protocol.h"
#include "server/carrier.h"
#include "server/session.h"

enum verdict { CONN_WAIT, CONN_MORE };

struct conn_row {
    const char *name;
    enum verdict (*step)(struct conn *conn);
};

static void conn_settle(struct conn *conn);

/* ---- bytes in ---- */

struct span conn_bytes(const struct conn *conn)
{
    if (buf_len(&conn->in) > 0)
        return buf_span(&conn->in);
    return conn->view ? *conn->view : SPAN_NONE;
}

void conn_take(struct conn *conn, size_t bytes)
{
    if (buf_len(&conn->in) > 0) {
        buf_consume(&conn->in, bytes);
    } else if (bytes > 0) {
        conn->view->at += bytes;
        conn->view->len -= bytes;
    }
}

/* What the scratch holds moves to the connection's own buffer, before the scratch is used again. */
static void keep_view(struct conn *conn)
{
    if (conn->view && conn->view->len > 0) {
        buf_append(&conn->in, *conn->view);
        *conn->view = SPAN_NONE;
    }
}

static void drop_empty_input(struct conn *conn)
{
    if (conn->in.data && buf_len(&conn->in) == 0)
        buf_fini(&conn->in);
}

/* ---- bytes out ---- */

struct buf *conn_out(struct conn *conn)
{
    struct server *server = conn->server;

    if (conn->out.data == NULL && server->free_buffer_count > 0)
        conn->out = server->free_buffers[--server->free_buffer_count];
    return &conn->out;
}

static void drop_empty_output(struct conn *conn)
{
    struct server *server = conn->server;

    if (conn->out.data == NULL || buf_len(&conn->out) > 0)
        return;
    if (server->free_buffer_count < FREE_BUFFERS && conn->out.cap <= 4 * OUT_HIGH_BYTES) {
        server->free_buffers[server->free_buffer_count++] = conn->out;
        conn->out = (struct buf){0};
    } else {
        buf_fini(&conn->out);
    }
}

void conn_send_soon(struct conn *conn)
{
    if (!conn->advancing)
        loop_defer(conn->server->loop, &conn->call);
}

void conn_quiet(struct conn *conn)
{
    if (conn->state != CONN_SESSION || !conn->fresh || conn->server->draining)
        conn->stamp_ms = loop_now_ms(conn->server->loop);
}

int conn_send(struct conn *conn, const struct span *parts, int count)
{
    struct span list[4];
    int used = 0;
    size_t total = 0;

    if (conn->state == CONN_CLOSED)
        return ERR_CLOSED;
    if (buf_len(&conn->out) > 0)
        list[used++] = buf_span(&conn->out);
    for (int i = 0; i < count; i++)
        list[used++] = parts[i];
    if (used == 0)
        return 0;
    for (int i = 0; i < used; i++)
        total += list[i].len;

    ssize_t sent = stream_write(conn->stream, list, used);

    if (sent < 0 && sent != ERR_AGAIN) {
        conn_close(conn, CLOSE_RESET);
        return ERR_RESET;
    }
    if (sent == ERR_AGAIN)
        sent = 0;

    size_t from_out = (size_t)sent < buf_len(&conn->out) ? (size_t)sent : buf_len(&conn->out);
    size_t rest = (size_t)sent - from_out;

    buf_consume(&conn->out, from_out);
    for (int i = 0; i < count && (size_t)sent < total; i++) {
        size_t skip = rest < parts[i].len ? rest : parts[i].len;

        rest -= skip;
        buf_append(conn_out(conn), span_of(parts[i].at + skip, parts[i].len - skip));
    }
    if (buf_len(&conn->out) > 0 || conn->pressure_ms != 0)
        timeouts_pressure(conn, (size_t)sent);
    else if (conn->state != CONN_HANDLING)
        conn_quiet(conn);
    return 0;
}

/* ---- life ---- */

static void conn_free(struct conn *conn)
{
    buf_fini(&conn->in);
    buf_consume(&conn->out, buf_len(&conn->out));
    drop_empty_output(conn);
    session_free(conn->session);
    mem_free(conn->proxy);
    mem_free(conn);
}

/* ---- steps ---- */

/*
 * Answers for the core itself, and ends the connection: after a malformed message nobody knows
 * where the next one would begin.
 */
static enum verdict conn_refuse(struct conn *conn, const struct refusal *why)
{
    exchange_refuse(conn->exchange, why);
    return CONN_MORE;
}

static void conn_idle(struct conn *conn)
{
    conn->stamp_ms = loop_now_ms(conn->server->loop);
}

static enum verdict step_proxy(struct conn *conn)
{
    struct proxy_header header;
    size_t used = 0;
    int code;

    if (conn_bytes(conn).len == 0)
        return CONN_WAIT;
    code = proxy_protocol_read(conn_bytes(conn), &header, &used);
    if (code == ERR_AGAIN && !conn->peer_ended)
        return CONN_WAIT;
    if (code == ERR_INVALID || code == ERR_AGAIN) {
        log_event(LOG_INFO, "proxy_header", "a connection of a trusted proxy begins wrongly: %s",
                  code == ERR_AGAIN ? "it ended too soon" : header.detail);
        conn_close(conn, CLOSE_PROXY_HEADER);
        return CONN_WAIT;
    }
    conn_take(conn, used);
    if (code == 0 && header.has_addresses) {
        conn->proxy = mem_alloc(sizeof(*conn->proxy));
        conn->proxy->client = header.source;
        conn->proxy->local = header.destination;
    }
    conn->state = CONN_READING;
    if (conn->https) {
        conn_begin_tls(conn, conn_bytes(conn));
        conn_take(conn, conn_bytes(conn).len);
    }
    return CONN_MORE;
}

static enum verdict step_reading(struct conn *conn)
{
    struct server *server = conn->server;
    struct span bytes = conn_bytes(conn);
    size_t used = 0;
    bool is_known;

    if (conn->close_after)
        return CONN_WAIT; /* conn_settle closes when all is sent */
    if (bytes.len == 0)
        return CONN_WAIT;
    if (buf_len(&conn->out) >= OUT_HIGH_BYTES) {
        conn->held_back = true; /* the peer pipelines: it gets its answers first */
        return CONN_WAIT;
    }
    if (conn->fresh && conn_speaks_h2(conn, bytes, &is_known)) {
        if (is_known)
            session_new(conn);
        return is_known ? CONN_MORE : CONN_WAIT;
    }
    if (conn->exchange == NULL) {
        conn->exchange = exchange_new(conn);
        h1_reader_init(&conn->exchange->reader, &server->limits, &conn->exchange->head,
                       &conn->exchange->arena);
        /* header_wait runs from accept, then from the first byte of each request. */
        if (!conn->fresh)
            conn->stamp_ms = loop_now_ms(server->loop);
    }

    int code = h1_read_head(&conn->exchange->reader, bytes, &used);

    conn_take(conn, used);
    if (code == ERR_AGAIN)
        return CONN_WAIT;
    if (code < 0)
        return conn_refuse(conn, &conn->exchange->reader.refusal);
    if (conn_upgrade(conn))
        return CONN_MORE;
    conn->state = CONN_HANDLING;
    exchange_begin(conn->exchange);
    if (conn->peer_ended && conn->state == CONN_HANDLING)
        exchange_cancel(conn->exchange, ERR_CLOSED); /* it was sent before the end */
    return CONN_MORE;
}

static enum verdict step_handling(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;

    if (exchange->wants_content &&
        (conn_bytes(conn).len > exchange->unhelpful || conn->peer_ended)) {
        exchange->wants_content = false;
        exchange->app->handler->readable(exchange);
    }
    /* Ending the exchange changes the state. */
    return conn->state == CONN_HANDLING ? CONN_WAIT : CONN_MORE;
}

static enum verdict step_draining(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;

    if (!conn->close_after) {
        struct span data;
        size_t used = 0;
        int code = H1_DATA;

        while (code == H1_DATA && exchange_content_left(exchange)) {
            code = h1_read_content(&exchange->content, conn_bytes(conn), &used, &data);
            conn_take(conn, used);
            if (code == H1_END)
                exchange->content_phase = CONTENT_ENDED;
            else if (code == H1_DATA && (exchange->drained_bytes += data.len) > DRAIN_BYTES)
                code = ERR_TOO_LARGE;
        }
        if (code == ERR_AGAIN && !conn->peer_ended)
            return CONN_WAIT;
        if (code < 0)
            conn->close_after = true;
    }
    conn->linger |= exchange_content_left(exchange);
    conn->fresh = false;
    conn->exchange = NULL;
    exchange_done(exchange);
    conn->state = CONN_READING;
    conn_idle(conn);
    return CONN_MORE;
}

static enum verdict step_lingering(struct conn *conn)
{
    conn_take(conn, conn_bytes(conn).len);
    if (conn->peer_ended)
        conn_close(conn, CLOSE_DONE);
    return CONN_WAIT;
}

static enum verdict step_session(struct conn *conn)
{
    struct span bytes = conn_bytes(conn);

    if (bytes.len > 0) {
        session_receive(conn->session, bytes);
        conn_take(conn, bytes.len);
    }
    session_run(conn->session);
    return CONN_WAIT;
}

static enum verdict step_closed(struct conn *conn)
{
    (void)conn;
    return CONN_WAIT;
}

static const struct conn_row states[] = {
    [CONN_PROXY] = {"proxy", step_proxy},          [CONN_READING] = {"reading", step_reading},
    [CONN_HANDLING] = {"handling", step_handling}, [CONN_DRAINING] = {"draining", step_draining},
    [CONN_SESSION] = {"session", step_session},    [CONN_LINGERING] = {"lingering", step_lingering},
    [CONN_CLOSED] = {"closed", step_closed},
};

static void conn_advance(struct conn *conn)
{
    unsigned requests = 0;

    conn->advancing = true;
    while (states[conn->state].step(conn) == CONN_MORE) {
        if (conn->state == CONN_READING && ++requests == REQUESTS_PER_TURN) {
            loop_defer_turn(conn->server->loop, &conn->call);
            break;
        }
    }
    conn->advancing = false;
}

/* ---- the end of a turn: send, close, wait for the right things ---- */

static void tell_room(struct conn *conn)
{
    struct exchange *exchange = conn->exchange;

    if (exchange && exchange->wants_room && buf_len(&conn->out) < OUT_HIGH_BYTES / 2) {
        exchange->wants_room = false;
        exchange->app->handler->writable(exchange);
    }
}

/*
 * All is answered and sent. Bytes that we have not read would turn our close into a reset, which
 * could destroy the answer on its way: then the peer closes first, within a limit.
 */
static void conn_end(struct conn *conn)
{
    if (conn->peer_ended || (!conn->linger && conn_bytes(conn).len == 0)) {
        conn_close(conn, CLOSE_DONE);
        return;
    }
    stream_shutdown(conn->stream);
    conn->state = CONN_LINGERING;
    conn->stamp_ms = loop_now_ms(conn->server->loop);
    conn_take(conn, conn_bytes(conn).len);
    timeouts_look(conn);
}

/*
 * The server drains: a new connection has a moment to send its first request, and so has a kept one
 * whose last answer is not older than that: its client's next request may be on its way, and would
 * meet a reset.
 */
static void conn_end_idle(struct conn *conn)
{
    int64_t now = loop_now_ms(conn->server->loop);

    if (conn->fresh)
        conn->stamp_ms = now;
    if (now - conn->stamp_ms >= DRAIN_LINGER_MS)
        conn_close(conn, CLOSE_DONE);
    else
        timeouts_look(conn);
}

int conn_send_frames(struct conn *conn)
{
    if (buf_len(&conn->out) < OUT_HIGH_BYTES)
        session_write(conn->session);
    return buf_len(&conn->out) > 0 ? conn_send(conn, NULL, 0) : 0;
}

/* A peer that still sends is waited for: a reset could destroy what it has not read. */
static void end_session(struct conn *conn)
{
    session_close(conn->session, CLOSE_DONE);
    conn->linger = true;
    conn_end(conn);
}

/* What is sent makes room for more, and what that makes possible is done at once; a peer that takes
 * all does not keep the others from their turn. */
static void settle_session(struct conn *conn)
{
    struct session *session = conn->session;
    unsigned rounds = 0;

    do {
        session_run(session);
        if (conn->state == CONN_CLOSED || conn_send_frames(conn) < 0)
            return;
    } while (buf_len(&conn->out) == 0 && session_has_more(session) && ++rounds < FRAME_ROUNDS);
    drop_empty_output(conn);
    if (buf_len(&conn->out) > 0)
        ;
    else if (session_has_more(session))
        loop_defer_turn(conn->server->loop, &conn->call);
    else if (session_is_over(session))
        end_session(conn);
    else
        session_mark_pressure(session);
    conn_update_interest(conn);
}

static void conn_settle(struct conn *conn)
{
    if (conn->state == CONN_CLOSED)
        return;
    if (conn->state == CONN_SESSION) {
        settle_session(conn);
        return;
    }
    if (buf_len(&conn->out) > 0 && conn_send(conn, NULL, 0) < 0)
        return;
    drop_empty_output(conn);
    tell_room(conn);
    if (conn->held_back && buf_len(&conn->out) < OUT_HIGH_BYTES) {
        conn->held_back = false; /* no event announces requests that are here already */
        loop_defer_turn(conn->server->loop, &conn->call);
    }
    if (conn->state <= CONN_READING && buf_len(&conn->out) == 0) {
        if (conn->close_after)
            conn_end(conn);
        else if (conn->peer_ended && (conn_bytes(conn).len == 0 || conn->exchange))
            conn_close(conn, CLOSE_PEER);
        else if (conn->server->draining && conn->exchange == NULL && conn_bytes(conn).len == 0)
            conn_end_idle(conn);
    }
    conn_update_interest(conn);
}

void conn_update_interest(struct conn *conn)
{
    int events = 0;
    size_t out = buf_len(&conn->out);
    bool room = out < OUT_HIGH_BYTES;

    if (conn->state == CONN_CLOSED)
        return;
    if (out > 0)
        events |= STREAM_WRITE;
    if (conn->peer_ended)
        ;
    else if (conn->state == CONN_HANDLING && conn->exchange->wants_content)
        events |= STREAM_READ;
    else if (conn->state == CONN_HANDLING)
        events |= buf_len(&conn->in) < IN_AHEAD_BYTES ? STREAM_READ : 0;
    else if (conn->state > CONN_READING || (room && !conn->close_after))
        events |= STREAM_READ;
    stream_want(conn->stream, events);
    if (conn->state == CONN_HANDLING && !(events & STREAM_READ) && !conn->deaf) {
        conn->deaf = true;
        timeouts_look(conn); /* within DEAF_MS, or sooner when a limit is over before */
    }
}

static void conn_run(struct loop_call *call)
{
    struct conn *conn = LIST_OWNER(call, struct conn, call);

    if (conn->state == CONN_CLOSED) {
        conn_free(conn);
        return;
    }
    conn_advance(conn);
    drop_empty_input(conn);
    conn_settle(conn);
}

void conn_exchange_ended(struct conn *conn)
{
    conn->state = CONN_DRAINING;
    conn->stamp_ms = loop_now_ms(conn->server->loop);
    conn_send_soon(conn);
}

void conn_content_wanted(struct conn *conn)
{
    conn->stamp_ms = loop_now_ms(conn->server->loop);
    conn_update_interest(conn);
    if (conn->exchange->limit_entity_body_ms < conn->server->timer_ms)
        timeouts_look(conn); /* no other wait was so short: the timer does not know of it */
}

/* ---- events ---- */

static void conn_peer_ended(struct conn *conn)
{
    conn->peer_ended = true;
    conn_advance(conn);
    if (conn->state == CONN_HANDLING)
        exchange_cancel(conn->exchange, ERR_CLOSED);
    if (conn->state == CONN_SESSION)
        session_peer_ended(conn->session);
    conn_settle(conn);
}

static void conn_receive(struct conn *conn)
{
    struct server *server = conn->server;
    struct span view = SPAN_NONE;
    ssize_t got;

    if (buf_len(&conn->in) == 0) {
        got = stream_read(conn->stream, server->scratch, SCRATCH_BYTES);
        view = span_of(server->scratch, got > 0 ? (size_t)got : 0);
    } else {
        got = stream_read(conn->stream, buf_reserve(&conn->in, IN_AHEAD_BYTES), IN_AHEAD_BYTES);
        if (got > 0)
            buf_added(&conn->in, (size_t)got);
    }
    conn_look_for_certificate(conn);
    if (got == ERR_AGAIN)
        return;
    if (got == ERR_INVALID) {
        conn_tls_failed(conn);
        return;
    }
    if (got < 0) {
        conn_close(conn, CLOSE_RESET);
        return;
    }
    if (got == 0) {
        conn_peer_ended(conn);
        return;
    }
    if (conn->state == CONN_HANDLING)
        conn->stamp_ms = loop_now_ms(server->loop);
    conn->view = &view;
    conn_advance(conn);
    keep_view(conn);
    conn->view = NULL;
    drop_empty_input(conn);
    conn_settle(conn);
}

void conn_ready(void *owner, int events)
{
    struct conn *conn = owner;

    if (events & STREAM_WRITE)
        conn_settle(conn);
    if ((events & STREAM_READ) && conn->state != CONN_CLOSED)
        conn_receive(conn);
}

/* ---- what no event announces ---- */

/*
 * The end of a peer that has sent more than its handler reads lies behind bytes that we leave where
 * they are: no read would find it, and the handler would work or wait for nobody.
 */
void conn_look_for_peer(struct conn *conn)
{
    bool told = conn->exchange->cancelled;
    struct pollfd poll_for = {.fd = stream_descriptor(conn->stream),
                              .events = told ? 0 : POLLRDHUP};

    if (poll(&poll_for, 1, 0) <= 0)
        return;
    if (poll_for.revents & (POLLERR | POLLHUP))
        conn_close(conn, CLOSE_RESET);
    else
        exchange_cancel(conn->exchange, ERR_CLOSED);
}

static int send_all(struct conn *conn)
{
    return conn->session ? conn_send_frames(conn) : conn_send(conn, NULL, 0);
}

/* Reads for somebody who blocks; what it brings over HTTP/2 is run later. */
static int receive_blocked(struct conn *conn)
{
    ssize_t got;

    keep_view(conn);
    got = stream_read(conn->stream, buf_reserve(&conn->in, IN_AHEAD_BYTES), IN_AHEAD_BYTES);
    if (got == ERR_AGAIN)
        return 0;
    if (got < 0) {
        conn_close(conn, CLOSE_RESET);
        return ERR_RESET;
    }
    buf_added(&conn->in, (size_t)got);
    conn->peer_ended |= got == 0;
    if (conn->session) {
        session_receive(conn->session, buf_span(&conn->in));
        buf_consume(&conn->in, buf_len(&conn->in));
        conn_send_soon(conn);
    } else if (got == 0) {
        exchange_cancel(conn->exchange, ERR_CLOSED);
    }
    return 0;
}

/* Over HTTP/2 room comes by what the peer sends, and the peer may wait for frames of ours. */
int conn_block(struct conn *conn, bool for_read, int ms)
{
    struct pollfd poll_for = {.fd = stream_descriptor(conn->stream)};
    int got;

    if (send_all(conn) < 0)
        return ERR_RESET;
    if (for_read && stream_pending(conn->stream))
        return receive_blocked(conn);
    if (for_read || conn->session)
        poll_for.events |= POLLIN;
    if (conn->session ? buf_len(&conn->out) > 0 : !for_read)
        poll_for.events |= POLLOUT;
    got = poll(&poll_for, 1, ms);
    if (got == 0)
        return ERR_TIMEOUT;
    if ((poll_for.revents & POLLOUT || !(poll_for.events & POLLIN)) && send_all(conn) < 0)
        return ERR_RESET;
    return poll_for.revents & ~POLLOUT && poll_for.events & POLLIN ? receive_blocked(conn) : 0;
}

struct net_addr conn_socket_local(struct conn *conn)
{
    struct net_addr local = {.family = NET_NONE};
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);

    if (conn->local)
        return conn->local->addr;
    if (conn->stream == NULL) /* closed, and about to be told */
        return local;
    if (getsockname(stream_descriptor(conn->stream), (struct sockaddr *)&address, &len) < 0)
        return local;
    local = net_addr_from((struct sockaddr *)&address, len);
    conn->local = server_local(conn->server, &local);
    return local;
}

struct net_addr conn_local(struct conn *conn)
{
    return conn->proxy ? conn->proxy->local : conn_socket_local(conn);
}

struct conn *conn_open(struct server *server, struct stream *stream)
{
    struct conn *conn = mem_zalloc(sizeof(*conn));

    conn->server = server;
    conn->stream = stream;
    conn->number = ++server->last_conn;
    conn->state = CONN_READING;
    conn->fresh = true;
    conn->stamp_ms = loop_now_ms(server->loop);
    loop_call_init(&conn->call, conn_run);
    list_init(&conn->node);
    list_append(&server->conns, &conn->node);
    timeouts_start(conn);
    stream_owned_by(stream, conn, conn_ready);
    stream_want(stream, STREAM_READ);
    return conn;
}

void conn_new(struct server *server, struct stream *stream, const struct server_entry *entry,
              const struct net_addr *peer)
{
    struct conn *conn = conn_open(server, stream);

    conn->peer = *peer;
    conn->port = entry->addr.port;
    conn->https = entry->https;
    conn->local = entry->local;
    conn->trusted = addr_set_has(&server->trusted, peer);
    if (conn->trusted) {
        conn->state = CONN_PROXY;
    } else if (conn->https) {
        conn_begin_tls(conn, SPAN_NONE);
        stream_want(conn->stream, STREAM_READ);
    }
}

void conn_drain(struct conn *conn)
{
    /* A request may have arrived since the last turn; closing now would lose it. */
    if ((conn->state <= CONN_READING || conn->state == CONN_SESSION) && !conn->peer_ended)
        conn_receive(conn);
    if (conn->state == CONN_SESSION)
        session_drain(conn->session);
    conn_settle(conn);
    timeouts_look(conn); /* who lingers is given less time from now on */
}
