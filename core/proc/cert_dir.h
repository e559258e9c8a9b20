/*
 * The directory in which moonquay cert keeps what it makes. It is locked while somebody works in
 * it, and files are replaced as a whole: who reads them sees an old or a new one, never half of
 * one.
 */
#ifndef PROC_CERT_DIR_H
#define PROC_CERT_DIR_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#define CERT_DIR_LOCK_SECONDS 10 /* how long another one may work there */

struct cert_dir {
    const char *path; /* borrowed */
    int fd;
};

/* Makes the directory, for its owner alone, unless it is there, and locks it. */
int cert_dir_open(struct cert_dir *dir, const char *path, struct err_text *text);
void cert_dir_close(struct cert_dir *dir);

/* ERR_NOT_FOUND when there is none. text begins with the path. */
int cert_dir_read(const struct cert_dir *dir, const char *name, struct buf *out,
                  struct err_text *text);

struct cert_file {
    const char *name;
    struct span content;
    mode_t mode;
};

/* Writes all files beside what is there, to the disk, then puts each in its place. An error leaves
 * things as they were, unless it is one of that last step. */
int cert_dir_replace(const struct cert_dir *dir, const struct cert_file *files, size_t count,
                     struct err_text *text);

#endif
