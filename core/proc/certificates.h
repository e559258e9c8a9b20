/*
 * The TLS bindings of the server with the contents of their files. The master alone reads them, and
 * reads them again when they change: a new certificate is taken up without a restart, one that is
 * broken is told in the log, and the one before stays in use.
 */
#ifndef PROC_CERTIFICATES_H
#define PROC_CERTIFICATES_H

#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"
#include "proc/ticket_keys.h"
#include "route/url_prefix.h"
#include "server/settings.h"

struct binding;

struct certificates {
    struct loop *loop;
    struct loop_alarm look;
    const struct settings *settings;
    struct binding *bindings;
    unsigned count;
    bool is_watching; /* the files, and rotates ticket keys */
    bool is_told;     /* workers hear of them, even when there are none (any more) */
    struct ticket_keys tickets;
    void (*changed)(void *owner);
    void *owner;
};

/*
 * Reads all files of the setting tls and begins to watch them; without bindings there is nothing to
 * do. changed is called from the loop when the workers must be told of certificates,
 * tickets_changed when of ticket keys. 0, or one line that names binding, key and file.
 */
struct certificates_parts {
    const struct settings *settings; /* outlives the certificates */
    struct loop *loop;
    void (*changed)(void *owner);
    void (*tickets_changed)(void *owner);
    void *owner;
    bool may_change; /* certificates_use will be called: bindings may come when there are none */
};
int certificates_open(struct certificates *certificates, const struct certificates_parts *parts,
                      struct err_text *text);
void certificates_close(struct certificates *certificates);

/*
 * Other bindings than before: text as in the setting tls. 0, and the caller tells the workers; or
 * as certificates_open, and nothing has changed.
 */
int certificates_use(struct certificates *certificates, const char *bindings,
                     struct err_text *text);

/* Whether that would succeed; what is wrong names no binding. */
int certificates_judge(const struct certificates *certificates, const char *bindings,
                       struct err_text *text);

/* Whether some binding can serve connections for the prefix, which is one of https. */
bool certificates_can_serve(const struct certificates *certificates,
                            const struct url_prefix *prefix);

/* Adds the pairs of an IPC_TLS: all bindings. */
void certificates_state(const struct certificates *certificates, struct buf *pairs);

#endif
