/*
 * A datagram is one message or a piece of its text: a fixed header, then text. SOCK_SEQPACKET keeps
 * their borders and their order, and tells when the other end is gone, whatever ended it. Who has a
 * loop never waits for the other end: what it does not take is kept, with copies of the
 * descriptors.
 */
#include "net/ipc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define MAGIC   0x4d51u
#define VERSION 3

enum { IPC_PIECE = IPC_FIRST_KIND - 1 }; /* text of the message that follows */

struct header {
    uint16_t magic, version;
    uint32_t kind, value;
};

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * IPC_MAX_FDS)];
};

/* What waits to be sent: one datagram. */
struct waiting {
    struct list node;
    struct header header;
    int fds[IPC_MAX_FDS];
    unsigned fd_count;
    size_t length;
    char text[];
};

int ipc_pair(int ends[2])
{
    int type = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;

    return socketpair(AF_UNIX, type, 0, ends) < 0 ? err_from_errno(errno) : 0;
}

void ipc_open(struct ipc_channel *channel, int fd)
{
    *channel = (struct ipc_channel){
        .fd = fd, .text_most = IPC_TEXT_BYTES, .waiting_most = IPC_WAITING_BYTES};
    list_init(&channel->waiting);
}

void ipc_bound(struct ipc_channel *channel, size_t text_most, size_t waiting_most)
{
    channel->text_most = text_most;
    channel->waiting_most = waiting_most;
}

/* ---- sending ---- */

