/*
 * Memory of a Lua state. Lua makes and drops many small objects of few sizes; they come from free
 * lists, a list a size, which costs a tenth of malloc. Chunks stay with the state until it closes.
 */
#ifndef BIND_ALLOC_H
#define BIND_ALLOC_H

#include <stddef.h>

#define ALLOC_STEP    16u
#define ALLOC_LARGEST 512u /* above: malloc */

struct alloc_free {
    struct alloc_free *next;
};

struct alloc {
    struct alloc_free *lists[ALLOC_LARGEST / ALLOC_STEP];
    struct alloc_free *chunks;
    char *next; /* unused rest of the newest chunk */
    size_t left;
};

/* As realloc with the old size known; size above 0. NULL when the system has no memory. */
void *alloc_resize(struct alloc *alloc, void *old, size_t old_size, size_t size);
void alloc_release(struct alloc *alloc, void *old, size_t old_size);

/* The common case of alloc_resize without an old block: NULL when the list is empty or size too
 * large. */
static inline void *alloc_quick(struct alloc *alloc, size_t size)
{
    if (size > ALLOC_LARGEST)
        return NULL;
    struct alloc_free **list = &alloc->lists[(size - 1) / ALLOC_STEP], *block = *list;

    if (block)
        *list = block->next;
    return block;
}

/* Frees all chunks; blocks above ALLOC_LARGEST must have been released. */
void alloc_fini(struct alloc *alloc);

#endif
