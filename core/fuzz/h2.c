/*
 * An HTTP/2 session with an owner that answers as the method says. The first byte of the input says
 * after how many of the others everything is sent that the session has to send; what happened and
 * what was sent is the same for every split. The limits are small ones, to be met.
 */
#include "http/h2.h"
#include "base/err.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"

#define MOST_STREAMS 64u /* with a request each, in an input */

static const struct message_limits message_limits = {
    .max_request_head_bytes = 1024,
    .max_target_bytes = 256,
    .max_field_length = 128,
    .max_authorization_length = 256,
    .max_fields = 16,
    .target = {.segment_max_length = 64, .segment_max_count = 16},
};

/* The windows are larger than an input: how credit is gathered depends on how content is split. */
static const struct h2_limits limits = {
    .message = &message_limits,
    .max_concurrent_streams = 5,
    .stream_window_bytes = 1 << 20,
    .header_table_bytes = 512,
    .max_resets = 6,
    .max_settings = 4,
    .max_pings = 4,
    .max_empty_frames = 4,
    .max_other_frames = 12,
    .max_continuations = 3,
};

struct stream {
    struct h2_request request; /* first: the session hands out this */
    struct request_head head;
    struct fields trailers;
    struct arena arena;
    struct span content; /* of the response, not yet pulled */
};

struct owner {
    struct h2 *h2;
    struct buf *report;
    struct stream *streams[MOST_STREAMS];
    unsigned count;
    int32_t data_id; /* of the stream whose content the report ends with, 0 for none */
};

static void note(struct owner *owner, const char *what, const struct h2_request *request)
{
    owner->data_id = 0;
    buf_printf(owner->report, "%s %d\n", what, request->id);
}

static struct h2_request *on_begin(void *user)
{
    struct owner *owner = user;

    if (owner->count == MOST_STREAMS)
        return NULL;

    struct stream *stream = mem_zalloc(sizeof(*stream));

    arena_init(&stream->arena);
    stream->request.arena = &stream->arena;
    stream->request.head = &stream->head;
    stream->request.trailers = &stream->trailers;
    owner->streams[owner->count++] = stream;
    return &stream->request;
}

static void report_head(struct buf *report, const struct h2_request *request)
{
    const struct request_head *head = request->head;

    report_span(report, "method", head->method);
    report_number(report, "form", head->target.form);
    report_span(report, "target", head->target.raw);
    report_span(report, "path", head->target.path);
    report_span(report, "query", head->target.query);
    report_span(report, "host", head->host);
    report_span(report, "scheme", request->scheme);
    report_number(report, "framing", head->framing);
    report_number(report, "length", head->content_length);
    report_number(report, "ended", request->ended);
    report_fields(report, &head->fields);
}

/* What no head may be (RFC 9113 section 8.3). */
static void check_head(const struct h2_request *request)
{
    const struct request_head *head = request->head;
    const struct fields *fields = &head->fields;

    CHECK(request->head_bytes <= message_limits.max_request_head_bytes);
    CHECK(fields->count <= message_limits.max_fields);
    for (uint32_t i = 0; i < fields->count; i++)
        CHECK(field_name_valid(fields->at[i].name) && field_value_valid(fields->at[i].value));
    if (request->refusal.status)
        return;
    CHECK(field_name_valid(head->method) && authority_valid(head->host));
    CHECK(!fields_find_id(fields, FIELD_CONNECTION, 0));
    CHECK(!fields_find_id(fields, FIELD_TRANSFER_ENCODING, 0));
    CHECK(!request->ended || head->framing == FRAMING_NONE);
    CHECK(head->target.form != TARGET_ABSOLUTE);
}

static void answer(struct owner *owner, struct stream *stream)
{
    struct h2_request *request = &stream->request;
    struct h2_response response = {
        .status = 200, .fields = &stream->head.fields, .length = -1, .date = SPAN("D")};
    char action = stream->head.method.len > 0 ? stream->head.method.at[0] : 'X';

    if (request->refusal.status) {
        response.status = request->refusal.status;
        response.no_content = true;
    }
    stream->content = request->path.at ? request->path : SPAN("hello");
    if (action == 'T')
        request->trailing = &stream->head.fields;
    if (action == 'H' || action == 'N')
        response.no_content = true;
    if (action == 'I')
        h2_inform(owner->h2, request, 103, response.fields);
    if (action == 'S')
        h2_shut_down(owner->h2, request->path.len > 1);
    if (action != 'D')
        h2_respond(owner->h2, request, &response);
    if (action == 'R' || action == 'D')
        h2_reset(owner->h2, request, H2_CANCEL);
    if (action == 'E')
        h2_terminate(owner->h2, H2_INTERNAL_ERROR);
}

