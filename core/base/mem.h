/*
 * Memory. mem_* never returns NULL: it ends the process instead, and the master starts a new
 * worker; what a peer can make large meets a named limit long before. An arena hands out pieces
 * that are all freed at once, with the request they belong to; its first block is kept for the next
 * request.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

#include "base/span.h"

/* For a process that serves: freed memory at the top of the heap, up to 512 KiB, is kept for the
 * next who needs it. */
void mem_keep_freed(void);

void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_realloc(void *old, size_t size);
char *mem_strdup(const char *text);
void mem_free(void *memory);

struct arena_block;

struct arena {
    struct arena_block *head; /* the block that is filled; its next are full ones */
    char *next, *end;         /* what is left of it */
};

#define ARENA_ALIGN 16u

void arena_init(struct arena *arena);

/* Frees everything that was handed out but one block; the arena can be used again. */
void arena_reset(struct arena *arena);
void arena_fini(struct arena *arena);

void *arena_grow(struct arena *arena, size_t size);

/* size bytes, aligned for any type, that live until reset. */
static inline void *arena_alloc(struct arena *arena, size_t size)
{
    size_t whole = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    char *at = arena->next;

    if (whole < size || whole > (size_t)(arena->end - at))
        return arena_grow(arena, size);
    arena->next = at + whole;
    return at;
}

/* A NUL-terminated copy of bytes; its span does not count the NUL. */
struct span arena_copy(struct arena *arena, struct span bytes);

#endif
