/*
 * A request on its way to an attached app, and its answer on the way back: what an exchange and a
 * call of HTTP/2 say to each other. Functions of the exchange never call back but to cancel, so
 * that all of this may happen inside the session's callbacks.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/pairs.h"
#include "server/origin.h"
#include "server/settings.h"
#include "share/dispatch_priv.h"

static struct call *call_of(struct h2_call *h2)
{
    return LIST_OWNER(h2, struct call, h2);
}

/* ---- life ---- */

static struct call *call_new(struct link *link, struct exchange *exchange)
{
    struct dispatch *dispatch = link->dispatch;
    struct list *node = list_take(&dispatch->free_calls);
    struct call *call = node ? LIST_OWNER(node, struct call, node) : mem_alloc(sizeof(*call));

    dispatch->free_call_count -= node != NULL;
    *call = (struct call){
        .h2 = {.arena = &exchange->arena,
               .fields = &exchange->fields,
               .trailers = &exchange->response_trailers,
               .trailing = &exchange->trailers},
        .link = link,
        .exchange = exchange,
        .may_send = !exchange->head.expect_continue,
    };
    list_init(&call->node);
    list_append(&link->calls, &call->node);
    exchange->task = call;
    return call;
}

void call_free(struct call *call)
{
    struct dispatch *dispatch = call->link->dispatch;

    list_remove(&call->node);
    buf_fini(&call->in);
    buf_fini(&call->kept);
    if (dispatch->free_call_count == FREE_CALLS) {
        mem_free(call);
        return;
    }
    list_append(&dispatch->free_calls, &call->node);
    dispatch->free_call_count++;
}

/* The exchange goes on, or ends, without the call. */
static struct exchange *part(struct call *call)
{
    struct exchange *exchange = call->exchange;

    call->exchange = NULL;
    call->h2.arena = NULL; /* what still comes is nobody's */
    call->h2.trailing = NULL;
    return exchange;
}

/* Nothing more is wanted of the app. */
static void drop(struct call *call, uint32_t code)
{
    h2_client_reset(call->link->client, &call->h2, code);
    link_send_soon(call->link);
    if (!call->h2.is_open)
        call_free(call);
}

static void end(struct call *call, uint32_t code)
{
    struct exchange *exchange = part(call);

    drop(call, code);
    exchange_release(exchange);
}

/* The app has said what cannot be passed on. */
static void fail(struct call *call)
{
    struct exchange *exchange = part(call);

    drop(call, H2_INTERNAL_ERROR);
    exchange_give_up(exchange, 502, "Connection_Abandoned_By_ReqQueue",
                     "the app's answer is malformed");
    exchange_release(exchange);
}

/* ---- the request ---- */

static bool is_ours(const struct field *field)
{
    return field->id == FIELD_OTHER && origin_is_reserved(field->name);
}

static bool is_ours_or_secret(const struct field *field)
{
    return field->id == FIELD_AUTHORIZATION || is_ours(field) ||
           (field->id == FIELD_OTHER && span_eq_nocase(field->name, SPAN("proxy-authorization")));
}

static struct span path_of(const struct target *target)
{
    bool fits = target->form == TARGET_ORIGIN || target->form == TARGET_ASTERISK;

    return fits ? target->raw : SPAN("/"); /* moonquay-target has it */
}

/* Said once: a Host field that is the same goes as it is. Each line of a head costs some 700
 * instructions on its way. */
static struct span authority_of(const struct request_head *request)
{
    const struct field *host = fields_find_id(&request->fields, FIELD_HOST, 0);
    bool is_said = host && span_eq(host->value, request->host);

    return is_said || request->host.len == 0 ? SPAN_NONE : request->host;
}

