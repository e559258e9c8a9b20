/*
 * Free lists by size. In the sanitized build every object is malloc's own, so that a use after free
 * is seen.
 */
#include "bind/alloc.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 16384u

#ifdef __SANITIZE_ADDRESS__
#define LARGEST 0u
#else
#define LARGEST ALLOC_LARGEST
#endif

static size_t row_of(size_t size)
{
    return (size - 1) / ALLOC_STEP;
}

static void *from_chunk(struct alloc *alloc, size_t row)
{
    size_t size = (row + 1) * ALLOC_STEP;

    if (alloc->left < size) {
        struct alloc_free *chunk = malloc(CHUNK_BYTES);

        if (chunk == NULL)
            return NULL;
        chunk->next = alloc->chunks;
        alloc->chunks = chunk;
        alloc->next = (char *)chunk + ALLOC_STEP;
        alloc->left = CHUNK_BYTES - ALLOC_STEP;
    }
    alloc->next += size;
    alloc->left -= size;
    return alloc->next - size;
}

static void *take(struct alloc *alloc, size_t size)
{
    if (size > LARGEST)
        return malloc(size);
    size_t row = row_of(size);
    struct alloc_free *block = alloc->lists[row];

    if (block == NULL)
        return from_chunk(alloc, row);
    alloc->lists[row] = block->next;
    return block;
}

void alloc_release(struct alloc *alloc, void *old, size_t old_size)
{
    struct alloc_free *block = old;

    if (old == NULL)
        return;
    if (old_size > LARGEST) {
        free(old);
        return;
    }
    block->next = alloc->lists[row_of(old_size)];
    alloc->lists[row_of(old_size)] = block;
}

void *alloc_resize(struct alloc *alloc, void *old, size_t old_size, size_t size)
{
    if (old == NULL)
        return take(alloc, size);
    if (old_size > LARGEST && size > LARGEST)
        return realloc(old, size);
    if (old_size <= LARGEST && size <= LARGEST && row_of(old_size) == row_of(size))
        return old;
    void *fresh = take(alloc, size);

    if (fresh) {
        memcpy(fresh, old, old_size < size ? old_size : size);
        alloc_release(alloc, old, old_size);
    }
    return fresh;
}

void alloc_fini(struct alloc *alloc)
{
    while (alloc->chunks) {
        struct alloc_free *chunk = alloc->chunks;

        alloc->chunks = chunk->next;
        free(chunk);
    }
}
