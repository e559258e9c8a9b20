/*
 * The file in which a host keeps its state: replaced as a whole, so that it is never half written,
 * with a copy beside it (FILE.good) of what was right the last time. One host at a time has it.
 */
#ifndef PROC_STATE_FILE_H
#define PROC_STATE_FILE_H

#include <limits.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

struct state_file {
    char path[PATH_MAX]; /* behind all links */
    int lock_fd;         /* -1: not open */
};

/* Where it lies when nobody says: /var/lib/moonquay/host.json for root, else
 * $XDG_STATE_HOME/moonquay or ~/.local/state/moonquay. $STATE_DIRECTORY, as systemd sets it, or the
 * first of several there, beats both. Makes the directory. 0 or an error. */
int state_file_default(char path[PATH_MAX], struct err_text *text);

/* The path from the root, links followed, also of a file that is not there; false: nor its
 * directory. */
bool state_file_real(const char *path, char real[PATH_MAX]);

/* Locks and reads the file; one that is missing is empty. ERR_IN_USE when another host has it,
 * ERR_PERMISSION when others may write it: it says who may do what. */
int state_file_open(struct state_file *file, const char *path, struct buf *content,
                    struct err_text *text);
void state_file_close(struct state_file *file);

/* Lets another host have it, and takes it again. */
int state_file_lock(struct state_file *file, struct err_text *text);
void state_file_unlock(struct state_file *file);

/* Puts content in its place, on disk when this returns. Nothing has changed when it fails. */
int state_file_save(const struct state_file *file, struct span content, struct err_text *text);

/* The content is right: the copy is made. */
void state_file_is_good(const struct state_file *file, struct span content);

#endif
