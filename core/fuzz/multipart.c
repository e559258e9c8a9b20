/*
 * Multipart forms: the same parts with the same content for every split, or the same ones up to the
 * same refusal. The boundary is the one that the input begins with, as in a recorded form, else
 * "b". In one way of two the arena is reset behind each part, as a caller may do.
 */
#include "http/multipart.h"

#include "base/err.h"
#include "fuzz/fuzz.h"

static const struct multipart_limits limits = {.max_part_head_bytes = 256, .max_parts = 6};

static const char fallback[] = "multipart/form-data; boundary=b";

/* A Content-Type for the boundary of text's first line. */
static void write_type(struct buf *type, struct span text)
{
    const char *end = text.len > 2 ? memchr(text.at, '\r', text.len) : NULL;

    buf_append(type, SPAN("multipart/form-data; boundary=\""));
    if (end && memcmp(text.at, "--", 2) == 0)
        buf_append(type, span_of(text.at + 2, (size_t)(end - text.at - 2)));
    buf_append(type, SPAN("\""));
}

static void start(struct multipart *form, struct span text, struct arena *arena)
{
    struct buf type = {0};

    write_type(&type, text);
    if (multipart_init(form, buf_span(&type), &limits, arena) < 0)
        CHECK(multipart_init(form, span_str(fallback), &limits, arena) == 0);
    buf_fini(&type);
}

struct reading {
    struct arena arena;
    struct multipart form;
    struct buf content; /* of the current part */
    bool in_part, closed;
    uint32_t parts;
};

static void note_part(struct reading *reading, struct buf *report)
{
    CHECK(!reading->in_part && !reading->closed && ++reading->parts <= limits.max_parts);
    CHECK(reading->form.name.at);
    reading->in_part = true;
    report_span(report, "part", reading->form.name);
    report_span(report, "filename", reading->form.filename);
    report_span(report, "type", reading->form.type);
    report_fields(report, &reading->form.fields);
}

static void end_content(struct reading *reading, struct buf *report)
{
    if (buf_len(&reading->content) > 0)
        report_span(report, "content", buf_span(&reading->content));
    buf_consume(&reading->content, buf_len(&reading->content));
}

static void note_event(struct reading *reading, int event, struct span data, struct buf *report)
{
    switch (event) {
    case MULTIPART_PART:
        note_part(reading, report);
        return;
    case MULTIPART_DATA:
        CHECK(reading->in_part && data.len > 0);
        buf_append(&reading->content, data);
        return;
    case MULTIPART_PART_END:
        CHECK(reading->in_part);
        reading->in_part = false;
        end_content(reading, report);
        report_number(report, "complete", reading->parts);
        return;
    default:
        CHECK(event == MULTIPART_END && !reading->in_part && !reading->closed);
        reading->closed = true;
    }
}

static int read_window(struct reading *reading, struct feed *feed, struct buf *report)
{
    for (;;) {
        struct span data = SPAN_NONE;
        size_t used = 0;
        int event = multipart_next(&reading->form, feed_window(feed), &used, &data);

        feed_take(feed, used);
        if (event < 0)
            return event;
        note_event(reading, event, data, report);
        if (event == MULTIPART_PART_END && feed->way % 2)
            arena_reset(&reading->arena);
    }
}

static void read_form(struct feed *feed, struct buf *report)
{
    struct reading reading = {.parts = 0};
    int rc = ERR_AGAIN;

    arena_init(&reading.arena);
    start(&reading.form, feed->text, &reading.arena);
    while (rc == ERR_AGAIN && feed_more(feed)) {
        rc = read_window(&reading, feed, report);
        CHECK(rc == ERR_INVALID || (rc == ERR_AGAIN && feed_window(feed).len == 0));
    }
    feed_close(feed);
    end_content(&reading, report);
    rc = multipart_finish(&reading.form);
    CHECK((rc == 0) == reading.closed);
    if (rc < 0)
        report_refusal(report, &reading.form.refusal);
    multipart_fini(&reading.form);
    buf_fini(&reading.content);
    arena_fini(&reading.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_each_way(data, size, read_form);
    return 0;
}
