/* What a certificate is made of, for the files of this room. */
#ifndef TLS_TLS_CERT_PRIV_H
#define TLS_TLS_CERT_PRIV_H

#include "tls/openssl_priv.h"

#include "tls/tls_cert.h"

struct tls_cert {
    X509 *leaf;
    STACK_OF(X509) * chain; /* without the leaf; may be empty */
    EVP_PKEY *key;          /* NULL until it is set */
};

/*
 * Reads all certificates of a PEM text, at most so many, without judging them. Returns owned (free
 * with sk_X509_pop_free), or NULL and why.
 */
STACK_OF(X509) * tls_certs_read(struct span pem, int most, struct err_text *why);

/* The name of a certificate for people: its common name, else its first alternative name. */
void tls_cert_name(X509 *cert, char *out, size_t room);

/* Seconds since 1970 of a time in a certificate. */
int64_t tls_time(const ASN1_TIME *when);

/* What OpenSSL says of its latest error, without file and line; empties its queue. */
void tls_reason(char *out, size_t room);

#endif
