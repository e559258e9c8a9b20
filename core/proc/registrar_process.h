/* The registrar's process: one loop around share/registrar. */
#ifndef PROC_REGISTRAR_PROCESS_H
#define PROC_REGISTRAR_PROCESS_H

/* Runs until the master says so or is gone. Returns the exit status. */
int registrar_process_run(void);

#endif
