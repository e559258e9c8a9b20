/*
 * The HTTP/2 side of a connection: its streams, each with an exchange. What the peer sends is noted
 * stream by stream while it is read, and acted upon afterwards: handlers never run inside the
 * session's callbacks.
 */
#ifndef SERVER_SESSION_H
#define SERVER_SESSION_H

#include "http/h2.h"
#include "server/server_priv.h"

struct session;

struct h2_stream {
    struct list node;          /* of the session's */
    struct list news;          /* of those to be looked at; empty: nothing new */
    struct list sending;       /* of those with something in out, or the end behind it */
    struct session *session;   /* NULL: the connection is gone */
    struct exchange *exchange; /* NULL: freed, and the session has yet to forget the stream */
    struct h2_request request;
    struct buf in;       /* content that the handler has not read; at most the stream's window */
    size_t used_bytes;   /* of what came, and the peer does not know of it */
    struct buf out;      /* content that the peer has not room for; below twice OUT_HIGH_BYTES */
    int64_t stamp_ms;    /* when the current wait began */
    int64_t pressure_ms; /* since when there is more in out than the peer takes; 0: there is not */
    uint64_t pressure_bytes; /* taken since */
    uint32_t close_code;     /* of is_closed */
    bool has_head;           /* its head is complete, and no handler knows of it */
    bool has_bytes;          /* content or its end has come */
    bool client_left;        /* a host says so; the answer is still wanted */
    bool has_delegate_reply; /* of a host */
    int delegate_reply;
    bool malformed;      /* a host says so of the content behind what is here */
    bool is_closed;      /* the session has forgotten it */
    bool head_waits;     /* the response's head is to be sent with what follows it */
    bool out_ended;      /* nothing will be added to out */
    bool all_pulled;     /* and all that was is sent, or about to be */
    bool ignores_rest;   /* nobody will read more of the request */
    bool drops_rest;     /* the request's content is not wanted, once all_pulled */
    bool resets;         /* when out is empty */
    uint32_t reset_code; /* of drops_rest and resets */
};

struct session {
    struct conn *conn;
    const struct h2_limits *limits;
    struct h2 *h2;
    struct list streams;
    struct list news, sending;
    unsigned exchanges; /* of streams, also of those that were reset while a handler runs */
    unsigned active;    /* of these, those whose peer is still there */
    bool broken;        /* h2_receive has failed: it ends when all is sent */
};

/* Goes on from here with HTTP/2. */
struct session *session_new(struct conn *conn);

/* Goes on from a request that asks for it (Upgrade: h2c), whose head is complete and which becomes
 * stream 1. ERR_INVALID: as if it had not asked. */
int session_upgrade(struct conn *conn, struct exchange *exchange, struct span settings);

/* All streams lose their connection, for this reason. */
void session_close(struct session *session, enum conn_close_reason reason);
void session_free(struct session *session);

/* Frees what is kept for the next streams. */
void session_free_streams(struct server *server);

/* Takes all bytes; then session_run acts on what they brought. */
void session_receive(struct session *session, struct span in);
void session_run(struct session *session);

/* Frames for the connection's output, as many as it holds well. */
void session_write(struct session *session);

/* More to write when there is room, or to run. */
bool session_has_more(const struct session *session);

/* The connection may be closed: nothing goes on, or will. */
bool session_is_over(const struct session *session);

/* The peer has ended its side: handlers are told. */
void session_peer_ended(struct session *session);

/* No more streams from the peer, as soon as it knows. */
void session_drain(struct session *session);

/* Whether a stream of it carries this exchange, which may be freed. */
bool session_has(const struct session *session, const struct exchange *exchange);

/* The connection is about to be closed: tells the peer what was taken, if it can be told. */
void session_take_leave(struct session *session);

/* Something has changed that session_run should look at. */
void session_look(struct h2_stream *stream);

/* The peer may send as much again as was used up. */
void session_credit(struct h2_stream *stream);

/* Breaks one stream off: reported, reset, and the handler is told. */
void session_drop(struct h2_stream *stream, enum conn_close_reason reason);

/* No more of the request is wanted: told to the peer behind the response's end, or when much of it
 * has been read away. */
void session_drop_rest(struct h2_stream *stream, uint32_t code);
void session_ignore_rest(struct h2_stream *stream);

/* That while is over. */
void session_reset_now(struct h2_stream *stream);

/* All is sent but what the peer's windows hold back: from now on its rate counts. */
void session_mark_pressure(struct session *session);

/* The stream's exchange is freed. */
void session_exchange_gone(struct h2_stream *stream);

/* h2_carrier.c: the response's head, if it waits; is_all: nothing follows it. */
void h2_carrier_send_head(struct exchange *exchange, bool is_all);

#endif
