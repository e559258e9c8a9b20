/*
 * What proxies say of those before them: Forwarded (RFC 7239), and X-Forwarded-For, -Proto and
 * -Host, which came before it. One hop for each proxy, in the order of the field: the last was
 * written by the proxy next to us. Whom to believe is the caller's to judge.
 */
#ifndef HTTP_FORWARDED_H
#define HTTP_FORWARDED_H

#include <stdint.h>

#include "base/span.h"
#include "http/fields.h"

/* Hops of a message: no honest path is so long, and a caller holds them all at once. */
#define FORWARDED_MOST 32

/* Pairs of an element of Forwarded; their names are compared with each other. */
#define FORWARDED_PAIRS_MOST 16

enum forwarded_node {
    FORWARDED_UNSAID, /* no "for" */
    FORWARDED_IP,
    FORWARDED_HIDDEN /* "unknown", or a name that begins with '_' */
};

struct forwarded_hop {
    enum forwarded_node node; /* from whom the proxy got the message */
    uint16_t port;            /* 0: not said */
    struct span ip;           /* of FORWARDED_IP: an IPv4 or IPv6 address without brackets */
    struct span proto;        /* a scheme, in any case; SPAN_NONE: not said */
    struct span host;         /* a valid authority; SPAN_NONE: not said */
};

struct forwarded {
    struct forwarded_hop at[FORWARDED_MOST];
    uint32_t count;
    const char *detail; /* static; why it is malformed */
};

/*
 * Reads all Forwarded lines as one list. Texts are borrowed from the fields, or in arena where they
 * had escapes. ERR_NOT_FOUND: no such line; ERR_INVALID with detail.
 */
int forwarded_read(struct forwarded *out, const struct fields *fields, struct arena *arena);

/*
 * Reads X-Forwarded-For, and gives each hop the entries of X-Forwarded-Proto (http or https) and
 * X-Forwarded-Host that are as far from the right end, or the left-most of a shorter list. Without
 * -For the right-most ones are a single hop. As forwarded_read else.
 */
int forwarded_read_x(struct forwarded *out, const struct fields *fields);

#endif
