/* Text in UTF-8, as it comes from outside. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>

#include "base/span.h"

/* Of the well-formed sequence at the start of a text that is not empty; 0: there is none. */
size_t utf8_length(struct span text);

/* Whether it is UTF-8 without controls, those of C1 included. */
bool utf8_is_printable(struct span text);

#endif
