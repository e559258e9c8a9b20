/* New files are written under names that begin with a dot; the lock makes these names ours. */
#include "proc/cert_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proc/cert_priv.h"

#define LOCK_WAIT_MS 20

static int failed(const struct cert_dir *dir, const char *name, struct err_text *text)
{
    int number = errno, code = err_from_errno(number);

    return err_set(text, code == ERR_PERMISSION ? EXIT_PERMISSION : EXIT_OPTION, code,
                   "%.300s%s%.260s: %s", dir->path, name ? "/" : "", name ? name : "",
                   strerror(number));
}

static int lock(const struct cert_dir *dir, struct err_text *text)
{
    const struct timespec wait = {.tv_nsec = LOCK_WAIT_MS * 1000000L};

    for (int i = 0; i < CERT_DIR_LOCK_SECONDS * 1000 / LOCK_WAIT_MS; i++) {
        if (flock(dir->fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return failed(dir, NULL, text);
        nanosleep(&wait, NULL);
    }
    return err_set(text, EXIT_OPTION, ERR_IN_USE, "%.300s: another moonquay cert works there",
                   dir->path);
}

int cert_dir_open(struct cert_dir *dir, const char *path, struct err_text *text)
{
    int code;

    *dir = (struct cert_dir){.path = path, .fd = -1};
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return failed(dir, NULL, text);
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0)
        return failed(dir, NULL, text);
    code = lock(dir, text);
    if (code < 0)
        cert_dir_close(dir);
    return code;
}

void cert_dir_close(struct cert_dir *dir)
{
    if (dir->fd >= 0)
        close(dir->fd);
    dir->fd = -1;
}

int cert_dir_read(const struct cert_dir *dir, const char *name, struct buf *out,
                  struct err_text *text)
{
    char shown[700];

    snprintf(shown, sizeof(shown), "%.300s/%.260s", dir->path, name);
    return cert_read(dir->fd, name, shown, out, text);
}

/* ---- writing */

#define NEW_ROOM 32

static const char *new_name(unsigned number, char out[NEW_ROOM])
{
    snprintf(out, NEW_ROOM, ".moonquay-new-%u", number);
    return out;
}

static int write_all(int fd, struct span content)
{
    while (content.len > 0) {
        ssize_t put = write(fd, content.at, content.len);

        if (put < 0 && errno != EINTR)
            return -1;
        if (put > 0)
            content = span_skip(content, (size_t)put);
    }
    return 0;
}

static int write_new(const struct cert_dir *dir, const struct cert_file *file, const char *name,
                     struct err_text *text)
{
    int fd, code = 0;

    if (unlinkat(dir->fd, name, 0) < 0 && errno != ENOENT) /* what a killed one left */
        return failed(dir, name, text);
    fd = openat(dir->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(dir, name, text);
    if (write_all(fd, file->content) < 0 || fchmod(fd, file->mode) < 0 || fsync(fd) < 0)
        code = failed(dir, name, text);
    if (close(fd) < 0 && code == 0)
        code = failed(dir, name, text);
    return code;
}

int cert_dir_replace(const struct cert_dir *dir, const struct cert_file *files, size_t count,
                     struct err_text *text)
{
    char name[NEW_ROOM];
    int code = 0;

    for (unsigned i = 0; i < count && code == 0; i++)
        code = write_new(dir, &files[i], new_name(i, name), text);
    for (unsigned i = 0; i < count && code == 0; i++)
        if (renameat(dir->fd, new_name(i, name), dir->fd, files[i].name) < 0)
            code = failed(dir, files[i].name, text);
    for (unsigned i = 0; i < count && code < 0; i++)
        unlinkat(dir->fd, new_name(i, name), 0);
    if (code == 0 && fsync(dir->fd) < 0)
        code = failed(dir, NULL, text);
    return code;
}
