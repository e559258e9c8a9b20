/*
 * The exchange: what a handler may ask and say, and the decisions that belong to one message alone,
 * whatever carries it: its phases, its limits, how much content it has. Exchanges are pooled with
 * their first arena block, so that an ordinary request allocates nothing.
 */
#include "server/exchange.h"

#include <stdio.h>
#include <time.h>

#include "base/err.h"
#include "http/h2.h"
#include "http/status.h"
#include "server/carrier.h"
#include "server/origin.h"
#include "server/session.h"

/* ---- life ---- */

struct exchange *exchange_new(struct conn *conn)
{
    struct server *server = conn->server;
    struct exchange *exchange;

    if (server->free_exchange_count > 0) {
        exchange = server->free_exchanges[--server->free_exchange_count];
    } else {
        exchange = mem_zalloc(sizeof(*exchange));
        arena_init(&exchange->arena);
        queue_entry_init(&exchange->waiting);
    }
    exchange->server = server;
    exchange->conn = conn;
    exchange->carrier = &h1_carrier;
    exchange->stream = NULL;
    exchange->app = NULL;
    exchange->origin = NULL;
    exchange->task = NULL;
    exchange->number = ++server->last_exchange;
    exchange->peer = conn->peer;
    exchange->by_proxy = conn->proxy != NULL;
    if (conn->proxy) {
        exchange->client = conn->proxy->client;
        exchange->scheme = exchange->host = SPAN_NONE;
    }
    exchange->https = conn->https;
    exchange->connection_number = conn->number;
    exchange->content_bytes = exchange->drained_bytes = 0;
    exchange->handed = exchange->delegating = exchange->delegated = false;
    exchange->attempts = exchange->handovers = 0;
    exchange->delegate_code = 0;
    exchange->given_back = exchange->used_before = exchange->last_before = 0;
    exchange->content_phase = CONTENT_UNREAD;
    exchange->content_error = 0;
    exchange->last_run = SPAN_NONE;
    exchange->phase = EXCHANGE_HEAD;
    exchange->status = 200;
    exchange->reason = SPAN_NONE;
    exchange->length = -1;
    exchange->sent = 0;
    exchange->chunked = exchange->close = false;
    exchange->reset_code = H2_NO_ERROR;
    exchange->wants_content = exchange->wants_room = false;
    exchange->released = exchange->cancelled = exchange->overdue = false;
    exchange->started = exchange->refused_head = false;
    exchange->start_us = exchange->start_unix_ms = 0;
    fields_init(&exchange->fields, &exchange->arena);
    fields_init(&exchange->response_trailers, &exchange->arena);
    fields_init(&exchange->trailers, &exchange->arena);
    return exchange;
}

void exchange_free(struct exchange *exchange)
{
    struct server *server = exchange->server;

    exchange->number = 0;
    exchange->conn = NULL;
    if (exchange->app)
        app_leave(exchange);
    if (exchange->stream)
        session_exchange_gone(exchange->stream);
    exchange->stream = NULL;
    buf_fini(&exchange->held);
    arena_reset(&exchange->arena);
    if (server->free_exchange_count < FREE_EXCHANGES) {
        server->free_exchanges[server->free_exchange_count++] = exchange;
    } else {
        arena_fini(&exchange->arena);
        mem_free(exchange);
    }
}

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void exchange_begin(struct exchange *exchange)
{
    struct server *server = exchange->server;

    exchange->phase = EXCHANGE_OPEN;
    if (exchange->head.framing == FRAMING_NONE)
        exchange->content_phase = CONTENT_ENDED;
    else if (exchange->stream == NULL)
        h1_content_init(&exchange->content, &exchange->head, &server->limits, &exchange->arena,
                        &exchange->trailers);
    server->slot->counter[COUNTER_REQUESTS]++;
    server->slot->gauge[GAUGE_REQUESTS]++;
    if (server->access_log) {
        exchange->start_us = now_us();
        exchange->start_unix_ms = (int64_t)(loop_wall_seconds(server->loop) * 1000);
    }
    admission_enter(exchange);
}

