#include "share/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"

/* A Unix socket waits when the listener's queue is full, for as long as sending may take. */
static int connect_to(int fd, const struct sockaddr_un *address, unsigned wait_ms)
{
    const struct timeval wait = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};
    int flags = fcntl(fd, F_GETFL);

    if (wait_ms > 0 && (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0 ||
                        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0))
        return -1;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return -1;
    return fcntl(fd, F_SETFL, flags);
}

int control_dial(const char *path, unsigned wait_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int fd, code;

    if (length >= sizeof(address.sun_path))
        return ERR_TOO_LARGE;
    memcpy(address.sun_path, path, length);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_from_errno(errno);
    if (connect_to(fd, &address, wait_ms) == 0)
        return fd;
    code = err_from_errno(errno);
    close(fd);
    return code;
}
