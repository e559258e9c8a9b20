/*
 * Lists of pairs as processes tell them to each other: key and value, each ended by a NUL.
 */
#ifndef BASE_PAIRS_H
#define BASE_PAIRS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/span.h"

void pairs_add(struct buf *pairs, const char *key, const char *value);
void pairs_add_number(struct buf *pairs, const char *key, unsigned value);

/* Adds all pairs of from with prefix in front of their keys. */
void pairs_add_prefixed(struct buf *pairs, const char *prefix, struct span from);

/* The first pair of *rest, which is moved behind it; borrowed. False at the end or when it is
 * malformed. */
bool pairs_next(struct span *rest, const char **key, const char **value);

/* The value of the last pair with this key; NULL when there is none. */
const char *pairs_find(struct span pairs, const char *key);

#endif
