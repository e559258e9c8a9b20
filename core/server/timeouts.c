/*
 * The time limits of a connection (reference section 13), all on one coarse timer that is looked at
 * when it fires: what the connection does only leaves stamps. Which limits count follows from what
 * it waits for at that moment; several may count at once, the first that is over ends it.
 */
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "server/session.h"

/* A peer is judged by what it has acknowledged since it became slower than we, not before so long,
 * and not before it could have acknowledged one window at the least rate. */
#define PRESSURE_GRACE_MS      30000
#define PRESSURE_GRACE_MOST_MS 120000
#define PRESSURE_LOOK_MS       1000

enum due_what {
    DUE_NOTHING,
    DUE_LINGER,
    DUE_DRAIN,
    DUE_HEADER_WAIT,
    DUE_IDLE,
    DUE_ENTITY_BODY,
    DUE_REQUEST_QUEUE,
    DUE_HANDLER,
    DUE_MIN_SEND,
    DUE_CERTIFICATE,
};

/* What is over next, and in how long. */
struct due {
    int64_t left_ms;
    enum due_what what;
    struct h2_stream *stream; /* whose limit it is; NULL: the connection's */
};

static void consider(struct due *due, enum due_what what, int64_t limit_ms, int64_t waited_ms)
{
    if (limit_ms == SETTING_OFF || limit_ms - waited_ms >= due->left_ms)
        return;
    due->left_ms = limit_ms - waited_ms;
    due->what = what;
    due->stream = NULL;
}

int64_t timeouts_linger_ms(const struct server *server)
{
    return server->draining ? DRAIN_LINGER_MS : LINGER_MS; /* a stop does not wait long */
}

static const struct settings *settings_of(const struct conn *conn)
{
    return conn->app ? conn->app->settings : conn->server->early;
}

/* ---- slow readers ---- */

/* Bytes that the peer has not acknowledged. */
static int64_t unacknowledged(const struct conn *conn)
{
    int bytes = 0;

    return ioctl(stream_descriptor(conn->stream), SIOCOUTQ, &bytes) < 0 ? 0 : bytes;
}

/* What no app has been found for has no limits of its own. */
static int64_t least_rate_of(const struct conn *conn, const struct exchange *exchange)
{
    return exchange && exchange->app ? exchange->limit_min_send
                                     : settings_of(conn)->min_send_bytes_per_second;
}

/* Of all streams the one that is most patient: they share the connection's pace. */
static int64_t rate_of_streams(const struct conn *conn)
{
    const struct list *streams = &conn->session->streams;
    int64_t least = settings_of(conn)->min_send_bytes_per_second;
    bool any = false;

    for (struct list *node = streams->next; node != streams; node = node->next) {
        const struct exchange *exchange = LIST_OWNER(node, struct h2_stream, node)->exchange;

        if (exchange == NULL || exchange->conn == NULL || exchange->app == NULL)
            continue;
        if (exchange->limit_min_send == SETTING_OFF)
            return SETTING_OFF;
        least = any && least < exchange->limit_min_send ? least : exchange->limit_min_send;
        any = true;
    }
    return least;
}

static int64_t least_rate(const struct conn *conn)
{
    if (conn->channel)
        return SETTING_OFF; /* the host sees the client */
    return conn->session ? rate_of_streams(conn) : least_rate_of(conn, conn->exchange);
}

