/*
 * Files are looked at by stat: what certbot does (a link that leads elsewhere from now on) and what
 * an editor does both change device, inode, size or a time; a watch of the kernel's would have to
 * follow each link of the path.
 */
#include "proc/watched_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t nanoseconds(struct timespec when)
{
    return (int64_t)when.tv_sec * 1000000000 + when.tv_nsec;
}

static struct file_mark mark_of(const struct stat *about)
{
    return (struct file_mark){
        .device = about->st_dev,
        .inode = about->st_ino,
        .size = about->st_size,
        .modified_ns = nanoseconds(about->st_mtim),
        .changed_ns = nanoseconds(about->st_ctim),
    };
}

static bool is_same(const struct file_mark *a, const struct file_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

bool watched_file_moved(struct watched_file *file)
{
    struct file_mark mark = {0};
    struct stat about;
    bool moved;

    if (stat(file->path, &about) == 0)
        mark = mark_of(&about);
    moved = !is_same(&mark, &file->mark);
    file->mark = mark;
    return moved;
}

static int unreadable(struct err_text *why, const char *reason)
{
    return err_set(why, EXIT_OPTION, ERR_INVALID, "cannot be read: %s", reason);
}

static int read_all(int fd, struct buf *text, struct err_text *why)
{
    for (;;) {
        ssize_t got = read(fd, buf_reserve(text, 16384), 16384);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return unreadable(why, strerror(errno));
        if (got == 0)
            return 0;
        buf_added(text, (size_t)got);
        if (buf_len(text) > WATCHED_FILE_MOST)
            return err_set(why, EXIT_OPTION, ERR_INVALID, "is larger than %d KiB",
                           WATCHED_FILE_MOST >> 10);
    }
}

int watched_file_read(struct watched_file *file, struct buf *text, struct err_text *why)
{
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), code;
    struct stat about;

    if (fd < 0)
        return unreadable(why, strerror(errno));
    if (fstat(fd, &about) < 0)
        code = unreadable(why, strerror(errno));
    else if (!S_ISREG(about.st_mode))
        code = unreadable(why, "it is no file");
    else
        code = read_all(fd, text, why);
    close(fd);
    if (code < 0) {
        buf_wipe(text);
        return code;
    }
    file->mode = about.st_mode;
    file->mark = mark_of(&about);
    return 0;
}

void watched_file_take(struct watched_file *file, struct buf *text)
{
    buf_wipe(&file->text);
    file->text = *text;
    *text = (struct buf){0};
}

void watched_file_fini(struct watched_file *file)
{
    buf_wipe(&file->text);
}
