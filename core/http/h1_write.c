/*
 * Response heads and chunks. A head's size is added up first, so that it is written with one
 * reservation; nothing is formatted by printf on the way of an ordinary answer.
 */
#include "http/h1_write.h"

#include "http/status.h"

#define STATUS_BYTES 13 /* "HTTP/1.1 200 " */

#define CHUNKED_LINE    "Transfer-Encoding: chunked\r\n"
#define CLOSE_LINE      "Connection: close\r\n"
#define KEEP_ALIVE_LINE "Connection: keep-alive\r\n"

enum { DIGITS_MAX = 20 }; /* of a 64-bit number; in hexadecimal it has 16 */

static char *put(char *at, struct span text)
{
    if (text.len > 0)
        memcpy(at, text.at, text.len);
    return at + text.len;
}

static char *put_line(char *at, struct span name, struct span value)
{
    at = put(at, name);
    *at++ = ':';
    *at++ = ' ';
    at = put(at, value);
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

/* Bytes of a line beside name and value. */
#define LINE_EXTRA 4

/* The number's text in this base, in the end of digits. */
static inline struct span number_text(char digits[DIGITS_MAX], uint64_t number, unsigned base)
{
    char *at = digits + DIGITS_MAX;

    do
        *--at = "0123456789abcdef"[number % base];
    while ((number /= base) > 0);
    return span_of(at, (size_t)(digits + DIGITS_MAX - at));
}

/* Framing and persistence are the writer's: what a handler says about them is decided before. */
static bool is_ours(enum field_id id)
{
    return id == FIELD_CONTENT_LENGTH || id == FIELD_TRANSFER_ENCODING || id == FIELD_CONNECTION;
}

/* A response with this status has no content and says nothing of its length (RFC 9112 section 6).
 */
static bool is_bare(int status)
{
    return status < 200 || status == 204;
}

struct plan {
    struct span reason;
    struct span date, server; /* SPAN_NONE when left out */
    struct span length, connection, coding;
    size_t bytes;
    char digits[DIGITS_MAX];
};

/* Adds up the lines of fields that will be written, and drops the defaults that one of them
 * replaces. */
static void plan_fields(struct plan *plan, const struct fields *fields)
{
    for (uint32_t i = 0; fields && i < fields->count; i++) {
        const struct field *field = &fields->at[i];

        if (is_ours(field->id))
            continue;
        plan->bytes += field->name.len + field->value.len + LINE_EXTRA;
        if (field->id == FIELD_DATE)
            plan->date = SPAN_NONE;
        else if (field->id == FIELD_SERVER)
            plan->server = SPAN_NONE;
    }
}

static void plan_head(struct plan *plan, const struct h1_response *response)
{
    bool bare = is_bare(response->status);

    plan->reason = response->reason.at ? response->reason : status_reason(response->status);
    plan->date = response->date;
    plan->server = response->server;
    plan->length = plan->connection = plan->coding = SPAN_NONE;
    plan->bytes = STATUS_BYTES + 4; /* two line ends */
    plan_fields(plan, response->fields);
    if (response->framing == H1_LENGTH_KNOWN && !bare)
        plan->length = number_text(plan->digits, response->length, 10);
    if (response->framing == H1_LENGTH_CHUNKED && !bare)
        plan->coding = SPAN(CHUNKED_LINE);
    if (response->close)
        plan->connection = SPAN(CLOSE_LINE);
    else if (response->keep_alive_10)
        plan->connection = SPAN(KEEP_ALIVE_LINE);

    plan->bytes += plan->reason.len + plan->coding.len + plan->connection.len;
    if (plan->date.at)
        plan->bytes += sizeof("Date") - 1 + plan->date.len + LINE_EXTRA;
    if (plan->server.at)
        plan->bytes += sizeof("Server") - 1 + plan->server.len + LINE_EXTRA;
    if (plan->length.at)
        plan->bytes += sizeof("Content-Length") - 1 + plan->length.len + LINE_EXTRA;
}

static char *put_status_line(char *at, int status, struct span reason)
{
    if (status == 200 && reason.len == 2 && memcmp(reason.at, "OK", 2) == 0)
        return put(at, SPAN("HTTP/1.1 200 OK\r\n"));
    at = put(at, SPAN("HTTP/1.1 "));
    *at++ = (char)('0' + status / 100 % 10);
    *at++ = (char)('0' + status / 10 % 10);
    *at++ = (char)('0' + status % 10);
    *at++ = ' ';
    return put(put(at, reason), SPAN("\r\n"));
}

static char *put_fields(char *at, const struct fields *fields)
{
    for (uint32_t i = 0; fields && i < fields->count; i++)
        if (!is_ours(fields->at[i].id))
            at = put_line(at, fields->at[i].name, fields->at[i].value);
    return at;
}

void h1_write_head(struct buf *out, const struct h1_response *response)
{
    struct plan plan;

    plan_head(&plan, response);

    char *start = buf_reserve(out, plan.bytes);
    char *at = put_status_line(start, response->status, plan.reason);

    if (plan.date.at)
        at = put_line(at, SPAN("Date"), plan.date);
    if (plan.server.at)
        at = put_line(at, SPAN("Server"), plan.server);
    at = put_fields(at, response->fields);
    if (plan.length.at)
        at = put_line(at, SPAN("Content-Length"), plan.length);
    at = put(at, plan.coding);
    at = put(at, plan.connection);
    at = put(at, SPAN("\r\n"));
    buf_added(out, (size_t)(at - start));
}

void h1_write_interim(struct buf *out, int status, const struct fields *fields)
{
    h1_write_head(out, &(struct h1_response){.status = status, .fields = fields});
}

void h1_write_switch(struct buf *out, struct span protocol)
{
    buf_printf(out,
               "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %.*s\r\n\r\n",
               (int)protocol.len, protocol.at);
}

void h1_write_chunk(struct buf *out, struct span data)
{
    char digits[DIGITS_MAX];

    if (data.len == 0)
        return;

    struct span size = number_text(digits, data.len, 16);
    char *start = buf_reserve(out, size.len + data.len + 4);
    char *at = put(put(start, size), SPAN("\r\n"));

    at = put(put(at, data), SPAN("\r\n"));
    buf_added(out, (size_t)(at - start));
}

void h1_write_end(struct buf *out, const struct fields *trailers)
{
    struct plan plan = {.bytes = sizeof("0\r\n\r\n") - 1};

    plan_fields(&plan, trailers);

    char *start = buf_reserve(out, plan.bytes);
    char *at = put_fields(put(start, SPAN("0\r\n")), trailers);

    at = put(at, SPAN("\r\n"));
    buf_added(out, (size_t)(at - start));
}
