/*
 * A port has a map of hosts for each group, and a host a map of the paths that were registered for
 * it. Ports are few and sorted; prefixes are kept in the order in which they came, too.
 */
#include "route/prefix_table_priv.h"

#include <sys/random.h>
#include <time.h>

struct prefix_table {
    struct list entries;
    struct prefix_port **ports; /* sorted by number */
    size_t port_count;
    uint64_t generation;
    uint64_t secret;
};

/* ---- the table */

static uint64_t make_secret(void)
{
    uint64_t secret;
    struct timespec now;

    if (getrandom(&secret, sizeof(secret), 0) == (ssize_t)sizeof(secret))
        return secret;
    /* A kernel without it: better a guess among very many than none at all. */
    clock_gettime(CLOCK_REALTIME, &now);
    return ((uint64_t)now.tv_sec << 30 ^ (uint64_t)now.tv_nsec ^ (uintptr_t)&secret) *
           KEY_HASH_FACTOR;
}

struct prefix_table *prefix_table_new(void)
{
    struct prefix_table *table = mem_zalloc(sizeof(*table));

    list_init(&table->entries);
    table->generation = 1;
    table->secret = make_secret();
    return table;
}

/* The index of the port, or where it would be inserted. */
static size_t port_index(const struct prefix_table *table, uint16_t number)
{
    size_t low = 0, high = table->port_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (table->ports[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct prefix_port *find_port(const struct prefix_table *table, uint16_t number)
{
    size_t index = port_index(table, number);

    return index < table->port_count && table->ports[index]->number == number ? table->ports[index]
                                                                              : NULL;
}

static struct prefix_port *add_port(struct prefix_table *table, uint16_t number, bool https)
{
    size_t index = port_index(table, number);
    struct prefix_port *port = mem_zalloc(sizeof(*port));

    port->number = number;
    port->https = https;
    for (int group = 0; group < GROUPS; group++)
        key_map_init(&port->groups[group], table->secret);
    table->ports =
        mem_realloc(table->ports, (table->port_count + 1) * sizeof(struct prefix_port *));
    memmove(table->ports + index + 1, table->ports + index,
            (table->port_count - index) * sizeof(struct prefix_port *));
    table->ports[index] = port;
    table->port_count++;
    return port;
}

static void drop_port(struct prefix_table *table, struct prefix_port *port)
{
    size_t index = port_index(table, port->number);

    table->port_count--;
    memmove(table->ports + index, table->ports + index + 1,
            (table->port_count - index) * sizeof(struct prefix_port *));
    mem_free(port);
}

/* ---- hosts of a port */

static bool is_any_address(struct span host)
{
    return span_eq(host, SPAN("0.0.0.0")) || span_eq(host, SPAN("[::]"));
}

static enum host_group group_of(const struct url_prefix *prefix)
{
    switch (prefix->bucket) {
    case PREFIX_STRONG:
        return GROUP_STRONG;
    case PREFIX_HOST:
        return prefix->subdomains ? GROUP_SUBDOMAIN : GROUP_NAME;
    case PREFIX_IP:
        return is_any_address(prefix->host) ? GROUP_ANY_IP : GROUP_IP;
    default:
        return GROUP_WEAK;
    }
}

static struct span host_key(const struct url_prefix *prefix)
{
    struct span host = prefix->host;

    if (url_prefix_is_wildcard_top(prefix))
        return SPAN("");
    if (prefix->subdomains)
        return span_of(host.at + 2, host.len - 2);
    return host.at[0] == '[' ? span_of(host.at + 1, host.len - 2) : host;
}

struct prefix_host *prefix_port_host(const struct prefix_port *port, enum host_group group,
                                     struct span key)
{
    const struct key_map *map = &port->groups[group];

    if (map->count == 0)
        return NULL;
    return (struct prefix_host *)key_map_find(map, key, key_hash(map->secret, key));
}

static struct prefix_host *add_host(struct prefix_port *port, enum host_group group,
                                    struct span key, uint64_t secret)
{
    struct prefix_host *host = mem_zalloc(sizeof(*host));
    char *copy = mem_alloc(key.len + 1);

    memcpy(copy, key.at, key.len);
    host->keyed.key = span_of(copy, key.len);
    host->group = group;
    key_map_init(&host->paths, secret);
    key_map_add(&port->groups[group], &host->keyed);
    return host;
}

static void drop_host(struct prefix_port *port, struct prefix_host *host)
{
    key_map_remove(&port->groups[host->group], &host->keyed);
    mem_free((char *)(uintptr_t)host->keyed.key.at);
    mem_free(host);
}

static bool is_empty(const struct prefix_port *port)
{
    for (int group = 0; group < GROUPS; group++)
        if (port->groups[group].count > 0)
            return false;
    return true;
}

/* ---- paths of a host */

static struct span path_key(const struct url_prefix *prefix)
{
    return span_of(prefix->path.at, prefix->path.len - 1);
}

static struct prefix_entry *find_entry(const struct prefix_host *host, struct span key)
{
    if (key.len == 0)
        return host->root;
    return (struct prefix_entry *)key_map_find(&host->paths, key,
                                               key_hash(host->paths.secret, key));
}

static uint32_t count_segments(struct span key)
{
    uint32_t count = 0;

    for (size_t i = 0; i < key.len; i++)
        count += key.at[i] == '/';
    return count;
}

static void add_entry(struct prefix_host *host, struct prefix_entry *entry)
{
    struct span key = path_key(&entry->prefix);
    uint32_t depth = count_segments(key);

    entry->keyed.key = key;
    if (key.len == 0) {
        host->root = entry;
        return;
    }
    key_map_add(&host->paths, &entry->keyed);
    if (depth > host->deepest)
        host->deepest = depth;
    if (key.len > host->longest)
        host->longest = (uint32_t)key.len;
}

static void drop_entry(struct prefix_host *host, struct prefix_entry *entry)
{
    if (host->root == entry)
        host->root = NULL;
    else
        key_map_remove(&host->paths, &entry->keyed);
    if (host->paths.count == 0)
        host->deepest = host->longest = 0;
    list_remove(&entry->node);
    url_prefix_fini(&entry->prefix);
    mem_free(entry);
}

/* The only item of a map that has one. */
static const struct keyed *only_item(const struct key_map *map)
{
    size_t at = 0;

    while (map->slots[at].item == NULL)
        at++;
    return map->slots[at].item;
}

/* Finds out anew whether the port has one host alone, which a comparison can judge. */
static void note_lone(struct prefix_port *port)
{
    uint32_t hosts = 0;
    int group = 0;

    port->lone = NULL;
    port->lone_value = NULL;
    for (int i = 0; i < GROUPS; i++) {
        hosts += port->groups[i].count;
        group = port->groups[i].count > 0 ? i : group;
    }
    if (hosts != 1 || (group != GROUP_STRONG && group != GROUP_NAME && group != GROUP_WEAK))
        return;
    port->lone = (const struct prefix_host *)only_item(&port->groups[group]);
    port->lone_name = port->lone->keyed.key;
    if (port->lone->root && port->lone->paths.count == 0)
        port->lone_value = port->lone->root->value;
}

/* ---- changes */

int prefix_table_add(struct prefix_table *table, const struct url_prefix *prefix, void *value,
                     void **existing)
{
    struct prefix_port *port = find_port(table, prefix->port);
    enum host_group group = group_of(prefix);
    struct prefix_host *host = port ? prefix_port_host(port, group, host_key(prefix)) : NULL;
    struct prefix_entry *entry;

    CHECK(prefix->port != 0 && value != NULL);
    if (port && port->https != prefix->https)
        return ERR_STATE;
    entry = host ? find_entry(host, path_key(prefix)) : NULL;
    if (entry) {
        if (existing)
            *existing = entry->value;
        return ERR_EXISTS;
    }
    if (port == NULL)
        port = add_port(table, prefix->port, prefix->https);
    if (host == NULL)
        host = add_host(port, group, host_key(prefix), table->secret);
    entry = mem_zalloc(sizeof(*entry));
    entry->value = value;
    url_prefix_copy(&entry->prefix, prefix);
    list_append(&table->entries, &entry->node);
    add_entry(host, entry);
    note_lone(port);
    table->generation++;
    return 0;
}

void *prefix_table_remove(struct prefix_table *table, const struct url_prefix *prefix)
{
    struct prefix_port *port = find_port(table, prefix->port);
    struct prefix_host *host = NULL;
    struct prefix_entry *entry = NULL;
    void *value;

    if (port && port->https == prefix->https)
        host = prefix_port_host(port, group_of(prefix), host_key(prefix));
    if (host)
        entry = find_entry(host, path_key(prefix));
    if (entry == NULL)
        return NULL;
    value = entry->value;
    drop_entry(host, entry);
    if (host->root == NULL && host->paths.count == 0)
        drop_host(port, host);
    if (is_empty(port))
        drop_port(table, port);
    else
        note_lone(port);
    table->generation++;
    return value;
}

void prefix_table_free(struct prefix_table *table)
{
    if (table == NULL)
        return;
    while (!list_empty(&table->entries))
        prefix_table_remove(table,
                            &LIST_OWNER(table->entries.next, struct prefix_entry, node)->prefix);
    mem_free(table->ports);
    mem_free(table);
}

uint64_t prefix_table_generation(const struct prefix_table *table)
{
    return table->generation;
}

void prefix_table_each(const struct prefix_table *table, prefix_each_fn *visit, void *context)
{
    for (struct list *at = table->entries.next; at != &table->entries; at = at->next) {
        const struct prefix_entry *entry = LIST_OWNER(at, struct prefix_entry, node);

        visit(context, &entry->prefix, entry->value);
    }
}

const struct prefix_port *prefix_table_port(const struct prefix_table *table, bool https,
                                            uint16_t port)
{
    const struct prefix_port *found = find_port(table, port);

    return found && found->https == https ? found : NULL;
}

bool prefix_port_needs_ip(const struct prefix_port *port)
{
    return port->groups[GROUP_IP].count > 0 || port->groups[GROUP_ANY_IP].count > 0;
}
