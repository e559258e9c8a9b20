/*
 * What a host remembers over restarts, as the text of its state file: JSON, one record a line, so
 * that people can read it and a fault has a line.
 */
#ifndef SHARE_STATE_H
#define SHARE_STATE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "net/addr.h"
#include "share/reservation.h"
#include "share/sslcert.h"

#define STATE_BYTES       (12u << 20) /* of the text; a longer one is refused */
#define STATE_LISTEN_MOST 16          /* addresses */

/* {0} is a host of which nothing was said. */
struct state {
    struct reservations reservations;
    struct sslcerts sslcerts;
    struct net_addr listen[STATE_LISTEN_MOST]; /* none: all addresses */
    unsigned listen_count;
    unsigned header_wait_s, idle_connection_s; /* 0: as the settings have it; else up to 65535 */
};

void state_fini(struct state *state);
void state_copy(struct state *copy, const struct state *state);

/*
 *  {
 *    "version": 1,
 *    "urlacl": [
 *      {"url": "http://+:80/shop/", "user": "alice", "listen": true, "delegate": false},
 *      …
 *    ],
 *    "sslcert": [
 *      {"hostnameport": "example.com:443", "cert": "/etc/a.pem", "key": "/etc/a.key"},
 *      …
 *    ],
 *    "iplisten": ["192.0.2.1"],
 *    "timeout": {"headerwaittimeout": 60}
 *  }
 */
void state_write(const struct state *state, struct buf *out);

/* A part of that as JSON of its own, the value alone: for those who ask. "unknown": true is added
 * for a user or group whom the machine did not know when the state was read, "unusable" where it is
 * not NULL. */
void state_write_urlacl(const struct reservation *reservation, struct buf *out);
void state_write_sslcert(const struct sslcert *record, const char *unusable, struct buf *out);

/*
 * Reads what state_write wrote, or people did, into an empty state; "" is nothing. Users and groups
 * whom the machine does not know are no fault: an account that is deleted, or a directory of them
 * that is down, must not cost the others what is theirs. ERR_INVALID, and the state is empty:
 * "line 7: …" says what is wrong there: no JSON, an unknown key, a record that could not be added.
 */
int state_read(struct state *state, struct span text, struct err_text *why);

/* Adds or removes an address where the host listens: ERR_INVALID, ERR_EXISTS, ERR_NOT_FOUND,
 * ERR_LIMIT. */
int state_add_listen(struct state *state, const char *address, struct err_text *text);
int state_remove_listen(struct state *state, const char *address, struct err_text *text);

#endif
