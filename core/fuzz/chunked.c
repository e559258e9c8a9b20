/*
 * Chunked content with its trailers: the same data, trailers and end for every split, or the same
 * data and then the same refusal. Data must lie in what was shown.
 */
#include "base/err.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "http/h1_read.h"

static const struct message_limits limits = {
    .max_request_head_bytes = 512,
    .max_field_length = 64,
    .max_authorization_length = 128,
    .max_fields = 8,
};

static void note_data(struct buf *all, struct span window, struct span data)
{
    CHECK(data.len > 0 && data.at >= window.at);
    CHECK(data.len <= window.len && data.at - window.at <= (ptrdiff_t)(window.len - data.len));
    buf_append(all, data);
}

static void read_content(struct feed *feed, struct buf *report)
{
    const struct request_head head = {.framing = FRAMING_UNSIZED, .minor = 1};
    struct arena arena;
    struct fields trailers;
    struct h1_content content;
    struct buf all = {0};
    int rc;

    arena_init(&arena);
    fields_init(&trailers, &arena);
    h1_content_init(&content, &head, &limits, &arena, &trailers);
    do {
        struct span window = feed_window(feed), data = SPAN_NONE;
        size_t used = 0;

        rc = h1_read_content(&content, window, &used, &data);
        if (rc == H1_DATA)
            note_data(&all, window, data);
        CHECK(rc != H1_DATA || used >= data.len);
        feed_take(feed, used);
    } while (rc == H1_DATA || (rc == ERR_AGAIN && feed_more(feed)));
    feed_close(feed);
    report_span(report, "data", span_of(all.data ? all.data : "", buf_len(&all)));
    if (rc == ERR_INVALID) {
        report_refusal(report, &content.refusal);
    } else {
        CHECK(rc == H1_END || rc == ERR_AGAIN);
        report_number(report, "ended", rc == H1_END);
        report_number(report, "taken", rc == H1_END ? feed->taken : 0);
        report_fields(report, &trailers);
    }
    buf_fini(&all);
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_each_way(data, size, read_content);
    return 0;
}
