/*
 * The host's consumer of requests: the processes that are attached to one queue, each reached by
 * links (share/link.h). A request goes to the process with the fewest running; what becomes of it
 * when the process leaves or dies is decided here.
 */
#ifndef SHARE_DISPATCH_H
#define SHARE_DISPATCH_H

#include <sys/types.h>

#include "net/loop.h"
#include "route/tally.h"
#include "server/app.h"
#include "server/handler.h"

struct dispatch;

/* What the dispatch needs of its process; everything is borrowed until dispatch_free. */
struct dispatch_parts {
    struct loop *loop;
    struct tally *tally;
    unsigned slot;
    void *owner;

    /* The link to this worker of the process is worn or broken: a fresh one is wanted. */
    void (*renew)(void *owner, uint64_t process, unsigned worker);

    /* That worker of the host is to call dispatch_woken; NULL: there is no other. */
    void (*wake)(void *owner, unsigned slot);

    /* The app whose queue has this name, for a request that a process of this user hands on; NULL
     * and why: ERR_NOT_FOUND, ERR_PERMISSION. */
    struct app *(*find)(void *owner, uid_t uid, const char *queue, int *code);

    /* A request waits, and no process is there; once until one was. NULL: nobody wants to know. */
    void (*demand)(void *owner);

    unsigned most_refusals;  /* of one request; then it is answered 502. 0: 100. Lower for specs */
    uint32_t most_stream_id; /* of a link; 0: 2^30 */
};
struct dispatch *dispatch_new(const struct dispatch_parts *parts);

/* All links are closed; the requests that they carry are given up. The app is gone before. */
void dispatch_free(struct dispatch *dispatch);

const struct handler *dispatch_handler(struct dispatch *dispatch);
void dispatch_serve(struct dispatch *dispatch, struct app *app); /* whose queue it pulls from */

/* Its app is about to be closed: it takes nothing more, and what runs goes on. */
void dispatch_stop(struct dispatch *dispatch);

/* Its host is stopping, and another one in its place: what waits is made known again, to who now
 * cares for it. */
void dispatch_demand_again(struct dispatch *dispatch);

/* A place may be free, and what waits here waits longest. */
void dispatch_woken(struct dispatch *dispatch);

/* One worker of an attached process can be reached by a socket. A link to it that is there already
 * gets no more requests and closes when those that it has have ended. */
struct dispatch_peer {
    uint64_t process; /* never given to another */
    unsigned worker;
    uid_t uid;             /* whose it is */
    int64_t most_running;  /* requests that it takes from all workers of the host together */
    unsigned column;       /* of its running requests in the tally (tally_peer_take) */
    bool gets_credentials; /* Authorization and Proxy-Authorization are passed on to it */
};

/* Takes fd. ERR_LIMIT: there are DISPATCH_LINKS already; fd is closed. */
#define DISPATCH_LINKS     1024
#define DISPATCH_FINISHING 64 /* to one worker */
int dispatch_connect(struct dispatch *dispatch, const struct dispatch_peer *peer, int fd);

/* How many links there are, also those that only finish. */
unsigned dispatch_links(const struct dispatch *dispatch);

#endif
