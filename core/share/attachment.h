/*
 * The app's side of the control protocol (share/control.h): connects to a host, attaches the apps
 * of this process, and comes back by itself when the host, its registrar or the connection was
 * replaced.
 */
#ifndef SHARE_ATTACHMENT_H
#define SHARE_ATTACHMENT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "net/loop.h"

struct attachment;

/* Everything is borrowed until attachment_free. */
struct attachment_parts {
    struct loop *loop;
    const char *path; /* of the host's control socket */
    void *owner;

    /* Adds the pairs of CONTROL_ATTACH but version: the process as it is now. */
    void (*describe)(void *owner, struct buf *pairs);

    /* The prefixes in force, as "N:+" pairs; again after each return. */
    void (*attached)(void *owner, struct span pairs);

    /* The host refuses: one line and an exit code. The attachment has ended. */
    void (*refused)(void *owner, const struct err_text *why);

    /* What an attachment_ask has come to: wrong NULL: done, with result, pairs. */
    void (*replied)(void *owner, unsigned number, const char *wrong, struct span result);

    /* The connection is lost: no question that was asked will be answered. */
    void (*lost)(void *owner);

    /* A channel for a worker of ours and an app. Borrows fd. */
    void (*channel)(void *owner, unsigned worker, unsigned app, int fd);
};

/* ERR_NOT_FOUND when there is no host, told in text; one that goes later is waited for. */
int attachment_open(struct attachment **attachment, const struct attachment_parts *parts,
                    struct err_text *text);
void attachment_free(struct attachment *attachment);

/* Channels to this worker may be made; false: no more. Told anew after each return. */
void attachment_worker(struct attachment *attachment, unsigned worker, bool serves);

/* A change of an app while it runs, pairs of a CONTROL_ASK; number is not 0. False when there is no
 * connection at the moment. */
bool attachment_ask(struct attachment *attachment, unsigned number, struct span pairs);

/* Nothing new comes from now on; keep: what is registered stays for the next process. */
void attachment_detach(struct attachment *attachment, bool keep);

#endif
