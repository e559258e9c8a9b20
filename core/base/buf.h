/*
 * A growable byte buffer: bytes are added at the end and consumed from the front. An empty buffer
 * owns no memory after buf_fini, and {0} is an empty one.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdint.h>

#include "base/span.h"

struct buf {
    char *data;
    uint32_t head, tail; /* bytes [head, tail) are held */
    uint32_t cap;
};

void buf_fini(struct buf *buf);

/* The same for one that may hold a key: nothing of it is left in memory. */
void buf_wipe(struct buf *buf);

/* Makes room for at least extra more bytes and returns where they go; buf_added then counts them
 * in. */
char *buf_reserve(struct buf *buf, size_t extra);

static inline void buf_added(struct buf *buf, size_t bytes)
{
    buf->tail += (uint32_t)bytes;
}

void buf_append(struct buf *buf, struct span bytes);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline size_t buf_len(const struct buf *buf)
{
    return buf->tail - buf->head;
}

/* The bytes held; borrowed until the buffer changes. */
static inline struct span buf_span(const struct buf *buf)
{
    return span_of(buf->data ? buf->data + buf->head : NULL, buf_len(buf));
}

/* Drops bytes from the front. */
static inline void buf_consume(struct buf *buf, size_t bytes)
{
    buf->head += (uint32_t)bytes;
    if (buf->head == buf->tail)
        buf->head = buf->tail = 0;
}

#endif
