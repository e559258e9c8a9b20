/*
 * The kernel's table of TCP sockets gives the inode of the one that listens; the process is the one
 * with a descriptor of that inode. Only for a message, so every failure just says nothing.
 */
#include "proc/holder.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTENING 0x0A /* TCP_LISTEN in /proc/net/tcp */

static unsigned long listening_inode(const char *table, uint16_t port)
{
    char line[512];
    FILE *file = fopen(table, "re");
    unsigned long found = 0;

    while (file && found == 0 && fgets(line, sizeof(line), file)) {
        unsigned local_port, state;
        unsigned long inode;

        /* sl local remote st tx:rx tr:when retrnsmt uid timeout inode */
        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*s %*s %lu", &local_port,
                   &state, &inode) == 3 &&
            local_port == port && state == LISTENING)
            found = inode;
    }
    if (file)
        fclose(file);
    return found;
}

/* Looks for the descriptor in /proc/PID/fd, which dir is. */
static bool has_descriptor(DIR *dir, const char *wanted)
{
    struct dirent *entry;
    char target[64];

    while ((entry = readdir(dir)) != NULL) {
        ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

        if (length < 0)
            continue;
        target[length] = '\0';
        if (strcmp(target, wanted) == 0)
            return true;
    }
    return false;
}

static bool process_has(const char *pid, const char *wanted)
{
    char path[64];
    bool found;

    snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
    DIR *dir = opendir(path);

    if (dir == NULL)
        return false;
    found = has_descriptor(dir, wanted);
    closedir(dir);
    return found;
}

static void read_name(const char *pid, char name[32])
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
    FILE *file = fopen(path, "re");

    if (file == NULL || fgets(name, 32, file) == NULL)
        snprintf(name, 32, "another program");
    name[strcspn(name, "\n")] = '\0';
    if (file)
        fclose(file);
}

void holder_of_port(uint16_t port, char *out, size_t room)
{
    unsigned long inode = listening_inode("/proc/net/tcp", port);
    char wanted[64], name[32];
    struct dirent *entry;

    out[0] = '\0';
    if (inode == 0)
        inode = listening_inode("/proc/net/tcp6", port);
    DIR *processes = inode ? opendir("/proc") : NULL;

    if (processes == NULL)
        return;
    snprintf(wanted, sizeof(wanted), "socket:[%lu]", inode);
    while (out[0] == '\0' && (entry = readdir(processes)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            process_has(entry->d_name, wanted)) {
            read_name(entry->d_name, name);
            snprintf(out, room, "%s, process %.20s", name, entry->d_name);
        }
    closedir(processes);
}
