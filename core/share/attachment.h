/*
 * The app's side of the control protocol: connects to a host, attaches the apps of this process,
 * and comes back by itself when the host, its registrar or the connection was replaced.
 */
#ifndef SHARE_ATTACHMENT_H
#define SHARE_ATTACHMENT_H

#include "base/err.h"
#include "base/span.h"
#include "net/loop.h"

struct attachment;

/* Everything is borrowed until attachment_free. */
struct attachment_parts {
    struct loop *loop;
    const char *socket; /* NULL: the usual places (share/control.h) */
    void *owner;

    /* Adds the pairs of CONTROL_ATTACH but version and session: the process as it is now. */
    void (*describe)(void *owner, struct buf *pairs);

    /* The answer: the prefixes in force, as "N:+" pairs; again after each return. */
    void (*attached)(void *owner, struct span pairs);

    /* The host refuses: one line and an exit code. After a return too (another has the prefix now);
     * the attachment has ended then. */
    void (*refused)(void *owner, const struct err_text *text);

    /* A channel for a worker of ours and an app; takes fd. */
    void (*channel)(void *owner, unsigned worker, unsigned app, int fd);

    /* The host wants us to end. */
    void (*stop)(void *owner, const char *why);

    /* The answer to attachment_ask; a lost connection answers with wrong. */
    void (*replied)(void *owner, unsigned number, const char *wrong, const char *result);
};

/* Begins to connect. ERR_NOT_FOUND when there is no host at all, which is told in text (exit code
 * 69); later a host that is gone is waited for. */
int attachment_open(struct attachment **attachment, const struct attachment_parts *parts,
                    struct err_text *text);
void attachment_free(struct attachment *attachment);

/* Channels to this worker may be made; false: no more. Told anew after each return. */
void attachment_worker(struct attachment *attachment, unsigned worker, bool serves);

/* CONTROL_ASK. */
void attachment_ask(struct attachment *attachment, unsigned number, struct span pairs);

/* CONTROL_DETACH: nothing new comes; the connection stays until attachment_free. */
void attachment_detach(struct attachment *attachment, bool keep);

#endif
