/*
 * Why a request was refused or a connection dropped: one word for the error log, for the counters
 * and for people who know HTTP.sys, whose words these are (reference/http-sys.md section 18.1). A
 * peer that leaves in good order is no error and has no reason.
 */
#ifndef SERVER_REASON_H
#define SERVER_REASON_H

enum reason {
    REASON_NONE,

    /* The request as it was read: 4xx, 501, 505. */
    REASON_BAD_REQUEST,
    REASON_VERB,
    REASON_URL,
    REASON_HEADER,
    REASON_HOSTNAME,
    REASON_INVALID_CR_LF,
    REASON_NUMBER,
    REASON_FIELD_LENGTH,
    REASON_REQUEST_LENGTH,
    REASON_URL_LENGTH,
    REASON_VERSION,
    REASON_NOT_IMPLEMENTED,
    REASON_FORBIDDEN,
    REASON_NOT_FOUND,
    REASON_PRECONDITION,
    REASON_ENTITY_TOO_LARGE,
    REASON_AUTH_REQUIRED, /* ours: 401 */
    REASON_PROXY_HEADER,  /* ours: a malformed PROXY protocol header, no status */
    REASON_TLS_HANDSHAKE, /* ours: one that failed, no status */
    REASON_MISDIRECTED,   /* ours: 421, another binding asks other things of clients */

    /* The server or the app: 500, 503. */
    REASON_INTERNAL,
    REASON_NOT_AVAILABLE, /* "N/A": an internal failure, or a reservation whose owner is away */
    REASON_APP_OFFLINE,
    REASON_APP_SHUTDOWN,
    REASON_DISABLED,
    REASON_CONN_LIMIT,          /* of an app */
    REASON_CONNECTIONS_REFUSED, /* the machine's limit, or memory */
    REASON_QUEUE_FULL,

    /* The connection was dropped. */
    REASON_CLIENT_RESET,       /* the peer left before a handler had the request */
    REASON_CONNECTION_DROPPED, /* the peer left before it had the answer */
    REASON_CONNECTION_ABANDONED,
    REASON_REQUEST_CANCELLED,
    REASON_TIMER_CONNECTION_IDLE,
    REASON_TIMER_HEADER_WAIT,
    REASON_TIMER_ENTITY_BODY,
    REASON_TIMER_MIN_BYTES_PER_SECOND,
    REASON_TIMER_SEND_STALLED, /* ours: nothing of an answer was taken for too long */
    REASON_TIMER_REQ_QUEUE,
    REASON_TIMER_SSL_RENEGOTIATION,
    REASON_TIMER_HANDLER, /* ours */

    REASONS
};

/* "BadRequest", "Timer_HeaderWait" …: stable, for programs; "-" for REASON_NONE. */
const char *reason_name(enum reason reason);

/* The reason of a name (that of a struct refusal, say); REASON_NONE when there is none such. */
enum reason reason_find(const char *name);

#endif
