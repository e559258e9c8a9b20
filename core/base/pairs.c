/*
 * The pairs lie behind each other in one text, so that a list of them is a span and is sent as it
 * is. A reader never looks behind the end, whoever wrote the text.
 */
#include "base/pairs.h"

#include <stdio.h>
#include <string.h>

void pairs_add(struct buf *pairs, const char *key, const char *value)
{
    buf_append(pairs, span_of(key, strlen(key) + 1));
    buf_append(pairs, span_of(value, strlen(value) + 1));
}

void pairs_add_number(struct buf *pairs, const char *key, unsigned value)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", value);
    pairs_add(pairs, key, text);
}

void pairs_add_prefixed(struct buf *pairs, const char *prefix, struct span from)
{
    const char *key, *value;

    while (pairs_next(&from, &key, &value)) {
        buf_append(pairs, span_str(prefix));
        pairs_add(pairs, key, value);
    }
}

/* The string at the start of *rest; NULL when no NUL ends it. */
static const char *next_string(struct span *rest)
{
    const char *start = rest->at;
    const char *end = rest->len > 0 ? memchr(start, '\0', rest->len) : NULL;

    if (end == NULL)
        return NULL;
    rest->len -= (size_t)(end + 1 - start);
    rest->at = end + 1;
    return start;
}

bool pairs_next(struct span *rest, const char **key, const char **value)
{
    *key = next_string(rest);
    if (*key == NULL || **key == '\0') /* the list of an app ends with an empty key */
        return false;
    *value = next_string(rest);
    return *value != NULL;
}

const char *pairs_find(struct span pairs, const char *key)
{
    const char *at, *value, *found = NULL;

    while (pairs_next(&pairs, &at, &value))
        if (strcmp(at, key) == 0)
            found = value;
    return found;
}
