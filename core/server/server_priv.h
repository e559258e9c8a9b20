/* What the files of a worker's server share. */
#ifndef SERVER_SERVER_PRIV_H
#define SERVER_SERVER_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "http/date.h"
#include "http/h1_read.h"
#include "http/h2.h"
#include "net/addr_set.h"
#include "net/stream.h"
#include "route/prefix_table.h"
#include "route/queue.h"
#include "server/app.h"
#include "server/exchange.h"
#include "server/reason.h"
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
#define FRAME_ROUNDS      8    /* of OUT_HIGH_BYTES, likewise */
#define REQUESTS_PER_TURN 256  /* of one connection, then the others get their turn */
#define AUTHORIZATION_BYTES                                                                        \
    65536                          /* max_field_length of Authorization: Kerberos tickets are long \
                                    */
#define CERTIFICATE_MS      120000 /* for a client to answer when a handler asks for its certificate */
#define RETRY_AFTER_SECONDS "1"    /* of a 503: a moment later there may be room again */
#define FREE_EXCHANGES      64
#define FREE_BUFFERS        16
#define FREE_STREAMS        64

struct app {
    struct server *server;
    unsigned index; /* column in the tally, bit in a connection's set */
    const char *name;
    const struct settings *settings;
    const struct handler *handler; /* NULL: stopped */
    struct queue queue;
    struct tally_app *tally; /* our column */
    int64_t running;         /* requests that the handler has, in this worker */
    struct loop_call pull;   /* takes waiting requests */
    int64_t taken;           /* off the queue, in this turn of the loop */
    uint64_t taken_turn;
    struct list closing;   /* of those that are no more, while exchanges still name them */
    uint64_t refs;         /* exchanges that name it */
    struct loop_call last; /* frees it when the last has gone */
    void (*gone)(void *owner);
    void *gone_owner;
};

/* The prefixes of a port, found once for all requests that come to it; NULL when nothing is known.
 */
struct last_port {
    const struct prefix_port *port;
    uint16_t number;
    bool https, needs_ip;
};

struct server {
    struct loop *loop;
    const struct settings *settings; /* server-wide, and the defaults of the apps */
    const struct settings *early;    /* before a connection's first request is routed */
    struct tally *tally;
    struct tally_slot *slot;
    struct access_log *access_log;
    struct error_log *error_log;
    struct tls *tls;         /* NULL: none */
    struct addr_set trusted; /* proxies */
    struct prefix_table *prefixes;
    struct last_port last_port;    /* of the latest request */
    struct prefix_table *reserved; /* prefixes that are kept for somebody; NULL: none */
    struct app *apps[TALLY_APPS];
    unsigned app_count;
    struct list closing_apps;
    struct tally_app nowhere;     /* where those are counted */
    struct local_address *locals; /* that connections came to */
    unsigned local_count;
    struct message_limits limits;
    struct h2_limits h2_limits;
    struct message_limits channel_message;
    struct h2_limits channel_limits; /* of channels, whose other end is a host */
    struct list conns;
    unsigned conn_count;
    struct exchange *free_exchanges[FREE_EXCHANGES];
    unsigned free_exchange_count;
    struct buf free_buffers[FREE_BUFFERS];
    unsigned free_buffer_count;
    struct h2_stream *free_streams[FREE_STREAMS];
    unsigned free_stream_count;
    uint64_t boot, last_exchange, last_conn;
    int64_t timer_ms; /* the shortest of the connection's time limits */
    int64_t date_second;
    char date[DATE_BYTES];
    bool draining;
    bool keeps_waiting; /* then what waits for an app is not refused */
    void (*drained)(void *owner);
    void *drained_owner;
    struct loop_call drain_call;
    char scratch[SCRATCH_BYTES]; /* what a read brings lies here while it is handled */
};

enum conn_state {
    CONN_PROXY,     /* a trusted proxy may begin with whom it speaks for */
    CONN_READING,   /* idle, or a head is on its way */
    CONN_HANDLING,  /* a handler has the exchange */
    CONN_DRAINING,  /* the answer is complete, the rest of the request's content is read away */
    CONN_SESSION,   /* HTTP/2: its streams have states of their own */
    CONN_LINGERING, /* we have closed our side and wait for the peer's, so that it sees the answer
                     */
    CONN_CLOSED,
};

