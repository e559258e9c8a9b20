/*
 * What a host remembers over restarts, as the text of its state file: JSON, one record a line, so
 * that people can read it and a fault has a line.
 */
#ifndef SHARE_STATE_H
#define SHARE_STATE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"
#include "share/reservation.h"

#define STATE_BYTES (16u << 20) /* of the text; a longer one is refused */

/*
 *  {
 *    "version": 1,
 *    "urlacl": [
 *      {"url": "http://+:80/shop/", "user": "alice", "listen": true, "delegate": false},
 *      …
 *    ]
 *  }
 */
void state_write(const struct reservations *reservations, struct buf *out);

/*
 * Reads what state_write wrote, or people did, into an empty list; "" is nothing. ERR_INVALID, and
 * the list is empty: "line 7: …" says what is wrong there: no JSON, an unknown key, a record that
 * could not be added.
 */
int state_read(struct reservations *reservations, struct span text, struct err_text *why);

#endif
