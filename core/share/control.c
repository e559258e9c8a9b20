#include "share/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"

int control_dial(const char *path)
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
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    code = err_from_errno(errno);
    close(fd);
    return code;
}
