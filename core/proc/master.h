/* The master process: opens the sockets, starts the workers and replaces those that die. */
#ifndef PROC_MASTER_H
#define PROC_MASTER_H

#include "proc/options.h"

/* Serves the app until a signal ends it. Borrows options. Returns the exit status; a bad start is
 * told on standard error in one line. */
int master_run(const struct options *options);

#endif
