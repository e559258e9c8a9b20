#include "http/h2_library.h"

#include "base/err.h"
#include "base/mem.h"
#include "http/h2_priv.h"

/* ---- memory */

static void *library_malloc(size_t size, void *user)
{
    (void)user;
    return h2_pool_alloc(size);
}

static void library_free(void *memory, void *user)
{
    (void)user;
    h2_pool_free(memory);
}

static void *library_calloc(size_t count, size_t size, void *user)
{
    (void)user;
    CHECK(size == 0 || count <= SIZE_MAX / size);
    return memset(h2_pool_alloc(count * size), 0, count * size);
}

static void *library_realloc(void *old, size_t size, void *user)
{
    (void)user;
    return h2_pool_realloc(old, size);
}

nghttp2_mem h2_library_memory(void)
{
    return (nghttp2_mem){NULL, library_malloc, library_free, library_calloc, library_realloc};
}

/* ---- field lines */

void h2_lines_init(struct h2_lines *lines, size_t most)
{
    lines->count = 0;
    lines->at = most <= H2_STACK_LINES ? lines->stack : mem_alloc(most * sizeof(*lines->at));
}

void h2_lines_fini(struct h2_lines *lines)
{
    if (lines->at != lines->stack)
        mem_free(lines->at);
}

/* The library does not write there; its type has room for one that does. */
static uint8_t *bytes_of(const char *at)
{
    return (uint8_t *)(uintptr_t)at;
}

void h2_lines_add(struct h2_lines *lines, struct span name, struct span value, uint8_t flags)
{
    value = span_trim(value);
    lines->at[lines->count++] =
        (nghttp2_nv){bytes_of(name.at), bytes_of(value.at), name.len, value.len, flags};
}

void h2_lines_add_static(struct h2_lines *lines, struct span name, struct span value)
{
    h2_lines_add(lines, name, value, NGHTTP2_NV_FLAG_NO_COPY_NAME);
}

/* The name of a known field is static and in lower case; the library lowers what it copies. */
void h2_lines_add_field(struct h2_lines *lines, const struct field *field, uint8_t flags)
{
    const char *known = field_id_name(field->id);

    if (known)
        h2_lines_add(lines, span_of(known, field->name.len), field->value,
                     flags | NGHTTP2_NV_FLAG_NO_COPY_NAME);
    else
        h2_lines_add(lines, field->name, field->value, flags);
}
