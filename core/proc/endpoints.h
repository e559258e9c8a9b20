/*
 * Where the server listens: the socket addresses behind the URL prefixes, each with one socket a
 * worker slot. A socket opens with the first prefix that needs it and closes with the last.
 */
#ifndef PROC_ENDPOINTS_H
#define PROC_ENDPOINTS_H

#include <stdbool.h>

#include "base/err.h"
#include "net/addr.h"
#include "route/url_prefix.h"

#define ENDPOINTS_MAX         512
#define ENDPOINTS_LISTEN_MOST 16

struct endpoint {
    unsigned id; /* never used again */
    struct net_addr addr;
    bool https;
    unsigned uses; /* prefixes */
    unsigned left; /* the version of the change that left it without a use */
    int *sockets;  /* one a slot */
};

/*
 * slots and most are set before the first is opened; version is that of the change which is made
 * now.
 */
struct endpoints {
    struct endpoint *at;
    unsigned count, slots, last_id, version;
    unsigned most; /* for so many there are descriptors; what is left starts workers */

    /* Where prefixes of all addresses are served, once the machine has them; none: on all. */
    struct net_addr listen[ENDPOINTS_LISTEN_MOST];
    unsigned listen_count;
};

/*
 * Opens what the prefix needs, or counts it in where that is open already; a port 0 is chosen and
 * written into the prefix. What was opened lies behind the entries that there were. On failure
 * nothing has changed, and the text begins with the prefix and says who has the port.
 */
int endpoints_add(struct endpoints *endpoints, struct url_prefix *prefix, struct err_text *text);

/*
 * Counts the prefix out. Entries without a use stay open until endpoints_close_unused is told that
 * the change which left them, or a later one, holds in all workers.
 */
void endpoints_remove(struct endpoints *endpoints, const struct url_prefix *prefix);

/* The place for a socket of that slot that another process has opened, -1 when it is empty; NULL
 * when there are no such slot or too many addresses. Its endpoint has no use yet. */
int *endpoints_adopt(struct endpoints *endpoints, const struct net_addr *addr, bool https,
                     unsigned slot);

/* Opens what is missing of such endpoints, when there are more slots here. */
int endpoints_complete(struct endpoints *endpoints, struct err_text *text);

/* From now on prefixes are served at these addresses: moves those that are there, given by each.
 * Nothing has changed when it fails. */
typedef void endpoints_each_fn(void *owner,
                               void (*visit)(void *context, const struct url_prefix *prefix),
                               void *context);
int endpoints_listen_on(struct endpoints *endpoints, const struct net_addr *listen, unsigned count,
                        endpoints_each_fn *each, void *owner, struct err_text *text);

/* Whether an address can be one of them; is_missing: the machine does not have it now. */
int endpoints_judge_listen(const struct net_addr *addr, bool *is_missing, struct err_text *text);

void endpoints_close_unused(struct endpoints *endpoints, unsigned version);
void endpoints_close_all(struct endpoints *endpoints);

#endif
