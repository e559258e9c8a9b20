/*
 * One write a turn for all lines of the turn. The descriptors append (O_APPEND), so whole lines of
 * several workers do not mix, and a file that is renamed gets its last lines under its new name
 * until everybody has the next one.
 */
#include "server/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define GATHER_BYTES 32768
#define NUMBER_BYTES 16 /* what is appended to a file's name, with the NUL */

/* ---- a worker's side */

void log_file_init(struct log_file *file, int fd, const char *failed)
{
    *file = (struct log_file){.fd = fd, .failed = failed};
}

void log_file_fini(struct log_file *file)
{
    log_file_flush(file);
    log_file_close(file->fd);
    buf_fini(&file->lines);
}

void log_file_reopen(struct log_file *file, int fd)
{
    log_file_flush(file);
    log_file_close(file->fd);
    file->fd = fd;
    file->complained = false;
}

bool log_file_due(const struct log_file *file)
{
    return buf_len(&file->lines) >= GATHER_BYTES;
}

int log_file_write(int fd, struct span bytes)
{
    while (bytes.len > 0) {
        ssize_t written = write(fd, bytes.at, bytes.len);

        if (written > 0) {
            bytes = span_of(bytes.at + written, bytes.len - (size_t)written);
        } else if (written == 0) {
            errno = EIO;
            return ERR_IO;
        } else if (errno != EINTR) {
            return err_from_errno(errno);
        }
    }
    return 0;
}

void log_file_flush(struct log_file *file)
{
    if (buf_len(&file->lines) == 0)
        return;

    bool failed = log_file_write(file->fd, buf_span(&file->lines)) < 0;

    if (failed && !file->complained)
        log_event(LOG_ERROR, file->failed, "lines are lost: %s", strerror(errno));
    file->complained = failed;
    buf_consume(&file->lines, buf_len(&file->lines));
}

bool log_file_full(int fd, int64_t max_bytes)
{
    struct stat state;

    return max_bytes > 0 && fstat(fd, &state) == 0 && state.st_size >= max_bytes;
}

/* ---- the opener's side */

static bool is_file(const char *path)
{
    return path[0] != '\0' && strcmp(path, "-") != 0 && strcmp(path, "off") != 0;
}

int log_file_open(const char *path, struct err_text *text)
{
    int fd;

    if (!is_file(path))
        return strcmp(path, "-") == 0 ? STDERR_FILENO : -1;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0)
        return err_set(text, EXIT_LOG, ERR_IO, "cannot write the log %s: %s", path,
                       strerror(errno));
    return fd;
}

void log_file_close(int fd)
{
    if (fd >= 0 && fd != STDERR_FILENO)
        close(fd);
}

/* PATH.number, or PATH itself for 0. */
static void numbered(char out[PATH_MAX], const char *path, unsigned number)
{
    if (number == 0)
        snprintf(out, PATH_MAX, "%s", path);
    else
        snprintf(out, PATH_MAX, "%s.%u", path, number);
}

/* A number without a file is no failure. */
static int move_up(const char *path, unsigned number, struct err_text *text)
{
    char from[PATH_MAX], to[PATH_MAX];

    numbered(from, path, number);
    numbered(to, path, number + 1);
    if (rename(from, to) == 0 || errno == ENOENT)
        return 0;
    return err_set(text, EXIT_LOG, ERR_IO, "cannot rename the log %s to %s: %s", from, to,
                   strerror(errno));
}

static int remove_log(const char *path, struct err_text *text)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    return err_set(text, EXIT_LOG, ERR_IO, "cannot remove the log %s: %s", path, strerror(errno));
}

int log_file_rotate(const char *path, unsigned keep, struct err_text *text)
{
    struct stat state;

    if (!is_file(path) || (lstat(path, &state) < 0 && errno == ENOENT))
        return 0;
    if (keep > LOG_FILE_MAX_KEEP)
        return err_set(text, EXIT_LOG, ERR_INVALID,
                       "cannot keep %u old files of the log %s, only %d", keep, path,
                       LOG_FILE_MAX_KEEP);
    if (strlen(path) + NUMBER_BYTES > PATH_MAX)
        return err_set(text, EXIT_LOG, ERR_TOO_LARGE,
                       "the log's name is too long to be rotated: %s", path);
    if (keep == 0)
        return remove_log(path, text);
    /* From the oldest, which the second oldest replaces, to PATH: a failure leaves PATH alone. */
    for (unsigned number = keep; number-- > 0;) {
        int code = move_up(path, number, text);

        if (code < 0)
            return code;
    }
    return 0;
}
