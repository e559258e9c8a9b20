/*
 * The request target in its four forms (RFC 9112 section 3.2), its path decoded and freed of dot
 * segments as reference/http-sys.md section 7.3 has it, with DESIGN section 5's deviations.
 */
#ifndef HTTP_TARGET_H
#define HTTP_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/span.h"
#include "http/refusal.h"

enum target_form { TARGET_ORIGIN, TARGET_ABSOLUTE, TARGET_AUTHORITY, TARGET_ASTERISK };

struct target_limits {
    uint32_t segment_max_length; /* url_segment_max_length: characters of a decoded segment, 0 for
                                    none; 400 URL */
    uint32_t segment_max_count;  /* url_segment_max_count, 0 for none; 400 URL */
};

struct target {
    enum target_form form;
    bool has_query;
    struct span raw;       /* exactly as on the request line */
    struct span scheme;    /* absolute form only */
    struct span authority; /* absolute and authority form */
    struct span path; /* decoded but for %2F, no dot segments; "" for authority and asterisk form */
    struct span query; /* behind the first '?', not decoded */
};

/*
 * Reads raw as the target of a request with this method (CONNECT takes authority form and nothing
 * else, "*" is for OPTIONS alone). Borrows raw as long as target is used; path is raw's own bytes
 * where nothing had to be decoded, else in arena. 0, or ERR_INVALID with why filled.
 */
int target_parse(struct target *target, struct span raw, struct span method,
                 const struct target_limits *limits, struct arena *arena, struct refusal *why);

/* uri-host [":" port] (RFC 3986 section 3.2), no userinfo; an empty authority is valid only when
 * allowed. */
bool authority_valid(struct span authority);

#endif
