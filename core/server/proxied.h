/*
 * Who the client is when a request came through proxies, and what it asked for: their fields are
 * followed from the nearest proxy outwards for as long as the one that wrote them is trusted.
 */
#ifndef SERVER_PROXIED_H
#define SERVER_PROXIED_H

#include "base/mem.h"
#include "base/span.h"
#include "http/fields.h"
#include "http/refusal.h"
#include "net/addr.h"
#include "net/addr_set.h"

struct proxied {
    struct net_addr client; /* port 0 when no proxy said it */
    struct span scheme;     /* "http", "https", or SPAN_NONE: the connection's own */
    struct span host;       /* a valid authority, or SPAN_NONE: the request's own */
};

/*
 * Fills *out from the Forwarded lines, or from the X-Forwarded-… ones; both together are refused.
 * from is who counts so far: the socket's peer, or the source in its PROXY header; unless trusted,
 * it is the client and no field is looked at. Else an address that a trusted proxy wrote is the
 * client, while it is trusted itself the next one; a proxy that hides whom it serves ends the
 * search. Scheme and host come from the hop whose address became the client, the nearest when none
 * did. Texts are borrowed from the fields or in arena. ERR_INVALID with *why when a field is
 * malformed, or both kinds are there.
 */
int proxied_resolve(const struct fields *fields, const struct net_addr *from,
                    const struct addr_set *trusted, struct arena *arena, struct proxied *out,
                    struct refusal *why);

#endif