int call_start(struct link *link, struct exchange *exchange)
{
    const struct request_head *request = &exchange->head;
    struct call *call = call_new(link, exchange);
    struct field room[ORIGIN_FIELDS];
    struct fields more = {.at = room, .room = ORIGIN_FIELDS, .arena = &exchange->arena};
    struct h2_call_head head = {
        .method = request->method,
        .scheme = exchange->https ? SPAN("https") : SPAN("http"),
        .authority = authority_of(request),
        .path = path_of(&request->target),
        .fields = &request->fields,
        .skips = link->peer.gets_credentials ? is_ours : is_ours_or_secret,
        .more = &more,
        .has_content = exchange_has_content(exchange),
    };

    origin_write(exchange, exchange->handovers == 0, &more, &head.more_is_unique);
    exchange_lift_limits(exchange);
    if (h2_client_call(link_client(link), &call->h2, &head) == 0) {
        link_send_soon(link);
        return 0;
    }
    part(call);
    call_free(call);
    exchange_give_up(exchange, 431, "FieldLength", "a field is longer than an app can be told");
    exchange_release(exchange);
    return ERR_TOO_LARGE;
}

/* By a note: what has become of the client, or of what it sends. */
static void tell(struct call *call, const char *what)
{
    struct buf pairs = {0};

    pairs_add(&pairs, what, "1");
    h2_client_note(call->link->client, &call->h2, buf_span(&pairs));
    buf_fini(&pairs);
    link_send_soon(call->link);
}

/* Nothing is answered yet, so somebody else may have to. */
static void keep(struct call *call, struct span run)
{
    if (buf_len(&call->kept) != call->passed || call->h2.head_done)
        return;
    if (call->passed + run.len > KEPT_MOST)
        buf_fini(&call->kept);
    else
        buf_append(&call->kept, run);
}

/* Whether the request is as it came; what the app has got of its content is unread again. */
static bool take_back(struct call *call)
{
    if (buf_len(&call->kept) != call->passed)
        return false;
    exchange_give_back(call->exchange, buf_span(&call->kept));
    buf_fini(&call->kept);
    call->passed = 0;
    return true;
}

static size_t on_pull(void *owner, struct h2_call *h2, char *into, size_t room, enum h2_more *more)
{
    struct call *call = call_of(h2);
    struct span run;
    int code;

    (void)owner;
    *more = H2_LATER;
    if (call->exchange == NULL || !call->may_send)
        return 0;
    code = exchange_content(call->exchange, &run);
    if (code == 0)
        *more = H2_LAST;
    else if (code == ERR_INVALID)
        tell(call, "malformed"); /* what the handler makes of it is its answer */
    call->may_send = code >= 0 || code == ERR_AGAIN; /* else the server ends the exchange */
    if (code != H1_DATA)
        return 0;
    if (run.len > room) {
        exchange_unread(call->exchange, run.len - room);
        run.len = room;
    }
    memcpy(into, run.at, run.len);
    keep(call, run);
    call->passed += run.len;
    *more = H2_GOES_ON;
    return run.len;
}

void call_readable(struct exchange *exchange)
{
    struct call *call = exchange->task;

    h2_client_resume(call->link->client, &call->h2);
    link_send_soon(call->link);
}

/* ---- the response ---- */

/* Fields of a connection, and names that only a host may use. */
static bool is_left_out(const struct field *field)
{
    switch (field->id) {
    case FIELD_CONNECTION:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_UPGRADE:
        return true;
    case FIELD_OTHER:
        return origin_is_reserved(field->name) || span_eq_nocase(field->name, SPAN("keep-alive")) ||
               span_eq_nocase(field->name, SPAN("proxy-connection"));
    default:
        return false;
    }
}

static void leave_out(struct fields *fields)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < fields->count; i++)
        if (!is_left_out(&fields->at[i]))
            fields->at[kept++] = fields->at[i];
    fields->count = kept;
}

/* One number at most: the next reader must see the message's end where we do. */
static bool length_is_clear(const struct fields *fields)
{
    const struct field *length = fields_find_id(fields, FIELD_CONTENT_LENGTH, 0);

    if (length == NULL)
        return true;
    for (size_t i = 0; i < length->value.len; i++)
        if (length->value.at[i] < '0' || length->value.at[i] > '9')
            return false;
    return length->value.len > 0 && length->value.len < 19 &&
           fields_find_id(fields, FIELD_CONTENT_LENGTH, (uint32_t)(length - fields->at) + 1) ==
               NULL;
}

