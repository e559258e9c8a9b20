/*
 * Query pairs: no longer than the text, the same when the text is read in two at any '&', and the
 * same again when they are written with every byte escaped.
 */
#include "http/query.h"

#include "base/err.h"
#include "fuzz/fuzz.h"

static void report_pairs(struct buf *report, struct span text, struct arena *arena)
{
    struct query_pair pair;

    while (query_next(&text, &pair, arena)) {
        report_span(report, "name", pair.name);
        report_span(report, "value", pair.value);
    }
}

static void append_escaped(struct buf *out, struct span bytes)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char byte = (unsigned char)bytes.at[i];

        buf_append(out, span_of((char[]){'%', digits[byte >> 4], digits[byte & 15]}, 3));
    }
}

static void check_same(const struct buf *one, const struct buf *other)
{
    CHECK(buf_len(one) == buf_len(other));
    CHECK(buf_len(one) == 0 || span_eq(buf_span(one), buf_span(other)));
}

/* A text of its own size for each half, so that neither can be read into the other. */
static void check_halves(const struct buf *whole, struct span text, size_t at, struct arena *arena)
{
    struct span left = span_of(text.at, at), right = span_of(text.at + at + 1, text.len - at - 1);
    char *left_copy = memcpy(mem_alloc(left.len + 1), left.at, left.len);
    char *right_copy = memcpy(mem_alloc(right.len + 1), right.at, right.len);
    struct buf report = {0};

    left_copy = mem_realloc(left_copy, left.len ? left.len : 1);
    right_copy = mem_realloc(right_copy, right.len ? right.len : 1);
    report_pairs(&report, span_of(left_copy, left.len), arena);
    report_pairs(&report, span_of(right_copy, right.len), arena);
    check_same(whole, &report);
    buf_fini(&report);
    mem_free(left_copy);
    mem_free(right_copy);
}

static void check_escaped(const struct buf *whole, struct span text, struct arena *arena)
{
    struct query_pair pair;
    struct buf written = {0}, report = {0};
    size_t total = 0, length = text.len;

    while (query_next(&text, &pair, arena)) {
        total += pair.name.len + pair.value.len;
        append_escaped(&written, pair.name);
        buf_append(&written, SPAN("="));
        append_escaped(&written, pair.value);
        buf_append(&written, SPAN("&"));
    }
    CHECK(total <= length);
    if (buf_len(&written) > 0)
        report_pairs(&report, buf_span(&written), arena);
    check_same(whole, &report);
    buf_fini(&written);
    buf_fini(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of((const char *)data, size);
    struct arena arena;
    struct buf whole = {0};
    size_t cuts = 0;

    arena_init(&arena);
    report_pairs(&whole, text, &arena);
    check_escaped(&whole, text, &arena);
    for (size_t i = 0; i < size && cuts < 8; i++) {
        if (text.at[i] == '&') {
            check_halves(&whole, text, i, &arena);
            cuts++;
        }
    }
    buf_fini(&whole);
    arena_fini(&arena);
    return 0;
}
