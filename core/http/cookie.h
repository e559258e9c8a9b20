/* Cookies (RFC 6265): the Cookie field read, Set-Cookie written. */
#ifndef HTTP_COOKIE_H
#define HTTP_COOKIE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"

struct cookie_pair {
    struct span name, value; /* value without surrounding double quotes; borrowed from the text */
};

/*
 * Takes the next pair off the front of *text; pieces that are no pair are skipped. False at the
 * end.
 */
bool cookie_next(struct span *text, struct cookie_pair *pair);

enum cookie_same_site { COOKIE_SAME_SITE_UNSET, COOKIE_STRICT, COOKIE_LAX, COOKIE_NONE };

struct cookie {
    struct span name, value;  /* value: cookie-octets */
    struct span path, domain; /* SPAN_NONE: left out */
    bool has_max_age, has_expires, secure, http_only, partitioned;
    int64_t max_age; /* seconds */
    int64_t expires; /* unix seconds */
    enum cookie_same_site same_site;
};

/*
 * Appends the value of a Set-Cookie field. ERR_INVALID, with *what naming the part and nothing
 * appended, when name is no token, value has a byte outside cookie-octet, path or domain a control
 * or ';', SameSite=None or Partitioned comes without Secure, or a __Host-/__Secure- name breaks its
 * rule (RFC 6265bis section 4.1.3).
 */
int cookie_write(struct buf *out, const struct cookie *cookie, const char **what);

#endif
