/*
 * Rules on single parts of a message that hold whichever version of HTTP carried it: the readers of
 * HTTP/1.1 and of HTTP/2 refuse the same faults in the same words.
 */
#ifndef HTTP_MESSAGE_RULES_H
#define HTTP_MESSAGE_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "http/refusal.h"

#define MESSAGE_METHOD_BYTES 32u /* longer than any registered method; a longer one is 501 */

/* Fills why; returns ERR_INVALID. */
int message_refuse(struct refusal *why, int status, const char *reason, const char *detail);

/* A method, known to be a token. */
int message_check_method(struct span method, struct refusal *why);

/* The value of one Content-Length field (RFC 9110 section 8.6): a plain number below 2^63. */
int message_read_length(struct span value, uint64_t *length, struct refusal *why);

/*
 * One Expect field. 100-continue is the only expectation there is, and sets *continues; who expects
 * another must learn that it is not met.
 */
int message_read_expect(struct span value, bool *continues, struct refusal *why);

/* What becomes of a trailer field (RFC 9110 section 6.5.1). */
enum trailer_fate {
    TRAILER_KEPT,
    TRAILER_DROPPED, /* it may not act from a trailer section */
    TRAILER_FRAMING  /* it says what the message is, and came too late to be believed */
};

enum trailer_fate trailer_fate_of(struct span name);

#endif
