/*
 * /tmp is everybody's: another user may have made the directory first, or a link in its place that
 * leads where we would not want to write. So nothing is believed of a directory but what lstat says
 * of it, and it is asked about each time, by servers and by those who look for them.
 */
#include "proc/runtime_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "share/control.h"

/* Whoever changes the user and keeps the environment (su) brings another user's directory along. */
static bool is_ours(const char *dir)
{
    struct stat info;

    return dir[0] == '/' && stat(dir, &info) == 0 && S_ISDIR(info.st_mode) &&
           info.st_uid == geteuid();
}

unsigned runtime_dirs(char dirs[RUNTIME_DIRS][RUNTIME_DIR_BYTES])
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    unsigned count = 0;

    if (xdg && strlen(xdg) + sizeof("/moonquay") <= RUNTIME_DIR_BYTES && is_ours(xdg))
        snprintf(dirs[count++], RUNTIME_DIR_BYTES, "%s/moonquay", xdg);
    if (geteuid() == 0)
        snprintf(dirs[count++], RUNTIME_DIR_BYTES, "/run/moonquay");
    snprintf(dirs[count++], RUNTIME_DIR_BYTES, "/tmp/moonquay-%u", (unsigned)geteuid());
    return count;
}

int runtime_dir_check(const char *dir, struct err_text *text)
{
    struct stat info;

    if (lstat(dir, &info) < 0)
        return err_set(text, EXIT_OPTION, err_from_errno(errno), "%s: %s", dir, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return err_set(text, EXIT_OPTION, ERR_INVALID, "%s is no directory", dir);
    if (info.st_uid != geteuid())
        return err_set(text, EXIT_OPTION, ERR_PERMISSION, "%s belongs to another user (uid %u)",
                       dir, (unsigned)info.st_uid);
    if (info.st_mode & (S_IWGRP | S_IWOTH))
        return err_set(text, EXIT_OPTION, ERR_PERMISSION, "others can write into %s", dir);
    return 0;
}

int runtime_dir_make(const char *dir, struct err_text *text)
{
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_set(text, EXIT_OPTION, err_from_errno(errno), "cannot make %s: %s", dir,
                       strerror(errno));
    return runtime_dir_check(dir, text);
}

int runtime_dir_host(char *path, size_t room, struct err_text *text)
{
    char dirs[RUNTIME_DIRS][RUNTIME_DIR_BYTES];
    int code;

    runtime_dirs(dirs);
    code = runtime_dir_make(dirs[0], text);
    if (code == 0 && chmod(dirs[0], 0711) < 0) /* its other sockets keep others out themselves */
        code =
            err_set(text, EXIT_OPTION, err_from_errno(errno), "%s: %s", dirs[0], strerror(errno));
    snprintf(path, room, "%s/" CONTROL_SOCKET_NAME, dirs[0]);
    return code;
}

void runtime_dir_find_host(char path[RUNTIME_PATH_BYTES])
{
    char dirs[RUNTIME_DIRS][RUNTIME_DIR_BYTES];
    unsigned count = runtime_dirs(dirs);

    for (unsigned i = 0; i < count; i++) {
        snprintf(path, RUNTIME_PATH_BYTES, "%.*s/" CONTROL_SOCKET_NAME, RUNTIME_DIR_BYTES, dirs[i]);
        if (runtime_dir_check(dirs[i], NULL) == 0 && access(path, F_OK) == 0)
            return;
    }
    snprintf(path, RUNTIME_PATH_BYTES, "/run/moonquay/" CONTROL_SOCKET_NAME);
}

void runtime_dir_socket(const char *dir, pid_t pid, char out[RUNTIME_PATH_BYTES])
{
    snprintf(out, RUNTIME_PATH_BYTES, "%s/%d.sock", dir, (int)pid);
}

pid_t runtime_dir_pid(const char *name)
{
    size_t digits = strspn(name, "0123456789");

    if (digits == 0 || digits > 9 || name[0] == '0' || strcmp(name + digits, ".sock") != 0)
        return 0;
    return (pid_t)strtol(name, NULL, 10);
}