enum conn_close_reason {
    CLOSE_NONE,
    CLOSE_PEER,
    CLOSE_RESET,
    CLOSE_DONE, /* Connection: close, or HTTP/1.0 */
    CLOSE_PROXY_HEADER,
    CLOSE_PROTOCOL, /* HTTP/2: the peer broke the rules, or went beyond a limit */
    CLOSE_TLS,      /* the handshake failed */
    CLOSE_ABORTED,
    CLOSE_BUSY, /* a 503 without words: http_503_verbosity basic */
    CLOSE_HEADER_WAIT,
    CLOSE_IDLE,
    CLOSE_ENTITY_BODY,
    CLOSE_MIN_SEND,
    CLOSE_HANDLER,
    CLOSE_CERTIFICATE, /* the client was asked for one, and did not answer */
    CLOSE_LINGER,
    CLOSE_DRAIN,
};

/* An address of this machine that connections came to, as text for the prefix table; kept for all
 * of them. */
struct local_address {
    struct local_address *next;
    struct net_addr addr;
    char ip[NET_ADDR_TEXT];
    size_t ip_len;
};

/* What a trusted proxy said about its connection (PROXY protocol). */
struct conn_proxy {
    struct net_addr client, local;
};

struct conn {
    struct list node;
    struct server *server;
    struct stream *stream;     /* NULL once closed */
    struct exchange *exchange; /* NULL while idle, and over HTTP/2 */
    struct session *session;   /* NULL over HTTP/1.1 */
    struct span *view;         /* bytes in the scratch, only inside the read callback */
    struct buf in;             /* received and not yet taken; empty while idle */
    struct buf out;            /* to be sent; empty while idle */
    struct loop_timer timer;
    struct loop_call call; /* end of the turn: advance and send, or free */
    uint64_t number;
    int64_t stamp_ms;                  /* when the current wait began */
    struct app *app;                   /* of the latest request; NULL before the first */
    struct app *channel;               /* whose requests a host sends here; NULL: a client's */
    uint64_t joined;                   /* the apps in whose connections it is counted, by index */
    const struct local_address *local; /* NULL until somebody asks */
    struct conn_proxy *proxy;          /* NULL: the peer is the client */
    int64_t pressure_ms;               /* since when the peer is slower than we; 0: it is not */
    uint64_t pressure_bytes;           /* on their way then, and handed to the system since */
    int64_t asked_ms;                  /* when the client was asked for a certificate */
    uint32_t pressure_grace_ms;
    uint16_t port; /* that it came to */
    bool https;
    bool trusted; /* the peer is a proxy whose word counts */
    struct net_addr peer;
    uint8_t state, reason;
    bool fresh;       /* has not had a request yet */
    bool peer_ended;  /* read returned the end */
    bool close_after; /* no further request on this connection */
    bool linger;      /* the peer may still be sending */
    bool advancing;
    bool held_back; /* requests wait until answers have left */
    bool asking;    /* a handler has asked for the client's certificate */
    bool deaf; /* not read while it is handled: whether the peer is there is asked now and then */
};

/* conn.c, for exchange.c */
struct span conn_bytes(const struct conn *conn);
void conn_take(struct conn *conn, size_t bytes);

/* Appends room for output; what is there is sent at the end of the turn. */
struct buf *conn_out(struct conn *conn);
void conn_send_soon(struct conn *conn);

/* From now on it is idle, or drained. What comes and goes before its first request makes the time
 * for that no longer: a client could send a SETTINGS frame byte by byte. */
void conn_quiet(struct conn *conn);

/* Sends now: what is buffered, then parts; what the socket does not take of them is kept. 0 or an
 * error. */
int conn_send(struct conn *conn, const struct span *parts, int count);

/* Over HTTP/2: frames of all streams, as many as the socket takes now. 0 or an error. */
int conn_send_frames(struct conn *conn);

/* Reads and interest follow what the exchange wants. */
void conn_update_interest(struct conn *conn);
void conn_content_wanted(struct conn *conn);
void conn_exchange_ended(struct conn *conn);
void conn_close(struct conn *conn, enum conn_close_reason reason);

/* What a handler and the error log are told of a close; the latter nothing (REASON_NONE) where no
 * request was harmed, or where the refusal has been told. exchange may be NULL. */
int conn_close_code(enum conn_close_reason reason);
enum reason conn_close_word(const struct exchange *exchange, enum conn_close_reason reason);
int conn_block(struct conn *conn, bool for_read, int ms);

/* Where the connection ends here, and where the client's does: at a proxy that said so. */
struct net_addr conn_socket_local(struct conn *conn);
struct net_addr conn_local(struct conn *conn);
void conn_look_for_peer(struct conn *conn);

/* exchange_tls.c, for conn.c: after a read, which may have brought an answer. */
void conn_look_for_certificate(struct conn *conn);

/* conn.c, for server.c */
void conn_new(struct server *server, struct stream *stream, const struct server_entry *entry,
              const struct net_addr *peer);
void conn_drain(struct conn *conn);

