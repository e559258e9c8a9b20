/*
 * Certificates that Moonquay makes itself, for development: an authority, and what it signs for
 * servers and clients. The authority carries name constraints (RFC 5280 s.4.2.1.10), so that
 * whoever trusts it trusts nobody with more than these names. All are X.509 v3 with random serials
 * of 20 bytes and key identifiers; keys are new with each certificate. Nothing here opens a file.
 */
#ifndef TLS_TLS_ISSUE_H
#define TLS_TLS_ISSUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "tls/tls_cert.h"

#define TLS_ISSUE_DAYS_MOST                                                                        \
    825 /* Apple's clients take no longer ones (support.apple.com/103769)                          \
         */
#define TLS_ISSUE_AUTHORITY_DAYS 3650
#define TLS_ISSUE_NAMES_MOST     100
#define TLS_ISSUE_NAME_ROOM      256 /* a host name has at most 253 characters (RFC 1035 s.2.3.4) */
#define TLS_ISSUE_CLIENT_MOST    64 /* characters of a common name (RFC 5280 A.1, ub-common-name) */

enum tls_issue_key { TLS_ISSUE_ECDSA, TLS_ISSUE_RSA }; /* P-256, 2048 bits */

/* What is asked for; all is borrowed. */
struct tls_issue {
    enum tls_issue_key key;
    const char *const *names; /* canonical (tls_issue_name); of an authority: what it may sign for,
                               * with everything below it, for it cannot leave that out */
    size_t name_count;
    const char *client; /* a client's certificate for this name (tls_issue_client), and no names;
                         * NULL: a server's */
    int64_t now;        /* seconds since 1970 */
    unsigned days;      /* 1 to TLS_ISSUE_DAYS_MOST; not of an authority */
};

/* The canonical form (lower case, shortest address) of a host name, *.domain or IP address. False
 * when it is none of these. */
bool tls_issue_name(const char *text, char out[TLS_ISSUE_NAME_ROOM]);

/* Whether a client can have this name: at most TLS_ISSUE_CLIENT_MOST characters of letters, digits,
 * blanks and "._@+-", beginning with a letter or digit. */
bool tls_issue_client(const char *text);

/*
 * Makes an authority that may sign for the names, for localhost and for the loopback addresses.
 * Appends certificate and private key to the buffers, as PEM. An error is OpenSSL's alone.
 */
int tls_issue_authority(const struct tls_issue *issue, struct buf *certificate, struct buf *key,
                        struct err_text *why);

/*
 * Makes a certificate that the authority, whose key is set, signs; it does not outlive the
 * authority. Appends the certificate with the authority's behind it, and the private key.
 * ERR_PERMISSION: the authority may not sign for one of the names, which why tells; ERR_INVALID:
 * the authority is none, or not valid now.
 */
int tls_issue_certificate(const struct tls_issue *issue, const struct tls_cert *authority,
                          struct buf *certificate, struct buf *key, struct err_text *why);

/* Whether the certificate was signed with this authority's key. */
bool tls_issue_is_of(const struct tls_cert *cert, const struct tls_cert *authority);

#endif
