/*
 * A certificate and key, and which connections they are for: one of the bindings in the setting
 * tls. As text a binding is a row of words, bindings are separated by semicolons:
 *
 *   name=example.com certificate=/etc/a.pem key=/etc/a.key; port=444 certificate="/my certs/b.pem"
 * …
 *
 * A value in double quotes may hold blanks and semicolons, and after a backslash a quote or a
 * backslash. certificate, key and ocsp may be given several times, for keys of several kinds. Files
 * are not opened here.
 */
#ifndef SERVER_TLS_BINDING_H
#define SERVER_TLS_BINDING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "server/word_row.h"
#include "tls/tls_profile.h"

#define TLS_BINDING_PATH 512

/* Texts are "" when they were not given. Certificates, keys and OCSP answers belong together by
 * their place. */
struct tls_binding {
    char name[256];   /* SNI: a host, or *.domain for one label below it */
    char address[64]; /* IP literal */
    char port[8];     /* 1 to 65535 */
    char certificate[TLS_CERTS_MOST][TLS_BINDING_PATH];
    char key[TLS_CERTS_MOST][TLS_BINDING_PATH];
    char ocsp[TLS_CERTS_MOST][TLS_BINDING_PATH];
    char min_version[8], max_version[8]; /* 1.2, 1.3 */
    char client_certificate[16];         /* what the handshake asks: none, allow, require, delay */
    char client_authorities[TLS_BINDING_PATH];
};

/*
 * Reads the binding at *rest, which is moved behind it: 1, 0 at the end of the text, or ERR_INVALID
 * and why (of which key, and what it must be).
 */
int tls_binding_next(const char **rest, struct tls_binding *binding, char *why, size_t room);

/* Appends to text, whose bindings are right as those of more, those of more that it has not. */
void tls_bindings_join(struct buf *text, const char *more);

/* Whether clients can ask for this host, or the domain of "*.domain". */
bool tls_binding_is_name(const char *value);

extern const struct word_table tls_binding_table;

/* 0, or ERR_INVALID for the first wrong one; why begins with its number: "binding 2: …". */
int tls_bindings_check(const char *text, char *why, size_t room);

#endif
