/* What attaches the apps of a master to a host. */
#ifndef PROC_SHARE_H
#define PROC_SHARE_H

#include "proc/master_priv.h"

/* The apps are loaded: they are attached; master_shared is called when they are. 0 or an error. */
int share_open(struct master *master, struct span asked, struct err_text *text);
void share_close(struct master *master);

/* A worker serves, or does no more. Nothing where nothing is shared. */
void share_worker(struct master *master, unsigned slot, bool serves);

/* The process stops: nothing new comes. */
void share_stop(struct master *master);

#endif
