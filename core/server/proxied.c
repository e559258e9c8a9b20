/*
 * A hop is believed because of who wrote it, which is what the hop behind it says. So the search
 * begins at the right, where the writer is the peer itself, and never goes past an address that is
 * not trusted: what is left of it, a client may have made up.
 */
#include "server/proxied.h"

#include "base/err.h"
#include "http/forwarded.h"

static struct span known_scheme(struct span proto)
{
    if (span_eq_nocase(proto, SPAN("http")))
        return SPAN("http");
    return span_eq_nocase(proto, SPAN("https")) ? SPAN("https") : SPAN_NONE;
}

static void walk(const struct forwarded *hops, const struct addr_set *trusted, struct proxied *out)
{
    const struct forwarded_hop *taken = &hops->at[hops->count - 1];

    for (uint32_t i = hops->count; i > 0 && addr_set_has(trusted, &out->client); i--) {
        const struct forwarded_hop *hop = &hops->at[i - 1];

        if (hop->node != FORWARDED_IP)
            break;
        CHECK(net_addr_parse(&out->client, hop->ip, hop->port) == 0);
        taken = hop;
    }
    out->scheme = known_scheme(taken->proto);
    out->host = taken->host;
}

int proxied_resolve(const struct fields *fields, const struct net_addr *from,
                    const struct addr_set *trusted, struct arena *arena, struct proxied *out,
                    struct refusal *why)
{
    struct forwarded hops, others;
    int rc, rc_others;

    *out = (struct proxied){.client = *from, .scheme = SPAN_NONE, .host = SPAN_NONE};
    if (!addr_set_has(trusted, from))
        return 0;
    rc = forwarded_read(&hops, fields, arena);
    rc_others = forwarded_read_x(&others, fields);
    /* A proxy that writes one kind and passes the other on lets its clients say who they are. */
    if (rc != ERR_NOT_FOUND && rc_others != ERR_NOT_FOUND) {
        *why = (struct refusal){400, "Header", "both Forwarded and X-Forwarded fields"};
        return ERR_INVALID;
    }
    if (rc == ERR_NOT_FOUND) {
        rc = rc_others;
        hops = others;
    }
    if (rc == ERR_INVALID) {
        *why = (struct refusal){400, "Header", hops.detail};
        return ERR_INVALID;
    }
    if (rc == 0 && hops.count > 0)
        walk(&hops, trusted, out);
    return 0;
}
