/*
 * moonquay host --replace: a new host takes the place of the one that runs. It gets the listening
 * sockets, the control socket, the apps and the ticket keys; the old one goes on serving until the
 * new one's workers do, and ends when its connections have.
 */
#ifndef PROC_TAKEOVER_H
#define PROC_TAKEOVER_H

#include <stdbool.h>

#include "base/err.h"

struct master;

/* ---- of the host that runs */

/* Listens for a successor, at the control socket's path with ".takeover" behind it. A host that
 * cannot be replaced says so in the log. */
void takeover_listen(struct master *master);
void takeover_close(struct master *master);

/* Whether no registrar is to be started: a successor is being told, or is not sure of its place. */
bool takeover_is_on(const struct master *master);

/* The registrar has ended: nothing changes any more, and the successor is told. */
void takeover_registrar_gone(struct master *master);

/* ---- of the successor */

/* Asks the host that runs for all it has. 0, or an error; then that one goes on. */
int takeover_take(struct master *master, struct err_text *text);

/* Where the host that runs keeps its state; NULL: nobody has said. */
const char *takeover_state_path(const struct master *master);

/* Puts it in place: sockets and apps, when the table of apps is there. Afterwards sockets that
 * nobody needs are closed. */
int takeover_install(struct master *master, struct err_text *text);

/* The workers serve: the old host may stop, and says so; then the registrar is started. */
void takeover_done(struct master *master);

/* Whether the old host is still there. */
bool takeover_is_shared(const struct master *master);

#endif
