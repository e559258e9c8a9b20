/*
 * TLS of a worker: its bindings, ticket keys and protocols, and the buffers that its connections
 * share. The bindings are replaced as a whole; connections that are open keep those that they began
 * with. One thread alone may use a struct tls.
 */
#ifndef TLS_TLS_CTX_H
#define TLS_TLS_CTX_H

#include <stdbool.h>

#include "base/err.h"
#include "base/span.h"
#include "tls/tls_profile.h"
#include "tls/tls_ticket.h"

struct tls;

enum tls_event { TLS_HANDSHAKE_FULL, TLS_HANDSHAKE_RESUMED, TLS_HANDSHAKE_FAILED };

struct tls_parts {
    /* Protocols in the order that the server likes best, separated by commas: "h2,http/1.1". A
     * client that offers some and none of these is refused (RFC 7301 s.3.2). */
    const char *alpn;
    /* Called at the end of each handshake, from inside a read; may be NULL. */
    void (*counted)(void *owner, enum tls_event event);
    void *owner;
    /* Let OpenSSL read and write the sockets itself, as it must where the kernel seals records
     * (kTLS); else only where the kernel can. */
    bool socket_bio;
};

/* Without bindings at first: every handshake is refused. NULL and why when OpenSSL cannot work. */
struct tls *tls_new(const struct tls_parts *parts, struct err_text *why);

/* All streams must be closed. Accepts NULL. */
void tls_free(struct tls *tls);

/* Takes the profiles (and not the array); the ones before live on with their connections. */
void tls_use(struct tls *tls, struct tls_profile *const *profiles, unsigned count);

/* Ticket keys, the one that seals first; ERR_INVALID and why. Until then keys of its own. */
int tls_use_tickets(struct tls *tls, struct span keys, struct err_text *why);

#endif
