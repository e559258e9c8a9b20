/* For the room's readers: adding a line whose name is known already, without a second look at it.
 */
#ifndef HTTP_FIELDS_PRIV_H
#define HTTP_FIELDS_PRIV_H

#include "http/fields.h"

/* Makes room for more lines. */
void fields_grow(struct fields *fields);

static inline void fields_push(struct fields *fields, const struct field *field)
{
    if (fields->count == fields->room)
        fields_grow(fields);
    fields->at[fields->count++] = *field;
}

#endif
