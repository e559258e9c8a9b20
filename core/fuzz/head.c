/*
 * A request head: the same for every split, or the same refusal; everything it says lies in the
 * arena, because the bytes it was read from are gone before it is written down. The limits are
 * small ones, to be met.
 */
#include "base/err.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "http/h1_read.h"

static const struct message_limits limits = {
    .max_request_head_bytes = 1024,
    .max_target_bytes = 256,
    .max_field_length = 128,
    .max_authorization_length = 256,
    .max_fields = 16,
    .target = {.segment_max_length = 64, .segment_max_count = 16},
};

static void report_head(struct buf *report, const struct request_head *head)
{
    report_span(report, "method", head->method);
    report_number(report, "form", head->target.form);
    report_span(report, "target", head->target.raw);
    report_span(report, "scheme", head->target.scheme);
    report_span(report, "authority", head->target.authority);
    report_span(report, "path", head->target.path);
    report_span(report, "query", head->target.query);
    report_span(report, "host", head->host);
    report_number(report, "minor", head->minor);
    report_number(report, "framing", head->framing);
    if (head->framing == FRAMING_SIZED)
        report_number(report, "length", head->content_length);
    report_number(report, "keep-alive", head->keep_alive);
    report_number(report, "expect", head->expect_continue);
    report_fields(report, &head->fields);
}

/* What no accepted head may be, however it was spelled (RFC 9112 sections 3.2 and 6.3). */
static void check_head(const struct request_head *head)
{
    const struct fields *fields = &head->fields;
    bool coded = fields_find_id(fields, FIELD_TRANSFER_ENCODING, 0) != NULL;
    const struct field *host = fields_find_id(fields, FIELD_HOST, 0);

    CHECK(head->minor <= 1 && fields->count <= limits.max_fields);
    CHECK(coded == (head->framing == FRAMING_UNSIZED));
    CHECK(!coded || (head->minor == 1 && !fields_find_id(fields, FIELD_CONTENT_LENGTH, 0)));
    CHECK(head->framing != FRAMING_SIZED || head->content_length <= INT64_MAX);
    CHECK(head->minor == 0 || host);
    CHECK(!host || !fields_find_id(fields, FIELD_HOST, (uint32_t)(host - fields->at) + 1));
    CHECK(field_name_valid(head->method));
    for (uint32_t i = 0; i < fields->count; i++)
        CHECK(field_name_valid(fields->at[i].name) && field_value_valid(fields->at[i].value));
}

static void read_head(struct feed *feed, struct buf *report)
{
    struct arena arena;
    struct request_head head;
    struct h1_reader reader;
    size_t used = 0;
    int rc;

    arena_init(&arena);
    h1_reader_init(&reader, &limits, &head, &arena);
    do {
        rc = h1_read_head(&reader, feed_window(feed), &used);
        feed_take(feed, used);
    } while (rc == ERR_AGAIN && feed_more(feed));
    feed_close(feed);
    if (rc == 0) {
        CHECK(feed->taken <= limits.max_request_head_bytes);
        check_head(&head);
        report_number(report, "taken", feed->taken);
        report_head(report, &head);
    } else if (rc == ERR_INVALID) {
        report_refusal(report, &reader.refusal);
    } else {
        CHECK(rc == ERR_AGAIN);
    }
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_each_way(data, size, read_head);
    return 0;
}
