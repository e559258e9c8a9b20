/* HTTP dates (RFC 9110 section 5.6.7). */
#ifndef HTTP_DATE_H
#define HTTP_DATE_H

#include <stdint.h>

#include "base/span.h"

#define DATE_BYTES 29

/* Writes the IMF-fixdate of unix_seconds, e.g. "Sun, 06 Nov 1994 08:49:37 GMT", without NUL. */
void date_format(char out[DATE_BYTES], int64_t unix_seconds);

/* Reads any of the three forms. 0 and *unix_seconds, or ERR_INVALID. Two-digit years as RFC 9110
 * says. */
int date_parse(struct span text, int64_t *unix_seconds);

#endif
