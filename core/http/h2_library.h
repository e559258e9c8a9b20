/*
 * What both sides of a session hand to nghttp2: memory, and field lines, gathered on the stack
 * where they are few, and copied by the library before they go out of scope.
 */
#ifndef HTTP_H2_LIBRARY_H
#define HTTP_H2_LIBRARY_H

#include <nghttp2/nghttp2.h>

#include "http/fields.h"

/* h2_pool's. */
nghttp2_mem h2_library_memory(void);

#define H2_STACK_LINES 64u /* of a message; more are gathered on the heap */

struct h2_lines {
    nghttp2_nv *at;
    size_t count;
    nghttp2_nv stack[H2_STACK_LINES];
};

/* Room for most lines. */
void h2_lines_init(struct h2_lines *lines, size_t most);
void h2_lines_fini(struct h2_lines *lines);

/* Adds a line. flags: NGHTTP2_NV_FLAG_…; a name in lower case that stays where it is needs no copy
 * (NO_COPY_NAME). Blanks around the value are left out (RFC 9113 section 8.2.1). */
void h2_lines_add(struct h2_lines *lines, struct span name, struct span value, uint8_t flags);
void h2_lines_add_static(struct h2_lines *lines, struct span name, struct span value);
void h2_lines_add_field(struct h2_lines *lines, const struct field *field, uint8_t flags);

#endif
