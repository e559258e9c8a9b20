/*
 * What a table is made of, for its two files: prefix_table.c keeps it, prefix_match.c looks
 * requests up in it.
 */
#ifndef ROUTE_PREFIX_TABLE_PRIV_H
#define ROUTE_PREFIX_TABLE_PRIV_H

#include "base/list.h"
#include "route/key_map_priv.h"
#include "route/prefix_table.h"

/*
 * Where hosts are kept, in the order in which they are asked: "*.x.y" behind the exact names of its
 * bucket, and behind the exact addresses those that stand for any one (0.0.0.0, [::]).
 */
enum host_group {
    GROUP_STRONG,
    GROUP_NAME,
    GROUP_SUBDOMAIN,
    GROUP_IP,
    GROUP_ANY_IP,
    GROUP_WEAK,
    GROUPS
};

struct prefix_entry {
    struct keyed keyed; /* the path without its last slash */
    struct list node;   /* in the table, in the order of registration */
    struct url_prefix prefix;
    void *value;
};

struct prefix_host {
    struct keyed keyed; /* a name; the part behind "*."; an address without brackets; or "" */
    enum host_group group;
    struct prefix_entry *root; /* the path "/" */
    struct key_map paths;      /* all others */
    uint32_t deepest, longest; /* segments and bytes of paths: no look beyond them; they shrink only
                                  when the last path is gone */
};

struct prefix_port {
    uint16_t number;
    bool https;
    const struct prefix_host *lone; /* the only host, when that is a name or a wildcard */
    struct span lone_name;          /* empty for a wildcard */
    void *lone_value;               /* of the only prefix, when "/" is the lone host's only path */
    struct key_map groups[GROUPS];
};

/* NULL when the group has no host with this key. */
struct prefix_host *prefix_port_host(const struct prefix_port *port, enum host_group group,
                                     struct span key);

#endif
