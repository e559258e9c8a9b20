/*
 * One HTTP/2 session, the client's side, for a peer that is a program of this machine: an attached
 * app. It is nobody's stranger, so nothing counts its resets; it may still be broken or hostile, so
 * everything that it can make grow is bounded, and what it may not do ends the session.
 *
 * Messages are carried as they are: the library judges no field (no_http_messaging), so that fields
 * of a connection and an HTTP/1.0 request without a host pass. Who owns the session judges what it
 * gets.
 */
#ifndef HTTP_H2_CLIENT_H
#define HTTP_H2_CLIENT_H

#include "http/h2.h"

struct h2_client;

struct h2_client_limits {
    uint32_t max_concurrent_calls; /* ours; the peer's SETTINGS may allow fewer */
    uint32_t stream_window_bytes;  /* of a response's content, on its way or unread */
    uint32_t header_table_bytes;   /* HPACK's table, in both directions */
    uint32_t max_head_bytes;       /* of a response's head, with all interim ones before it, and of
                                      its trailers, 32 a line counted: more resets the stream, and
                                      never ends the session */
    uint32_t max_fields;
    uint32_t most_stream_id; /* behind it the session is worn; 0: 2^30. Lower for specs */
};

/*
 * A request and its response, part of an object of the owner's, which sets the first four before
 * h2_client_call. The rest is the session's. Its memory must stay until closed has been called, or
 * h2_client_free.
 */
struct h2_call {
    struct arena *arena;     /* of the response's fields; NULL: no more is wanted but closed */
    struct fields *fields;   /* of the final response; initialised by the session */
    struct fields *trailers; /* of the response; likewise */
    const struct fields *trailing; /* of the request, read behind its last content; may be NULL */
    int32_t id;
    int status; /* of the last head that came */
    uint32_t head_bytes, field_count;
    struct fields interim; /* of an interim response, in arena; until interim returns */
    bool is_open;          /* the session has the stream */
    bool is_sent;          /* its head has left: the peer may have seen it */
    bool head_done;        /* the final head is here: what comes now are content and trailers */
    bool ended;            /* the response is complete */
    bool has_content, reset;
    uint32_t reset_code;
};

/* What happens in a session. Called from inside h2_client_receive and h2_client_send (pull,
 * closed); none may call one of these two or h2_client_free; all else of this header they may. */
struct h2_client_events {
    /* call->interim has its fields. Not for 101. */
    void (*interim)(void *owner, struct h2_call *call, int status);

    /* The final head, in call->fields; call->ended: nothing follows. */
    void (*head)(void *owner, struct h2_call *call);

    /* Content; borrowed. More of it comes when h2_client_consumed is told; on the connection at
     * once. */
    void (*data)(void *owner, struct h2_call *call, struct span data);

    /* The end, with the trailers; not when the head said so. */
    void (*ended)(void *owner, struct h2_call *call);

    /* The session forgets the stream: H2_NO_ERROR when the response is complete, or we reset it
     * with that; else the code of the reset, whoever sent it. H2_REFUSED_STREAM: the peer has done
     * nothing with it (also all streams above the last one of a GOAWAY). */
    void (*closed)(void *owner, struct h2_call *call, uint32_t code);

    /* As h2_events.pull, of the request's content. */
    size_t (*pull)(void *owner, struct h2_call *call, char *into, size_t room, enum h2_more *more);

    /* A note of the peer's on this stream (h2_note). */
    void (*note)(void *owner, struct h2_call *call, struct span pairs);

    /* The peer takes no new streams (GOAWAY): once. Those that are open go on. */
    void (*leaving)(void *owner);
};

/* Borrows limits and events. */
struct h2_client *h2_client_new(const struct h2_client_limits *limits,
                                const struct h2_client_events *events, void *owner);
void h2_client_free(struct h2_client *client); /* calls nothing */

/* Whether another call may begin now: below both limits, neither leaving nor worn. */
bool h2_client_has_room(const struct h2_client *client);

/* So many stream ids are used that another session must take over; calls that are open go on. */
bool h2_client_is_worn(const struct h2_client *client);

struct h2_call_head {
    struct span method, scheme, authority, path; /* authority.at NULL: none */
    struct span protocol;                        /* of an extended CONNECT (RFC 8441); NULL: none */
    const struct fields *fields;              /* all of them are sent but those that skip names */
    bool (*skips)(const struct field *field); /* NULL: none is left out */
    /* Behind them: the reserved ones (server/origin.h), whose names are in lower case and stay
     * where they are until the call is closed. */
    const struct fields *more;
    uint64_t more_is_unique; /* bit i: the value of more->at[i] never comes again */
    bool has_content;        /* pull gives it; else the head ends the request */
};

/* Begins a call; h2_client_has_room is true. Copies what head says. ERR_TOO_LARGE, and nothing has
 * begun: a field is longer than the other end could read (65,535 bytes of a name or value). */
int h2_client_call(struct h2_client *client, struct h2_call *call, const struct h2_call_head *head);

/* There is content again, or its end, after H2_LATER. */
void h2_client_resume(struct h2_client *client, struct h2_call *call);

/* The peer may send that much more of the response. */
void h2_client_consumed(struct h2_client *client, struct h2_call *call, size_t bytes);

/* RST_STREAM; closed follows, at the latest with the next h2_client_send. */
void h2_client_reset(struct h2_client *client, struct h2_call *call, uint32_t code);

/* A note for the peer on this stream; copied. */
void h2_client_note(struct h2_client *client, struct h2_call *call, struct span pairs);

/* GOAWAY: no calls from now on. */
void h2_client_leave(struct h2_client *client);

/* Takes bytes in any pieces. 0, or ERR_INVALID: the peer broke a rule; free the session. */
int h2_client_receive(struct h2_client *client, struct span in);

/* Why, when that failed; a static text. */
const char *h2_client_trouble(const struct h2_client *client);

/* Appends frames until out holds most bytes or there are no more. As h2_client_receive. */
int h2_client_send(struct h2_client *client, struct buf *out, size_t most);
bool h2_client_wants_send(const struct h2_client *client);

/* The peer has left, and all calls have ended. */
bool h2_client_is_over(const struct h2_client *client);

unsigned h2_client_calls(const struct h2_client *client); /* that are open */

#endif
