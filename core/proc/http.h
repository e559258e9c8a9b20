/* moonquay http: administers a host, shaped like netsh's command of that name. */
#ifndef PROC_HTTP_H
#define PROC_HTTP_H

/*
 * Runs the command with the words that stand behind it (share/admin.h). Returns the exit status: 0;
 * 64 usage; 69 no host answers; else what the host says. Errors are one line on standard error.
 */
int http_run(int argc, char **argv);

#endif
