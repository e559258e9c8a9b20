/* Processes that the master starts. */
#ifndef PROC_CHILD_H
#define PROC_CHILD_H

#include <sys/types.h>

/*
 * Forks; become runs in the child, with the defaults of all signals, which are blocked until it
 * calls child_unblock, and does not return. The process, or -1 (errno).
 */
pid_t child_fork(void (*become)(const void *arg), const void *arg);
void child_unblock(void);

#endif
