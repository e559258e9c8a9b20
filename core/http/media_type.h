/* Media types (RFC 9110 section 8.3.1): "type/subtype; name=value; name=\"value\"". */
#ifndef HTTP_MEDIA_TYPE_H
#define HTTP_MEDIA_TYPE_H

#include <stdbool.h>

#include "base/mem.h"
#include "base/span.h"

/* True when value names this type/subtype, without regard to case and parameters. */
bool media_type_is(struct span value, struct span type_and_subtype);

/*
 * Value of a parameter, unquoted (in arena when it had escapes); SPAN_NONE when absent or
 * malformed.
 */
struct span media_type_parameter(struct span value, struct span name, struct arena *arena);

#endif
