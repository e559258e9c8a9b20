/*
 * The rows of the setting apps, with the user and the place of each. One that names its prefixes is
 * there before its process: its place, prefixes and queue are made at the start, as if a process of
 * its user had left them behind and nobody ever forgot them. Its process then takes them over like
 * any other, and leaves them behind again.
 */
#ifndef PROC_HOST_ROWS_H
#define PROC_HOST_ROWS_H

#include <pwd.h>

#include "base/err.h"
#include "server/hosted_app.h"

struct master;

struct host_row {
    struct hosted_app app;
    struct passwd user; /* its texts are ours */
    unsigned place;     /* in the table of apps; TALLY_APPS: only the app knows its prefixes */
};

struct host_rows {
    struct host_row at[HOSTED_APPS_MOST];
    unsigned count;
};

/*
 * Reads them, and makes their places, after those that a host before this one has handed over: a
 * place of a row then is as that one's row says now, whichever had its prefixes, and a place
 * without a row is forgotten like an app that has left. 0, or one line that names the app.
 */
int host_rows_open(struct host_rows *rows, struct master *master, struct err_text *text);
void host_rows_close(struct host_rows *rows);

#endif
