/*
 * A request target: a path that is accepted has no dot segments and keeps to the limits, a query
 * changes nothing about the path, and a path spelled with escapes only is the same path.
 */
#include "http/target.h"

#include "base/err.h"
#include "fuzz/fuzz.h"

static const struct target_limits limits = {.segment_max_length = 64, .segment_max_count = 16};

struct reading {
    struct arena arena;
    struct target target;
    struct refusal why;
    int rc;
};

static void read_target(struct reading *reading, struct span raw, struct span method)
{
    arena_init(&reading->arena);
    reading->rc =
        target_parse(&reading->target, raw, method, &limits, &reading->arena, &reading->why);
    CHECK(reading->rc == 0 || reading->rc == ERR_INVALID);
}

static bool is_dots(struct span segment)
{
    return span_eq(segment, SPAN(".")) || span_eq(segment, SPAN(".."));
}

static void check_segments(struct span path)
{
    size_t count = 0, start = 1;

    CHECK(path.len > 0 && path.at[0] == '/');
    for (size_t i = 1; i <= path.len; i++) {
        if (i < path.len && path.at[i] != '/') {
            CHECK((unsigned char)path.at[i] >= 0x20 && path.at[i] != 0x7f);
            continue;
        }
        CHECK(!is_dots(span_of(path.at + start, i - start)));
        count += i > start || i < path.len;
        start = i + 1;
    }
    CHECK(count <= limits.segment_max_count);
}

/*
 * The path with every byte but its slashes escaped; a '%' in it may be the rest of %2F and stays
 * out of this.
 */
static void check_escaped(struct span path, struct span method)
{
    struct buf raw = {0};
    struct reading again;

    if (memchr(path.at, '%', path.len))
        return;
    for (size_t i = 0; i < path.len; i++)
        if (path.at[i] == '/')
            buf_append(&raw, SPAN("/"));
        else
            buf_printf(&raw, "%%%02x", (unsigned char)path.at[i]);
    read_target(&again, buf_span(&raw), method);
    CHECK(again.rc == 0 && span_eq(again.target.path, path));
    arena_fini(&again.arena);
    buf_fini(&raw);
}

static void check_query(const struct target *target, struct span method)
{
    struct buf raw = {0};
    struct reading again;

    buf_append(&raw, target->raw);
    buf_append(&raw, SPAN("?a=/../b"));
    read_target(&again, buf_span(&raw), method);
    /* An absolute target without a path may have no query either. */
    if (again.rc == 0) {
        CHECK(span_eq(again.target.path, target->path));
        CHECK(again.target.has_query && span_eq(again.target.query, SPAN("a=/../b")));
    } else {
        CHECK(target->form == TARGET_ABSOLUTE && span_eq(target->path, SPAN("/")));
    }
    arena_fini(&again.arena);
    buf_fini(&raw);
}

static void check_target(struct span raw, struct span method)
{
    struct reading reading;
    struct buf report = {0};

    read_target(&reading, raw, method);
    if (reading.rc == 0) {
        const struct target *target = &reading.target;

        CHECK(span_eq(target->raw, raw));
        report_span(&report, "authority", target->authority); /* reads every byte of it */
        report_span(&report, "query", target->query);
        CHECK(target->authority.at == NULL || authority_valid(target->authority));
        CHECK((target->form == TARGET_AUTHORITY) == span_eq(method, SPAN("CONNECT")));
        if (target->form == TARGET_ORIGIN || target->form == TARGET_ABSOLUTE) {
            check_segments(target->path);
            check_escaped(target->path, method);
            if (!target->has_query)
                check_query(target, method);
        }
    } else {
        report_refusal(&report, &reading.why);
    }
    buf_fini(&report);
    arena_fini(&reading.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span raw = span_of((const char *)data, size);

    check_target(raw, SPAN("GET"));
    check_target(raw, SPAN("OPTIONS"));
    check_target(raw, SPAN("CONNECT"));
    return 0;
}
