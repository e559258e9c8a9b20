/*
 * A request goes through the groups of hosts in the order of precedence. A path is looked up in one
 * pass: its running hash is the hash of each of its beginnings, so at each slash, up to the deepest
 * registered path, one probe asks whether that beginning is registered; the last hit is the
 * longest.
 *
 * Most servers have one prefix, http://name:port/, and most paths are plain: prefix_port_match
 * answers those without a hash.
 */
#include "route/prefix_table.h"

#include "route/prefix_path_priv.h"
#include "route/prefix_table_priv.h"

/* ---- a request's path */

/* A request on its way through the groups of hosts. */
struct lookup {
    const struct target *target;
    struct arena *scratch;
    struct span host, local_ip; /* host: the name alone */
    struct span path;           /* what is matched */
    bool cooked;                /* path is no part of target->path */
};

enum path_fit { PATH_FITS, PATH_MISSES, PATH_DOUBLED };

/*
 * The entry of the longest registered beginning of path, and where that ends. PATH_DOUBLED: there
 * are two slashes in a row, which must be cooked first. Behind the longest registered path they do
 * not matter.
 */
static enum path_fit fit_path(const struct prefix_host *host, struct span path,
                              const struct prefix_entry **entry, size_t *end)
{
    const struct key_map *paths = &host->paths;
    size_t last = path.len < host->longest ? path.len : host->longest;
    uint64_t hash = paths->secret;
    uint32_t depth = 0;

    *entry = host->root;
    *end = 0;
    for (size_t at = 0; at < last && depth < host->deepest; depth++) {
        size_t start = at + 1;
        const struct keyed *found;

        do
            hash = key_hash_more(hash, path.at[at++]);
        while (at < last && path.at[at] != '/');
        if (at < path.len && path.at[at] != '/')
            break; /* longer than any */
        if (at == start && at < path.len)
            return PATH_DOUBLED;
        found = key_map_find(paths, span_of(path.at, at), hash);
        if (found) {
            *entry = (const struct prefix_entry *)found;
            *end = at;
        }
    }
    return *entry ? PATH_FITS : PATH_MISSES;
}

static inline uint64_t word_at(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static inline uint32_t half_word_at(const char *at)
{
    uint32_t half;

    memcpy(&half, at, sizeof(half));
    return half;
}

/*
 * These comparisons are written for few registers and no calls: each request comes here, and saving
 * registers would be a third of what the usual one costs. Words may overlap.
 */
static inline bool word_has_backslash(uint64_t word)
{
    uint8_t bytes __attribute__((vector_size(8)));

    memcpy(&bytes, &word, sizeof(word));
    bytes = (bytes == '\\');
    memcpy(&word, &bytes, sizeof(word));
    return word != 0;
}

static inline bool has_backslash(struct span text)
{
    if (text.len >= 8) {
        const char *last = text.at + (text.len - 8);

        for (const char *at = text.at; at < last; at += 8)
            if (word_has_backslash(word_at(at)))
                return true;
        return word_has_backslash(word_at(last));
    }
    if (text.len >= 4)
        return word_has_backslash(half_word_at(text.at) |
                                  (uint64_t)half_word_at(text.at + (text.len - 4)) << 32);
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] == '\\')
            return true;
    return false;
}

/* Whether both have the same len bytes; false also for the few that are shorter than 4. */
static inline bool surely_same(const char *a, const char *b, size_t len)
{
    for (; len > 16; a += 8, b += 8, len -= 8)
        if (word_at(a) != word_at(b))
            return false;
    if (len >= 8)
        return word_at(a) == word_at(b) && word_at(a + len - 8) == word_at(b + len - 8);
    if (len >= 4)
        return half_word_at(a) == half_word_at(b) &&
               half_word_at(a + len - 4) == half_word_at(b + len - 4);
    return false;
}

/* Whether target->path is the raw path and has no backslash: then it has no escapes and no dot
 * segments either. */
static inline bool is_plain(const struct target *target, const char *raw)
{
    return target->path.at == raw && !has_backslash(target->path);
}

/* Puts the cooked path into lookup. False when it leads above the root. */
static bool cook(struct lookup *lookup)
{
    lookup->cooked = true;
    return prefix_path_cook(prefix_path_raw(lookup->target), lookup->scratch, &lookup->path);
}

/* The same, but a plain path is matched where it lies. */
static bool prepare_path(struct lookup *lookup)
{
    const char *raw = prefix_path_raw(lookup->target).at;

    lookup->path = lookup->target->path;
    return is_plain(lookup->target, raw) || cook(lookup);
}

/* Fills match for entry, whose path ends there in what was matched. */
static void split(const struct lookup *lookup, const struct prefix_entry *entry, size_t end,
                  struct prefix_match *match)
{
    struct span path = lookup->target->path;