/* What the peer may acknowledge although nobody there reads: its window. */
static int64_t window_of(const struct conn *conn)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    if (getsockopt(stream_descriptor(conn->stream), IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return 0;
    return info.tcpi_snd_wnd;
}

static void begin_pressure(struct conn *conn)
{
    int64_t rate = least_rate(conn);

    if (rate == SETTING_OFF)
        return;
    int64_t grace_ms = PRESSURE_GRACE_MS + window_of(conn) * 1000 / rate;

    if (grace_ms > PRESSURE_GRACE_MOST_MS)
        grace_ms = PRESSURE_GRACE_MOST_MS;
    conn->pressure_ms = loop_now_ms(conn->server->loop);
    conn->pressure_bytes = (uint64_t)unacknowledged(conn);
    conn->pressure_grace_ms = (uint32_t)grace_ms;
    timeouts_look(conn);
}

void timeouts_pressure(struct conn *conn, size_t bytes)
{
    if (buf_len(&conn->out) == 0) {
        conn->pressure_ms = 0;
        if (conn->state != CONN_HANDLING)
            conn_quiet(conn);
    } else if (conn->pressure_ms == 0) {
        begin_pressure(conn);
    } else {
        conn->pressure_bytes += bytes;
    }
}

/* 0: it is too slow; else in how many milliseconds to look again. */
static int64_t judge(const struct conn *conn)
{
    int64_t rate = least_rate(conn), now = loop_now_ms(conn->server->loop);
    int64_t since_ms = now - conn->pressure_ms;

    if (rate == SETTING_OFF)
        return SETTING_OFF;
    if (since_ms < conn->pressure_grace_ms)
        return conn->pressure_grace_ms - since_ms;
    int64_t acknowledged = (int64_t)conn->pressure_bytes - unacknowledged(conn);

    return acknowledged * 1000 < rate * since_ms ? 0 : PRESSURE_LOOK_MS;
}

/* Likewise for a stream, by what its windows let through. */
static int64_t judge_stream(const struct h2_stream *stream, int64_t now)
{
    int64_t rate = least_rate_of(stream->session->conn, stream->exchange);
    int64_t since_ms = now - stream->pressure_ms;

    if (rate == SETTING_OFF)
        return SETTING_OFF;
    if (since_ms < PRESSURE_GRACE_MS)
        return PRESSURE_GRACE_MS - since_ms;
    return (int64_t)stream->pressure_bytes * 1000 < rate * since_ms ? 0 : PRESSURE_LOOK_MS;
}

/* ---- what is due ---- */

/* content_ms: since when content is waited for, if it is. */
static void consider_handling(struct due *due, const struct exchange *exchange, int64_t content_ms,
                              int64_t now)
{
    if (!exchange->handed) {
        if (queue_has(&exchange->waiting))
            consider(due, DUE_REQUEST_QUEUE, exchange->app->settings->timeout_request_queue_ms,
                     now - exchange->queued_ms);
        return;
    }
    consider(due, DUE_HANDLER, exchange->cancelled ? SETTING_OFF : exchange->limit_handler_ms,
             now - exchange->handed_ms);
    if (exchange->wants_content)
        consider(due, DUE_ENTITY_BODY, exchange->limit_entity_body_ms, now - content_ms);
}

/* Its wait is bounded as that for content, which might have come instead, and never endless. */
static void consider_certificate(struct due *due, const struct conn *conn, int64_t now)
{
    if (!conn->asking)
        return;
    consider(due, DUE_CERTIFICATE, CERTIFICATE_MS, now - conn->asked_ms);
    consider(due, DUE_CERTIFICATE, conn->exchange->limit_entity_body_ms, now - conn->asked_ms);
}

static void consider_stream(struct due *all, struct h2_stream *stream, int64_t now)
{
    const struct exchange *exchange = stream->exchange;
    struct due due = {.left_ms = all->left_ms};

    if (exchange && exchange->conn && stream->pressure_ms != 0)
        consider(&due, DUE_MIN_SEND, judge_stream(stream, now), 0);
    else if (stream->resets && stream->pressure_ms != 0)
        consider(&due, DUE_LINGER, LINGER_MS, now - stream->pressure_ms);
    else if (stream->ignores_rest && stream->all_pulled && !stream->request.ended)
        consider(&due, DUE_LINGER, settings_of(stream->session->conn)->timeout_drain_entity_body_ms,
                 now - stream->stamp_ms);
    if (exchange && exchange->conn && exchange->phase > EXCHANGE_HEAD &&
        exchange->phase < EXCHANGE_FINISHED)
        consider_handling(&due, exchange, stream->stamp_ms, now);
    if (due.left_ms >= all->left_ms)
        return;
    due.stream = stream;
    *all = due;
}

/* No stream has anything to do; a head that has begun is the connection's business, which carries
 * nothing else meanwhile. */
static void consider_session(struct due *due, const struct conn *conn, int64_t now)
{
    const struct session *session = conn->session;
    const struct settings *settings = settings_of(conn);
    int64_t waited = now - conn->stamp_ms;

    for (struct list *node = session->streams.next; node != &session->streams; node = node->next) {
        struct h2_stream *stream = LIST_OWNER(node, struct h2_stream, node);

        if (stream->exchange && stream->exchange->phase == EXCHANGE_HEAD)
            consider(due, DUE_HEADER_WAIT, settings->timeout_header_wait_ms,
                     now - stream->stamp_ms);
        else
            consider_stream(due, stream, now);
    }
    if (session->active > 0 || buf_len(&conn->out) > 0)
        return;
    if (conn->server->draining)
        consider(due, DUE_DRAIN, DRAIN_LINGER_MS, waited);
    else if (conn->fresh)
        consider(due, DUE_HEADER_WAIT, settings->timeout_header_wait_ms, waited);
    else
        consider(due, DUE_IDLE, settings->timeout_idle_connection_ms, waited);
}

static void consider_reading(struct due *due, const struct conn *conn, int64_t waited)
{
    const struct settings *settings = settings_of(conn);

    if (conn->server->draining && conn->exchange == NULL)
        consider(due, DUE_DRAIN, DRAIN_LINGER_MS, waited);
    else if (conn->exchange || conn->fresh)
        consider(due, DUE_HEADER_WAIT, settings->timeout_header_wait_ms, waited);
    else
        consider(due, DUE_IDLE, settings->timeout_idle_connection_ms, waited);
}

/* The host keeps its clients' times; ours is that of the handlers, and of a host that does not
 * close a channel that we have left. */
static void consider_channel(struct due *due, const struct conn *conn, int64_t now)
{
    const struct session *session = conn->session;

    for (struct list *node = session ? session->streams.next : NULL;
         session && node != &session->streams; node = node->next) {
        struct h2_stream *stream = LIST_OWNER(node, struct h2_stream, node);
        const struct exchange *exchange = stream->exchange;
        struct due one = {.left_ms = due->left_ms};

        if (exchange == NULL || exchange->conn == NULL || !exchange->handed || exchange->cancelled)
            continue;
        consider(&one, DUE_HANDLER, exchange->limit_handler_ms, now - exchange->handed_ms);
        if (one.left_ms < due->left_ms) {
            one.stream = stream;
            *due = one;
        }
    }
    if (conn->server->draining && (session == NULL || session->active == 0))
        consider(due, DUE_DRAIN, DRAIN_LINGER_MS, now - conn->stamp_ms);
}

static struct due next_due(const struct conn *conn)
{
    struct due due = {.left_ms = SETTING_OFF, .what = DUE_NOTHING};
    int64_t now = loop_now_ms(conn->server->loop), waited = now - conn->stamp_ms;

    if (conn->channel && conn->state != CONN_LINGERING) {
        consider_channel(&due, conn, now);
        return due;
    }
    if (conn->pressure_ms != 0)
        consider(&due, DUE_MIN_SEND, judge(conn), 0);
    if (conn->state == CONN_HANDLING) {
        consider_handling(&due, conn->exchange, conn->stamp_ms, now);
        consider_certificate(&due, conn, now);
    } else if (conn->state == CONN_SESSION)
        consider_session(&due, conn, now);
    else if (conn->state == CONN_LINGERING)
        consider(&due, DUE_LINGER, timeouts_linger_ms(conn->server), waited);
    else if (conn->state == CONN_DRAINING)
        consider(&due, DUE_ENTITY_BODY, settings_of(conn)->timeout_drain_entity_body_ms, waited);
    else if (buf_len(&conn->out) == 0)
        consider_reading(&due, conn, waited);
    return due;
}

/* ---- what happens then ---- */

static void end_connection(struct conn *conn, enum conn_close_reason reason)
{
    if (conn->session)
        session_take_leave(conn->session);
    conn_close(conn, reason);
}

static void expire(struct conn *conn, const struct due *due)
{
    static const enum conn_close_reason reasons[] = {
        [DUE_LINGER] = CLOSE_LINGER,           [DUE_DRAIN] = CLOSE_DONE,
        [DUE_HEADER_WAIT] = CLOSE_HEADER_WAIT, [DUE_IDLE] = CLOSE_IDLE,
        [DUE_ENTITY_BODY] = CLOSE_ENTITY_BODY, [DUE_MIN_SEND] = CLOSE_MIN_SEND,
        [DUE_CERTIFICATE] = CLOSE_CERTIFICATE,
    };
    struct exchange *exchange = due->stream ? due->stream->exchange : conn->exchange;

    if (due->what == DUE_REQUEST_QUEUE)
        admission_expire(exchange);
    else if (due->what == DUE_HANDLER)
        exchange_overdue(exchange);
    else if (due->stream && due->what == DUE_LINGER)
        session_reset_now(due->stream);
    else if (due->stream)
        session_drop(due->stream, reasons[due->what]);
    else
        end_connection(conn, reasons[due->what]);
}

/* What the connection waits for may change to something shorter without telling the timer. */
static void start(struct conn *conn, int64_t left_ms)
{
    struct server *server = conn->server;
    int64_t ms = left_ms < server->timer_ms ? left_ms : server->timer_ms;

    if (ms != SETTING_OFF)
        loop_timer_start(server->loop, &conn->timer, ms > 0 ? ms : 1);
}

static void on_timer(struct loop_timer *timer)
{
    struct conn *conn = LIST_OWNER(timer, struct conn, timer);

    if (conn->deaf) {
        conn->deaf = false;
        if (conn->state == CONN_HANDLING)
            conn_look_for_peer(conn);
    }
    while (conn->state != CONN_CLOSED) {
        struct due due = next_due(conn);

        if (due.left_ms > 0) {
            start(conn, due.left_ms);
            conn_update_interest(conn); /* a deaf one is looked at again, sooner */
            return;
        }
        expire(conn, &due);
    }
}

void timeouts_start(struct conn *conn)
{
    loop_timer_init(&conn->timer, on_timer);
    start(conn, SETTING_OFF);
}

void timeouts_stop(struct conn *conn)
{
    loop_timer_stop(&conn->timer);
}

void timeouts_look(struct conn *conn)
{
    int64_t left_ms;

    if (conn->state == CONN_CLOSED)
        return;
    if (conn->pressure_ms == 0 && buf_len(&conn->out) > 0 && least_rate(conn) != SETTING_OFF) {
        begin_pressure(conn); /* a rate counts that did not when it began; no send may tell us */
        return;
    }
    left_ms = next_due(conn).left_ms;
    start(conn, conn->deaf && left_ms > DEAF_MS ? DEAF_MS : left_ms);
}

int64_t timeouts_least(const struct settings *settings)
{
    const int64_t times[] = {
        settings->timeout_header_wait_ms,   settings->timeout_idle_connection_ms,
        settings->timeout_entity_body_ms,   settings->timeout_drain_entity_body_ms,
        settings->timeout_request_queue_ms, settings->timeout_handler_ms,
    };
    int64_t least = SETTING_OFF;

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        if (times[i] < least)
            least = times[i];
    return least;
}
