/* What attaches the apps of a master to a host. */
#ifndef PROC_SHARE_H
#define PROC_SHARE_H

#include "proc/master_priv.h"

/* The apps are loaded: they are attached; master_shared is called when they are. 0 or an error. */
int share_open(struct master *master, struct span asked, struct err_text *text);
void share_close(struct master *master);

/* A worker serves, or does no more. Nothing where nothing is shared. */
void share_worker(struct master *master, unsigned slot, bool serves);

/* Whether the host applies what an app asks for at run time, and so has to agree. Then share_ask
 * asks it, and changes_confirmed follows; or an error. */
bool share_has_to_ask(const struct master *master, struct span asked);
int share_ask(struct master *master, struct slot *asker, const struct ipc_message *message,
              struct err_text *text);

/* The process stops: nothing new comes. */
void share_stop(struct master *master);

#endif
