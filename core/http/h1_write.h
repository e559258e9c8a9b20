/*
 * Writes HTTP/1.1 response messages (RFC 9112) into a buffer. The caller has decided on framing;
 * names and values have been checked when they were set.
 */
#ifndef HTTP_H1_WRITE_H
#define HTTP_H1_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"
#include "http/fields.h"

enum h1_length {
    H1_LENGTH_ABSENT,  /* 1xx, 204, or a 304 or HEAD answer of unknown length */
    H1_LENGTH_KNOWN,   /* Content-Length: length, of HEAD and 304 too; left out of 1xx and 204 */
    H1_LENGTH_CHUNKED, /* Transfer-Encoding: chunked */
    H1_LENGTH_CLOSE    /* HTTP/1.0: the end of the connection is the end of the content */
};

struct h1_response {
    int status;                  /* 100–999 */
    struct span reason;          /* SPAN_NONE: the standard phrase, "" when there is none */
    const struct fields *fields; /* may be NULL; Content-Length, Transfer-Encoding and Connection in
                                    it are left out */
    enum h1_length framing;
    uint64_t length;
    bool close;         /* Connection: close, once */
    bool keep_alive_10; /* Connection: keep-alive, for a 1.0 peer that asked for it */
    struct span date;   /* field value; left out when absent or when fields has one */
    struct span server; /* likewise */
};

/* Appends status line, fields and the empty line. */
void h1_write_head(struct buf *out, const struct h1_response *response);

/* Appends an interim response (1xx) with its fields. */
void h1_write_interim(struct buf *out, int status, const struct fields *fields);

/* Appends 101 (Switching Protocols) to this one. */
void h1_write_switch(struct buf *out, struct span protocol);

/* Appends one chunk: size line, data, CRLF. Nothing for empty data, which would end the content. */
void h1_write_chunk(struct buf *out, struct span data);

/* Appends the last chunk and the trailer section (trailers may be NULL). */
void h1_write_end(struct buf *out, const struct fields *trailers);

#endif
