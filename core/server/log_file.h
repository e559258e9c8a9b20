/*
 * The file below a log of lines. Workers append: lines are gathered and handed to write() whole, as
 * several processes share a file. The master opens the file for them, again after a rotation.
 */
#ifndef SERVER_LOG_FILE_H
#define SERVER_LOG_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* ---- a worker's side */

/* Whoever embeds it appends whole lines to lines, and flushes them each turn or when they are due.
 */
struct log_file {
    int fd;
    const char *failed; /* the event of the server's own log that says that lines are lost */
    struct buf lines;
    bool complained; /* one such event for a run of failures */
};

/* Takes fd (2 is never closed); borrows failed for as long as the file. */
void log_file_init(struct log_file *file, int fd, const char *failed);

/* Flushes and closes. */
void log_file_fini(struct log_file *file);

/* Flushes to the old descriptor, closes it and takes the new one. */
void log_file_reopen(struct log_file *file, int fd);

/* Is so much gathered (32 KiB) that it should not wait for the end of the turn? */
bool log_file_due(const struct log_file *file);

/* What cannot be written is dropped and said once: keeping it would let a full disk become full
 * memory. */
void log_file_flush(struct log_file *file);

/* Writes all of bytes; 0 or a negative enum err, with errno. */
int log_file_write(int fd, struct span bytes);

/* Has the file reached max_bytes? Never when max_bytes is 0, nor for a pipe or device: these have
 * no size. */
bool log_file_full(int fd, int64_t max_bytes);

/* ---- the opener's side */

#define LOG_FILE_MAX_KEEP 1000 /* each kept file costs the master a rename at each rotation */

/* A new descriptor that appends; 2 for "-", -1 for "off" and "", below -1 a failure. */
int log_file_open(const char *path, struct err_text *text);

/* Harmless for 2 and for what is none. */
void log_file_close(int fd);

/*
 * Moves PATH to PATH.1, PATH.1 to PATH.2 and so on; what would become PATH.(keep + 1) is removed
 * (keep 0: PATH itself), and the next log_file_open makes a fresh file. Nothing moves when there is
 * no PATH or it is "-" or "off". A link is moved or removed itself, never what it points to. Fails
 * with the first file that cannot be moved; then PATH is still where it was.
 */
int log_file_rotate(const char *path, unsigned keep, struct err_text *text);

#endif
