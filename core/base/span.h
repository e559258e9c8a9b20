/*
 * A span is a borrowed run of bytes: pointer and length, not NUL-terminated. Whoever hands one out
 * says how long the bytes live. An empty span may have a NULL pointer; SPAN_NONE (NULL, 0) stands
 * for "absent" where a function's text says so.
 */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct span {
    const char *at;
    size_t len;
};

#define SPAN_NONE     ((struct span){NULL, 0})
#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})

static inline struct span span_of(const char *at, size_t len)
{
    return (struct span){at, len};
}

static inline struct span span_str(const char *text)
{
    return (struct span){text, text ? strlen(text) : 0};
}

static inline bool span_eq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* SP or HTAB (OWS and BWS, RFC 9110 s.5.6.3). */
static inline bool ascii_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Equality without regard to ASCII case (tokens, schemes, hosts, field names). */
static inline bool span_eq_nocase(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower(a.at[i]) != ascii_lower(b.at[i]))
            return false;
    return true;
}

/* What follows so many bytes; there are at least that many. */
static inline struct span span_skip(struct span s, size_t bytes)
{
    return span_of(s.at + bytes, s.len - bytes);
}

/* The span without blanks in front. */
static inline struct span span_skip_blanks(struct span s)
{
    while (s.len > 0 && ascii_blank(s.at[0]))
        s.at++, s.len--;
    return s;
}

/* The span without blanks at both ends. */
static inline struct span span_trim(struct span s)
{
    s = span_skip_blanks(s);
    while (s.len > 0 && ascii_blank(s.at[s.len - 1]))
        s.len--;
    return s;
}

#endif
