/*
 * A binding: which connections it is for, and what they are shown and asked. Made from the contents
 * of its files. How a connection's binding is chosen is tls_ctx's business.
 */
#ifndef TLS_TLS_PROFILE_H
#define TLS_TLS_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"
#include "net/addr.h"

#define TLS_CERTS_MOST 4 /* of a binding: one for each kind of key */
#define TLS_NAME_MOST  253

/* What a handshake asks of the client. delay: nothing until a handler does. */
enum tls_client_policy { TLS_CLIENT_NONE, TLS_CLIENT_ALLOW, TLS_CLIENT_REQUIRE, TLS_CLIENT_DELAY };

enum tls_version { TLS_VERSION_ANY, TLS_VERSION_1_2, TLS_VERSION_1_3 };

/* PEM, PEM, and the answer of an OCSP responder as it came (DER); an empty one is none. */
struct tls_identity {
    struct span certificate, key, ocsp;
};

/* Borrowed by tls_profile_new for the call alone. */
struct tls_profile_parts {
    struct span name;        /* a host, or *.domain for one label below it; empty: any, or none */
    struct net_addr address; /* NET_NONE: any */
    uint16_t port;           /* 0: any */
    enum tls_version min_version, max_version;
    enum tls_client_policy client;
    struct span authorities; /* PEM: who vouches for clients; required by TLS_CLIENT_REQUIRE */
    struct tls_identity identities[TLS_CERTS_MOST];
    unsigned identity_count;
};

/* Which part is wrong. */
enum tls_part { TLS_PART_CERTIFICATE, TLS_PART_KEY, TLS_PART_OCSP, TLS_PART_AUTHORITIES };

struct tls_fault {
    enum tls_part part;
    unsigned identity; /* which, of a certificate, key or OCSP answer */
    struct err_text why;
};

struct tls_profile;

/* ERR_INVALID and what is wrong. Returns owned in *profile. */
int tls_profile_new(struct tls_profile **profile, const struct tls_profile_parts *parts,
                    struct tls_fault *fault);
void tls_profile_free(struct tls_profile *profile);

/*
 * Whether two bindings are for the same connections: none of them would ever be chosen before the
 * other.
 */
bool tls_profile_same_place(const struct tls_profile_parts *a, const struct tls_profile_parts *b);

/* Whether *.domain stands for host: exactly one label more, in lower case both. */
bool tls_wildcard_covers(struct span pattern, struct span host);

#endif
