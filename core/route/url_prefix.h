/*
 * One URL prefix, scheme://host:port/path/, in HTTP.sys's grammar (reference/http-sys.md section
 * 2.1): read from text, kept in canonical form, compared. Nothing here knows of sockets or of other
 * prefixes.
 */
#ifndef ROUTE_URL_PREFIX_H
#define ROUTE_URL_PREFIX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#define URL_PREFIX_MAX_HOST 253  /* bytes: the longest name that DNS has */
#define URL_PREFIX_MAX_PATH 2048 /* bytes, both slashes included */

/* What the host part is, in the order in which a request tries them. */
enum prefix_bucket {
    PREFIX_STRONG, /* "+" */
    PREFIX_HOST,   /* a name, or "*." and a name for any one label in front of it */
    PREFIX_IP,     /* an address: any name that was asked for at this local address */
    PREFIX_WEAK,   /* "*" */
    PREFIX_BUCKETS
};

/* Read only for all but this file; the spans lie in text. */
struct url_prefix {
    enum prefix_bucket bucket;
    bool https, subdomains; /* subdomains: the host begins with "*." */
    uint16_t port;          /* 0: any free one, not chosen yet */
    char *text;             /* owned: the canonical form, NUL-terminated */
    struct span canonical;  /* all of text: "http://www.example.com:80/foo/" */
    struct span host;       /* lower case; an address as inet_ntop writes it, IPv6 in brackets */
    struct span path;       /* as written, with a slash at both ends; '%' is a percent sign */
};

/*
 * Reads text; url_prefix_fini frees what it becomes. On failure ERR_INVALID, nothing to free, and
 * why (may be NULL) is one line that begins with text and says what is wrong and what is allowed.
 * Refused is also what could never match, because requests are matched on a path without "//", '\'
 * and dot segments. An IPv4 address mapped into IPv6 becomes IPv4, as it is for connections.
 */
int url_prefix_parse(struct url_prefix *prefix, struct span text, struct err_text *why);
void url_prefix_fini(struct url_prefix *prefix);

/* An owned copy. */
void url_prefix_copy(struct url_prefix *copy, const struct url_prefix *prefix);

/* The same canonical text without regard to ASCII case. */
bool url_prefix_equal(const struct url_prefix *a, const struct url_prefix *b);

/* "+" or "*": takes requests for any host, which deserves a warning. */
bool url_prefix_is_wildcard_top(const struct url_prefix *prefix);

/* "localhost" and names below it, which belong to the loopback (RFC 6761). */
bool url_prefix_is_loopback_name(const struct url_prefix *prefix);

/* Writes the port that was found for port 0 into the prefix; port is not 0. */
void url_prefix_set_port(struct url_prefix *prefix, uint16_t port);

/* Appends the canonical form. */
void url_prefix_print(const struct url_prefix *prefix, struct buf *out);

#endif
