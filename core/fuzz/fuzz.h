/*
 * What the fuzz targets share. A target reads one input in several ways, whole, byte by byte and
 * cut at places that the input itself decides, and writes down what it read; any difference between
 * the ways is a fault. What a reader is shown lies in a block of exactly its size, gone with the
 * next one, so that the sanitizers see a look past the end and a span that should have been copied.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"
#include "http/fields.h"
#include "http/refusal.h"

/* The entry that libFuzzer calls. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Shows an input piece by piece; what was not taken is shown again with the next piece. */
struct feed {
    struct span text;
    size_t taken, shown; /* bytes [taken, shown) of text are in the window */
    size_t start;        /* of the window in text */
    char *window;
    int way;
    uint32_t random;
};

/* Shows the next piece too. False when all of the input was shown before. */
bool feed_more(struct feed *feed);

/* What is shown and not taken; borrowed until feed_more. */
struct span feed_window(const struct feed *feed);

/* used must not be more than the window holds. */
void feed_take(struct feed *feed, size_t used);

/* Ends what is shown, so that nothing can go on pointing there. */
void feed_close(struct feed *feed);

/* Reads all of feed and appends to report what does not depend on how the input is cut. */
typedef void fuzz_read_fn(struct feed *feed, struct buf *report);

/*
 * Reads data in each way; ends the process, with both reports on stderr, when two reports differ.
 */
void fuzz_each_way(const uint8_t *data, size_t size, fuzz_read_fn *read);

/* Appends bytes with a label, so that two different lists of spans never look the same. */
void report_span(struct buf *report, const char *label, struct span bytes);
void report_number(struct buf *report, const char *label, unsigned long long number);
void report_fields(struct buf *report, const struct fields *fields);
void report_refusal(struct buf *report, const struct refusal *refusal);

#endif
