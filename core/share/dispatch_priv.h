/* What dispatch.c (who gets a request), link.c (a socket to an app's worker) and call.c (a request
 * on its way) share. */
#ifndef SHARE_DISPATCH_PRIV_H
#define SHARE_DISPATCH_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "http/h2_client.h"
#include "net/stream.h"
#include "server/exchange.h"
#include "share/dispatch.h"

#define OUT_MOST_BYTES 65536u /* unsent frames above which a link takes no content of requests */
#define FREE_CALLS     64u
#define REFUSALS_MOST  100u   /* of one request */
#define KEPT_MOST      65536u /* content of a request that an app may hand on */

struct dispatch {
    struct dispatch_parts parts;
    struct handler handler;
    struct tally_slot *slot;
    struct app *app;
    struct list links; /* the one that was used longest ago first */
    unsigned link_count;
    struct list free_calls;
    unsigned free_call_count;
    bool is_served; /* some link is usable */
    bool demanded;
    bool stopped; /* the app's column is another's by now */
};

/* ---- dispatch.c */

/* Who waits longest, here or in another worker, has its turn. */
void dispatch_place_free(struct dispatch *dispatch);

/* A link can be used now, or no more. */
void dispatch_links_changed(struct dispatch *dispatch);

/* ---- link.c */

struct link {
    struct list node;
    struct dispatch *dispatch;
    struct dispatch_peer peer;
    struct stream *stream;    /* NULL once closed */
    struct h2_client *client; /* NULL before the first request */
    struct h2_client_limits limits;
    struct list calls;
    struct buf out;
    struct loop_call turn; /* end of the turn: send, or free */
    int64_t running;       /* calls that have a place in the tally */
    bool is_there;         /* the app has begun to speak: before, nobody may read what we send */
    bool retired;          /* gets no more requests */
    bool renewed;          /* a fresh one was asked for */
    bool is_full;          /* the app has refused a request: it gets the next in a moment */
    struct loop_timer pause;
};

struct link *link_new(struct dispatch *dispatch, const struct dispatch_peer *peer, int fd);

/* The app has refused a request, which goes elsewhere, or comes again in a moment. */
void link_refused(struct link *link);

/* Its session, which begins with the first request. */
struct h2_client *link_client(struct link *link);

/* Whether somebody is at its other end who takes requests. */
bool link_is_usable(const struct link *link);

/* Whether it could take a request now, but for the place in the tally. */
bool link_has_room(const struct link *link);

/* What was handed to its session leaves with the end of this turn. */
void link_send_soon(struct link *link);

/* No more requests; it closes when it has none. */
void link_retire(struct link *link);

/* It is of no use any more: why is for the log, NULL when the app has left in good order. Its calls
 * have failed. Freed later. */
void link_close(struct link *link, const char *why);

/* Closed or not; its calls are forgotten. */
void link_free(struct link *link);

/* A call has ended: the place is free. */
void link_call_ended(struct link *link);

/* ---- call.c */

struct call {
    struct h2_call h2;
    struct list node; /* of its link's */
    struct link *link;
    struct exchange *exchange; /* NULL: nobody wants the answer */
    struct buf in;             /* of the response, what the client has not room for */
    uint64_t passed;           /* bytes of the request's content */
    struct buf kept;           /* these, while all of them are: another app may have to get them */
    bool may_send;             /* the app has asked for the content (100 Continue), or need not */
};

extern const struct h2_client_events call_events; /* whose owner is the link */

/* The request is on its way. ERR_TOO_LARGE: it cannot be carried, and is answered. */
int call_start(struct link *link, struct exchange *exchange);

/* What the server tells the handler. */
void call_readable(struct exchange *exchange);
void call_writable(struct exchange *exchange);
void call_cancelled(struct exchange *exchange, int code);

/* The link is broken: the request is answered, broken off, or given to another process. */
void call_abandon(struct call *call);

void call_free(struct call *call);

#endif
