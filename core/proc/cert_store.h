/*
 * The directory of a host where certificates lie that are named by their digest (certhash=): files
 * NAME.pem with a certificate, its chain and perhaps its key, else the key in NAME.key.
 */
#ifndef PROC_CERT_STORE_H
#define PROC_CERT_STORE_H

#include <limits.h>

#include "base/err.h"

#define CERT_STORE_FILES 4096 /* that are looked at */

struct cert_store_entry {
    char certificate[PATH_MAX], key[PATH_MAX];
};

/* hash: SHA-1 or SHA-256 of the certificate, hexadecimal. ERR_NOT_FOUND names the directory. */
int cert_store_find(const char *dir, const char *hash, struct cert_store_entry *entry,
                    struct err_text *text);

#endif
