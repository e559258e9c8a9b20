/*
 * One HTTP/2 session, the server's side (RFC 9113), over nghttp2. No I/O: bytes in, events and
 * bytes out. It checks what a message must be, holds abuse within limits, and gives each stream's
 * content to its owner at once; what flows back to the peer as credit is the owner's decision.
 */
#ifndef HTTP_H2_H
#define HTTP_H2_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/span.h"
#include "http/fields.h"
#include "http/refusal.h"
#include "http/request_head.h"

/* Error codes of RST_STREAM and GOAWAY (RFC 9113 section 7) that others than the session name. */
enum {
    H2_NO_ERROR = 0x0,
    H2_INTERNAL_ERROR = 0x2,
    H2_REFUSED_STREAM = 0x7,
    H2_CANCEL = 0x8,
    H2_ENHANCE_YOUR_CALM = 0xb,
    H2_HTTP_1_1_REQUIRED = 0xd,
};

/*
 * What a peer may do. Counts are those within any H2_WINDOW_MS; what exceeds one ends the session
 * with GOAWAY ENHANCE_YOUR_CALM. Each lies below the library's own limit of the same kind.
 */
#define H2_WINDOW_MS 10000
struct h2_limits {
    const struct message_limits *message; /* heads and trailers, as over HTTP/1.1: 431, 414 */
    uint32_t max_concurrent_streams;      /* that the peer is told of; the owner refuses more */
    uint32_t stream_window_bytes;         /* of a request's content, on its way or unread */
    uint32_t header_table_bytes;          /* HPACK's table, in both directions */
    uint32_t max_resets; /* RST_STREAM of the peer, and ours that it provoked (rapid reset) */
    uint32_t max_settings, max_pings;
    uint32_t max_empty_frames;  /* DATA, HEADERS or CONTINUATION that bring nothing */
    uint32_t max_other_frames;  /* PRIORITY, PRIORITY_UPDATE, WINDOW_UPDATE beyond the frames that
                                   we sent, and unknown types */
    uint32_t max_continuations; /* of one head */

    /*
     * The peer is a host (http/h2_client.h), no stranger: none of the counters above counts, heads
     * pass as they are (the library judges no field, and a request without a host is no fault),
     * notes and extended CONNECT (RFC 8441) are allowed.
     */
    bool is_channel;
};

/*
 * A note is a frame of an extension type on a stream, between host and attached app: pairs
 * (base/pairs.h), at most H2_NOTE_BYTES. Frames of that type from anybody else are ignored.
 */
/* Of a name or value: HPACK's reader in the library takes no more, and would end the session. */
#define H2_STRING_BYTES 65535u

#define H2_NOTE_TYPE  0xe1
#define H2_NOTE_BYTES 16384

struct h2;

/*
 * A request as the session knows it, part of an object of the owner's, which sets the first three
 * before it returns it from begin, and trailing whenever it likes before the last content is
 * pulled. The rest is the session's.
 */
struct h2_request {
    struct arena *arena;           /* where the head's bytes are copied to; the owner may set it to
                                      NULL: it wants no more of the request, but for closed */
    struct request_head *head;     /* is initialised by the session */
    struct fields *trailers;       /* initialised; filled before ended */
    const struct fields *trailing; /* the response's trailers, read behind its last content; NULL
                                      from begin on */
    int32_t id;
    struct refusal refusal; /* status is not 0: what the head must be answered with */
    uint32_t head_bytes;    /* names, values and 32 a line (RFC 9113 section 6.5.2) */
    uint32_t trailer_bytes;
    uint32_t trailer_count; /* those that are dropped too */
    uint64_t content_bytes; /* received */
    uint64_t content_most;  /* Content-Length; UINT64_MAX when not known */
    struct span scheme, authority, path;
    struct span protocol;  /* of an extended CONNECT; NULL: it is none */
    uint32_t heads_queued; /* of responses, that did not leave yet */
    uint32_t reset_code;   /* of a reset that waits for them */
    bool is_open;          /* the session has the stream */
    bool head_done;        /* fields from now on are trailers */
    bool ended;            /* no content will come */
    bool responded;        /* the final response's head was handed over */
    bool has_content;      /* of the response, to be pulled */
    bool reset;            /* RST_STREAM is on its way: nothing more is given but closed */
    bool reset_waits;      /* for the heads that are queued */
};

/* How content goes on behind what pull has given. */
enum h2_more {
    H2_LATER, /* nothing now: h2_resume says when */
    H2_GOES_ON,
    H2_LAST
};

/* What happens in a session. Called from inside h2_receive and h2_send (pull, closed); none may
 * call one of these two or h2_free; all else of this header they may. */
