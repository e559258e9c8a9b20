/*
 * moonquay host --replace: a new host takes the place of the one that runs. It gets the listening
 * sockets, the control socket, the apps and the ticket keys; the old one goes on serving until the
 * new one's workers do, and ends when its connections have.
 */
#ifndef PROC_TAKEOVER_H
#define PROC_TAKEOVER_H

#include <stdbool.h>

#include "base/err.h"

struct ipc_message;
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

/* Whether a successor has this host's place. */
bool takeover_is_over(const struct master *master);

/* A request waits in a worker for an app that nobody serves: the host sees to it, this one or its
 * successor. */
void takeover_demand(struct master *master, unsigned slot, unsigned app);

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

/*
 * A worker of the old host has requests that wait for apps. It counts as a further slot of ours,
 * behind our own, as long as it may be there: then its channels go to it by way of the old host, if
 * the app is the one that it knows by this number.
 */
bool takeover_has_slot(const struct master *master, unsigned slot);
bool takeover_has_demand(const struct master *master, unsigned app);
void takeover_channel(struct master *master, unsigned slot, unsigned app,
                      const struct ipc_message *message);
void takeover_app_closed(struct master *master, unsigned app);

/* Of a host that is replaced in its turn: whether the one before has requests that can reach their
 * apps through it alone. master_slot_gone is called when it has no more. */
bool takeover_is_between(const struct master *master);

#endif
