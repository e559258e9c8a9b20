/*
 * A new content is written beside the file, brought to disk and renamed: whoever reads the file, a
 * host after a crash too, finds the old content or the new one.
 */
#include "proc/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "share/state.h"

#define NAME          "host.json"
#define GOOD_SUFFIX   ".good"
#define NEW_SUFFIX    ".new"
#define LOCK_SUFFIX   ".lock"
#define SUFFIX_BYTES  16
#define LINKS_MOST    40u /* as the kernel has it */
#define SUFFIXED_PATH (PATH_MAX + SUFFIX_BYTES)

static int failed(const char *path, struct err_text *text)
{
    int number = errno;

    return err_set(text, number == EACCES || number == EROFS ? EXIT_PERMISSION : EXIT_OPTION,
                   err_from_errno(number), "%.500s: %s", path, strerror(number));
}

/* ---- where ---- */

static int make_dir(const char *dir, struct err_text *text)
{
    return mkdir(dir, 0755) < 0 && errno != EEXIST ? failed(dir, text) : 0;
}

/* Those above it too: a fresh account has no ~/.local. */
static int make_dirs(const char *dir, struct err_text *text)
{
    char part[PATH_MAX];
    int code = 0;

    snprintf(part, sizeof(part), "%s", dir);
    for (char *at = strchr(part + 1, '/'); at && code == 0; at = strchr(at + 1, '/')) {
        *at = '\0';
        code = make_dir(part, text);
        *at = '/';
    }
    return code == 0 ? make_dir(part, text) : code;
}

/* The first of a variable's paths: systemd separates those of STATE_DIRECTORY by colons. Nothing
 * when it is no absolute one. */
static struct span absolute(const char *variable, bool is_list)
{
    const char *value = getenv(variable);
    size_t length = value ? strcspn(value, is_list ? ":" : "") : 0;

    return value && value[0] == '/' && length < PATH_MAX / 2 ? span_of(value, length) : SPAN_NONE;
}

int state_file_default(char path[PATH_MAX], struct err_text *text)
{
    struct span service = absolute("STATE_DIRECTORY", true);
    struct span state = absolute("XDG_STATE_HOME", false), home = absolute("HOME", false);
    char dir[PATH_MAX / 2 + 64];

    if (service.len)
        snprintf(dir, sizeof(dir), "%.*s", (int)service.len, service.at);
    else if (geteuid() == 0)
        snprintf(dir, sizeof(dir), "/var/lib/moonquay");
    else if (state.len)
        snprintf(dir, sizeof(dir), "%.*s/moonquay", (int)state.len, state.at);
    else if (home.len)
        snprintf(dir, sizeof(dir), "%.*s/.local/state/moonquay", (int)home.len, home.at);
    else
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND,
                       "there is no HOME for a state file: --state FILE says where");
    snprintf(path, PATH_MAX, "%s/" NAME, dir);
    return make_dirs(dir, text);
}

/* One link further; 0 when path is none, or nothing is there. */
static int follow(char path[PATH_MAX], struct err_text *text)
{
    char target[PATH_MAX], next[2 * PATH_MAX];
    ssize_t length = readlink(path, target, sizeof(target) - 1);
    const char *slash = strrchr(path, '/');

    if (length < 0)
        return 0;
    target[length] = '\0';
    snprintf(next, sizeof(next), "%.*s%s", slash && target[0] != '/' ? (int)(slash - path + 1) : 0,
             path, target);
    if (strlen(next) >= PATH_MAX)
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE, "too long a link: %.500s", path);
    memcpy(path, next, strlen(next) + 1);
    return 1;
}

/* To the file behind all links, which need not be there yet: a rename would replace a link, and the
 * lock is to be the same by each name. */
static int follow_all(char path[PATH_MAX], struct err_text *text)
{
    int code = 1;

    for (unsigned links = 0; code > 0; links++) {
        if (links > LINKS_MOST)
            return err_set(text, EXIT_OPTION, ERR_INVALID, "%.500s: more than %u links", path,
                           LINKS_MOST);
        code = follow(path, text);
    }
    return code;
}

bool state_file_real(const char *path, char real[PATH_MAX])
{
    char file[PATH_MAX], dir[PATH_MAX];
    const char *slash;
    size_t length;

    if (snprintf(file, sizeof(file), "%s", path) >= (int)sizeof(file) || follow_all(file, NULL) < 0)
        return false;
    slash = strrchr(file, '/');
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - file + 1) : 1, slash ? file : ".");
    if (realpath(dir, real) == NULL)
        return false;
    length = strlen(real);
    return snprintf(real + length, PATH_MAX - length, "/%s", slash ? slash + 1 : file) <
           (int)(PATH_MAX - length);
}