/* The stream is ready; fits stream_ready_fn. */
void conn_ready(void *owner, int events);

/* conn_protocol.c */

/* From here on the connection speaks TLS; received are its first bytes, where there are some. */
void conn_begin_tls(struct conn *conn, struct span received);

/* Reported; the connection stays until the peer has seen the alert. */
void conn_tls_failed(struct conn *conn);

/*
 * True when the handshake said HTTP/2, or the connection begins with its preface, or with what is
 * here of it, so that nobody can say yet: not *known. HTTP/1.1 has no such method.
 */
bool conn_speaks_h2(struct conn *conn, struct span bytes, bool *known);

/* Goes on with HTTP/2 when the request whose head is complete asks for it and may. */
bool conn_upgrade(struct conn *conn);

/* timeouts.c */
void timeouts_start(struct conn *conn);
void timeouts_stop(struct conn *conn);

/* The time that counts may have become shorter. */
void timeouts_look(struct conn *conn);

/* After a send that left something, or once the peer was slower than we: whether it still is. */
void timeouts_pressure(struct conn *conn, size_t bytes);

/* A peer that leaves its side open after our last answer has so long. */
int64_t timeouts_linger_ms(const struct server *server);

/* The least of the times of all settings, after which a connection is looked at. */
int64_t timeouts_least(const struct settings *settings);

/* admission.c: the way of a request from its head to its handler */
void admission_enter(struct exchange *exchange);
void admission_leave(struct exchange *exchange);       /* the handler needs it no more */
void admission_enter_again(struct exchange *exchange); /* it is another app's now, and waits */
void admission_forget(struct exchange *exchange);      /* it waits, and its client is gone */
void admission_expire(struct exchange *exchange);      /* it has waited too long */
void admission_stop(struct app *app);                  /* nothing waits any longer */
void admission_close(struct app *app);                 /* likewise, and nobody will come */
void admission_conn_gone(struct conn *conn);
void admission_init(struct app *app);

/* exchange.c: the answer is complete, or never will be. */
void exchange_end(struct exchange *exchange, enum exchange_phase phase);

/* exchange_delegate.c: what a host has said to exchange_delegate; 0 or an error. */
void exchange_delegated(struct exchange *exchange, int code);

/* For channel.c: takes the limits of the app, and hands the exchange to its handler if there is
 * room, else false. */
bool admission_hand_over(struct app *app, struct exchange *exchange);

/* report.c: everything that the server refuses or drops is counted and logged here */
void server_report(struct conn *conn, const struct exchange *exchange, const struct refusal *why);
void server_report_drop(struct conn *conn, const struct exchange *exchange, enum reason reason);
void server_report_broken(struct conn *conn, const struct refusal *why); /* no request's fault */
void server_report_refused(struct server *server, const struct server_entry *entry,
                           const struct net_addr *peer);

/* exchange.c, for conn.c */
struct exchange *exchange_new(struct conn *conn);
void exchange_begin(struct exchange *exchange);            /* the head is complete */
void exchange_detach(struct exchange *exchange, int code); /* the connection is gone */
void exchange_cancel(struct exchange *exchange, int code);

/* Answers for the core itself. A detail of NULL is left out of the page. */
void exchange_refuse(struct exchange *exchange, const struct refusal *why);

/* The handler has run for too long: it is cancelled, and its client answered. */
void exchange_overdue(struct exchange *exchange);

/* As exchange_refuse with 503, as the app's http_503_verbosity has it. */
void exchange_refuse_busy(struct exchange *exchange, const char *reason, const char *detail);
void exchange_done(struct exchange *exchange); /* the connection needs it no more */
void exchange_free(struct exchange *exchange);
bool exchange_content_left(const struct exchange *exchange);

/* channel.c: a connection whose other end is a host */
void channel_new(struct server *server, struct app *app, struct stream *stream);
void channel_limits_init(struct server *server);

/* A request has come: to its app, without the way of a client's. */
void channel_enter(struct exchange *exchange);

/* What the host enforces has changed for this request; the answer is the connection's last. */
void channel_note_limits(struct exchange *exchange);
void channel_note_close(struct exchange *exchange);

/* conn.c: a connection that has its stream, address and state; it is served from now on. */
struct conn *conn_open(struct server *server, struct stream *stream);

/* app.c: an exchange names its app, until it is freed */
void app_join(struct app *app, struct exchange *exchange);
void app_leave(struct exchange *exchange);
void apps_free(struct server *server);

/* Whether a prefix leads to nobody, but is kept for somebody. */
bool app_is_reserved(const struct app *app);

/* server.c */
void server_conn_gone(struct server *server, const struct conn *conn);
const struct local_address *server_local(struct server *server, const struct net_addr *addr);

#endif
