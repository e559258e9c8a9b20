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
#include "server/error_log.h"
#include "server/handler.h"
#include "server/settings.h"

struct app;
struct server;
struct tls;

/* The protocols that connections over TLS speak, the one that the server likes best first. */
#define SERVER_ALPN "h2,http/1.1"

/* What a server is made of; everything is borrowed until server_free. */
struct server_parts {
    struct loop *loop;
    const struct settings *settings; /* server-wide, and the defaults of the apps */
    struct tally *tally;
    unsigned slot;                 /* ours in the tally */
    struct access_log *access_log; /* NULL: none */
    struct error_log *error_log;   /* NULL: none */
    struct tls *tls;               /* NULL: no entry may be https */
    uint64_t boot;                 /* tells this worker's life from all others in ids */
};
struct server *server_new(const struct server_parts *parts);

/* All connections must be gone or are reset. */
void server_free(struct server *server);

/* Takes up what changed in settings: connections see it at once. */
void server_apply_settings(struct server *server);

/*
 * An address where connections come in: which scheme and port they came to, for the URL prefixes.
 * server_entry_init fills it; it must outlive its listener alone.
 */
struct local_address;
struct server_entry {
    struct server *server;
    struct net_addr addr; /* as it was bound; all zeros stand for any address */
    bool https;
    const struct local_address *local; /* NULL when connections differ in theirs */
};
void server_entry_init(struct server_entry *entry, struct server *server,
                       const struct net_addr *addr, bool https);

/* Serves an accepted connection, or refuses it above server.max_connections. Takes fd. Fits
 * listener_accept_fn. */
void server_accept(void *entry, int fd, const struct net_addr *peer);

/*
 * Serves the requests that a host sends for one app over this socket (DESIGN section 2): HTTP/2
 * with reserved fields (server/origin.h). Takes fd. Time limits of connections, and refusals in the
 * host's name, are left to the host.
 */
void server_accept_channel(struct server *server, struct app *app, int fd);

/*
 * No connection is kept alive from now on: idle ones close, busy ones after their answer. drained
 * is called once, from the loop, when the last is gone.
 */
void server_drain(struct server *server, void (*drained)(void *owner), void *owner);

/* Whether what waits for an app when the server drains may wait on, since its handler will still
 * take it; else, and once it may not any more, it is refused. Before server_drain or behind it. */
void server_keep_waiting(struct server *server, bool keep);

/* Resets what is left. */
void server_abort(struct server *server);

unsigned server_connections(const struct server *server);

#endif
