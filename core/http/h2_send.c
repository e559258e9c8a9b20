/*
 * Responses and frames. What the library is handed it copies, so that nothing of the owner's must
 * stay until a frame leaves, which may be long after; only names that the core knows are static,
 * and not copied.
 */
#include "http/h2_priv.h"

#include <nghttp2/nghttp2.h>

#include "base/err.h"
#include "http/h2_library.h"
#include "http/h2_note.h"

#define FIXED_LINES 4u  /* :status, date, server, content-length */
#define DIGITS      20u /* of a 64-bit number */

/* ---- field lines */

/* Fields of the connection, which HTTP/2 does not have (RFC 9113 section 8.2.2), and the length,
 * which is ours to say. */
static bool is_left_out(const struct field *field)
{
    switch (field->id) {
    case FIELD_CONNECTION:
    case FIELD_CONTENT_LENGTH:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_UPGRADE:
        return true;
    case FIELD_OTHER:
        return span_eq_nocase(field->name, SPAN("keep-alive")) ||
               span_eq_nocase(field->name, SPAN("proxy-connection"));
    default:
        return false;
    }
}

static void add_fields(struct h2_lines *lines, const struct fields *fields)
{
    for (uint32_t i = 0; fields && i < fields->count; i++)
        if (!is_left_out(&fields->at[i]))
            h2_lines_add_field(lines, &fields->at[i], NGHTTP2_NV_FLAG_NONE);
}

static size_t count_of(const struct fields *fields)
{
    return fields ? fields->count : 0;
}

/* Whether the host could read them; else the stream is reset. */
static bool can_be_read(struct h2 *h2, struct h2_request *request, const struct fields *fields)
{
    if (!h2->limits->is_channel)
        return true; /* what a client reads is its own affair */
    for (uint32_t i = 0; fields && i < fields->count; i++)
        if (fields->at[i].name.len > H2_STRING_BYTES || fields->at[i].value.len > H2_STRING_BYTES) {
            h2_reset(h2, request, H2_INTERNAL_ERROR);
            return false;
        }
    return true;
}

/* A default that the handler did not replace. */
static void add_default(struct h2_lines *lines, const struct fields *fields, enum field_id id,
                        struct span value)
{
    if (value.at && !(fields && fields_find_id(fields, id, 0)))
        h2_lines_add_static(lines, span_str(field_id_name(id)), value);
}

/* ---- responses */

static void status_text(char text[3], int status)
{
    CHECK(status >= 100 && status <= 999);
    text[0] = (char)('0' + status / 100);
    text[1] = (char)('0' + status / 10 % 10);
    text[2] = (char)('0' + status % 10);
}

static struct span number_text(char digits[DIGITS], uint64_t number)
{
    char *at = digits + DIGITS;

    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return span_of(at, (size_t)(digits + DIGITS - at));
}

static bool has_trailers(const struct h2_request *request)
{
    return request->trailing && request->trailing->count > 0;
}

static void submit_trailers(struct h2 *h2, struct h2_request *request)
{
    struct h2_lines lines;

    h2_lines_init(&lines, request->trailing->count);
    add_fields(&lines, request->trailing);
    nghttp2_submit_trailer(h2->session, request->id, lines.at, lines.count);
    request->heads_queued++;
    h2_lines_fini(&lines);
}

static ssize_t pull(nghttp2_session *session, int32_t id, uint8_t *into, size_t room,
                    uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2 *h2 = user;
    struct h2_request *request = source->ptr;
    enum h2_more more = H2_LATER;
    size_t len = h2->events->pull(h2->owner, request, (char *)into, room, &more);

    (void)session, (void)id;
    CHECK(len <= room && (len > 0 || more != H2_GOES_ON));
    if (request->reset)
        more = H2_LATER; /* the stream ends by that, not as if all were well */
    if (more == H2_LATER && len == 0)
        return NGHTTP2_ERR_DEFERRED;
    if (more != H2_LAST)
        return (ssize_t)len;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    request->has_content = false;
    if (has_trailers(request) && can_be_read(h2, request, request->trailing)) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        submit_trailers(h2, request);
    }
    return (ssize_t)len;
}

/* Hands over a response's head, and where its content comes from. */
static void submit_response(struct h2 *h2, struct h2_request *request, const struct h2_lines *lines,
                            bool no_content)
{
    nghttp2_data_provider provider = {.source.ptr = request, .read_callback = pull};

    request->responded = true;
    request->has_content = !no_content;
    request->heads_queued++;
    if (no_content && has_trailers(request)) {
        nghttp2_submit_headers(h2->session, NGHTTP2_FLAG_NONE, request->id, NULL, lines->at,
                               lines->count, NULL);
        submit_trailers(h2, request);
        return;
    }
    nghttp2_submit_response(h2->session, request->id, lines->at, lines->count,
                            no_content ? NULL : &provider);
}

/* A stream that can still be answered. */
static bool is_answerable(const struct h2_request *request)
{
    return request->is_open && !request->reset && !request->responded;
}

void h2_respond(struct h2 *h2, struct h2_request *request, const struct h2_response *response)
{
    char status[3], digits[DIGITS];
    struct h2_lines lines;

    if (!is_answerable(request) || !can_be_read(h2, request, response->fields))
        return;
    h2_lines_init(&lines, FIXED_LINES + count_of(response->fields));
    status_text(status, response->status);
    h2_lines_add_static(&lines, SPAN(":status"), span_of(status, sizeof(status)));
    add_default(&lines, response->fields, FIELD_DATE, response->date);
    add_default(&lines, response->fields, FIELD_SERVER, response->server);
    add_fields(&lines, response->fields);
    if (response->length >= 0 && response->status >= 200 && response->status != 204)
        h2_lines_add_static(&lines, SPAN("content-length"),
                            number_text(digits, (uint64_t)response->length));
    submit_response(h2, request, &lines, response->no_content);
    h2_lines_fini(&lines);
}