static void write_access_line(struct exchange *exchange)
{
    struct server *server = exchange->server;
    const struct field *agent, *referer;
    char id[EXCHANGE_ID_BYTES];
    struct access_entry entry = {
        .client = exchange_client(exchange),
        .method = exchange->head.method,
        .target = exchange->head.target.raw,
        .host = exchange->head.host,
        .request_id = span_of(id, exchange_id(exchange, id)),
        .unix_ms = exchange->start_unix_ms,
        .content_bytes = exchange->sent,
        .request_bytes = exchange->content_bytes + exchange->drained_bytes,
        .status = exchange->phase == EXCHANGE_ABORTED && !exchange->started ? 0 : exchange->status,
        .protocol = request_protocol(&exchange->head),
        .aborted = exchange->phase == EXCHANGE_ABORTED,
    };

    entry.duration_us = exchange->start_us ? now_us() - exchange->start_us : 0;
    if (entry.unix_ms == 0)
        entry.unix_ms = (int64_t)(loop_wall_seconds(server->loop) * 1000);
    if ((agent = fields_find_id(&exchange->head.fields, FIELD_USER_AGENT, 0)) != NULL)
        entry.user_agent = agent->value;
    if ((referer = fields_find_id(&exchange->head.fields, FIELD_REFERER, 0)) != NULL)
        entry.referer = referer->value;
    access_log_add(server->access_log, &entry);
}

/* The answer is complete or given up; from here on the handler can only look. */
void exchange_end(struct exchange *exchange, enum exchange_phase phase)
{
    struct server *server = exchange->server;
    bool counted = exchange->phase != EXCHANGE_HEAD && !exchange->refused_head;

    exchange->phase = phase;
    exchange->wants_content = exchange->wants_room = false;
    if (counted)
        server->slot->gauge[GAUGE_REQUESTS]--;
    if (server->access_log)
        write_access_line(exchange);
}

void exchange_done(struct exchange *exchange)
{
    exchange->conn = NULL;
    if (exchange->released)
        exchange_free(exchange);
}

void exchange_release(struct exchange *exchange)
{
    bool detaching = exchange->phase < EXCHANGE_FINISHED && exchange->conn == NULL;

    if (exchange->phase < EXCHANGE_FINISHED && !detaching)
        exchange_fail(exchange); /* still the handler's: what waits in the queue is freed there */
    admission_leave(exchange);
    exchange->released = true;
    exchange->task = NULL;
    if (exchange->conn && exchange->stream)
        session_ignore_rest(exchange->stream);
    if (exchange->conn == NULL && !detaching)
        exchange_free(exchange);
}

void exchange_cancel(struct exchange *exchange, int code)
{
    if (exchange->cancelled || !exchange->handed || exchange->phase >= EXCHANGE_FINISHED)
        return;
    exchange->cancelled = true;
    exchange->server->slot->counter[COUNTER_CANCELLED]++;
    exchange->app->handler->cancelled(exchange, code);
}

void exchange_detach(struct exchange *exchange, int code)
{
    exchange->conn = NULL;
    if (exchange->phase == EXCHANGE_HEAD || exchange->released) {
        exchange_free(exchange);
        return;
    }
    if (exchange->phase >= EXCHANGE_FINISHED)
        return;
    if (exchange->content_phase < CONTENT_ENDED) {
        exchange->content_phase = CONTENT_FAILED;
        exchange->content_error = code;
    }
    if (!exchange->handed) { /* it waited in the queue, and nobody else knows of it */
        admission_forget(exchange);
        exchange_end(exchange, EXCHANGE_ABORTED);
        exchange_free(exchange);
        return;
    }
    /* Whoever waits learns of it by being cancelled; later calls see the phase. */
    exchange_cancel(exchange, code);
    exchange_end(exchange, EXCHANGE_ABORTED);
    if (exchange->released)
        exchange_free(exchange);
}

void exchange_reset(struct exchange *exchange, uint32_t code)
{
    if (exchange->phase == EXCHANGE_ABORTED || exchange->conn == NULL)
        return;
    exchange->reset_code = code;
    if (exchange->phase == EXCHANGE_FINISHED) {
        exchange->carrier->drop_rest(exchange);
        return;
    }
    exchange->cancelled = true; /* the handler knows: it asked for this */
    exchange->carrier->drop(exchange, CLOSE_ABORTED);
}

