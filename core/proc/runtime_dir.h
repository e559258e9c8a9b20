/*
 * The directories in which the servers of a user leave their control sockets, each named by its
 * process id: where a server makes its own and where moonquay status looks.
 */
#ifndef PROC_RUNTIME_DIR_H
#define PROC_RUNTIME_DIR_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

#define RUNTIME_DIRS       3
#define RUNTIME_DIR_BYTES  92  /* what a socket's path (sun_path) leaves beside "/4194304.sock" */
#define RUNTIME_PATH_BYTES 108 /* sizeof(sun_path) */

/* Those that can be meant, the best first: $XDG_RUNTIME_DIR/moonquay when that is ours, for root
 * /run/moonquay, and /tmp/moonquay-UID. Returns how many; none need exist. */
unsigned runtime_dirs(char dirs[RUNTIME_DIRS][RUNTIME_DIR_BYTES]);

/* Whether dir is a directory of ours into which nobody else can write, and no symbolic link: 0, or
 * an error with its reason. text may be NULL. */
int runtime_dir_check(const char *dir, struct err_text *text);

/* Makes dir for us alone unless it is there, and checks it. */
int runtime_dir_make(const char *dir, struct err_text *text);

/* Writes the path of the host's socket of this user, its directory made so that others may reach
 * what is in it. 0 or an error. */
int runtime_dir_host(char *path, size_t room, struct err_text *text);

/* Writes where a host is to be looked for that nobody has named: this user's, else root's. */
void runtime_dir_find_host(char path[RUNTIME_PATH_BYTES]);

/* Writes DIR/PID.sock. */
void runtime_dir_socket(const char *dir, pid_t pid, char out[RUNTIME_PATH_BYTES]);

/* The process id in a name of that form; 0 for another name. */
pid_t runtime_dir_pid(const char *name);

#endif
