/*
 * One request and its response, whichever protocol carries them. The handler reads content and
 * writes the answer through these functions; they never block and never call the handler back from
 * inside.
 *
 * An exchange outlives its connection: when the peer is gone, operations return ERR_CLOSED or
 * ERR_RESET, and what was read of the request stays readable until exchange_release.
 */
#ifndef SERVER_EXCHANGE_H
#define SERVER_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/span.h"
#include "http/fields.h"
#include "http/h1_read.h"
#include "net/addr.h"
#include "route/queue.h"

struct app;
struct carrier;
struct conn;
struct h2_stream;
struct origin;
struct server;

enum exchange_phase {
    EXCHANGE_HEAD,     /* the request's head is being read; no handler knows of it */
    EXCHANGE_OPEN,     /* the handler has it, nothing was sent */
    EXCHANGE_STARTED,  /* status and fields were sent and are fixed */
    EXCHANGE_FINISHED, /* the answer is complete */
    EXCHANGE_ABORTED   /* given up: the connection was or will be closed */
};

enum content_phase { CONTENT_UNREAD, CONTENT_READING, CONTENT_ENDED, CONTENT_FAILED };

struct exchange {
    struct conn *conn; /* NULL when the connection is gone */
    struct server *server;
    const struct carrier *carrier;
    struct h2_stream *stream;    /* that carries it; NULL over HTTP/1.1 */
    struct app *app;             /* NULL until the request has been routed */
    const struct origin *origin; /* what a host says of it; NULL: the connection is a client's */
    void *task;                  /* the handler's */
    uint64_t number; /* unique in this process and never 0; changes when the memory is used again */
    struct arena arena;

    /* the request */
    struct request_head head;
    struct h1_reader reader;
    struct h1_content content;
    struct fields trailers;      /* of the request, after CONTENT_ENDED */
    struct span path_base, path; /* the target's path, split at the app's prefix */
    struct net_addr peer;        /* the other end of the socket */
    struct net_addr client;   /* with by_proxy: who sent the request, by way of trusted proxies */
    struct span scheme, host; /* likewise: as the client used them, when a proxy says it */
    bool by_proxy;
    bool https; /* the connection is */
    uint64_t connection_number;
    uint64_t content_bytes; /* read so far */
    uint64_t drained_bytes; /* read away after the answer */
    size_t unhelpful;       /* received bytes that are not enough for a run, with wants_content */
    struct buf held;        /* content given back by exchange_unread */
    size_t given_back;      /* of held: not counted in content_bytes */
    size_t used_before;     /* of held, from its front: the carrier knows of it already */
    struct span last_run;   /* what exchange_content returned last */
    size_t last_before;     /* of that, what the carrier knew of before */
    int64_t start_unix_ms, start_us;

    /* limits of this request alone, from the app's settings when it was routed */
    int64_t max_content;          /* max_request_body_size */
    int64_t limit_entity_body_ms; /* SETTING_OFF: none */
    int64_t limit_handler_ms;
    int64_t limit_min_send; /* bytes a second */

    /* the way to the handler */
    struct queue_entry waiting; /* in the app's queue */
    int64_t queued_ms;          /* loop time when it began to wait */
    int64_t handed_ms;          /* loop time when the handler got it */
    uint8_t attempts;           /* how often exchange_requeue has put it back */
    uint8_t handovers;          /* how often exchange_hand_on has moved it */
    bool handed;                /* the handler has it, and has not released it */

    enum content_phase content_phase;
    int content_error; /* of CONTENT_FAILED */

    /* the response */
    enum exchange_phase phase;
    int status;
    struct span reason; /* SPAN_NONE: the standard phrase */
    struct fields fields, response_trailers;
    int64_t length;      /* declared Content-Length, -1 when none */
    uint64_t sent;       /* content bytes handed over */
    uint32_t reset_code; /* for the stream, when it is broken off */
    bool chunked, close;
    bool wants_content, wants_room;
    bool released;     /* by the handler */
    bool cancelled;    /* the handler was told */
    bool overdue;      /* the server has answered for a handler that took too long */
    bool delegating;   /* the host is asked */
    bool delegated;    /* and another queue has the request: there is no answer of ours */
    int delegate_code; /* what the host has said last */
    bool started;      /* status and fields were sent */
    bool refused_head; /* the head itself was refused: no request was counted */
};

/*
 * The next run of content: 1 and *data, borrowed until the next call on any exchange or the end of
 * the loop's callback; 0 at the end. ERR_AGAIN: handler->readable will be called. ERR_TOO_LARGE:
 * above max_content (413); sized content then stays unread. ERR_INVALID: malformed (400).
 * ERR_CLOSED, ERR_RESET, ERR_TIMEOUT: the peer left or stalled. The first call answers Expect:
 * 100-continue.
 */
int exchange_content(struct exchange *exchange, struct span *data);

/* True when there is content to come, unread or given back. */
bool exchange_has_content(const struct exchange *exchange);

/* Gives back the last bytes of the run that exchange_content returned; the next call returns them
 * again. */
void exchange_unread(struct exchange *exchange, size_t bytes);

/*
 * Sends status and fields. length is the content's size, -1 when unknown (chunked, or close for
 * HTTP/1.0). A Content-Length field that was set counts instead; ERR_TOO_LARGE, and nothing is
 * sent, when that is less than length. ERR_STATE when sent already; ERR_CLOSED, ERR_RESET.
 */
int exchange_start(struct exchange *exchange, int64_t length);

