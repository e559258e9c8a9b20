/*
 * Session tickets: a client that comes back shows one and skips the certificates. The keys that
 * seal them are the same in all workers, so that it may come back to any; the newest seals, the
 * ones before still open, and what they open is sealed anew.
 */
#ifndef TLS_TLS_TICKET_H
#define TLS_TLS_TICKET_H

#include "base/err.h"
#include "base/span.h"

/* A key as nginx has it in its files: name, HMAC-SHA256 key, AES-256 key. */
#define TLS_TICKET_NAME_BYTES 16
#define TLS_TICKET_KEY_BYTES  80

#define TLS_TICKET_KEYS_MOST 8

/*
 * Keys that are kept when they are made here and rotated: a ticket opens for at least two times as
 * long as a key seals, at most three times.
 */
#define TLS_TICKET_KEYS_KEPT 3

struct tls_tickets {
    unsigned char keys[TLS_TICKET_KEYS_MOST][TLS_TICKET_KEY_BYTES]; /* the first seals */
    unsigned count;
};

/* Takes whole keys, one behind the other. ERR_INVALID and why: none, half a key, too many. */
int tls_tickets_set(struct tls_tickets *tickets, struct span keys, struct err_text *why);

/* Puts a new key in front and drops the one that is too old. ERR_IO: the system has no random
 * bytes. */
int tls_tickets_rotate(struct tls_tickets *tickets);

#endif
