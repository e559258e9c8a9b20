/*
 * What a host tells an attached app about a request, so that its handler sees what it would see if
 * the app had accepted the connection itself: reserved fields, whose names begin with "moonquay-".
 * Nobody else can set them: they are taken out of what clients send, and handlers may not set them.
 *
 *   moonquay-request: VERSION BOOT NUMBER CONNECTION BASE PEER LOCAL END
 *       bytes; numbers have 8, the highest first. VERSION 1: 80 HTTP/1.0, 81 HTTP/1.1, 82 HTTP/2
 *       (hexadecimal); BOOT and NUMBER: the request's id (exchange_id); CONNECTION: a number; BASE:
 *       so many bytes of the target's decoded path are the path base, all bits set: the app looks
 *       among its own prefixes; PEER and LOCAL: a byte of enum net_family, then, for IPv4 and IPv6,
 *       4 or 16 of the address and 2 of the port; END 1: ff.
 *   moonquay-client: CLIENT SCHEME HOST
 *       only where trusted proxies spoke for the client; an unknown part is "-".
 *   moonquay-target: RAW
 *       only where the request line had another form than :path can carry.
 *   moonquay-tls: VERSION CIPHER GROUP SNI ALPN RESUMED
 *       only for https; "-" for what there is not; RESUMED is 0 or 1.
 *   moonquay-certificate: VERIFICATION DER
 *       of the client, in base64; VERIFICATION "ok" or its text with "%20" for blanks.
 *   moonquay-identity: reserved for authentication.
 */
#ifndef SERVER_ORIGIN_H
#define SERVER_ORIGIN_H

#include "http/fields.h"
#include "server/exchange.h"
#include "tls/tls_facts.h"

#define ORIGIN_PREFIX "moonquay-"
#define ORIGIN_FIELDS 6u /* at most */

/* Whether the name is reserved, in any case. */
bool origin_is_reserved(struct span name);

/* For the host: appends the fields of a request that was routed; texts lie in the exchange's arena.
 * Bit i of *unique: field i's value belongs to this request alone (h2_call_head). base_known: the
 * app registered the prefix itself. */
void origin_write(struct exchange *exchange, bool base_known, struct fields *fields,
                  uint64_t *unique);

/* Of an exchange that came through a channel. */
struct origin {
    uint64_t boot, number; /* the request's id */
    struct net_addr local;
    int64_t base; /* bytes of the path; -1: not known */
    bool has_tls;
    struct tls_facts tls;
    struct span certificate;  /* DER; SPAN_NONE: none */
    struct span verification; /* "ok", or why it is not */
};

/* For the app: takes the reserved fields out of the exchange's head, fills exchange->origin, and
 * sets what the exchange itself has of them (peer, client, https, head.version …). ERR_INVALID:
 * they are missing or malformed, which no host does. */
int origin_read(struct exchange *exchange);

#endif
