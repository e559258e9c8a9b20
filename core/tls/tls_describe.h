/*
 * What certificates say of themselves, as texts and numbers for people and programs. Nothing is
 * judged: neither order nor trust nor time. Texts come from whoever made the certificate; those of
 * names are printable ASCII, those of subject and issuer UTF-8 without ASCII controls.
 */
#ifndef TLS_TLS_DESCRIBE_H
#define TLS_TLS_DESCRIBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"
#include "tls/tls_cert.h"

#define TLS_SERIAL_ROOM      129 /* 2 digits a byte; RFC 5280 allows 20 bytes, others made more */
#define TLS_FINGERPRINT_ROOM 65  /* 32 bytes */
#define TLS_THUMBPRINT_ROOM  41  /* 20 bytes */

struct tls_names {
    char **texts;
    size_t count;
};

struct tls_description {
    char *subject, *issuer;                 /* as RFC 4514 writes them: "CN=localhost,O=Example" */
    char serial[TLS_SERIAL_ROOM];           /* hexadecimal, lower case; cut when it is longer */
    char fingerprint[TLS_FINGERPRINT_ROOM]; /* SHA-256 of the whole, hexadecimal, lower case */
    char thumbprint[TLS_THUMBPRINT_ROOM];   /* SHA-1, by which Windows names certificates */
    char key_type[TLS_KEY_TYPE];            /* as tls_cert_key_type */
    unsigned key_bits;
    int64_t not_before, not_after; /* seconds since 1970; the last second is part of it */
    struct tls_names names; /* alternative ones: "localhost", "::1", "a@example.com", "URI:…"; and
                             * "DNS:::1" or the like where one would pass for another kind */
    struct tls_names permitted; /* of an authority: "localhost", "127.0.0.0/8"; none: everything */
    bool is_authority, for_servers, for_clients;
};

/* All certificates of a file, in its order. Returns owned (tls_descriptions_free); ERR_INVALID and
 * why: none, a broken one, more than TLS_DESCRIBE_MOST. */
#define TLS_DESCRIBE_MOST 1000 /* a system's authorities are some 150 in one file */
int tls_describe(struct span pem, struct tls_description **list, size_t *count,
                 struct err_text *why);
void tls_descriptions_free(struct tls_description *list, size_t count);

/* "2026-01-31T12:00:00Z" (RFC 3339). */
#define TLS_TIME_ROOM 32
const char *tls_time_text(int64_t seconds, char out[TLS_TIME_ROOM]);

#endif
