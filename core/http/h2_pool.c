/*
 * Memory for nghttp2. It allocates a stream, two frames and their parts for each request, and frees
 * them soon: blocks of a few sizes, kept for the next one, cost a tenth of malloc's. Never NULL, as
 * everywhere. The lists are the process's: only the loop's thread has sessions.
 */
#include "http/h2_priv.h"

#include "base/err.h"

#define CLASS_BYTES 64u /* each class of blocks is so much larger than the one before */
#define CLASSES     16u
#define KEPT_BYTES  65536u /* of a class that are free: what a burst took goes back */

/* A sanitizer must see every free. */
#if defined(__SANITIZE_ADDRESS__)
#define KEEPS false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEPS false
#endif
#endif
#ifndef KEEPS
#define KEEPS true
#endif

struct block {
    union {
        size_t size;        /* that may be used, of one that is */
        struct block *next; /* of one that is free */
    };
    _Alignas(16) char bytes[];
};

static struct {
    struct block *first;
    size_t bytes;
} classes[CLASSES];

/* The class of blocks of this size; CLASSES or above when it is too large for any. */
static size_t class_of(size_t size)
{
    return size > 0 ? (size - 1) / CLASS_BYTES : 0;
}

static struct block *block_of(void *memory)
{
    return (struct block *)((char *)memory - offsetof(struct block, bytes));
}

void *h2_pool_alloc(size_t size)
{
    size_t class = class_of(size);
    struct block *block = NULL;

    CHECK(size < SIZE_MAX / 2);
    if (KEEPS && class < CLASSES) {
        size = (class + 1) * CLASS_BYTES;
        block = classes[class].first;
    }
    if (block) {
        classes[class].first = block->next;
        classes[class].bytes -= size;
    } else {
        block = mem_alloc(sizeof(*block) + size);
    }
    block->size = size;
    return block->bytes;
}

void h2_pool_free(void *memory)
{
    if (memory == NULL)
        return;

    struct block *block = block_of(memory);
    size_t size = block->size, class = class_of(size);

    if (!KEEPS || class >= CLASSES || classes[class].bytes + size > KEPT_BYTES) {
        mem_free(block);
        return;
    }
    block->next = classes[class].first;
    classes[class].first = block;
    classes[class].bytes += size;
}

void *h2_pool_realloc(void *memory, size_t size)
{
    size_t held = memory ? block_of(memory)->size : 0;

    if (memory && size <= held)
        return memory;

    void *larger = h2_pool_alloc(size);

    if (held > 0)
        memcpy(larger, memory, held);
    h2_pool_free(memory);
    return larger;
}