/* A request that goes on behind its answer is not wanted; most have ended, and so does the stream.
 */
static void finish(struct call *call)
{
    struct exchange *exchange;

    exchange_finish(call->exchange, SPAN_NONE);
    if (call->exchange == NULL)
        return; /* that has found that the client is gone */
    exchange = part(call);
    if (call->h2.has_content || !call->h2.is_open)
        drop(call, H2_NO_ERROR);
    exchange_release(exchange);
}

/* What the client has room for. False when the call is over. */
static bool pass_on(struct call *call, struct span *data)
{
    while (data->len > 0) {
        ssize_t taken = exchange_write(call->exchange, *data);

        if (taken == ERR_AGAIN)
            return true;
        if (call->exchange == NULL)
            return false; /* the write has found that the client is gone */
        if (taken < 0) {
            exchange_fail(call->exchange);
            end(call, H2_CANCEL);
            return false;
        }
        h2_client_consumed(call->link->client, &call->h2, (size_t)taken);
        *data = span_skip(*data, (size_t)taken);
    }
    return true;
}

static void on_interim(void *owner, struct h2_call *h2, int status)
{
    struct call *call = call_of(h2);

    (void)owner;
    if (status == 100) { /* the server itself says so when the content is read */
        call->may_send = true;
        h2_client_resume(call->link->client, h2);
        return;
    }
    leave_out(&h2->interim);
    exchange_inform(call->exchange, status, &h2->interim); /* one without room is left out */
}

static void on_head(void *owner, struct h2_call *h2)
{
    struct call *call = call_of(h2);
    struct exchange *exchange = call->exchange;

    (void)owner;
    buf_fini(&call->kept);
    leave_out(h2->fields);
    if (!length_is_clear(h2->fields)) {
        fail(call);
        return;
    }
    exchange->status = h2->status;
    if (h2->ended)
        finish(call);
    else
        exchange_start(exchange, -1);
}

static void on_data(void *owner, struct h2_call *h2, struct span data)
{
    struct call *call = call_of(h2);

    (void)owner;
    if (buf_len(&call->in) > 0 || pass_on(call, &data))
        buf_append(&call->in, data);
}

static void on_ended(void *owner, struct h2_call *h2)
{
    struct call *call = call_of(h2);

    (void)owner;
    leave_out(h2->trailers);
    if (buf_len(&call->in) == 0)
        finish(call);
}

void call_writable(struct exchange *exchange)
{
    struct call *call = exchange->task;
    struct span rest = buf_span(&call->in);
    size_t before = rest.len;

    if (!pass_on(call, &rest))
        return;
    buf_consume(&call->in, before - rest.len);
    if (rest.len == 0 && call->h2.ended)
        finish(call);
    else
        link_send_soon(call->link);
}

/* ---- notes ---- */

static void take_limit(const char *value, const char *setting, int64_t *limit)
{
    struct err_text text;

    settings_number(setting, value, "", limit, &text); /* what is malformed changes nothing */
}

static void answer_delegate(struct call *call, int code)
{
    struct buf pairs = {0};
    char text[16];

    snprintf(text, sizeof(text), "%d", code);
    pairs_add(&pairs, "delegated", text);
    h2_client_note(call->link->client, &call->h2, buf_span(&pairs));
    buf_fini(&pairs);
    link_send_soon(call->link);
}

/* The app hands the request to another queue, and has no more to say of it. */
static void delegate(struct call *call, const char *queue)
{
    const struct dispatch_parts *parts = &call->link->dispatch->parts;
    struct exchange *exchange = call->exchange;
    int code = ERR_NOT_FOUND;
    struct app *app =
        parts->find ? parts->find(parts->owner, call->link->peer.uid, queue, &code) : NULL;

    if (app && (call->h2.head_done || exchange->handovers == EXCHANGE_HANDOVERS))
        code = call->h2.head_done ? ERR_STATE : ERR_LIMIT;
    else if (app)
        code = take_back(call) ? 0 : ERR_STATE;
    answer_delegate(call, code);
    if (code < 0)
        return;
    part(call);
    drop(call, H2_CANCEL);
    if (exchange_hand_on(exchange, app) < 0) { /* its client has left meanwhile */
        exchange_give_up(exchange, 502, "Connection_Abandoned_By_ReqQueue",
                         "it could not be delegated");
        exchange_release(exchange);
    }
}

