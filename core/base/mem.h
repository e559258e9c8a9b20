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

void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_realloc(void *old, size_t size);
char *mem_strdup(const char *text);
void mem_free(void *memory);

struct arena_block;

struct arena {
    struct arena_block *head; /* the block that is filled; its next are full ones */
    size_t used;              /* bytes used of head */
};

void arena_init(struct arena *arena);

/* Frees everything that was handed out but one block; the arena can be used again. */
void arena_reset(struct arena *arena);
void arena_fini(struct arena *arena);

/* size bytes, aligned for any type, that live until reset. */
void *arena_alloc(struct arena *arena, size_t size);

/* A NUL-terminated copy of bytes; its span does not count the NUL. */
struct span arena_copy(struct arena *arena, struct span bytes);

#endif
