/*
 * Which value owns a request: all prefixes of a process, found by port, host and path in HTTP.sys's
 * order of precedence (reference/http-sys.md section 2.2). What a look-up costs is bounded by the
 * lengths of host and path and does not grow with the number of prefixes.
 */
#ifndef ROUTE_PREFIX_TABLE_H
#define ROUTE_PREFIX_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/span.h"
#include "http/target.h"
#include "route/url_prefix.h"

struct prefix_table;

/* The prefixes of one port, which carries one scheme. */
struct prefix_port;

struct prefix_table *prefix_table_new(void);

/* Frees the table and its prefixes, not the values. */
void prefix_table_free(struct prefix_table *table);

/*
 * Copies prefix, whose port is known (not 0); borrows value (not NULL) until it is removed. 0;
 * ERR_EXISTS and *existing (unless existing is NULL) when an equal prefix is there; ERR_STATE when
 * the port carries the other scheme.
 */
int prefix_table_add(struct prefix_table *table, const struct url_prefix *prefix, void *value,
                     void **existing);

/* Removes the equal prefix and returns its value; NULL when there is none. */
void *prefix_table_remove(struct prefix_table *table, const struct url_prefix *prefix);

/* Another number, never 0, after each change of the table. */
uint64_t prefix_table_generation(const struct prefix_table *table);

/* In the order in which they were added; must not change the table. */
typedef void prefix_each_fn(void *context, const struct url_prefix *prefix, void *value);
void prefix_table_each(const struct prefix_table *table, prefix_each_fn *visit, void *context);

/* NULL when no prefix has this scheme and port. Borrowed until the table's generation changes. */
const struct prefix_port *prefix_table_port(const struct prefix_table *table, bool https,
                                            uint16_t port);

/* Whether a match depends on the local address. */
bool prefix_port_needs_ip(const struct prefix_port *port);

enum prefix_found {
    PREFIX_FOUND,
    PREFIX_NO_HOST,   /* no prefix takes this host: 400 Hostname */
    PREFIX_NO_PATH,   /* the host's prefixes do not take this path: 404 NotFound */
    PREFIX_FORBIDDEN, /* the cooked path leads above the root: 403 */
};

struct prefix_match {
    void *value;
    struct span base, path; /* what the handler sees; together they are target->path */
};

/*
 * Finds the owner of a request. host_field is the Host field's value, or the authority of an
 * absolute target: a port and one last dot in it are ignored, and it may be empty. A name of more
 * than URL_PREFIX_MAX_HOST bytes is none; nothing else is judged here. local_ip is the canonical
 * text of the local address, without brackets; it may be empty unless prefix_port_needs_ip. Fills
 * match when PREFIX_FOUND; scratch is used for paths that must be cooked first.
 */
enum prefix_found prefix_port_match(const struct prefix_port *port, struct span host_field,
                                    struct span local_ip, const struct target *target,
                                    struct arena *scratch, struct prefix_match *match);

#endif