static void on_head(void *user, struct h2_request *request)
{
    struct owner *owner = user;

    note(owner, "head", request);
    check_head(request);
    report_head(owner->report, request);
    if (request->refusal.status)
        report_refusal(owner->report, &request->refusal);
    if (request->ended || request->refusal.status)
        answer(owner, (struct stream *)request);
}

static void on_data(void *user, struct h2_request *request, struct span data)
{
    struct owner *owner = user;

    CHECK(request->is_open && !request->ended && data.len > 0);
    if (owner->data_id != request->id)
        note(owner, "data", request);
    owner->data_id = request->id;
    buf_append(owner->report, data);
    h2_consumed(owner->h2, request, data.len);
}

static void on_ended(void *user, struct h2_request *request)
{
    struct owner *owner = user;

    CHECK(request->is_open && request->ended);
    CHECK(request->head->framing != FRAMING_SIZED ||
          request->head->content_length == request->content_bytes);
    note(owner, "ended", request);
    report_fields(owner->report, request->trailers);
    answer(owner, (struct stream *)request);
}

static void on_closed(void *user, struct h2_request *request, uint32_t code)
{
    struct owner *owner = user;
    struct stream *stream = (struct stream *)request;

    note(owner, "closed", request);
    report_number(owner->report, "code", code);
    arena_fini(&stream->arena);
}

static size_t on_pull(void *user, struct h2_request *request, char *into, size_t room,
                      enum h2_more *more)
{
    struct stream *stream = (struct stream *)request;
    size_t len = stream->content.len < room ? stream->content.len : room;

    (void)user;
    CHECK(request->is_open && room > 0);
    if (len > 0)
        memcpy(into, stream->content.at, len);
    stream->content = span_skip(stream->content, len);
    *more = stream->content.len > 0 ? H2_GOES_ON : H2_LAST;
    return len;
}

static void on_refused(void *user)
{
    struct owner *owner = user;

    owner->data_id = 0;
    buf_printf(owner->report, "refused\n");
}

static const struct h2_events events = {on_begin, on_refused, on_head, on_data,
                                        on_ended, on_closed,  on_pull, NULL};

/* Writes down what the session sends, but for credit. */
static void send_all(struct owner *owner)
{
    struct buf out = {0};

    h2_send(owner->h2, &out, SIZE_MAX);
    owner->data_id = 0;

    struct span rest = buf_span(&out);

    while (rest.len > 0) {
        const unsigned char *frame = (const unsigned char *)rest.at;

        CHECK(rest.len >= 9);

        size_t len = 9 + ((size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2]);

        CHECK(rest.len >= len && len <= 9 + 16384);
        if (frame[3] != 8)
            report_span(owner->report, "frame", span_of(rest.at, len));
        rest = span_skip(rest, len);
    }
    CHECK(!h2_wants_send(owner->h2));
    buf_fini(&out);
}

/* Gives the session all of the input. */
static void receive_all(struct owner *owner, struct feed *feed)
{
    static const struct span preface = SPAN("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0");
    size_t step = 0;
    int rc = h2_receive(owner->h2, preface, 0);

    CHECK(rc == 0);
    do {
        struct span in = feed_window(feed);

        if (step == 0 && in.len > 0) {
            step = 1 + (size_t)(unsigned char)in.at[0];
            feed_take(feed, 1);
            in = span_skip(in, 1);
        }
        while (in.len > 0) {
            size_t left = step - (feed->taken - 1) % step, len = left < in.len ? left : in.len;

            rc = h2_receive(owner->h2, span_of(in.at, len), 0);
            CHECK(rc == 0 || (rc == ERR_INVALID && h2_trouble(owner->h2)->reason));
            feed_take(feed, len);
            in = span_skip(in, len);
            if (len == left)
                send_all(owner);
        }
    } while (feed_more(feed));
    send_all(owner);
}

static void run(struct feed *feed, struct buf *report)
{
    struct owner owner = {.report = report};

    owner.h2 = h2_new(&limits, &events, &owner);
    receive_all(&owner, feed);
    feed_close(feed);
    CHECK(h2_streams(owner.h2) <= limits.max_concurrent_streams);
    report_number(report, "streams", h2_streams(owner.h2));
    report_number(report, "over", h2_is_over(owner.h2));
    report_span(report, "trouble", span_str(h2_trouble(owner.h2)->detail));
    h2_free(owner.h2);
    for (unsigned i = 0; i < owner.count; i++) {
        arena_fini(&owner.streams[i]->arena);
        mem_free(owner.streams[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_each_way(data, size, run);
    return 0;
}
