/*
 * The head of a request and the limits on it, whichever version of HTTP carried it.
 */
#ifndef HTTP_REQUEST_HEAD_H
#define HTTP_REQUEST_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "http/fields.h"
#include "http/target.h"

/* Each limit is named in DESIGN section 5; what it answers stands behind it. */
struct message_limits {
    uint32_t max_request_head_bytes;   /* request line and fields with their line ends: 431
                                          RequestLength */
    uint32_t max_target_bytes;         /* 414 URL_Length */
    uint32_t max_field_length;         /* a field line without its end: 431 FieldLength */
    uint32_t max_authorization_length; /* the same for Authorization, whose tickets are long */
    uint32_t max_fields;               /* 431 FieldLength; trailers too */
    struct target_limits target;
};

/* Where the content of a message ends. */
enum framing {
    FRAMING_NONE,   /* there is no content */
    FRAMING_SIZED,  /* Content-Length; 0 counts as no content */
    FRAMING_UNSIZED /* Transfer-Encoding: chunked, or the end of the stream */
};

/* A request head. Spans lie in the arena of the request, or are static. */
struct request_head {
    struct span method;
    struct target target;
    struct span
        host; /* the authority that counts: the absolute form's, else Host's value; may be empty */
    struct fields fields;
    struct span version;  /* as it was received, also when it or the target is refused */
    uint8_t major, minor; /* HTTP/1.0, 1.1, 2.0 */
    enum framing framing;
    uint64_t content_length; /* of FRAMING_SIZED */
    bool keep_alive;         /* what version and Connection say (RFC 9112 section 9.3) */
    bool expect_continue;    /* Expect: 100-continue, and the version is not 1.0 */
};

/* Such a peer knows neither chunks nor interim responses. */
static inline bool request_is_http10(const struct request_head *head)
{
    return head->major == 1 && head->minor == 0;
}

/* As a handler and the logs see it: "HTTP/2" (reference section 16). */
static inline struct span request_protocol(const struct request_head *head)
{
    if (head->major == 2)
        return SPAN("HTTP/2");
    return head->minor ? SPAN("HTTP/1.1") : SPAN("HTTP/1.0");
}

#endif