static int send_datagram(int fd, const struct header *header, struct span text, const int *fds,
                         unsigned fd_count)
{
    struct iovec parts[2] = {
        {.iov_base = (void *)(uintptr_t)header, .iov_len = sizeof(*header)},
        {.iov_base = (void *)(uintptr_t)text.at, .iov_len = text.len},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    union control control;

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

static void waiting_free(struct waiting *waiting)
{
    for (unsigned i = 0; i < waiting->fd_count; i++)
        close(waiting->fds[i]);
    explicit_bzero(waiting->text, waiting->length); /* some messages carry keys */
    mem_free(waiting);
}

static size_t cost_of(size_t text_bytes, unsigned fd_count)
{
    return sizeof(struct header) + text_bytes + (size_t)fd_count * IPC_FD_BYTES;
}

static int keep(struct ipc_channel *channel, const struct header *header, struct span text,
                const int *fds, unsigned fd_count)
{
    if (channel->waiting_bytes + cost_of(text.len, fd_count) > channel->waiting_most)
        return ERR_LIMIT;
    struct waiting *waiting = mem_alloc(sizeof(*waiting) + text.len);

    waiting->header = *header;
    waiting->length = text.len;
    waiting->fd_count = 0;
    if (text.len > 0)
        memcpy(waiting->text, text.at, text.len);
    list_init(&waiting->node);
    for (unsigned i = 0; i < fd_count; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

        if (copy < 0) {
            waiting_free(waiting);
            return ERR_LIMIT;
        }
        waiting->fds[waiting->fd_count++] = copy;
    }
    channel->waiting_bytes += cost_of(text.len, fd_count);
    list_append(&channel->waiting, &waiting->node);
    return 0;
}

static void on_ready(struct loop_io *io, int events);

static void watch(struct ipc_channel *channel)
{
    int events = LOOP_READ | (list_empty(&channel->waiting) ? 0 : LOOP_WRITE);

    loop_io_stop(channel->loop, &channel->io);
    loop_io_start(channel->loop, &channel->io, channel->fd, events, on_ready);
}

static void send_waiting(struct ipc_channel *channel)
{
    while (!list_empty(&channel->waiting)) {
        struct waiting *waiting = LIST_OWNER(channel->waiting.next, struct waiting, node);
        int code =
            send_datagram(channel->fd, &waiting->header, span_of(waiting->text, waiting->length),
                          waiting->fds, waiting->fd_count);

        if (code == ERR_AGAIN)
            return;
        list_remove(&waiting->node); /* also when it is gone: the receiver sees that */
        channel->waiting_bytes -= cost_of(waiting->length, waiting->fd_count);
        waiting_free(waiting);
    }
    watch(channel);
}

static int wait_for_room(int fd)
{
    struct pollfd poll_for = {.fd = fd, .events = POLLOUT};

    while (poll(&poll_for, 1, -1) < 0)
        if (errno != EINTR)
            return err_from_errno(errno);
    return 0;
}

static int send_or_keep(struct ipc_channel *channel, const struct header *header, struct span text,
                        const int *fds, unsigned fd_count)
{
    int code = ERR_AGAIN;

    if (!list_empty(&channel->waiting))
        return keep(channel, header, text, fds, fd_count);
    while ((code = send_datagram(channel->fd, header, text, fds, fd_count)) == ERR_AGAIN &&
           channel->loop == NULL)
        if ((code = wait_for_room(channel->fd)) < 0)
            return code;
    if (code != ERR_AGAIN)
        return code;
    code = keep(channel, header, text, fds, fd_count);
    watch(channel);
    return code;
}

int ipc_send(struct ipc_channel *channel, unsigned kind, unsigned value, struct span text,
             const int *fds, unsigned fd_count)
{
    struct header header = {.magic = MAGIC, .version = VERSION, .kind = IPC_PIECE, .value = value};
    int code = 0;

    if (text.len > channel->text_most || fd_count > IPC_MAX_FDS)
        return ERR_TOO_LARGE;
    for (; text.len > IPC_DATAGRAM_BYTES && code == 0;
         text = span_of(text.at + IPC_DATAGRAM_BYTES, text.len - IPC_DATAGRAM_BYTES))
        code = send_or_keep(channel, &header, span_of(text.at, IPC_DATAGRAM_BYTES), NULL, 0);
    header.kind = kind;
    return code < 0 ? code : send_or_keep(channel, &header, text, fds, fd_count);
}

size_t ipc_unread(const struct ipc_channel *channel)
{
    int bytes = 0;

    if (channel->fd < 0 || ioctl(channel->fd, SIOCOUTQ, &bytes) < 0)
        bytes = 0;
    return (size_t)bytes + channel->waiting_bytes;
}

/* ---- watching ---- */

static void on_ready(struct loop_io *io, int events)
{
    struct ipc_channel *channel = LIST_OWNER(io, struct ipc_channel, io);

    if (events & LOOP_WRITE)
        send_waiting(channel);
    if (events & LOOP_READ)
        channel->ready(channel);
}

void ipc_watch(struct ipc_channel *channel, struct loop *loop,
               void (*ready)(struct ipc_channel *channel))
{
    channel->loop = loop;
    channel->ready = ready;
    watch(channel);
}

void ipc_unwatch(struct ipc_channel *channel)
{
    struct list *node;

    if (channel->loop)
        loop_io_stop(channel->loop, &channel->io);
    while ((node = list_take(&channel->waiting)) != NULL)
        waiting_free(LIST_OWNER(node, struct waiting, node));
    channel->waiting_bytes = 0;
}

static void give_up_reserve(struct ipc_channel *channel, unsigned count)
{
    for (; count > 0 && channel->reserve_count > 0; count--)
        close(channel->reserve[--channel->reserve_count]);
}

/* Again and again: it is used up by what stays, and other descriptors are free later. */
static void fill_reserve(struct ipc_channel *channel)
{
    int fd;

    while (channel->reserves && channel->reserve_count < IPC_RESERVE &&
           (fd = fcntl(channel->fd, F_DUPFD_CLOEXEC, 3)) >= 0)
        channel->reserve[channel->reserve_count++] = fd;
}

void ipc_reserve(struct ipc_channel *channel)
{
    channel->reserves = true;
    fill_reserve(channel);
}

void ipc_close(struct ipc_channel *channel)
{
    if (channel->fd < 0)
        return;
    ipc_unwatch(channel);
    give_up_reserve(channel, IPC_RESERVE);
    buf_wipe(&channel->pieces);
    close(channel->fd);
    channel->fd = -1;
}

/* ---- receiving ---- */

/* Those for which there was no descriptor are missing at the end. */
static void take_fds(struct ipc_message *message, struct msghdr *received)
{
    int fds[IPC_MAX_FDS];

    for (struct cmsghdr *part = CMSG_FIRSTHDR(received); part; part = CMSG_NXTHDR(received, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned count = (unsigned)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));

        CHECK(count <= IPC_MAX_FDS); /* the control buffer holds no more */
        memcpy(fds, CMSG_DATA(part), count * sizeof(int));
        for (unsigned i = 0; i < count; i++)
            if (message->fd_count < IPC_MAX_FDS)
                message->fds[message->fd_count++] = fds[i];
            else
                close(fds[i]); /* came with a piece: nothing of ours sends that */
    }
}

/* One datagram, whose text is appended to the pieces before it. */
static int receive_datagram(struct ipc_channel *channel, struct header *header,
                            struct ipc_message *message)
{
    union control control;
    struct iovec parts[2] = {
        {.iov_base = header, .iov_len = sizeof(*header)},
        {.iov_base = buf_reserve(&channel->pieces, IPC_DATAGRAM_BYTES),
         .iov_len = IPC_DATAGRAM_BYTES},
    };
    struct msghdr received = {
        .msg_iov = parts,
        .msg_iovlen = 2,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t got;

    do
        got = recvmsg(channel->fd, &received, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_from_errno(errno) == ERR_RESET ? ERR_CLOSED : err_from_errno(errno);
    if (got == 0)
        return ERR_CLOSED;
    take_fds(message, &received);
    if (got < (ssize_t)sizeof(*header) || header->magic != MAGIC || header->version != VERSION ||
        (received.msg_flags & MSG_TRUNC))
        return ERR_INVALID;
    if (header->kind == IPC_PIECE && got < (ssize_t)(sizeof(*header) + IPC_DATAGRAM_BYTES))
        return ERR_INVALID; /* pieces are full: a message has a bounded number of them */
    buf_added(&channel->pieces, (size_t)got - sizeof(*header));
    return buf_len(&channel->pieces) > channel->text_most ? ERR_INVALID : 0;
}

int ipc_receive(struct ipc_channel *channel, struct ipc_message *message)
{
    struct header header;
    int code;

    message->text = (struct buf){0};
    message->fd_count = 0;
    give_up_reserve(channel, IPC_MAX_FDS);
    do
        code = receive_datagram(channel, &header, message);
    while (code == 0 && header.kind == IPC_PIECE);
    fill_reserve(channel);
    if (code < 0) {
        ipc_message_fini(message);
        return code;
    }
    message->kind = header.kind;
    message->value = header.value;
    message->text = channel->pieces;
    channel->pieces = (struct buf){0};
    return 0;
}

void ipc_message_fini(struct ipc_message *message)
{
    for (unsigned i = 0; i < message->fd_count; i++)
        if (message->fds[i] >= 0)
            close(message->fds[i]);
    message->fd_count = 0;
    buf_wipe(&message->text);
}
