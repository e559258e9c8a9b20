/*
 * The fields of proxies, one line of input a field line: '<' for Forwarded, 'F', 'P' and 'H' for
 * X-Forwarded-For, -Proto and -Host. What was read is valid by other readers, lines are one list,
 * and hops that are written down again read the same.
 */
#include "http/forwarded.h"

#include "base/err.h"
#include "fuzz/fuzz.h"
#include "http/target.h"
#include "net/addr.h"

/* Lines of an input; more find nothing new. */
#define LINES 64

static struct span name_of(char kind)
{
    switch (kind) {
    case '<':
        return SPAN("forwarded");
    case 'F':
        return SPAN("X-Forwarded-For");
    case 'P':
        return SPAN("X-Forwarded-Proto");
    case 'H':
        return SPAN("X-Forwarded-Host");
    default:
        return SPAN_NONE;
    }
}

/* The lines of a text, each value in a block of its own size. */
struct lines {
    struct arena arena;
    struct fields fields;
    char *values[LINES];
    unsigned count;
};

static void add_line(struct lines *lines, struct span name, struct span value)
{
    char *copy = mem_alloc(value.len);

    if (value.len > 0)
        memcpy(copy, value.at, value.len);
    lines->values[lines->count++] = copy;
    fields_add(&lines->fields, name, span_of(copy, value.len));
}

static void lines_init(struct lines *lines, struct span text)
{
    arena_init(&lines->arena);
    fields_init(&lines->fields, &lines->arena);
    lines->count = 0;
    while (text.len > 0 && lines->count < LINES) {
        const char *end = memchr(text.at, '\n', text.len);
        size_t len = end ? (size_t)(end - text.at) : text.len, taken = len + (end != NULL);
        struct span name = len > 0 ? name_of(text.at[0]) : SPAN_NONE;

        if (name.at)
            add_line(lines, name, span_of(text.at + 1, len - 1));
        text = span_of(text.at + taken, text.len - taken);
    }
}

static void lines_fini(struct lines *lines)
{
    for (unsigned i = 0; i < lines->count; i++)
        mem_free(lines->values[i]);
    arena_fini(&lines->arena);
}

static void check_hop(const struct forwarded_hop *hop)
{
    struct net_addr addr;

    CHECK((hop->node == FORWARDED_IP) == (hop->ip.len > 0));
    if (hop->node == FORWARDED_IP)
        CHECK(net_addr_parse(&addr, hop->ip, hop->port) == 0 && hop->ip.at[0] != '[');
    CHECK(hop->node != FORWARDED_UNSAID || hop->port == 0);
    CHECK(hop->host.at == NULL || authority_valid(hop->host));
    CHECK(hop->proto.at == NULL || hop->proto.len > 0);
}

static void report_hops(struct buf *report, const struct forwarded *hops, int rc)
{
    CHECK(rc == 0 || rc == ERR_INVALID || rc == ERR_NOT_FOUND);
    report_number(report, "answer", (unsigned long long)-rc);
    if (rc == ERR_INVALID) {
        CHECK(hops->detail);
        return;
    }
    CHECK(hops->count <= FORWARDED_MOST && (rc == 0 || hops->count == 0));
    for (uint32_t i = 0; i < hops->count; i++) {
        check_hop(&hops->at[i]);
        report_number(report, "node", hops->at[i].node);
        report_number(report, "port", hops->at[i].port);
        report_span(report, "ip", hops->at[i].ip);
        report_span(report, "proto", hops->at[i].proto);
        report_span(report, "host", hops->at[i].host);
    }
}

static void write_node(struct buf *out, const struct forwarded_hop *hop)
{
    bool is_v6 = hop->ip.len > 0 && memchr(hop->ip.at, ':', hop->ip.len) != NULL;

    if (hop->node == FORWARDED_UNSAID)
        return;
    buf_append(out, SPAN("for=\""));
    buf_append(out, hop->node == FORWARDED_HIDDEN ? SPAN("_hidden") : SPAN_NONE);
    buf_append(out, is_v6 ? SPAN("[") : SPAN_NONE);
    buf_append(out, hop->ip);
    buf_append(out, is_v6 ? SPAN("]") : SPAN_NONE);
    buf_printf(out, ":%u\";", hop->port);
}

/* Every byte of a quoted text behind a backslash, which must come off again. */
static void write_escaped(struct buf *out, const char *name, struct span value)
{
    if (value.at == NULL)
        return;
    buf_printf(out, "%s=\"", name);
    for (size_t i = 0; i < value.len; i++) {
        buf_append(out, SPAN("\\"));
        buf_append(out, span_of(value.at + i, 1));
    }
    buf_append(out, SPAN("\";"));
}

/* Hops of any origin as Forwarded lines, a hop a line. */
static void check_written(const struct forwarded *hops, struct span expected)
{
    struct lines lines;
    struct forwarded again;
    struct buf report = {0};

    lines_init(&lines, SPAN_NONE);
    for (uint32_t i = 0; i < hops->count; i++) {
        struct buf out = {0};

        buf_append(&out, SPAN(";"));
        write_escaped(&out, "host", hops->at[i].host);
        write_node(&out, &hops->at[i]);
        write_escaped(&out, "PROTO", hops->at[i].proto);
        add_line(&lines, SPAN("Forwarded"), buf_span(&out));
        buf_fini(&out);
    }
    report_hops(&report, &again, forwarded_read(&again, &lines.fields, &lines.arena));
    CHECK(span_eq(buf_span(&report), expected));
    buf_fini(&report);
    lines_fini(&lines);
}

/* All lines of a name as one, where joining them by commas cannot change what is quoted. */
static void check_joined(struct lines *lines, struct span name, bool is_x, struct span expected)
{
    struct span value = fields_combined(&lines->fields, name);
    struct forwarded again;
    struct buf report = {0};
    int rc;

    if (value.at == NULL)
        return;
    fields_set(&lines->fields, name, value);
    rc = is_x ? forwarded_read_x(&again, &lines->fields)
              : forwarded_read(&again, &lines->fields, &lines->arena);
    report_hops(&report, &again, rc);
    CHECK(span_eq(buf_span(&report), expected));
    buf_fini(&report);
}

static void check_hops(struct lines *lines, const struct forwarded *hops, int rc, bool is_x)
{
    struct buf report = {0};

    report_hops(&report, hops, rc);
    if (rc == 0) {
        if (hops->count > 0)
            check_written(hops, buf_span(&report));
        if (is_x) {
            check_joined(lines, SPAN("X-Forwarded-For"), true, buf_span(&report));
            check_joined(lines, SPAN("X-Forwarded-Proto"), true, buf_span(&report));
            check_joined(lines, SPAN("X-Forwarded-Host"), true, buf_span(&report));
        } else {
            check_joined(lines, SPAN("Forwarded"), false, buf_span(&report));
        }
    }
    buf_fini(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lines lines;
    struct forwarded hops;
    int rc;

    lines_init(&lines, span_of((const char *)data, size));
    rc = forwarded_read(&hops, &lines.fields, &lines.arena);
    check_hops(&lines, &hops, rc, false);
    rc = forwarded_read_x(&hops, &lines.fields);
    check_hops(&lines, &hops, rc, true);
    lines_fini(&lines);
    return 0;
}