void exchange_abort(struct exchange *exchange)
{
    if (exchange->phase < EXCHANGE_FINISHED)
        exchange_reset(exchange, H2_CANCEL);
}

void exchange_fail(struct exchange *exchange)
{
    if (exchange->phase < EXCHANGE_FINISHED)
        exchange_reset(exchange, H2_INTERNAL_ERROR);
}

/* ---- content of the request ---- */

bool exchange_has_content(const struct exchange *exchange)
{
    return exchange->content_phase < CONTENT_ENDED || buf_len(&exchange->held) > 0;
}

/* Content that was too long for its handler is drained like any other (reference section 5). */
bool exchange_content_broken(const struct exchange *exchange)
{
    return exchange->content_phase == CONTENT_FAILED && exchange->content_error != ERR_TOO_LARGE;
}

bool exchange_content_left(const struct exchange *exchange)
{
    return exchange->content_phase != CONTENT_ENDED && !exchange_content_broken(exchange) &&
           exchange->head.framing != FRAMING_NONE;
}

int exchange_content_failed(struct exchange *exchange, int code)
{
    exchange->content_phase = CONTENT_FAILED;
    exchange->content_error = code;
    return code;
}

static int content_begin(struct exchange *exchange)
{
    if (exchange->head.framing == FRAMING_SIZED &&
        exchange->head.content_length > (uint64_t)exchange->max_content)
        return ERR_TOO_LARGE; /* nothing is consumed: the limit may still be raised */
    exchange->content_phase = CONTENT_READING;
    if (exchange->head.expect_continue && exchange->phase == EXCHANGE_OPEN &&
        !exchange->carrier->has_bytes(exchange))
        exchange->carrier->interim(exchange, 100, NULL);
    return 0;
}

static int give_run(struct exchange *exchange, struct span run)
{
    size_t before = run.len < exchange->used_before ? run.len : exchange->used_before;

    exchange->last_run = run;
    exchange->last_before = before;
    exchange->used_before -= before;
    if (exchange->conn && run.len > before)
        exchange->carrier->used(exchange, (ssize_t)(run.len - before));
    return H1_DATA;
}

int exchange_content(struct exchange *exchange, struct span *data)
{
    int code;

    *data = SPAN_NONE;
    if (buf_len(&exchange->held) > 0) {
        *data = buf_span(&exchange->held);
        exchange->held.head = exchange->held.tail;
        exchange->content_bytes += exchange->given_back;
        exchange->given_back = 0;
        return give_run(exchange, *data);
    }
    exchange->held.head = exchange->held.tail = 0; /* the next run does not come from there */
    if (exchange->content_phase == CONTENT_ENDED)
        return 0;
    if (exchange->content_phase == CONTENT_FAILED)
        return exchange->content_error;
    if (exchange->conn == NULL || exchange->phase >= EXCHANGE_FINISHED)
        return ERR_CLOSED;
    if (exchange->content_phase == CONTENT_UNREAD && (code = content_begin(exchange)) < 0)
        return code;
    code = exchange->carrier->content(exchange, data);
    if (code == H1_END)
        exchange->content_phase = CONTENT_ENDED;
    if (code != H1_DATA)
        return code;
    exchange->content_bytes += data->len;
    if (exchange->content_bytes > (uint64_t)exchange->max_content)
        return exchange_content_failed(exchange, ERR_TOO_LARGE);
    return give_run(exchange, *data);
}

void exchange_unread(struct exchange *exchange, size_t bytes)
{
    struct span run = exchange->last_run;

    CHECK(bytes <= run.len);
    if (bytes == 0)
        return;
    size_t told = run.len - exchange->last_before, back = bytes < told ? bytes : told;

    if (exchange->conn)
        exchange->carrier->used(exchange, -(ssize_t)back);
    exchange->used_before += bytes - back;
    if (exchange->held.tail > 0) {
        exchange->held.head -= (uint32_t)bytes; /* the run came from there */
        return;
    }
    buf_append(&exchange->held, span_of(run.at + run.len - bytes, bytes));
}

