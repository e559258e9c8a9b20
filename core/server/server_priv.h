/* What server.c, conn.c and exchange.c share. */
#ifndef SERVER_SERVER_PRIV_H
#define SERVER_SERVER_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "http/date.h"
#include "http/h1_read.h"
#include "net/stream.h"
#include "server/exchange.h"
#include "server/server.h"

#define SCRATCH_BYTES    65536
#define OUT_HIGH_BYTES   65536 /* unsent output above which a writer waits */
#define OUT_DIRECT_BYTES 16384 /* content from this size on is sent from where it lies */
#define IN_AHEAD_BYTES                                                                             \
    16384 /* read ahead of a running handler: pipelined requests, unread content */
#define DRAIN_BYTES       (1 << 20) /* unread content that is read away to keep a connection */
#define LINGER_MS         5000
#define DRAIN_LINGER_MS   1000 /* while draining, also for a new connection's first request */
#define DEAF_MS           1000 /* between two looks at a peer that is not read */
#define REQUESTS_PER_TURN 256  /* of one connection, then the others get their turn */
#define AUTHORIZATION_BYTES                                                                        \
    65536 /* max_field_length of Authorization: Kerberos tickets are long                          \
           */
#define FREE_EXCHANGES 64
#define FREE_BUFFERS   16

struct server {
    struct loop *loop;
    const struct settings *settings;
    struct tally_slot *slot;
    struct access_log *access_log;
    const struct handler *handler;
    struct h1_limits limits;
    struct list conns;
    unsigned conn_count;
    struct exchange *free_exchanges[FREE_EXCHANGES];
    unsigned free_exchange_count;
    struct buf free_buffers[FREE_BUFFERS];
    unsigned free_buffer_count;
    uint64_t boot, last_exchange, last_conn;
    int64_t timer_ms; /* the shortest of the connection's time limits */
    int64_t date_second;
    char date[DATE_BYTES];
    bool draining;
    void (*drained)(void *owner);
    void *drained_owner;
    struct loop_call drain_call;
    char scratch[SCRATCH_BYTES]; /* what a read brings lies here while it is handled */
};

enum conn_state {
    CONN_READING,   /* idle, or a head is on its way */
    CONN_HANDLING,  /* a handler has the exchange */
    CONN_DRAINING,  /* the answer is complete, the rest of the request's content is read away */
    CONN_LINGERING, /* we have closed our side and wait for the peer's, so that it sees the answer
                     */
    CONN_CLOSED,
};

enum conn_close_reason {
    CLOSE_NONE,
    CLOSE_PEER,
    CLOSE_RESET,
    CLOSE_DONE, /* Connection: close, or HTTP/1.0 */
    CLOSE_REFUSED,
    CLOSE_ABORTED,
    CLOSE_HEADER_WAIT,
    CLOSE_IDLE,
    CLOSE_ENTITY_BODY,
    CLOSE_SEND_STALLED,
    CLOSE_LINGER,
    CLOSE_DRAIN,
};

struct conn {
    struct list node;
    struct server *server;
    struct stream *stream;     /* NULL once closed */
    struct exchange *exchange; /* NULL while idle */
    struct span *view;         /* bytes in the scratch, only inside the read callback */
    struct buf in;             /* received and not yet taken; empty while idle */
    struct buf out;            /* to be sent; empty while idle */
    struct loop_timer timer;
    struct loop_call call; /* end of the turn: advance and send, or free */
    uint64_t number;
    int64_t stamp_ms; /* when the current wait began */
    struct net_addr peer;
    uint8_t state, reason;
    bool fresh;       /* has not had a request yet */
    bool peer_ended;  /* read returned the end */
    bool close_after; /* no further request on this connection */
    bool linger;      /* the peer may still be sending */
    bool advancing;
    bool held_back; /* requests wait until answers have left */
    bool deaf; /* not read while it is handled: whether the peer is there is asked now and then */
};

/* conn.c, for exchange.c */
struct span conn_bytes(const struct conn *conn);
void conn_take(struct conn *conn, size_t bytes);

/* Appends room for output; what is there is sent at the end of the turn. */
struct buf *conn_out(struct conn *conn);
void conn_send_soon(struct conn *conn);

/* Sends now: what is buffered, then parts; what the socket does not take of them is kept. 0 or an
 * error. */
int conn_send(struct conn *conn, const struct span *parts, int count);

/* Reads and interest follow what the exchange wants. */
void conn_update_interest(struct conn *conn);
void conn_content_wanted(struct conn *conn);
void conn_exchange_ended(struct conn *conn);
void conn_limits_changed(struct conn *conn); /* of its exchange */
void conn_close(struct conn *conn, enum conn_close_reason reason);
int conn_block(struct conn *conn, bool for_read, int ms);

/* conn.c, for server.c */
void conn_new(struct server *server, struct stream *stream, const struct net_addr *peer);
void conn_drain(struct conn *conn);

/* exchange.c, for conn.c */
struct exchange *exchange_new(struct conn *conn);
void exchange_begin(struct exchange *exchange);            /* the head is complete */
void exchange_detach(struct exchange *exchange, int code); /* the connection is gone */
void exchange_cancel(struct exchange *exchange, int code);
void exchange_refuse(struct exchange *exchange, const struct refusal *why);
void exchange_done(struct exchange *exchange); /* the connection needs it no more */
void exchange_free(struct exchange *exchange);
bool exchange_content_left(const struct exchange *exchange);

/* server.c */
void server_conn_gone(struct server *server);

#endif
