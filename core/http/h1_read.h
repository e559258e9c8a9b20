/*
 * Reads HTTP/1.1 request messages (RFC 9112) from bytes in any pieces: the head line by line into
 * the request's arena, then the content, sized or chunked. Strict: what two implementations could
 * read in two ways is refused. How the bytes are split never changes the answer.
 */
#ifndef HTTP_H1_READ_H
#define HTTP_H1_READ_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/span.h"
#include "http/fields.h"
#include "http/refusal.h"
#include "http/target.h"

/* Each limit is named in DESIGN section 5; what it answers stands behind it. */
struct h1_limits {
    uint32_t max_request_head_bytes;   /* request line and fields with their line ends: 431
                                          RequestLength */
    uint32_t max_target_bytes;         /* 414 URL_Length */
    uint32_t max_field_length;         /* a field line without its end: 431 FieldLength */
    uint32_t max_authorization_length; /* the same for Authorization, whose tickets are long */
    uint32_t max_fields;               /* 431 FieldLength; trailers too */
    struct target_limits target;
};

enum h1_framing {
    H1_NO_CONTENT,
    H1_SIZED,  /* Content-Length; 0 counts as no content */
    H1_CHUNKED /* Transfer-Encoding: chunked */
};

/* A request head. Spans lie in the arena. */
struct h1_head {
    struct span method;
    struct target target;
    struct span
        host; /* the authority that counts: the absolute form's, else Host's value; may be empty */
    struct fields fields;
    struct span version; /* as it was received, also when it or the target is refused */
    uint8_t minor;       /* HTTP/1.minor, 0 or 1 */
    enum h1_framing framing;
    uint64_t content_length; /* of H1_SIZED */
    bool keep_alive;         /* what version and Connection say (RFC 9112 section 9.3) */
    bool expect_continue;    /* Expect: 100-continue, and the version is 1.1 */
};

struct h1_reader {
    const struct h1_limits *limits;
    struct h1_head *head;
    struct arena *arena;
    struct refusal refusal; /* filled when ERR_INVALID was returned */
    uint32_t head_bytes;    /* bytes of lines read so far */
    uint32_t scanned;       /* of the unfinished line, known to hold no LF */
    uint8_t state;
};

/* Borrows everything until the head is complete. Initialises head. */
void h1_reader_init(struct h1_reader *reader, const struct h1_limits *limits, struct h1_head *head,
                    struct arena *arena);

/*
 * Takes whole lines from in, *used says how many bytes (also with ERR_AGAIN); the next call's in
 * starts behind them. 0: the head is complete; ERR_AGAIN: more bytes are needed; ERR_INVALID:
 * reader->refusal says why, and nothing after it on this connection means anything. One or more
 * empty lines (CRLF) before the request line are skipped, within the head limit (RFC 9112 s. 2.2).
 */
int h1_read_head(struct h1_reader *reader, struct span in, size_t *used);

/* True when no byte of a head was taken yet: the connection is idle. */
bool h1_reader_idle(const struct h1_reader *reader);

/* The content of one message. */
struct h1_content {
    const struct h1_limits *limits;
    struct arena *arena;
    struct fields
        *trailers; /* where trailer fields go; may be NULL: then they are checked and dropped */
    struct refusal refusal;
    enum h1_framing framing;
    uint64_t left;            /* of the body, or of this chunk */
    uint32_t extension_bytes; /* of all chunk lines so far */
    uint32_t trailer_bytes;   /* of whole trailer lines so far */
    uint32_t trailer_count;
    uint32_t scanned; /* of the unfinished line, known to hold no LF */
    uint8_t state;
};

enum { H1_END = 0, H1_DATA = 1 };

void h1_content_init(struct h1_content *content, const struct h1_head *head,
                     const struct h1_limits *limits, struct arena *arena, struct fields *trailers);

/*
 * H1_DATA: *data is a run of content inside in; H1_END: the message is complete; ERR_AGAIN: more
 * bytes are needed; ERR_INVALID: content->refusal. *used counts the bytes of in that were taken,
 * framing and data, in each case. Never returns H1_DATA with no data.
 */
int h1_read_content(struct h1_content *content, struct span in, size_t *used, struct span *data);

#endif
