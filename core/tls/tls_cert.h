/*
 * A certificate as a server shows it: the leaf, the chain behind it, and the private key. Made from
 * PEM texts; files are somebody else's business (the master alone reads them), so are the judgement
 * of names and trust, which the clients make. What is wrong is told in one line that fits behind
 * the name of the file.
 */
#ifndef TLS_TLS_CERT_H
#define TLS_TLS_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

/* Certificates of a chain, the leaf too: each handshake sends all of them, and a client would give
 * up long before (OpenSSL at 100 KB). */
#define TLS_CHAIN_MOST 16

struct tls_cert;

/*
 * Reads the leaf and, behind it, the certificates that vouch for it: each must have signed the one
 * before (RFC 8446 s.4.4.2 lets clients cope with less; some do not). Other PEM blocks are passed
 * over, so that one file may hold all. ERR_INVALID and why: no certificate, a broken one, a chain
 * out of order, more than TLS_CHAIN_MOST. Returns owned in *cert.
 */
int tls_cert_new(struct tls_cert **cert, struct span pem, struct err_text *why);
void tls_cert_free(struct tls_cert *cert);

/*
 * Reads the private key of the leaf: RSA, ECDSA (P-256, P-384, P-521) or Ed25519. ERR_INVALID and
 * why: none, a broken or encrypted one, another kind, one that belongs to another certificate.
 */
int tls_cert_set_key(struct tls_cert *cert, struct span pem, struct err_text *why);

/* "RSA 2048", "ECDSA P-256", "Ed25519": of the leaf's public key. */
#define TLS_KEY_TYPE 32
const char *tls_cert_key_type(const struct tls_cert *cert, char out[TLS_KEY_TYPE]);

/* Seconds since 1970. */
int64_t tls_cert_not_before(const struct tls_cert *cert);
int64_t tls_cert_not_after(const struct tls_cert *cert);

/*
 * What clients will object to at that time (seconds since 1970): a certificate of the chain has
 * expired or is not yet valid. False when there is nothing; a server serves all the same, because a
 * restart at the wrong moment must not end what ran a moment before.
 */
bool tls_cert_warning(const struct tls_cert *cert, int64_t now, char *out, size_t room);

/* Whether the leaf is for this host name or IP address (RFC 6125); *.domain asks for the wildcard
 * itself. */
bool tls_cert_covers(const struct tls_cert *cert, const char *host);

#endif
