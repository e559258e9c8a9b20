/*
 * Listening sockets: bound by the master, served by a worker. A worker that runs out of descriptors
 * stops accepting for a short while instead of spinning.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "base/err.h"
#include "net/addr.h"
#include "net/loop.h"

#define LISTENER_BACKLOG 4096 /* the kernel caps it at net.core.somaxconn */

/*
 * How a socket is bound. LISTENER_EXCLUSIVE: the first of an address, bound before SO_REUSEPORT is
 * set on it, so that it fails when anybody, also a server of the same user, has the port; otherwise
 * one that joins the group of the first. LISTENER_EARLY: the address need not be the machine's; the
 * socket serves it as long as it is.
 */
#define LISTENER_EXCLUSIVE 1u
#define LISTENER_EARLY     2u

/*
 * Binds and listens; how: some of those. addr->port 0 takes a free port and writes it back. Returns
 * the descriptor (non-blocking, close-on-exec), or ERR_IN_USE, ERR_PERMISSION, ERR_LIMIT,
 * ERR_UNSUPPORTED (no such address, or family), with text saying which address.
 */
int listener_bind(struct net_addr *addr, unsigned how, struct err_text *text);

struct listener;

/* Called for each accepted connection: non-blocking, close-on-exec, TCP_NODELAY. The callee takes
 * fd. */
typedef void listener_accept_fn(void *owner, int fd, const struct net_addr *peer);

/* Serves fd from now on. Takes fd. At most batch connections are accepted in one turn. */
struct listener *listener_start(struct loop *loop, int fd, unsigned batch,
                                listener_accept_fn *accepted, void *owner);

/* Accepts what waits in the socket's queue, then stops and frees; the socket itself stays open
 * elsewhere if it is shared. */
void listener_stop(struct listener *listener);

#endif
