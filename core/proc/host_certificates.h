/*
 * The certificates that a host's state names (share/sslcert.h), in force behind those of its
 * settings. A record that cannot be used is left out, so that it spares the others, and is tried
 * again now and then.
 */
#ifndef PROC_HOST_CERTIFICATES_H
#define PROC_HOST_CERTIFICATES_H

#include <limits.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"
#include "share/sslcert.h"

struct master;

struct host_certificates {
    struct master *master;
    const struct sslcerts *records; /* of the state that is in force */
    char store[PATH_MAX];           /* of certificates that are named by their digest */
    char *unusable[SSLCERTS_MOST];  /* by record: why it is left out; NULL: it is not */
    size_t next;                    /* to be tried again */
    struct loop_alarm retry;
};

/* Borrows records. The store lies beside the state file. */
void host_certificates_init(struct host_certificates *self, struct master *master,
                            const struct sslcerts *records, const char *state_path);
void host_certificates_fini(struct host_certificates *self);

/*
 * Puts records in force; the caller tells the workers. One that was there before and cannot be used
 * any more, because its file has gone say, is left out; a new one must be right: 0, or what is
 * wrong with it, and nothing has changed.
 */
int host_certificates_use(struct host_certificates *self, const struct sslcerts *before,
                          const struct sslcerts *records, struct err_text *text);
void host_certificates_tell(struct host_certificates *self);

/* Performs op=sslcert of the registrar, for all or for the place of the pairs ipport or
 * hostnameport: adds ok=DOCUMENT to reply. */
int host_certificates_show(const struct host_certificates *self, struct span asked,
                           struct buf *reply, struct err_text *text);

#endif