struct h2_events {
    /* A stream begins: its request, or NULL to refuse it (REFUSED_STREAM). */
    struct h2_request *(*begin)(void *owner);

    /* A stream was refused, because begin did so or there are max_concurrent_streams. */
    void (*refused)(void *owner);

    /* The head is complete, or refused (request->refusal). request->ended: no content follows. */
    void (*head)(void *owner, struct h2_request *request);

    /* Content; borrowed until the return. The peer may send that much again on the stream when
     * h2_consumed is told of it; on the connection it may at once. */
    void (*data)(void *owner, struct h2_request *request, struct span data);

    /* The end of the content, with the trailers; not when the head said so. */
    void (*ended)(void *owner, struct h2_request *request);

    /* The session forgets the stream: finished (H2_NO_ERROR) or reset, by whom ever. */
    void (*closed)(void *owner, struct h2_request *request, uint32_t code);

    /* Writes up to room bytes of the response's content; returns how many. */
    size_t (*pull)(void *owner, struct h2_request *request, char *into, size_t room,
                   enum h2_more *more);

    /* A note of the host's (is_channel); NULL: nobody reads them. */
    void (*note)(void *owner, struct h2_request *request, struct span pairs);
};

/* Borrows limits and events. The first bytes to send are our SETTINGS. */
struct h2 *h2_new(const struct h2_limits *limits, const struct h2_events *events, void *owner);
void h2_free(struct h2 *h2); /* calls nothing */

/*
 * Goes on from an HTTP/1.1 request with Upgrade: h2c, whose answer is stream 1 (RFC 7540 section
 * 3.2): settings is the value of its HTTP2-Settings field. Before anything else. request is filled
 * by the caller but for id. ERR_INVALID: the field is malformed, and h2 good for nothing.
 */
int h2_upgrade(struct h2 *h2, struct span settings, struct h2_request *request);

/* Takes bytes of the peer, preface included, in any pieces. 0, or ERR_INVALID: the session ends
 * when what h2_send still gives is sent; h2_trouble says why. Behind h2_terminate and when all is
 * done, bytes are ignored. */
int h2_receive(struct h2 *h2, struct span in, int64_t now_ms);

/* Appends frames until out holds most bytes or there are no more. */
void h2_send(struct h2 *h2, struct buf *out, size_t most);
bool h2_wants_send(const struct h2 *h2);

/* All is done: nothing more will be sent, or is worth reading. */
bool h2_is_over(const struct h2 *h2);

/* A word for the error log (server/reason.h) and a text, when h2_receive has failed. */
const struct refusal *h2_trouble(const struct h2 *h2);

struct h2_response {
    int status;
    const struct fields *fields; /* Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding,
                                    Upgrade and Content-Length in it are left out; names in any
                                    case */
    int64_t length;              /* Content-Length, -1 when not known */
    bool no_content;             /* the head ends the stream, unless trailers follow */
    struct span date, server;    /* left out when absent or when fields has one */
};

/* The final response, once a request. Copies what it is given. Does nothing when the stream is
 * gone. Over a channel, a field that the host could not read (H2_STRING_BYTES) resets the stream
 * with INTERNAL_ERROR. */
void h2_respond(struct h2 *h2, struct h2_request *request, const struct h2_response *response);

/* An interim response, 1xx but 101. Copies fields. */
void h2_inform(struct h2 *h2, struct h2_request *request, int status, const struct fields *fields);

/* A note for the host (is_channel); copied. Nothing when the stream is gone. */
void h2_note(struct h2 *h2, struct h2_request *request, struct span pairs);

/* There is content again, or its end, after H2_LATER. */
void h2_resume(struct h2 *h2, struct h2_request *request);

/* So much of the request's content was used up: the peer may send that much again. Of a stream that
 * is gone, nothing. */
void h2_consumed(struct h2 *h2, struct h2_request *request, size_t bytes);

/* Ends the stream (any 32-bit code); heads that were handed over and what was pulled are sent
 * before. Does not count against the peer. */
void h2_reset(struct h2 *h2, struct h2_request *request, uint32_t code);

/*
 * GOAWAY in two steps (RFC 9113 section 6.8): first that the peer should open no more streams, then
 * with the last that was taken: one round trip later, or, unless soon, after
 * H2_STREAMS_AFTER_NOTICE more streams. Again with soon: as if soon before.
 */
#define H2_STREAMS_AFTER_NOTICE 200
void h2_shut_down(struct h2 *h2, bool soon);

/* The session ends at once with this error code; streams are not finished. */
void h2_terminate(struct h2 *h2, uint32_t code);

/* Streams that the session has. */
unsigned h2_streams(const struct h2 *h2);

#endif