void h2_inform(struct h2 *h2, struct h2_request *request, int status, const struct fields *fields)
{
    char text[3];
    struct h2_lines lines;

    CHECK(status >= 100 && status < 200 && status != 101);
    if (!is_answerable(request) || !can_be_read(h2, request, fields))
        return;
    h2_lines_init(&lines, 1 + count_of(fields));
    status_text(text, status);
    h2_lines_add_static(&lines, SPAN(":status"), span_of(text, sizeof(text)));
    add_fields(&lines, fields);
    nghttp2_submit_headers(h2->session, NGHTTP2_FLAG_NONE, request->id, NULL, lines.at, lines.count,
                           NULL);
    request->heads_queued++;
    h2_lines_fini(&lines);
}

void h2_note(struct h2 *h2, struct h2_request *request, struct span pairs)
{
    if (request->is_open && !request->reset)
        h2_notes_send(&h2->notes, h2->session, request->id, pairs);
}

void h2_resume(struct h2 *h2, struct h2_request *request)
{
    if (request->is_open && request->has_content)
        nghttp2_session_resume_data(h2->session, request->id); /* fails when nothing waits */
}

void h2_consumed(struct h2 *h2, struct h2_request *request, size_t bytes)
{
    if (request->is_open && !request->ended && bytes > 0)
        nghttp2_session_consume_stream(h2->session, request->id, bytes);
}

static void submit_reset(struct h2 *h2, struct h2_request *request, uint32_t code)
{
    request->reset_waits = false;
    nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, request->id, code);
}

/* The library sends no head of a stream whose reset it knows of: so that waits for the head. */
void h2_reset(struct h2 *h2, struct h2_request *request, uint32_t code)
{
    if (!request->is_open || request->reset)
        return;
    request->reset = true;
    if (request->heads_queued == 0) {
        submit_reset(h2, request, code);
        return;
    }
    request->reset_waits = true;
    request->reset_code = code;
}

/* ---- frames that leave */

static void head_has_left(struct h2 *h2, int32_t id)
{
    struct h2_request *request = h2_request_of(h2, id);

    if (request == NULL || request->heads_queued == 0)
        return;
    request->heads_queued--;
    if (request->heads_queued == 0 && request->reset_waits)
        submit_reset(h2, request, request->reset_code);
}

/* A head that the library could not send: it is too long, or its stream was reset. */
static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *user)
{
    struct h2 *h2 = user;
    struct h2_request *request = h2_request_of(h2, frame->hd.stream_id);

    (void)session;
    if (frame->hd.type != NGHTTP2_HEADERS || request == NULL)
        return 0;
    head_has_left(h2, frame->hd.stream_id);
    if (error == NGHTTP2_ERR_FRAME_SIZE_ERROR && !request->reset) {
        request->reset = true;
        submit_reset(h2, request, H2_INTERNAL_ERROR);
    }
    return 0;
}

void h2_send_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_sent);
    h2_notes_callbacks(callbacks);
}

static uint32_t read_32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* The number of streams that we allow, in our first frame: h2.c says why it is not there yet. */
static void name_stream_limit(struct h2 *h2, uint8_t *frame, size_t len)
{
    const uint8_t expected[] = {0, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 255, 255, 255, 255};
    uint32_t limit = h2->limits->max_concurrent_streams;
    uint8_t *entry = frame + H2_FRAME_HEAD;

    CHECK(len >= H2_FRAME_HEAD + sizeof(expected) && frame[3] == H2_SETTINGS);
    CHECK(memcmp(entry, expected, sizeof(expected)) == 0);
    for (int i = 0; i < 4; i++)
        entry[2 + i] = (uint8_t)(limit >> (24 - 8 * i));
    h2->settings_sent = true;
}

static void goaway_has_left(struct h2 *h2, const uint8_t *frame)
{
    uint32_t last = read_32(frame + H2_FRAME_HEAD), code = read_32(frame + H2_FRAME_HEAD + 4);

    if (code == H2_NO_ERROR && last == 0x7fffffff)
        h2_notice_sent(h2);
    else if (code != H2_NO_ERROR)
        h2_fail(h2, code, "H2_Protocol", "a violation that the library has found");
}

static void has_left(struct h2 *h2, uint8_t *frame, size_t len)
{
    uint8_t type = frame[3], flags = frame[4];

    if (!h2->settings_sent)
        name_stream_limit(h2, frame, len);
    h2_guard_sent(&h2->guard, type);
    if ((type == H2_HEADERS || type == H2_CONTINUATION) && flags & H2_FLAG_END_HEADERS)
        head_has_left(h2, (int32_t)read_32(frame + 5));
    else if (type == H2_GOAWAY)
        goaway_has_left(h2, frame);
}

void h2_send(struct h2 *h2, struct buf *out, size_t most)
{
    h2->sending = true;
    while (buf_len(out) < most) {
        const uint8_t *frame;
        ssize_t len = nghttp2_session_mem_send(h2->session, &frame);

        CHECK(len >= 0);
        if (len == 0)
            break;
        buf_append(out, span_of((const char *)frame, (size_t)len));
        has_left(h2, (uint8_t *)out->data + out->tail - len, (size_t)len);
    }
    h2->sending = false;
}

bool h2_wants_send(const struct h2 *h2)
{
    return nghttp2_session_want_write(h2->session);
}