    if (lookup->cooked && end > 0)
        end = prefix_path_split(lookup->target, entry->keyed.key, lookup->scratch);
    match->value = entry->value;
    match->base = end > 0 ? span_of(path.at, end) : SPAN("");
    match->path = end > 0 ? span_of(path.at + end, path.len - end) : path;
}

static enum prefix_found match_host(struct lookup *lookup, const struct prefix_host *host,
                                    struct prefix_match *match)
{
    const struct prefix_entry *entry;
    size_t end;
    enum path_fit fit = fit_path(host, lookup->path, &entry, &end);

    if (fit == PATH_DOUBLED) {
        if (!cook(lookup))
            return PREFIX_FORBIDDEN;
        fit = fit_path(host, lookup->path, &entry, &end);
    }
    if (fit != PATH_FITS)
        return PREFIX_NO_PATH;
    split(lookup, entry, end, match);
    return PREFIX_FOUND;
}

/* ---- a request's host */

/* The name in a Host field: without port and one last dot. An address in brackets is no name. */
static struct span host_name(struct span field)
{
    const char *colon = field.len > 0 ? memchr(field.at, ':', field.len) : NULL;

    if (field.len > 0 && field.at[0] == '[')
        return SPAN("");
    if (colon)
        field.len = (size_t)(colon - field.at);
    if (field.len > 0 && field.at[field.len - 1] == '.')
        field.len--;
    return field.len > URL_PREFIX_MAX_HOST ? SPAN("") : field;
}

/* What is behind the first label of a name; empty when there is no label or nothing behind it. */
static struct span parent_domain(struct span name)
{
    const char *dot = name.len > 0 ? memchr(name.at, '.', name.len) : NULL;

    if (dot == NULL || dot == name.at)
        return SPAN("");
    return span_of(dot + 1, name.len - (size_t)(dot - name.at) - 1);
}

/* The address that stands for every local one of this family. */
static struct span any_address(struct span ip)
{
    if (ip.len > 0 && memchr(ip.at, ':', ip.len))
        return SPAN("::");
    return ip.len > 0 && memchr(ip.at, '.', ip.len) ? SPAN("0.0.0.0") : SPAN("");
}

/* What a host of this group has as its key when the request is for it. */
static struct span key_in_group(const struct lookup *lookup, enum host_group group)
{
    switch (group) {
    case GROUP_NAME:
        return lookup->host;
    case GROUP_SUBDOMAIN:
        return parent_domain(lookup->host);
    case GROUP_IP:
        return lookup->local_ip;
    case GROUP_ANY_IP:
        return any_address(lookup->local_ip);
    default:
        return SPAN("");
    }
}

/* ---- matching */

/* Whether the field is for this host (a wildcard's is empty) beyond doubt. */
static inline bool is_for(struct span host, struct span field)
{
    if (host.len == 0)
        return true;
    return field.len >= host.len && (field.len == host.len || field.at[host.len] == ':') &&
           surely_same(field.at, host.at, host.len);
}

/* A host that takes the request but has no path for it hides nothing: the next group is asked. */
static __attribute__((noinline)) enum prefix_found
match_groups(const struct prefix_port *port, struct span host_field, struct span local_ip,
             const struct target *target, struct arena *scratch, struct prefix_match *match)
{
    struct lookup lookup = {.target = target, .scratch = scratch};
    enum prefix_found found = PREFIX_NO_HOST;

    if (port->lone && is_for(port->lone_name, host_field))
        return prepare_path(&lookup) ? match_host(&lookup, port->lone, match) : PREFIX_FORBIDDEN;
    lookup.host = host_name(host_field);
    lookup.local_ip = local_ip;
    for (int group = 0; group < GROUPS; group++) {
        const struct prefix_host *host;

        if (port->groups[group].count == 0)
            continue;
        host = prefix_port_host(port, group, key_in_group(&lookup, group));
        if (host == NULL)
            continue;
        if (found == PREFIX_NO_HOST && !prepare_path(&lookup))
            return PREFIX_FORBIDDEN;
        found = match_host(&lookup, host, match);
        if (found != PREFIX_NO_PATH)
            return found;
    }
    return found;
}

enum prefix_found prefix_port_match(const struct prefix_port *port, struct span host_field,
                                    struct span local_ip, const struct target *target,
                                    struct arena *scratch, struct prefix_match *match)
{
    if (port->lone_value && is_for(port->lone_name, host_field) &&
        is_plain(target, target->raw.at)) {
        *match = (struct prefix_match){port->lone_value, SPAN(""), target->path};
        return PREFIX_FOUND;
    }
    return match_groups(port, host_field, local_ip, target, scratch, match);
}