/*
 * Hands over content, starting the response if need be. Returns how many bytes were taken, from the
 * front, at least one; ERR_AGAIN: none now, handler->writable will be called. ERR_TOO_LARGE: more
 * than the declared length, nothing taken. ERR_STATE after the end, unless data is empty. Content
 * of an answer that has none (HEAD, 204, 304) is taken and dropped.
 */
ssize_t exchange_write(struct exchange *exchange, struct span data);

/* Sends what is buffered now and not at the end of the turn, starting the response if need be. */
int exchange_flush(struct exchange *exchange);

/*
 * Ends the answer; with data as the whole content when nothing was sent yet (at most EXCHANGE_WHOLE
 * bytes; larger content is written piece by piece). ERR_INVALID: fewer bytes than declared were
 * written; the connection was aborted.
 */
#define EXCHANGE_WHOLE 65536
int exchange_finish(struct exchange *exchange, struct span data);

/* Nobody gets the handler's answer: the client has left, or the server has answered for it. */
static inline bool exchange_void(const struct exchange *exchange)
{
    return exchange->overdue || exchange->delegated || exchange->phase == EXCHANGE_ABORTED;
}

/* Drops fields, trailers and status that were set, for an error answer. Only before the start. */
void exchange_reset_response(struct exchange *exchange);

/* An interim response: 100 to 199 but 101. ERR_STATE after the start; nothing is sent to a 1.0
 * peer. ERR_AGAIN: handler->writable will be called. */
int exchange_inform(struct exchange *exchange, int status, const struct fields *fields);

/*
 * Breaks the answer off: the peer sees that it is not complete. Over HTTP/1.1 that resets the
 * connection, over HTTP/2 the stream, with this error code, CANCEL, or INTERNAL_ERROR (RFC 9113
 * section 7), behind what was written before. Behind a complete answer only exchange_reset does
 * something, and only to a stream whose request goes on.
 */
void exchange_reset(struct exchange *exchange, uint32_t code);
void exchange_abort(struct exchange *exchange);
void exchange_fail(struct exchange *exchange);

/* The handler needs the exchange no more; an answer that has not ended is broken off. May be called
 * from handler->cancelled. */
void exchange_release(struct exchange *exchange);

/*
 * Puts an exchange that the handler has back in front of its queue, as if it had not got it: the
 * handler has released it by that. ERR_STATE, and nothing has changed, when it was read or
 * answered, or its client has left.
 */
int exchange_requeue(struct exchange *exchange);

/*
 * The handler has no answer and never will: the server gives one of its own, with this status and
 * reason (server/reason.h), or breaks off what has begun. The handler still has to release it.
 */
void exchange_give_up(struct exchange *exchange, int status, const char *reason,
                      const char *detail);

/* max_request_body_size and timeouts.handler hold no more: somebody else keeps them. */
void exchange_lift_limits(struct exchange *exchange);

/*
 * For handlers that cannot wait: blocks until content or room is there or ms have passed
 * (ERR_TIMEOUT); then exchange_content or exchange_write goes on.
 */
int exchange_block(struct exchange *exchange, bool for_content, int ms);

/* To be called after a change of the exchange's time limits: the connection's timer takes them up.
 */
void exchange_limits_changed(struct exchange *exchange);

/* The address that the peer connected to; NET_NONE when the connection is gone. */
struct net_addr exchange_local(const struct exchange *exchange);

/* The connection's TLS stream; NULL for http, and when the connection is gone or a channel. */
struct stream;
const struct stream *exchange_tls(const struct exchange *exchange);

/* The facts of the client's connection, here or at a host. False for http, and when it is gone. */
struct tls_facts;
struct tls_peer;
bool exchange_tls_facts(const struct exchange *exchange, struct tls_facts *facts);
bool exchange_tls_peer(struct exchange *exchange, struct tls_peer *peer);

/*
 * Asks the client for its certificate: handler->certified will be called when it has answered, with
 * one or without. ERR_UNSUPPORTED, ERR_STATE as tls_stream_ask_certificate, also while there is
 * content to read; ERR_CLOSED.
 */
int exchange_ask_certificate(struct exchange *exchange);

/*
 * Behind a host: asks it to give the request to another queue; handler->certified will be called
 * with its answer in delegate_code: 0, and all that the handler still does to the answer is
 * nothing; ERR_NOT_FOUND, ERR_PERMISSION, ERR_STATE, ERR_LIMIT. Here: ERR_UNSUPPORTED without a
 * host, ERR_STATE when the request was read or answered, ERR_CLOSED.
 */
int exchange_delegate(struct exchange *exchange, const char *queue);
bool exchange_may_delegate(const struct exchange *exchange);

/* In the host, for a handler that has the exchange: content that was read is unread again, all of
 * it; then the exchange becomes another app's, and is this handler's no more. ERR_STATE as
 * exchange_requeue; ERR_LIMIT: it was moved EXCHANGE_HANDOVERS times already. */
#define EXCHANGE_HANDOVERS 8
struct app;
void exchange_give_back(struct exchange *exchange, struct span content);
int exchange_hand_on(struct exchange *exchange, struct app *app);

/* Who sent the request, whom it asked, and by which scheme; through trusted proxies. */
static inline const struct net_addr *exchange_client(const struct exchange *exchange)
{
    return exchange->by_proxy ? &exchange->client : &exchange->peer;
}
struct span exchange_host(const struct exchange *exchange);
struct span exchange_scheme(const struct exchange *exchange);

/* Writes the request's id, unique over restarts: 12 hexadecimal digits, '-', the number. Returns
 * its length. */
#define EXCHANGE_ID_BYTES 40
size_t exchange_id(const struct exchange *exchange, char out[EXCHANGE_ID_BYTES]);

#endif