/* ---- the response ---- */

bool exchange_has_no_content(const struct exchange *exchange)
{
    return exchange->status < 200 || exchange->status == 204 || exchange->status == 304;
}

bool exchange_is_head(const struct exchange *exchange)
{
    return span_eq(exchange->head.method, SPAN("HEAD"));
}

bool exchange_drops_content(const struct exchange *exchange)
{
    return exchange_is_head(exchange) || exchange_has_no_content(exchange);
}

static int64_t declared_length(const struct exchange *exchange)
{
    const struct field *field = fields_find_id(&exchange->fields, FIELD_CONTENT_LENGTH, 0);
    uint64_t length = 0;

    if (field == NULL)
        return -1;
    for (size_t i = 0; i < field->value.len; i++) {
        char c = field->value.at[i];

        if (c < '0' || c > '9' || length > (INT64_MAX - 9) / 10)
            return -1;
        length = length * 10 + (uint64_t)(c - '0');
    }
    return field->value.len ? (int64_t)length : -1;
}

struct span exchange_date(struct exchange *exchange)
{
    struct server *server = exchange->server;
    int64_t second = (int64_t)loop_wall_seconds(server->loop);

    if (second != server->date_second) {
        date_format(server->date, second);
        server->date_second = second;
    }
    return span_of(server->date, DATE_BYTES);
}

/* What the app says about itself, or the server when none is known yet. */
struct span exchange_server_name(const struct exchange *exchange)
{
    const struct settings *settings =
        exchange->app ? exchange->app->settings : exchange->server->early;

    return settings->server_header[0] ? span_str(settings->server_header) : SPAN_NONE;
}

int exchange_start(struct exchange *exchange, int64_t length)
{
    if (exchange->phase == EXCHANGE_ABORTED || exchange->conn == NULL)
        return ERR_CLOSED;
    if (exchange->phase > EXCHANGE_OPEN)
        return ERR_STATE;
    int64_t declared = declared_length(exchange);

    if (declared >= 0 && length > declared && !exchange_drops_content(exchange))
        return ERR_TOO_LARGE;
    exchange->length = declared >= 0 ? declared : length;
    exchange->carrier->head(exchange);
    exchange->phase = EXCHANGE_STARTED;
    exchange->started = true;
    return 0;
}

ssize_t exchange_write(struct exchange *exchange, struct span data)
{
    int code;

    if (exchange->delegated)
        return (ssize_t)data.len;
    if (exchange->phase == EXCHANGE_OPEN) {
        int64_t declared = declared_length(exchange);

        /* Nothing was sent yet: the handler may still give another answer. */
        if (declared >= 0 && data.len > (uint64_t)declared && !exchange_drops_content(exchange))
            return ERR_TOO_LARGE;
        if ((code = exchange_start(exchange, declared)) < 0)
            return code;
    }
    if (exchange->phase == EXCHANGE_FINISHED)
        return data.len ? ERR_STATE : 0;
    if (exchange->phase == EXCHANGE_ABORTED || exchange->conn == NULL)
        return ERR_CLOSED;
    if (exchange->length >= 0 && data.len > (uint64_t)exchange->length - exchange->sent &&
        !exchange_drops_content(exchange))
        return ERR_TOO_LARGE;
    if (data.len == 0)
        return 0;
    if (exchange_drops_content(exchange))
        return (ssize_t)data.len;
    if ((code = exchange->carrier->room(exchange)) < 0)
        return code;
    if (data.len > OUT_HIGH_BYTES)
        data.len = OUT_HIGH_BYTES;
    if (exchange->carrier->write(exchange, data) < 0)
        return ERR_CLOSED;
    exchange->sent += data.len;
    return (ssize_t)data.len;
}

int exchange_flush(struct exchange *exchange)
{
    int code;

    if (exchange->phase == EXCHANGE_OPEN && (code = exchange_start(exchange, -1)) < 0)
        return code;
    if (exchange->delegated)
        return 0;
    if (exchange->phase == EXCHANGE_ABORTED)
        return ERR_CLOSED;
    return exchange->conn ? exchange->carrier->flush(exchange) : 0;
}

