/* The server's log files: opened by the master, which may, and handed to the workers. */
#ifndef PROC_LOGS_H
#define PROC_LOGS_H

#include "base/err.h"
#include "server/settings.h"

/* 2 for standard error; -1: no such log. */
struct logs {
    int error_fd, access_fd, http_error_fd;
};

void logs_init(struct logs *logs);

/* Opens all, again if they are open; on failure what was open stays, and is used. */
int logs_open(struct logs *logs, const struct settings *settings, struct err_text *text);
void logs_close(struct logs *logs);

/* Moves the HTTP error log out of the way when it has reached its size, so that opening makes a new
 * one. True when it was moved. */
bool logs_rotate(const struct logs *logs, const struct settings *settings);

/* Those that are files: IPC_LOG_… bits, and a descriptor for each in their order; returns how many.
 */
#define LOGS_MAX 3
unsigned logs_files(const struct logs *logs, int fds[LOGS_MAX], unsigned *which);

#endif
