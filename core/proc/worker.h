/* A worker process: one loop, one server, a Lua state for each app. */
#ifndef PROC_WORKER_H
#define PROC_WORKER_H

/* What the master leaves open for a worker, next to the three standard descriptors. */
enum { WORKER_IPC_FD = 3, WORKER_TALLY_FD = 4, WORKER_FIRST_FREE_FD = 5 };

/* Serves until the master says stop or is gone. Returns the exit status. */
int worker_run(void);

#endif