int exchange_finish(struct exchange *exchange, struct span data)
{
    int code;

    CHECK(data.len <= EXCHANGE_WHOLE);
    if (exchange->delegated)
        return 0;
    if (exchange->phase == EXCHANGE_OPEN) {
        int64_t declared = declared_length(exchange);

        if (declared >= 0 && data.len == 0 && exchange_drops_content(exchange))
            code = exchange_start(exchange, declared); /* HEAD may promise what GET would send */
        else if (declared >= 0 && (uint64_t)declared < data.len)
            return ERR_TOO_LARGE;
        else
            code = exchange_start(exchange, declared >= 0 ? declared : (int64_t)data.len);
        if (code < 0)
            return code;
    }
    if (exchange->phase == EXCHANGE_FINISHED)
        return data.len ? ERR_STATE : 0;
    if (exchange->phase == EXCHANGE_ABORTED || exchange->conn == NULL)
        return ERR_CLOSED;
    if (exchange_drops_content(exchange)) {
        data = SPAN_NONE;
    } else if (exchange->length >= 0) {
        uint64_t left = (uint64_t)exchange->length - exchange->sent;

        if (data.len > left)
            return ERR_TOO_LARGE;
        if (data.len < left) {
            exchange_fail(exchange);
            return ERR_INVALID;
        }
    }
    exchange->sent += data.len;
    exchange->carrier->finish(exchange, data);
    exchange_end(exchange, EXCHANGE_FINISHED);
    exchange->carrier->finished(exchange);
    return 0;
}

void exchange_reset_response(struct exchange *exchange)
{
    exchange->status = 200;
    exchange->reason = SPAN_NONE;
    exchange->close = false;
    fields_init(&exchange->fields, &exchange->arena);
    fields_init(&exchange->response_trailers, &exchange->arena);
}

int exchange_inform(struct exchange *exchange, int status, const struct fields *fields)
{
    if (exchange->phase == EXCHANGE_ABORTED || exchange->conn == NULL)
        return ERR_CLOSED;
    if (exchange->phase != EXCHANGE_OPEN)
        return ERR_STATE;
    if (request_is_http10(&exchange->head))
        return 0;
    int code = exchange->carrier->room(exchange);

    if (code < 0)
        return code;
    exchange->carrier->interim(exchange, status, fields);
    return 0;
}

/* Answers with a page of ours. */
static void answer_refusal(struct exchange *exchange, const struct refusal *why)
{
    struct buf page = {0};

    exchange_reset_response(exchange);
    exchange->status = why->status;
    exchange->carrier->refusing(exchange);
    fields_add(&exchange->fields, SPAN("Content-Type"), SPAN("text/html; charset=us-ascii"));
    if (why->status == 503)
        fields_add(&exchange->fields, SPAN("Retry-After"), SPAN(RETRY_AFTER_SECONDS));
    struct span phrase = status_reason(why->status);
    buf_printf(&page, "<!DOCTYPE html><title>%d %.*s</title><h1>%d %.*s</h1>", why->status,
               (int)phrase.len, phrase.at, why->status, (int)phrase.len, phrase.at);
    if (why->detail)
        buf_printf(&page, "<p>The request could not be served: %s.</p>", why->detail);
    buf_append(&page, SPAN("\n"));
    exchange_finish(exchange, buf_span(&page));
    buf_fini(&page);
}

void exchange_refuse(struct exchange *exchange, const struct refusal *why)
{
    server_report(exchange->conn, exchange, why);
    exchange->refused_head = exchange->phase == EXCHANGE_HEAD;
    exchange->released = true;
    exchange->phase = EXCHANGE_OPEN;
    if (exchange->refused_head)
        exchange->head.framing = FRAMING_NONE; /* what follows is not looked at */
    answer_refusal(exchange, why);
}

void exchange_overdue(struct exchange *exchange)
{
    static const struct refusal why = {503, "Timer_Handler", "it took longer than allowed"};

    exchange_cancel(exchange, ERR_TIMEOUT);
    if (exchange->phase != EXCHANGE_OPEN) {
        exchange->reset_code = H2_INTERNAL_ERROR;
        exchange->carrier->drop(exchange, CLOSE_HANDLER);
        return;
    }
    server_report(exchange->conn, exchange, &why);
    exchange->overdue = true;
    answer_refusal(exchange, &why);
}

