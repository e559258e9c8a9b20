/* Whether a client that trusts certain authorities would take a server's certificate. */
#ifndef TLS_TLS_VERIFY_H
#define TLS_TLS_VERIFY_H

#include <stdint.h>

#include "base/err.h"
#include "base/span.h"
#include "tls/tls_cert.h"

#define TLS_AUTHORITIES_MOST 1000 /* a system's are some 150 */

/* The authorities of a PEM text that somebody trusts. */
struct tls_authorities;

/* ERR_INVALID and why: no certificate in it, a broken one, too many. Returns owned. */
int tls_authorities_new(struct tls_authorities **authorities, struct span pem,
                        struct err_text *why);
void tls_authorities_free(struct tls_authorities *authorities);

/*
 * Follows the chain to one of the authorities, as of now (seconds since 1970): signatures,
 * purposes, name constraints, times. ERR_INVALID, and in one line what fails, at which certificate.
 */
int tls_verify(const struct tls_cert *cert, const struct tls_authorities *authorities, int64_t now,
               struct err_text *why);

#endif
