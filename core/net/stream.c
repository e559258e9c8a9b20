/*
 * The plain stream: a non-blocking socket with one watcher. Interest is changed only when it
 * differs, so a connection that reads, answers and reads again costs no epoll call.
 */
#include "net/stream.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define PARTS_MAX 8

struct plain {
    struct stream stream;
    struct loop *loop;
    struct loop_io io;
};

/* The owner may close, and so free, the stream: nothing is touched after the call. */
static void plain_ready(struct loop_io *io, int events)
{
    struct plain *plain = LIST_OWNER(io, struct plain, io);

    plain->stream.ready(plain->stream.owner, events);
}

static int plain_fd(const struct stream *stream)
{
    const struct plain *plain = (const struct plain *)(const void *)stream;

    return plain->io.watcher.fd;
}

static ssize_t plain_read(struct stream *stream, char *into, size_t room)
{
    ssize_t got = recv(plain_fd(stream), into, room, 0);

    return got >= 0 ? got : err_from_errno(errno);
}

static ssize_t plain_write(struct stream *stream, const struct span *parts, int count)
{
    ssize_t sent;

    CHECK(count > 0 && count <= PARTS_MAX);
    if (count == 1) {
        sent = send(plain_fd(stream), parts[0].at, parts[0].len, MSG_NOSIGNAL);
    } else {
        struct iovec list[PARTS_MAX];
        struct msghdr message = {.msg_iov = list, .msg_iovlen = (size_t)count};

        for (int i = 0; i < count; i++) {
            list[i].iov_base = (void *)(uintptr_t)parts[i].at;
            list[i].iov_len = parts[i].len;
        }
        sent = sendmsg(plain_fd(stream), &message, MSG_NOSIGNAL);
    }
    return sent >= 0 ? sent : err_from_errno(errno);
}

static void plain_want(struct stream *stream, int events)
{
    struct plain *plain = (struct plain *)(void *)stream;
    int fd = plain->io.watcher.fd,
        now = ev_is_active(&plain->io.watcher) ? plain->io.watcher.events & 3 : 0;

    if (now == events)
        return;
    loop_io_stop(plain->loop, &plain->io);
    if (events)
        loop_io_start(plain->loop, &plain->io, fd, events, plain_ready);
}

static void plain_shutdown(struct stream *stream)
{
    shutdown(plain_fd(stream), SHUT_WR);
}

static void plain_close(struct stream *stream, bool reset)
{
    struct plain *plain = (struct plain *)(void *)stream;
    int fd = plain_fd(stream);

    loop_io_stop(plain->loop, &plain->io);
    if (reset) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    close(fd);
    mem_free(plain);
}

static bool plain_pending(const struct stream *stream)
{
    (void)stream;
    return false;
}

static const struct stream_type plain_type = {
    .read = plain_read,
    .write = plain_write,
    .want = plain_want,
    .shutdown = plain_shutdown,
    .close = plain_close,
    .descriptor = plain_fd,
    .pending = plain_pending,
};

struct stream *stream_plain_new(struct loop *loop, int fd)
{
    struct plain *plain = mem_zalloc(sizeof(*plain));

    plain->stream.type = &plain_type;
    plain->loop = loop;
    ev_io_set(&plain->io.watcher, fd, 0);
    return &plain->stream;
}

int stream_plain_release(struct stream *stream)
{
    struct plain *plain = (struct plain *)(void *)stream;
    int fd = plain_fd(stream);

    CHECK(stream->type == &plain_type);
    loop_io_stop(plain->loop, &plain->io);
    mem_free(plain);
    return fd;
}
