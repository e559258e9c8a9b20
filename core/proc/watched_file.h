/* A file whose content counts while the server runs: read whole, and looked at now and then. */
#ifndef PROC_WATCHED_FILE_H
#define PROC_WATCHED_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define WATCHED_FILE_MOST                                                                          \
    (512 << 10) /* bytes; a bundle of all public authorities has half of it                        \
                 */

/* What tells one content from the next without reading it; zeros when there is no such file. */
struct file_mark {
    dev_t device;
    ino_t inode;
    off_t size;
    int64_t modified_ns, changed_ns;
};

struct watched_file {
    const char *path; /* borrowed; links are followed each time */
    struct file_mark mark;
    struct buf text; /* in force */
    mode_t mode;     /* of what was read last */
};

/*
 * Reads the file into text, which must be empty. ERR_INVALID and why ("cannot be read: …"), which
 * does not name the file.
 */
int watched_file_read(struct watched_file *file, struct buf *text, struct err_text *why);

/* Whether it is another one, or has changed, since the last call or the first reading. */
bool watched_file_moved(struct watched_file *file);

/* Takes text as the content in force; empties text. */
void watched_file_take(struct watched_file *file, struct buf *text);
void watched_file_fini(struct watched_file *file);

#endif
