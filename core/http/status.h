/* Standard reason phrases (IANA registry of HTTP status codes); "" for a code that has none. */
#ifndef HTTP_STATUS_H
#define HTTP_STATUS_H

#include "base/span.h"

struct span status_reason(int status);

#endif
