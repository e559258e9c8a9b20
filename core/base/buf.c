/*
 * Growth doubles, so that adding stays linear; space in front that was consumed is reused before
 * growing. A buffer is bounded by its user's named limit and in any case by 1 GiB, checked here.
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

#define SMALLEST 256u
#define LARGEST  (1u << 30)

void buf_fini(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){0};
}

void buf_wipe(struct buf *buf)
{
    if (buf->data)
        explicit_bzero(buf->data, buf->cap);
    buf_fini(buf);
}

char *buf_reserve(struct buf *buf, size_t extra)
{
    size_t held = buf->tail - buf->head, cap = buf->cap ? buf->cap : SMALLEST;

    if (buf->data && buf->cap - buf->tail >= extra)
        return buf->data + buf->tail;
    CHECK(extra <= LARGEST && held + extra <= LARGEST);
    while (cap < held + extra)
        cap *= 2;
    if (buf->head > 0) {
        memmove(buf->data, buf->data + buf->head, held);
        buf->head = 0;
        buf->tail = (uint32_t)held;
    }
    if (cap != buf->cap) {
        buf->data = mem_realloc(buf->data, cap);
        buf->cap = (uint32_t)cap;
    }
    return buf->data + buf->tail;
}

void buf_append(struct buf *buf, struct span bytes)
{
    if (bytes.len == 0)
        return;
    memcpy(buf_reserve(buf, bytes.len), bytes.at, bytes.len);
    buf_added(buf, bytes.len);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(need >= 0);

    char *at = buf_reserve(buf, (size_t)need + 1);

    va_start(args, format);
    vsnprintf(at, (size_t)need + 1, format, args);
    va_end(args);
    buf_added(buf, (size_t)need);
}
