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
#include "http/request_head.h"

struct h1_reader {
    const struct message_limits *limits;
    struct request_head *head;
    struct arena *arena;
    struct refusal refusal; /* filled when ERR_INVALID was returned */
    uint32_t head_bytes;    /* bytes of lines read so far */
    uint32_t scanned;       /* of the unfinished line, known to hold no LF */
    uint8_t state;
};

/* Borrows everything until the head is complete. Initialises head. */
void h1_reader_init(struct h1_reader *reader, const struct message_limits *limits,
                    struct request_head *head, struct arena *arena);

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
    const struct message_limits *limits;
    struct arena *arena;
    struct fields
        *trailers; /* where trailer fields go; may be NULL: then they are checked and dropped */
    struct refusal refusal;
    enum framing framing;
    uint64_t left;            /* of the body, or of this chunk */
    uint32_t extension_bytes; /* of all chunk lines so far */
    uint32_t trailer_bytes;   /* of whole trailer lines so far */
    uint32_t trailer_count;
    uint32_t scanned; /* of the unfinished line, known to hold no LF */
    uint8_t state;
};

enum { H1_END = 0, H1_DATA = 1 };

void h1_content_init(struct h1_content *content, const struct request_head *head,
                     const struct message_limits *limits, struct arena *arena,
                     struct fields *trailers);

/*
 * H1_DATA: *data is a run of content inside in; H1_END: the message is complete; ERR_AGAIN: more
 * bytes are needed; ERR_INVALID: content->refusal. *used counts the bytes of in that were taken,
 * framing and data, in each case. Never returns H1_DATA with no data.
 */
int h1_read_content(struct h1_content *content, struct span in, size_t *used, struct span *data);

#endif
