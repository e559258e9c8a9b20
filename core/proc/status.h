/* moonquay status: asks a running server of this user how it is, for people and for programs. */
#ifndef PROC_STATUS_H
#define PROC_STATUS_H

/*
 * Runs the command with the words that stand behind it: [--json] [--socket PATH | PID]. Returns the
 * exit status, and tells on standard error in one line what went wrong: 64 usage, or several
 * servers of which none was chosen; 69 there is none, or it does not answer; 77 it is another
 * user's.
 */
int status_run(int argc, char **argv);

#endif
