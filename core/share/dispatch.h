/*
 * The host's consumer of requests: the processes that are attached to one queue, each reached by
 * channels (share/channel.h). A request goes to the process with the fewest running; what becomes
 * of it when the process leaves or dies is decided here.
 */
#ifndef SHARE_DISPATCH_H
#define SHARE_DISPATCH_H

#include <sys/types.h>

#include "net/loop.h"
#include "server/app.h"
#include "server/handler.h"
#include "server/server.h"

struct dispatch;

/* What the dispatch needs of its process; everything is borrowed until dispatch_free. */
struct dispatch_parts {
    struct loop *loop;
    struct server *server;
    struct tally *tally;
    unsigned slot;
    void *owner;

    /* The channel to this worker of the process is worn or broken: a fresh one is wanted. */
    void (*renew)(void *owner, struct dispatch *dispatch, uint64_t process, unsigned worker);

    /* The first request waits and nobody is attached (demand start). */
    void (*wanted)(void *owner, struct dispatch *dispatch);

    /* The app whose queue has this name and may be delegated to by the process with that uid; NULL
     * and why. */
    struct app *(*find_queue)(void *owner, const char *name, uid_t uid, const char **why);

    uint32_t most_stream_id; /* of a channel; 0: the default */
};
struct dispatch *dispatch_new(const struct dispatch_parts *parts);

/* All channels are closed; what they carry is broken off. */
void dispatch_free(struct dispatch *dispatch);

const struct handler *dispatch_handler(struct dispatch *dispatch);
void dispatch_serve(struct dispatch *dispatch, struct app *app); /* whose queue it pulls from */

/* One worker of an attached process can be reached by fd, which is taken. A channel to it that is
 * there already gets no more requests and closes when those that it has have ended. */
struct dispatch_peer {
    uint64_t process; /* never given to another */
    unsigned worker;
    uid_t uid;
    int64_t most_running; /* requests that it takes from all workers of the host together */
    unsigned column;      /* of the process worker's running requests in the tally */
};
void dispatch_connect(struct dispatch *dispatch, const struct dispatch_peer *peer, int fd);

/* For show servicestate: how many channels and calls. */
unsigned dispatch_channels(const struct dispatch *dispatch);

#endif
