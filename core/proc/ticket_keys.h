/*
 * The keys of TLS session tickets, which all workers share: made here and rotated, or read from a
 * file that other machines have too (session_tickets.keys and .rotate).
 */
#ifndef PROC_TICKET_KEYS_H
#define PROC_TICKET_KEYS_H

#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"
#include "proc/watched_file.h"
#include "server/settings.h"
#include "tls/tls_ticket.h"

struct ticket_keys {
    struct loop *loop;
    struct loop_alarm rotation;
    int64_t rotate_ms; /* SETTING_OFF: never */
    struct tls_tickets tickets;
    struct watched_file file; /* with a path: the keys come from there */
    bool is_moving;           /* the file has changed and may change on */
    void (*changed)(void *owner);
    void *owner;
};

/*
 * Begins: reads the file, or makes the first key and rotates from now on. changed is called from
 * the loop whenever the workers must be told. ERR_INVALID and why.
 */
int ticket_keys_start(struct ticket_keys *keys, const struct settings *settings, struct loop *loop,
                      struct err_text *why);
void ticket_keys_stop(struct ticket_keys *keys);

/* Looks whether the file has changed; a new one that is wrong is told in the log and not used. */
void ticket_keys_look(struct ticket_keys *keys);

/* Goes on with the keys of another process, from such pairs; those of a file stay. */
void ticket_keys_take(struct ticket_keys *keys, struct span pairs);

/* Adds the pairs of an IPC_TICKETS. */
void ticket_keys_state(const struct ticket_keys *keys, struct buf *pairs);

#endif
