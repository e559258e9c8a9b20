/*
 * Allocation that cannot fail, and arenas. A block of 2 KiB holds the head and bookkeeping of an
 * ordinary request; larger pieces get a block of their own size.
 */
#include "base/mem.h"

#include "base/err.h"

#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES 2048u

struct arena_block {
    struct arena_block *next;
    size_t size; /* bytes of data */
    _Alignas(ARENA_ALIGN) char data[];
};

static void *must(void *memory, size_t size)
{
    if (memory == NULL && size > 0) {
        fprintf(stderr, "moonquay: out of memory (%zu bytes)\n", size);
        abort();
    }
    return memory;
}

/*
 * A handshake takes and frees some 40 KiB, and by itself the library gives them back to the system
 * each time, which has to clear them for the next. To set this ends its own judgement of what it
 * maps apart: from 1 MiB on.
 */
void mem_keep_freed(void)
{
    mallopt(M_TRIM_THRESHOLD, 512 << 10);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

void *mem_alloc(size_t size)
{
    return must(malloc(size), size);
}

void *mem_zalloc(size_t size)
{
    return must(calloc(1, size), size);
}

void *mem_realloc(void *old, size_t size)
{
    return must(realloc(old, size), size);
}

char *mem_strdup(const char *text)
{
    size_t size = strlen(text) + 1;

    return memcpy(mem_alloc(size), text, size);
}

void mem_free(void *memory)
{
    free(memory);
}

void arena_init(struct arena *arena)
{
    *arena = (struct arena){0};
}

static struct arena_block *block_new(size_t size, struct arena_block *next)
{
    struct arena_block *block = mem_alloc(sizeof(*block) + size);

    block->size = size;
    block->next = next;
    return block;
}

static void fill_from(struct arena *arena, struct arena_block *block)
{
    arena->head = block;
    arena->next = block ? block->data : NULL;
    arena->end = block ? block->data + block->size : NULL;
}

void arena_reset(struct arena *arena)
{
    struct arena_block *keep = NULL;

    if (arena->head && arena->head->next == NULL && arena->head->size == BLOCK_BYTES) {
        arena->next = arena->head->data; /* an ordinary request needs one block */
        return;
    }
    while (arena->head) {
        struct arena_block *block = arena->head;

        arena->head = block->next;
        if (keep == NULL && block->size == BLOCK_BYTES)
            keep = block;
        else
            mem_free(block);
    }
    if (keep)
        keep->next = NULL;
    fill_from(arena, keep);
}

void arena_fini(struct arena *arena)
{
    arena_reset(arena);
    mem_free(arena->head);
    arena_init(arena);
}

void *arena_grow(struct arena *arena, size_t size)
{
    CHECK(size < SIZE_MAX / 2);
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (size > BLOCK_BYTES / 2 && arena->head) {
        /* A big piece goes below the head, which stays open for small ones. */
        arena->head->next = block_new(size, arena->head->next);
        return arena->head->next->data;
    }
    fill_from(arena, block_new(size > BLOCK_BYTES ? size : BLOCK_BYTES, arena->head));
    arena->next += size;
    return arena->next - size;
}

struct span arena_copy(struct arena *arena, struct span bytes)
{
    char *copy = arena_alloc(arena, bytes.len + 1);

    if (bytes.len > 0)
        memcpy(copy, bytes.at, bytes.len);
    copy[bytes.len] = '\0';
    return span_of(copy, bytes.len);
}
