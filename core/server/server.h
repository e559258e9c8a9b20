/*
 * What all connections of a worker share: loop, settings, handler, logs, counters, cached date, and
 * the list of connections itself.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <stdint.h>

#include "net/addr.h"
#include "net/loop.h"
#include "route/tally.h"
#include "server/access_log.h"
#include "server/handler.h"
#include "server/settings.h"

struct server;

/* Borrows everything until server_free. log may be NULL (no access log). boot tells this worker's
 * life from all others in ids. */
struct server *server_new(struct loop *loop, const struct settings *settings,
                          struct tally_slot *slot, struct access_log *log, uint64_t boot);

/* All connections must be gone or are reset. */
void server_free(struct server *server);

/* Takes up limits that changed in settings; connections see them with their next request. */
void server_apply_settings(struct server *server);

/* Who gets the requests from now on; borrowed. NULL: requests get 503. */
void server_set_handler(struct server *server, const struct handler *handler);

/* Serves an accepted connection. Takes fd. Fits listener_accept_fn. */
void server_accept(void *server, int fd, const struct net_addr *peer);

/*
 * No connection is kept alive from now on: idle ones close, busy ones after their answer. drained
 * is called once, from the loop, when the last is gone.
 */
void server_drain(struct server *server, void (*drained)(void *owner), void *owner);

/* Resets what is left. */
void server_abort(struct server *server);

unsigned server_connections(const struct server *server);

#endif
