/*
 * Which certificate a host shows where: a record a place, as netsh's sslcert has it
 * (reference/http-sys.md section 12.1). A record becomes a binding of server/tls_binding; files are
 * not opened here.
 */
#ifndef SHARE_SSLCERT_H
#define SHARE_SSLCERT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define SSLCERTS_MOST      1024
#define SSLCERT_APPID_FORM "{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}"

/* What a record may say; sslcert_names has their names. */
enum sslcert_key {
    SSLCERT_IPPORT,       /* "192.0.2.1:443", "0.0.0.0:443" and "[::]:443" for any address */
    SSLCERT_HOSTNAMEPORT, /* "example.com:443", "*.example.com:443" */
    SSLCERT_CERT,         /* absolute paths, both or none */
    SSLCERT_KEY,
    SSLCERT_CERTHASH, /* instead of the two: of a certificate in the host's store, 40 (SHA-1) or 64
                         (SHA-256) digits */
    SSLCERT_APPID,    /* "{…}": for people */
    SSLCERT_MIN_VERSION, /* these four as a binding has them */
    SSLCERT_MAX_VERSION,
    SSLCERT_CLIENT_CERTIFICATE,
    SSLCERT_CLIENT_AUTHORITIES,
    SSLCERT_KEYS
};

extern const char *const sslcert_names[SSLCERT_KEYS];

struct sslcert {
    char *text[SSLCERT_KEYS]; /* NULL: not said */
};

/* The digits of a SHA-1 or SHA-256; an id of the form above, hexadecimal digits for its x. */
bool sslcert_is_hash(const char *text);
bool sslcert_is_appid(const char *text);

/* {0} is an empty list. */
struct sslcerts {
    struct sslcert *at; /* in the order in which they were added */
    size_t count;
};

void sslcerts_fini(struct sslcerts *list);
void sslcerts_copy(struct sslcerts *copy, const struct sslcerts *list);

/* Copies the record, its place in canonical form. 0; ERR_INVALID for what is no record, ERR_EXISTS
 * when the place has one, ERR_LIMIT. */
int sslcerts_add(struct sslcerts *list, const struct sslcert *record, struct err_text *text);

/* The same for a place that has one, or ERR_NOT_FOUND. */
int sslcerts_update(struct sslcerts *list, const struct sslcert *record, struct err_text *text);

/* place: a record of which only ipport or hostnameport counts. */
int sslcerts_remove(struct sslcerts *list, const struct sslcert *place, struct err_text *text);
const struct sslcert *sslcerts_find(const struct sslcerts *list, const struct sslcert *place);

/* Whether one of them says just what the record does. */
bool sslcerts_have(const struct sslcerts *list, const struct sslcert *record);

/* Whether both say the same. */
bool sslcerts_equal(const struct sslcerts *a, const struct sslcerts *b);

/* Where it is: "example.com:443". */
const char *sslcert_place(const struct sslcert *record);

/* Appends the binding, with these files in place of its own. */
void sslcert_binding(const struct sslcert *record, const char *certificate, const char *key,
                     struct buf *out);

#endif
