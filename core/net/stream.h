/*
 * A byte stream between this process and a peer, whatever carries it: plain over a TCP or Unix
 * socket, or TLS (tls/tls_stream.h). Reads and writes never block. The owner is told of readiness
 * only for the events it wants, and may close the stream inside that callback.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/span.h"
#include "net/addr.h"
#include "net/loop.h"

enum { STREAM_READ = LOOP_READ, STREAM_WRITE = LOOP_WRITE };

struct stream;
typedef void stream_ready_fn(void *owner, int events);

struct stream_type {
    ssize_t (*read)(struct stream *stream, char *into, size_t room);
    ssize_t (*write)(struct stream *stream, const struct span *parts, int count);
    void (*want)(struct stream *stream, int events);
    void (*shutdown)(struct stream *stream);
    void (*close)(struct stream *stream, bool reset);
    int (*descriptor)(const struct stream *stream);
    bool (*pending)(const struct stream *stream);
};

struct stream {
    const struct stream_type *type;
    stream_ready_fn *ready;
    void *owner;
};

/* A stream over a connected, non-blocking socket. Takes fd. */
struct stream *stream_plain_new(struct loop *loop, int fd);

/* Frees a plain stream and gives its socket back, for another kind of stream. */
int stream_plain_release(struct stream *stream);

static inline void stream_owned_by(struct stream *stream, void *owner, stream_ready_fn *ready)
{
    stream->owner = owner;
    stream->ready = ready;
}

/* Bytes read, 0 at the peer's end, ERR_AGAIN, ERR_RESET, ERR_TIMEOUT, ERR_IO; ERR_INVALID: a TLS
 * handshake failed. */
static inline ssize_t stream_read(struct stream *stream, char *into, size_t room)
{
    return stream->type->read(stream, into, room);
}

/*
 * Bytes of the parts that were taken, in order, or ERR_AGAIN, ERR_RESET, ERR_IO. At most 8 parts.
 * The next write must begin with the bytes that were not taken: some may be on their way already.
 */
static inline ssize_t stream_write(struct stream *stream, const struct span *parts, int count)
{
    return stream->type->write(stream, parts, count);
}

/* Which events the owner is told of from now on; costs a system call only when the set changes. */
static inline void stream_want(struct stream *stream, int events)
{
    stream->type->want(stream, events);
}

/* No more will be written; the peer sees the end after all that was. */
static inline void stream_shutdown(struct stream *stream)
{
    stream->type->shutdown(stream);
}

/* Closes and frees; reset makes the peer see a reset and drops what it has not taken. */
static inline void stream_close(struct stream *stream, bool reset)
{
    stream->type->close(stream, reset);
}

/* Whether there is something to read that no event of the descriptor would tell of. */
static inline bool stream_pending(const struct stream *stream)
{
    return stream->type->pending(stream);
}

/* For addresses and options; -1 when there is none. */
static inline int stream_descriptor(const struct stream *stream)
{
    return stream->type->descriptor(stream);
}

#endif
