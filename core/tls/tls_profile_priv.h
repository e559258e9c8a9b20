/* A binding in use, for the files of this room. */
#ifndef TLS_TLS_PROFILE_PRIV_H
#define TLS_TLS_PROFILE_PRIV_H

#include "tls/openssl_priv.h"

#include "tls/tls_profile.h"

#define TLS_ID_BYTES 32 /* of a SHA-256, and all that OpenSSL takes for a session id context */

struct tls_staple {
    unsigned char *answer; /* DER; NULL: none */
    int length;
    int64_t until; /* seconds since 1970; 0: it does not say */
    X509 *leaf;    /* whose it is; borrowed from the context */
};

struct tls_profile {
    SSL_CTX *ctx;
    char name[TLS_NAME_MOST + 1]; /* lower case, "" for any */
    bool is_wildcard;
    struct net_addr address;
    uint16_t port;
    int min_version, max_version; /* OpenSSL's numbers */
    enum tls_client_policy client;
    unsigned char policy[TLS_ID_BYTES]; /* equal where the same clients are let in */
    unsigned char id[TLS_ID_BYTES];     /* no session of another id is resumed */
    struct tls_staple staples[TLS_CERTS_MOST];
    unsigned staple_count;
};

/* What all contexts have in common: ciphers, groups, options, buffers. False: OpenSSL refuses. */
bool tls_policy_apply(SSL_CTX *ctx);

/* Makes a connection one of this binding, from inside the callback for its hello. */
bool tls_profile_apply(const struct tls_profile *profile, SSL *ssl);

/* A client's certificate is judged later, by who asks for the result. */
int tls_verify_later(int ok, X509_STORE_CTX *store);

#endif