/* ---- reading ---- */

static const char *suffixed(const struct state_file *file, const char *suffix,
                            char out[SUFFIXED_PATH])
{
    snprintf(out, SUFFIXED_PATH, "%s%s", file->path, suffix);
    return out;
}

int state_file_lock(struct state_file *file, struct err_text *text)
{
    char path[SUFFIXED_PATH];

    suffixed(file, LOCK_SUFFIX, path);
    file->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file->lock_fd < 0)
        return failed(path, text);
    if (flock(file->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return err_set(text, EXIT_PORT_IN_USE, ERR_IN_USE,
                   "%.500s: another host has this state file (--replace, with the same --socket, "
                   "takes its place)",
                   file->path);
}

static int judge(const char *path, int fd, struct err_text *text)
{
    struct stat info;

    if (fstat(fd, &info) < 0)
        return failed(path, text);
    if (!S_ISREG(info.st_mode))
        return err_set(text, EXIT_OPTION, ERR_INVALID, "%.500s is no file", path);
    if (info.st_uid != 0 && info.st_uid != geteuid())
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION, "%.500s belongs to user %u", path,
                       (unsigned)info.st_uid);
    if (info.st_mode & (S_IWGRP | S_IWOTH))
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "%.500s: others may write it (chmod go-w)", path);
    return 0;
}

static int read_all(const char *path, int fd, struct buf *content, struct err_text *text)
{
    ssize_t got;

    do {
        got = read(fd, buf_reserve(content, 65536), 65536);
        if (got > 0)
            buf_added(content, (size_t)got);
    } while ((got > 0 && buf_len(content) <= STATE_BYTES) || (got < 0 && errno == EINTR));
    return got < 0 ? failed(path, text) : 0;
}

static int read_file(const char *path, struct buf *content, struct err_text *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), code;

    if (fd < 0)
        return errno == ENOENT ? 0 : failed(path, text);
    code = judge(path, fd, text);
    if (code == 0)
        code = read_all(path, fd, content, text);
    close(fd);
    return code;
}

int state_file_open(struct state_file *file, const char *path, struct buf *content,
                    struct err_text *text)
{
    int code;

    if (strlen(path) >= PATH_MAX)
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE, "too long a path: %.200s", path);
    snprintf(file->path, sizeof(file->path), "%s", path);
    code = follow_all(file->path, text);
    if (code == 0)
        code = state_file_lock(file, text);
    if (code == 0)
        code = read_file(file->path, content, text);
    return code;
}

void state_file_unlock(struct state_file *file)
{
    if (file->lock_fd >= 0)
        close(file->lock_fd);
    file->lock_fd = -1;
}

void state_file_close(struct state_file *file)
{
    state_file_unlock(file);
}

/* ---- writing ---- */

static int write_all(int fd, struct span content)
{
    while (content.len > 0) {
        ssize_t put = write(fd, content.at, content.len);

        if (put < 0 && errno != EINTR)
            return -1;
        content = span_skip(content, put > 0 ? (size_t)put : 0);
    }
    return fsync(fd);
}

/* The entry of the directory too: the rename must not be lost. */
static void sync_dir(const char *path)
{
    char dir[SUFFIXED_PATH];
    char *slash;
    int fd;

    snprintf(dir, sizeof(dir), "%s", path);
    slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static int replace(const struct state_file *file, const char *path, struct span content,
                   struct err_text *text)
{
    char fresh[SUFFIXED_PATH];
    int fd, code = 0;

    suffixed(file, NEW_SUFFIX, fresh);
    unlink(fresh); /* of a host that was killed */
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return failed(fresh, text);
    if (write_all(fd, content) < 0 || rename(fresh, path) < 0)
        code = failed(path, text);
    close(fd);
    if (code < 0)
        unlink(fresh);
    else
        sync_dir(path);
    return code;
}

int state_file_save(const struct state_file *file, struct span content, struct err_text *text)
{
    return replace(file, file->path, content, text);
}

void state_file_is_good(const struct state_file *file, struct span content)
{
    char path[SUFFIXED_PATH];
    struct err_text text;

    if (content.len > 0 && replace(file, suffixed(file, GOOD_SUFFIX, path), content, &text) < 0)
        log_event(LOG_WARN, "state_copy", "the copy could not be made: %s", text.text);
}
