/*
 * Classes of bytes, one table for all readers of this room: a byte's row says of which classes it
 * is a member. Bytes are looked up as unsigned; nothing here depends on the locale.
 */
#ifndef HTTP_CHARS_PRIV_H
#define HTTP_CHARS_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

enum char_class {
    CHAR_TOKEN = 1,  /* tchar (RFC 9110 section 5.6.2) */
    CHAR_VALUE = 2,  /* in a field value: HTAB, SP, visible, from 0x80 (RFC 9110 section 5.5) */
    CHAR_TARGET = 4, /* in a request target: visible ASCII but '#' */
    CHAR_PATH_PLAIN =
        8, /* a target byte that needs no look at its neighbours: not '%', '?' or '.' */
    CHAR_REG_NAME = 16, /* unreserved and sub-delims (RFC 3986 section 3.2.2) */
    CHAR_SCHEME = 32,   /* in a scheme behind its first letter (RFC 3986 section 3.1) */
    CHAR_DIGIT = 64,
    CHAR_ALPHA = 128
};

extern const uint8_t char_classes[256];

static inline bool char_is(char c, unsigned classes)
{
    return (char_classes[(unsigned char)c] & classes) != 0;
}

/* How many bytes at the front of text are in one of these classes. */
static inline size_t chars_span(struct span text, unsigned classes)
{
    size_t n = 0;

    while (n < text.len && char_is(text.at[n], classes))
        n++;
    return n;
}

/* The value of a hexadecimal digit, or -1. */
static inline int char_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the escape %XX at the front of text stands for; -1 when it is no escape. */
static inline int char_escape(struct span text)
{
    if (text.len < 3 || text.at[0] != '%')
        return -1;

    int high = char_hex(text.at[1]), low = char_hex(text.at[2]);

    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

#endif
