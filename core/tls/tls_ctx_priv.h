/* What the files of this room share of a worker's TLS. */
#ifndef TLS_TLS_CTX_PRIV_H
#define TLS_TLS_CTX_PRIV_H

#include "tls/openssl_priv.h"

#include "base/buf.h"
#include "tls/tls_ctx.h"
#include "tls/tls_profile_priv.h"
#include "tls/tls_ticket_priv.h"

#define TLS_ALPN_MOST    64
#define TLS_RECORD_BYTES 16384 /* of plain text; RFC 8446 s.5.1 */

/* What a read takes from the socket at once, and what a write seals before it sends. */
#define TLS_READ_BYTES  65536
#define TLS_BATCH_BYTES 65536

/* The bindings as they were at some time; counted by tls and by the connections that began then. */
struct tls_generation {
    unsigned refs;
    SSL_CTX *front; /* of a connection whose binding is not known yet */
    struct tls_profile **profiles;
    unsigned count;
    bool asks_clients; /* some binding does, so that they may differ in that */
};

struct tls_stream;

struct tls {
    struct tls_parts parts;
    struct tls_generation *now;
    struct tls_tickets tickets;
    unsigned char alpn[TLS_ALPN_MOST]; /* as in the extension: each with its length before it */
    unsigned alpn_length;
    BIO_METHOD *bio_method;
    BIO *bio; /* tls_bio.c */
    bool socket_bio, ktls;
    struct tls_stream *active; /* on whose behalf OpenSSL has been called last */

    /* Shared by all connections; each is empty but while one of them reads or writes. */
    struct span received; /* from the socket, for OpenSSL to read */
    struct buf sealed;    /* by OpenSSL, for the socket */
    char incoming[TLS_READ_BYTES];
    char plain[TLS_RECORD_BYTES]; /* pieces that become one record */
};

struct tls_generation *tls_generation_ref(struct tls_generation *generation);
void tls_generation_unref(struct tls_generation *generation);

/*
 * The binding for a connection that came to local and asks for a host in lower case (empty: it does
 * not say): a binding of the address first, then one of the name, then of a wildcard, then any;
 * among equals the one that names the port. NULL when none fits.
 */
const struct tls_profile *tls_find(const struct tls_generation *generation,
                                   const struct net_addr *local, struct span host);

/* tls_bio.c: the BIO of all connections; its reads come from tls->received, its writes go to
 * tls->sealed. False when OpenSSL has no memory. */
bool tls_bio_open(struct tls *tls);
void tls_bio_close(struct tls *tls);

/* Whether no more is to come, for tls_bio.c; tls_stream.c knows. */
bool tls_stream_input_over(const struct tls_stream *stream);

/* tls_stream.c, for the callbacks of a handshake */
const struct net_addr *tls_stream_local(const struct tls_stream *stream);
const struct tls_generation *tls_stream_generation(const struct tls_stream *stream);
void tls_stream_choose(struct tls_stream *stream, const struct tls_profile *profile);

#endif
