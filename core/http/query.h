/*
 * application/x-www-form-urlencoded text (WHATWG URL standard section 5): query strings and forms.
 * '+' is a space, %XX is decoded, an escape that is none stays as it is.
 */
#ifndef HTTP_QUERY_H
#define HTTP_QUERY_H

#include <stdbool.h>

#include "base/mem.h"
#include "base/span.h"

/* Decoded: the text's own bytes where nothing had to be decoded, else in the arena. */
struct query_pair {
    struct span name, value;
};

/*
 * Takes the next pair off the front of *text; false when there is none left. Empty pieces
 * ("a=1&&b=2") are skipped; a piece without '=' has an empty value.
 */
bool query_next(struct span *text, struct query_pair *pair, struct arena *arena);

#endif
