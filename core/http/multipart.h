/*
 * multipart/form-data content (RFC 7578, RFC 2046 section 5.1), read as a stream of parts from
 * bytes in any pieces; a part's data is never held, only its head. A part must have one
 * Content-Disposition with a name. In quoted names %22, %0D and %0A are decoded as browsers write
 * them, and a backslash escapes '"' and itself. filename* (RFC 8187; RFC 7578 forbids it, some
 * clients send it) counts where filename is missing.
 */
#ifndef HTTP_MULTIPART_H
#define HTTP_MULTIPART_H

#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/span.h"
#include "http/fields.h"
#include "http/refusal.h"

#define MULTIPART_BOUNDARY_MAX 70 /* RFC 2046 section 5.1.1 */

enum multipart_event {
    MULTIPART_PART = 1, /* a part begins: fields, name, filename, type are set */
    MULTIPART_DATA,     /* *data is a run of the part's content */
    MULTIPART_PART_END,
    MULTIPART_END /* the closing delimiter was read; what follows is ignored */
};

struct multipart_limits {
    uint32_t max_part_head_bytes; /* 413 */
    uint32_t max_parts;           /* 413 */
};

struct multipart {
    struct multipart_limits limits;
    struct arena *arena; /* part heads; the caller may reset it at MULTIPART_PART_END */
    struct refusal refusal;
    struct fields fields;             /* of the current part */
    struct span name, filename, type; /* SPAN_NONE when absent; name and filename unquoted */
    char delimiter[MULTIPART_BOUNDARY_MAX + 4];
    uint32_t delimiter_len, parts, head_bytes;
    uint32_t matched; /* bytes of the delimiter that the last ones taken were */
    struct buf held;  /* the unfinished line of a part head */
    uint8_t state;
};

/*
 * Takes the boundary from a Content-Type value. ERR_INVALID when it is no multipart/form-data or
 * has no valid boundary.
 */
int multipart_init(struct multipart *multipart, struct span content_type,
                   const struct multipart_limits *limits, struct arena *arena);
void multipart_fini(struct multipart *multipart);

/*
 * Next event from in; *used says how much of in was taken. ERR_AGAIN: all of in was taken or kept,
 * more is needed; ERR_INVALID: refusal says why (400, or 413 for a limit). *data is borrowed until
 * the next call.
 */
int multipart_next(struct multipart *multipart, struct span in, size_t *used, struct span *data);

/* Content ended: 0 when the closing delimiter was seen, else ERR_INVALID. */
int multipart_finish(struct multipart *multipart);

#endif
