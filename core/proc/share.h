/* What attaches the apps of a master to a host. */
#ifndef PROC_SHARE_H
#define PROC_SHARE_H

#include "proc/master_priv.h"

/* The apps are loaded: they are attached; master_shared is called when they are. 0 or an error. */
int share_open(struct master *master, struct span asked, struct err_text *text);
void share_close(struct master *master);

/* A worker serves, or does no more. Nothing where nothing is shared. */
void share_worker(struct master *master, unsigned slot, bool serves);

/* What an app of an attached process asks for at run time and the host does not learn of: an error,
 * so that it is not thought to hold. 0: it is this process's own affair. */
int share_judge_change(const struct master *master, struct span asked, struct err_text *text);

/* The process stops: nothing new comes. */
void share_stop(struct master *master);

#endif