static void on_note(void *owner, struct h2_call *h2, struct span pairs)
{
    struct exchange *exchange = call_of(h2)->exchange;
    const char *key, *value = pairs_find(pairs, "delegate");

    (void)owner;
    if (value) {
        delegate(call_of(h2), value);
        return;
    }
    while (pairs_next(&pairs, &key, &value)) {
        if (strcmp(key, "entity_body") == 0)
            take_limit(value, "timeouts.entity_body", &exchange->limit_entity_body_ms);
        else if (strcmp(key, "min_send") == 0)
            take_limit(value, "timeouts.min_send_bytes_per_second", &exchange->limit_min_send);
        else if (strcmp(key, "close") == 0)
            exchange->close = true;
    }
    exchange_limits_changed(exchange);
}

/* ---- the end ---- */

static bool may_try_again(const struct call *call)
{
    unsigned most = call->link->dispatch->parts.most_refusals;

    return call->exchange->attempts < (most ? most : REFUSALS_MOST);
}

/* An app that leaves, or has as much as it takes from another host, has not looked at it. */
static void refused(struct call *call)
{
    bool is_whole = take_back(call), goes_on = may_try_again(call);
    struct exchange *exchange = part(call);

    link_refused(call->link);
    if (is_whole && goes_on && exchange_requeue(exchange) == 0)
        return;
    exchange_give_up(exchange, 502, "Connection_Abandoned_By_ReqQueue",
                     "the app has refused it too often");
    exchange_release(exchange);
}

static void on_closed(void *owner, struct h2_call *h2, uint32_t code)
{
    struct call *call = call_of(h2);
    struct exchange *exchange;

    (void)owner;
    link_call_ended(call->link);
    if (call->exchange && code == H2_NO_ERROR && buf_len(&call->in) > 0)
        return; /* the client has yet to take the rest */
    if (call->exchange && code == H2_REFUSED_STREAM && !h2->head_done) {
        refused(call);
    } else if (call->exchange) {
        exchange = part(call);
        exchange_reset(exchange, code);
        exchange_release(exchange);
    }
    call_free(call);
}

/* A client that has only ended its side gets what the handler still says, which is told so. */
void call_cancelled(struct exchange *exchange, int code)
{
    struct call *call = exchange->task;
    (void)code;
    if (call == NULL)
        return;
    if (exchange->conn == NULL) {
        end(call, H2_CANCEL);
        return;
    }
    tell(call, "left");
}

static bool is_safe(struct span method)
{
    return span_eq(method, SPAN("GET")) || span_eq(method, SPAN("HEAD")) ||
           span_eq(method, SPAN("OPTIONS")) || span_eq(method, SPAN("TRACE"));
}

/* The app may have seen it and done something. */
static bool may_go_on(const struct call *call)
{
    const struct exchange *exchange = call->exchange;

    if (!call->h2.is_sent)
        return may_try_again(call);
    return is_safe(exchange->head.method) && call->passed == 0 && exchange->attempts == 0;
}

/* DESIGN section 6: a process that ends. */
void call_abandon(struct call *call)
{
    struct exchange *exchange;
    bool goes_on;

    if (call->exchange == NULL)
        return;
    goes_on = may_go_on(call);
    exchange = part(call);
    if (goes_on && exchange_requeue(exchange) == 0)
        return;
    exchange_give_up(exchange, 502, "Connection_Abandoned_By_ReqQueue",
                     "the app has ended before it answered");
    exchange_release(exchange);
}

static void on_leaving(void *owner)
{
    struct link *link = owner;

    link_retire(link);
}

const struct h2_client_events call_events = {
    .interim = on_interim,
    .head = on_head,
    .data = on_data,
    .ended = on_ended,
    .closed = on_closed,
    .pull = on_pull,
    .note = on_note,
    .leaving = on_leaving,
};
