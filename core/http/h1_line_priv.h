/*
 * Lines of an HTTP/1.1 message: their limits, judged so that every split of the bytes gets the same
 * answer, and the syntax of a field line. Shared by the readers of heads and of chunked content.
 */
#ifndef HTTP_H1_LINE_PRIV_H
#define HTTP_H1_LINE_PRIV_H

#include "base/err.h"
#include "base/span.h"
#include "http/h1_read.h"
#include "http/message_rules.h"

/* Makes a refusal of text with a bare CR in it say so; returns ERR_INVALID. */
int h1_blame_cr(struct span text, struct refusal *why);

/*
 * The first line of in: up to its LF, which is counted in, when *whole, else all of in. scanned
 * bytes are known to hold no LF.
 */
static inline struct span h1_line(struct span in, size_t scanned, bool *whole)
{
    const char *lf = scanned < in.len ? memchr(in.at + scanned, '\n', in.len - scanned) : NULL;

    *whole = lf != NULL;
    return lf ? span_of(in.at, (size_t)(lf - in.at) + 1) : in;
}

/*
 * The number of bytes of line with which it is certain that its content, without the CRLF, is
 * longer than limit; SIZE_MAX while it is not. line is as h1_line gave it.
 */
size_t h1_line_passes(struct span line, size_t limit);

/* Takes the CRLF off a whole line. ERR_INVALID when it ends with a bare LF. */
static inline int h1_line_content(struct span line, struct span *content, struct refusal *why)
{
    if (line.len < 2 || line.at[line.len - 2] != '\r') {
        message_refuse(why, 400, "Invalid_CR/LF", "a bare LF");
        return ERR_INVALID; /* said here, where the compiler sees that *content is not used */
    }
    *content = span_of(line.at, line.len - 2);
    return 0;
}

/* Bytes that a head may still have behind the first ones. Those may be more than the limit: it can
 * have been lowered since. */
static inline size_t h1_head_room(const struct message_limits *limits, uint32_t before)
{
    return before < limits->max_request_head_bytes ? limits->max_request_head_bytes - before : 0;
}

/* The rest of h1_check_field_limits, for a line that is longer than a limit or one too many. */
int h1_judge_field_limits(const struct message_limits *limits, struct span line, bool whole,
                          uint32_t before, uint32_t count, struct refusal *why);

/*
 * Judges a field line, whole or not, against the limits for fields; before is what its section took
 * before it, count how many field lines that were. 0, or ERR_INVALID with why.
 */
static inline int h1_check_field_limits(const struct message_limits *limits, struct span line,
                                        bool whole, uint32_t before, uint32_t count,
                                        struct refusal *why)
{
    if (line.len <= limits->max_field_length && line.len <= limits->max_authorization_length &&
        line.len <= h1_head_room(limits, before) && count < limits->max_fields)
        return 0;
    return h1_judge_field_limits(limits, line, whole, before, count, why);
}

/* Splits the content of a field line, in which field then lies. ERR_INVALID when it is malformed.
 */
int h1_parse_field(struct span content, struct field *field, struct refusal *why);

#endif