/* No handler has seen it: it may be sent again. */
static void drop_unseen(struct exchange *exchange)
{
    exchange->released = true;
    exchange_end(exchange, EXCHANGE_ABORTED);
    exchange->reset_code = H2_REFUSED_STREAM;
    exchange->carrier->drop(exchange, CLOSE_BUSY);
}

void exchange_refuse_busy(struct exchange *exchange, const char *reason, const char *detail)
{
    const char *verbosity = exchange->app->settings->http_503_verbosity;
    struct refusal why = {503, reason, detail};

    if (exchange->conn->channel) { /* the host has other places for it */
        drop_unseen(exchange);
        return;
    }
    if (strcmp(verbosity, "basic") != 0) {
        if (strcmp(verbosity, "full") != 0)
            why.detail = NULL;
        exchange_refuse(exchange, &why);
        return;
    }
    server_report(exchange->conn, exchange, &why);
    drop_unseen(exchange);
}

void exchange_give_up(struct exchange *exchange, int status, const char *reason, const char *detail)
{
    const struct refusal why = {status, reason, detail};

    if (exchange->phase >= EXCHANGE_FINISHED || exchange->conn == NULL)
        return;
    exchange->cancelled = true; /* the handler knows */
    if (exchange->phase == EXCHANGE_OPEN) {
        server_report(exchange->conn, exchange, &why);
        answer_refusal(exchange, &why);
        return;
    }
    server_report_drop(exchange->conn, exchange, reason_find(reason));
    exchange->reset_code = H2_INTERNAL_ERROR;
    exchange->carrier->drop(exchange, CLOSE_BUSY);
}

void exchange_lift_limits(struct exchange *exchange)
{
    exchange->limit_handler_ms = SETTING_OFF;
    exchange->max_content = SETTING_UNLIMITED;
}

int exchange_block(struct exchange *exchange, bool for_content, int ms)
{
    if (exchange->conn == NULL)
        return ERR_CLOSED;
    if (exchange->stream)
        session_credit(exchange->stream); /* the loop does not turn meanwhile */
    int code = conn_block(exchange->conn, for_content, ms);

    /* Nobody waits when the caller does no more: no time limit of the connection runs for it. */
    if (for_content)
        exchange->wants_content = false;
    return code;
}

void exchange_limits_changed(struct exchange *exchange)
{
    if (exchange->conn == NULL)
        return;
    if (exchange->conn->channel)
        channel_note_limits(exchange);
    timeouts_look(exchange->conn);
}

struct net_addr exchange_local(const struct exchange *exchange)
{
    struct net_addr none = {.family = NET_NONE};

    if (exchange->origin)
        return exchange->origin->local;
    return exchange->conn ? conn_local(exchange->conn) : none;
}

/* 12 digits of boot, '-', as many of number as it has. */
static size_t write_id(uint64_t boot, uint64_t number, char out[EXCHANGE_ID_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    unsigned count = 1;

    for (unsigned i = 0; i < 12; i++)
        out[i] = digits[boot >> (44 - 4 * i) & 15];
    out[12] = '-';
    while (count < 16 && number >> (4 * count) != 0)
        count++;
    for (unsigned i = 0; i < count; i++)
        out[13 + i] = digits[number >> (4 * (count - 1 - i)) & 15];
    out[13 + count] = '\0';
    return 13 + count;
}

size_t exchange_id(const struct exchange *exchange, char out[EXCHANGE_ID_BYTES])
{
    if (exchange->origin)
        return write_id(exchange->origin->boot, exchange->origin->number, out);
    return write_id(exchange->server->boot, exchange->number, out);
}

struct span exchange_host(const struct exchange *exchange)
{
    return exchange->by_proxy && exchange->host.at ? exchange->host : exchange->head.host;
}

struct span exchange_scheme(const struct exchange *exchange)
{
    if (exchange->by_proxy && exchange->scheme.at)
        return exchange->scheme;
    return exchange->https ? SPAN("https") : SPAN("http");
}
