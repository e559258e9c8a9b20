/* The ways in which an input is cut, and the comparison of what came of them. */
#include "fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

/* Inputs above this are not read byte by byte, and in larger pieces: what is slow finds little. */
#define LONG 1024

enum { WHOLE, BYTEWISE, RANDOM, WAYS = RANDOM + 3 };

/* FNV-1a: where an input is cut is a matter of its bytes alone, so that a reproducer reproduces. */
static uint32_t seed_of(struct span text, int way)
{
    uint32_t hash = 2166136261u ^ (uint32_t)way;

    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.at[i]) * 16777619u;
    return hash | 1;
}

static size_t piece_size(struct feed *feed)
{
    if (feed->way == WHOLE)
        return feed->text.len;
    if (feed->way == BYTEWISE)
        return 1;
    feed->random ^= feed->random << 13;
    feed->random ^= feed->random >> 17;
    feed->random ^= feed->random << 5;

    /* Small pieces find more than large ones: half are of 1 or 2 bytes, one in eight up to 128. */
    unsigned bits = (const unsigned[]){1, 1, 1, 1, 3, 3, 5, 7}[feed->random >> 29];

    return (1 + (feed->random & ((1u << bits) - 1))) * (feed->text.len > LONG ? 16 : 1);
}

bool feed_more(struct feed *feed)
{
    size_t left = feed->text.len - feed->shown, piece = piece_size(feed);

    if (left == 0)
        return false;
    feed->shown += piece < left ? piece : left;
    feed->start = feed->taken;
    mem_free(feed->window);
    feed->window = mem_alloc(feed->shown - feed->start);
    memcpy(feed->window, feed->text.at + feed->start, feed->shown - feed->start);
    return true;
}

struct span feed_window(const struct feed *feed)
{
    if (feed->window == NULL)
        return SPAN("");
    return span_of(feed->window + (feed->taken - feed->start), feed->shown - feed->taken);
}

void feed_take(struct feed *feed, size_t used)
{
    CHECK(used <= feed->shown - feed->taken);
    feed->taken += used;
}

void feed_close(struct feed *feed)
{
    mem_free(feed->window);
    feed->window = NULL;
}

static void show(const char *title, const struct buf *report)
{
    fprintf(stderr, "--- %s\n%.*s\n", title, (int)buf_len(report), buf_span(report).at);
}

void fuzz_each_way(const uint8_t *data, size_t size, fuzz_read_fn *read)
{
    struct buf first = {0};

    for (int way = WHOLE; way < WAYS; way++) {
        if (way == BYTEWISE && size > LONG)
            continue;

        struct span text = span_of((const char *)data, size);
        struct feed feed = {.text = text, .way = way, .random = seed_of(text, way)};
        struct buf report = {0};

        read(&feed, &report);
        feed_close(&feed);
        if (way == WHOLE) {
            first = report;
            continue;
        }
        if (!span_eq(buf_span(&first), buf_span(&report))) {
            show("whole", &first);
            show(way == BYTEWISE ? "byte by byte" : "in pieces", &report);
            abort();
        }
        buf_fini(&report);
    }
    buf_fini(&first);
}

static void append_label(struct buf *report, const char *label, unsigned long long number)
{
    char digits[24], *at = digits + sizeof(digits);

    *--at = ' ';
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    *--at = ' ';
    buf_append(report, span_str(label));
    buf_append(report, span_of(at, (size_t)(digits + sizeof(digits) - at)));
}

void report_span(struct buf *report, const char *label, struct span bytes)
{
    if (bytes.at == NULL)
        return;
    append_label(report, label, bytes.len);
    buf_append(report, bytes);
    buf_append(report, SPAN("\n"));
}

void report_number(struct buf *report, const char *label, unsigned long long number)
{
    append_label(report, label, number);
    buf_append(report, SPAN("\n"));
}

void report_fields(struct buf *report, const struct fields *fields)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        report_span(report, "field", fields->at[i].name);
        report_span(report, "value", fields->at[i].value);
    }
}

void report_refusal(struct buf *report, const struct refusal *refusal)
{
    CHECK(refusal->status >= 400 && refusal->status < 600);
    CHECK(refusal->reason && refusal->detail);
    buf_printf(report, "refused %d %s: %s\n", refusal->status, refusal->reason, refusal->detail);
}
