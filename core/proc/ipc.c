/*
 * A datagram is one message: a fixed header, then text. SOCK_SEQPACKET keeps their borders and
 * their order, and tells when the other end is gone, whatever ended it.
 */
#include "proc/ipc.h"

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"

#define MAGIC   0x4d51u
#define VERSION 1

struct header {
    uint16_t magic, version;
    uint32_t kind, value;
};

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * IPC_MAX_FDS)];
};

int ipc_pair(int ends[2])
{
    int type = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;

    return socketpair(AF_UNIX, type, 0, ends) < 0 ? err_from_errno(errno) : 0;
}

int ipc_send(int fd, enum ipc_kind kind, unsigned value, struct span text, const int *fds,
             unsigned fd_count)
{
    struct header header = {.magic = MAGIC, .version = VERSION, .kind = kind, .value = value};
    struct iovec parts[2] = {
        {.iov_base = &header, .iov_len = sizeof(header)},
        {.iov_base = (void *)(uintptr_t)text.at, .iov_len = text.len},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    union control control;

    if (text.len > IPC_MAX_BYTES || fd_count > IPC_MAX_FDS)
        return ERR_TOO_LARGE;
    if (fd_count > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);

        struct cmsghdr *part = CMSG_FIRSTHDR(&message);

        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(part), fds, sizeof(int) * fd_count);
    }
    while (sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return err_from_errno(errno);
    return 0;
}

static void take_fds(struct ipc_message *message, struct msghdr *received)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(received); part; part = CMSG_NXTHDR(received, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned count = (unsigned)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));

        CHECK(message->fd_count + count <= IPC_MAX_FDS); /* the control buffer holds no more */
        memcpy(message->fds + message->fd_count, CMSG_DATA(part), count * sizeof(int));
        message->fd_count += count;
    }
}

int ipc_receive(int fd, struct ipc_message *message)
{
    struct header header;
    union control control;
    ssize_t got;

    message->text = (struct buf){0};
    message->fd_count = 0;
    struct iovec parts[2] = {
        {.iov_base = &header, .iov_len = sizeof(header)},
        {.iov_base = buf_reserve(&message->text, IPC_MAX_BYTES), .iov_len = IPC_MAX_BYTES},
    };
    struct msghdr received = {
        .msg_iov = parts,
        .msg_iovlen = 2,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };

    do
        got = recvmsg(fd, &received, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got > 0)
        take_fds(message, &received);
    if (got < (ssize_t)sizeof(header) || header.magic != MAGIC || header.version != VERSION ||
        (received.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        int code = got == 0 ? ERR_CLOSED : got < 0 ? err_from_errno(errno) : ERR_INVALID;

        ipc_message_fini(message);
        return code == ERR_RESET ? ERR_CLOSED : code;
    }
    message->kind = header.kind;
    message->value = header.value;
    buf_added(&message->text, (size_t)got - sizeof(header));
    return 0;
}

void ipc_message_fini(struct ipc_message *message)
{
    for (unsigned i = 0; i < message->fd_count; i++)
        if (message->fds[i] >= 0)
            close(message->fds[i]);
    message->fd_count = 0;
    buf_fini(&message->text);
}

void pairs_add(struct buf *pairs, const char *key, const char *value)
{
    buf_append(pairs, span_of(key, strlen(key) + 1));
    buf_append(pairs, span_of(value, strlen(value) + 1));
}

/* The string at the start of *rest; NULL when no NUL ends it. */
static const char *next_string(struct span *rest)
{
    const char *start = rest->at;
    const char *end = rest->len > 0 ? memchr(start, '\0', rest->len) : NULL;

    if (end == NULL)
        return NULL;
    rest->len -= (size_t)(end + 1 - start);
    rest->at = end + 1;
    return start;
}

bool pairs_next(struct span *rest, const char **key, const char **value)
{
    *key = next_string(rest);
    if (*key == NULL || **key == '\0') /* the list of an app ends with an empty key */
        return false;
    *value = next_string(rest);
    return *value != NULL;
}
