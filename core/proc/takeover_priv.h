/*
 * What the two sides of a takeover have in common: the host that runs (takeover.c) and its
 * successor (takeover_successor.c), for requests that wait meanwhile too (takeover_waiting.c).
 */
#ifndef PROC_TAKEOVER_PRIV_H
#define PROC_TAKEOVER_PRIV_H

#include <limits.h>
#include <stdbool.h>
#include <sys/un.h>

#include "base/buf.h"
#include "net/addr.h"
#include "net/ipc.h"
#include "net/loop.h"
#include "proc/master_priv.h"
#include "proc/takeover.h"

#define TAKEOVER_VERSION 1 /* of what is said here */

enum takeover_kind {
    TAKEOVER_ASK = IPC_FIRST_KIND, /* value: the version; the answer is one of the next */
    TAKEOVER_REFUSED,              /* why=… */
    TAKEOVER_SOCKET,               /* a descriptor: value: the slot; ip, port, https */
    TAKEOVER_CONTROL,              /* a descriptor; the text is the state of all apps */
    TAKEOVER_TICKETS,              /* keys=… */
    TAKEOVER_END,                  /* value: how many slots there are; state=FILE */
    TAKEOVER_DONE,                 /* from the successor: its workers serve */
    TAKEOVER_GO,                   /* the answer: it is the host from now on */
    TAKEOVER_TAKEN,                /* from the successor: it has all that it was told */
    TAKEOVER_DEMAND,  /* after GO; value: slot * TALLY_APPS + app: a request waits there */
    TAKEOVER_CHANNEL, /* from the successor; value: likewise; as IPC_CHANNEL for that worker */
};

enum takeover_state {
    TAKEOVER_NONE,
    TAKEOVER_WAITS, /* for the registrar's end */
    TAKEOVER_TOLD,  /* the successor starts */
    TAKEOVER_OVER,  /* it serves */
};

struct taken_socket {
    struct net_addr addr;
    bool https;
    unsigned slot;
    int fd; /* -1: it is in place */
};

struct takeover {
    struct master *master;
    struct listener *listener;
    struct ipc_channel ipc;       /* to the successor, or who may become it; fd -1: none */
    struct ipc_channel sent_away; /* likewise */
    struct loop_alarm limit;
    enum takeover_state state;
    bool is_stuck; /* the successor did not take all */

    /* of a successor, also once it is the host */
    struct ipc_channel old_host; /* fd -1: it has ended */
    bool is_successor, is_done, is_host;
    struct taken_socket *sockets;
    unsigned socket_count, slots;
    int control_fd;
    struct buf apps, tickets;
    char state_path[PATH_MAX];   /* "": it has not said */
    bool is_same[TALLY_APPS];    /* apps that the old host has too, by the same numbers */
    uint64_t waits[MAX_WORKERS]; /* by its worker, a bit an app: requests have waited */
};

/* Where a host listens for its successor. ERR_TOO_LARGE for a path that is too long. */
int takeover_address(const struct master *master, struct sockaddr_un *address);

/* A master's own; made when there is none. */
struct takeover *takeover_of(struct master *master);

/* The other one's end is seen by reading. fd: one to send, or NULL. ERR_LIMIT: it takes no more. */
int takeover_say(struct ipc_channel *channel, enum takeover_kind kind, unsigned value,
                 struct span text, const int *fd);

/* A request waits for an app in a worker of the old host. */
void takeover_take_demand(struct takeover *takeover, unsigned slot, unsigned app);

/* Tells the successor what waits in the host before this one. */
void takeover_demand_again(struct takeover *takeover);

#endif
