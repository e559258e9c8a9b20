/*
 * The first socket of a port is opened exclusively (net/listener.h), so that a second server of the
 * same user is refused and not let in silently; the other slots' sockets join it, and so do further
 * addresses of a port that is ours. Names in .localhost belong to the loopback (RFC 6761); every
 * other name and both wildcards are served on all addresses, of both families where the machine has
 * them, or on those of the listen list.
 */
#include "proc/endpoints.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/listener.h"
#include "proc/holder.h"

#define PORT_TRIES 16 /* a free port of one family may be taken in the other */

/* What one prefix needs. */
struct wanted {
    struct net_addr addrs[ENDPOINTS_LISTEN_MOST];
    unsigned count;
    bool second_optional; /* a machine without IPv6 can serve it too */
};

static struct net_addr literal(const char *ip, uint16_t port)
{
    struct net_addr addr;

    CHECK(net_addr_parse(&addr, span_str(ip), port) == 0);
    return addr;
}

static struct wanted wanted_by(const struct endpoints *endpoints, const struct url_prefix *prefix)
{
    struct wanted wanted = {.count = 2, .second_optional = true};
    bool loopback = url_prefix_is_loopback_name(prefix);

    if (prefix->bucket == PREFIX_IP) {
        CHECK(net_addr_parse(&wanted.addrs[0], prefix->host, prefix->port) == 0);
        wanted.count = 1;
        return wanted;
    }
    if (!loopback && endpoints->listen_count > 0) {
        wanted.count = endpoints->listen_count;
        wanted.second_optional = false;
        memcpy(wanted.addrs, endpoints->listen, sizeof(wanted.addrs));
        for (unsigned i = 0; i < wanted.count; i++)
            wanted.addrs[i].port = prefix->port;
        return wanted;
    }
    wanted.addrs[0] = literal(loopback ? "127.0.0.1" : "0.0.0.0", prefix->port);
    wanted.addrs[1] = literal(loopback ? "::1" : "::", prefix->port);
    return wanted;
}

static bool same_host(const struct net_addr *a, const struct net_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

static bool same_address(const struct net_addr *a, const struct net_addr *b)
{
    return same_host(a, b) && a->port == b->port;
}

static bool is_listed(const struct endpoints *endpoints, const struct net_addr *addr)
{
    for (unsigned i = 0; i < endpoints->listen_count; i++)
        if (same_host(&endpoints->listen[i], addr))
            return true;
    return false;
}

static struct endpoint *find(const struct endpoints *endpoints, const struct net_addr *addr)
{
    for (unsigned i = 0; i < endpoints->count; i++)
        if (same_address(&endpoints->at[i].addr, addr))
            return &endpoints->at[i];
    return NULL;
}

static bool port_is_ours(const struct endpoints *endpoints, uint16_t port)
{
    for (unsigned i = 0; i < endpoints->count; i++)
        if (endpoints->at[i].addr.port == port)
            return true;
    return false;
}

/* ---- one address ---- */

static void close_sockets(struct endpoint *endpoint, unsigned slots)
{
    for (unsigned i = 0; i < slots; i++)
        if (endpoint->sockets[i] >= 0)
            close(endpoint->sockets[i]);
    mem_free(endpoint->sockets);
    endpoint->sockets = NULL;
}

static int *no_sockets(unsigned slots)
{
    int *sockets = mem_alloc(sizeof(int) * slots);

    for (unsigned i = 0; i < slots; i++)
        sockets[i] = -1;
    return sockets;
}

/* An address of the list may come later, as HTTP.sys has it: an interface that is not up yet must
 * not keep apps from the other addresses. */
static int bind_socket(const struct endpoints *endpoints, struct net_addr *addr, unsigned how,
                       struct err_text *text)
{
    return listener_bind(addr, how | (is_listed(endpoints, addr) ? LISTENER_EARLY : 0), text);
}

static int open_slots(const struct endpoints *endpoints, struct endpoint *endpoint, unsigned from,
                      struct err_text *text)
{
    for (unsigned i = from; i < endpoints->slots; i++) {
        endpoint->sockets[i] = bind_socket(endpoints, &endpoint->addr, 0, text);
        if (endpoint->sockets[i] < 0)
            return endpoint->sockets[i];
    }
    return 0;
}

/* Appends an entry; the port that was chosen is written to addr. */
static int open_address(struct endpoints *endpoints, struct net_addr *addr, bool https,
                        struct err_text *text)
{
    struct endpoint fresh = {.https = https, .uses = 1};
    int code;

    if (endpoints->count == ENDPOINTS_MAX)
        return err_set(text, EXIT_OPTION, ERR_LIMIT, "more than %d socket addresses",
                       ENDPOINTS_MAX);
    if (endpoints->count == endpoints->most)
        return err_set(text, EXIT_DESCRIPTORS, ERR_LIMIT,
                       "more than %u socket addresses need more file descriptors than are allowed "
                       "(ulimit -n)",
                       endpoints->most);
    fresh.sockets = no_sockets(endpoints->slots);
    code = bind_socket(
        endpoints, addr,
        !port_is_ours(endpoints, addr->port) || addr->port == 0 ? LISTENER_EXCLUSIVE : 0, text);
    fresh.addr = *addr;
    if (code >= 0) {
        fresh.sockets[0] = code;
        code = open_slots(endpoints, &fresh, 1, text);
    }
    if (code < 0) {
        close_sockets(&fresh, endpoints->slots);
        return code;
    }
    fresh.id = ++endpoints->last_id;
    endpoints->at = mem_realloc(endpoints->at, sizeof(fresh) * (endpoints->count + 1));
    endpoints->at[endpoints->count++] = fresh;
    return 0;
}

static void close_last(struct endpoints *endpoints)
{
    close_sockets(&endpoints->at[--endpoints->count], endpoints->slots);
}

static int use_address(struct endpoints *endpoints, struct net_addr *addr, bool https,
                       struct err_text *text)
{
    struct endpoint *known = addr->port ? find(endpoints, addr) : NULL;

    if (known == NULL)
        return open_address(endpoints, addr, https, text);
    if (known->uses ==
        0) { /* about to be closed: the workers have been told, and hear of it anew */
        known->id = ++endpoints->last_id;
        known->https = https;
    }
    if (known->https == https) {
        known->uses++;
        return 0;
    }
    return err_set(text, EXIT_OPTION, ERR_STATE, "the port %u carries %s already", addr->port,
                   known->https ? "https" : "http");
}

static void leave_address(struct endpoints *endpoints, const struct net_addr *addr,
                          unsigned count_before)
{
    struct endpoint *endpoint = find(endpoints, addr);

    endpoint->uses--;
    while (endpoints->count > count_before && endpoints->at[endpoints->count - 1].uses == 0)
        close_last(endpoints);
}

/* ---- prefixes ---- */

static int use_all(struct endpoints *endpoints, struct wanted *wanted, bool https,
                   struct err_text *text)
{
    unsigned count = endpoints->count, used = 0;
    int code = 0;

    for (; used < wanted->count && code == 0; used++) {
        wanted->addrs[used].port = wanted->addrs[0].port; /* which was chosen, where it was 0 */
        code = use_address(endpoints, &wanted->addrs[used], https, text);
    }
    if (code == ERR_UNSUPPORTED && used == 2 && wanted->second_optional)
        return 0;
    for (used--; code < 0 && used > 0; used--)
        leave_address(endpoints, &wanted->addrs[used - 1], count);
    return code;
}

/* The listen list counts for addresses too, but for the loopback's. */
static int check_listen(const struct endpoints *endpoints, const struct url_prefix *prefix,
                        struct err_text *text)
{
    struct wanted wanted = wanted_by(endpoints, prefix);

    if (prefix->bucket != PREFIX_IP || endpoints->listen_count == 0 ||
        net_addr_loopback(&wanted.addrs[0]) || is_listed(endpoints, &wanted.addrs[0]))
        return 0;
    return err_set(text, EXIT_OPTION, ERR_UNSUPPORTED,
                   "this host does not listen at the address (moonquay http show iplisten)");
}

/* "http://localhost:5000/: " in front of text, and who has the port behind it. */
static void explain(const struct url_prefix *prefix, int code, struct err_text *text)
{
    char reason[sizeof(text->text)], holder[128] = "";

    memcpy(reason, text->text, sizeof(reason));
    if (code == ERR_IN_USE)
        holder_of_port(prefix->port, holder, sizeof(holder));
    snprintf(text->text, sizeof(text->text), "%.300s: %.500s%s%s", prefix->text, reason,
             holder[0] ? " by " : "", holder);
}

int endpoints_add(struct endpoints *endpoints, struct url_prefix *prefix, struct err_text *text)
{
    int code = check_listen(endpoints, prefix, text);

    for (int tries = 0; tries < PORT_TRIES && code != ERR_UNSUPPORTED; tries++) {
        struct wanted wanted = wanted_by(endpoints, prefix);

        code = use_all(endpoints, &wanted, prefix->https, text);
        if (code == 0 && prefix->port == 0)
            url_prefix_set_port(prefix, wanted.addrs[0].port);
        if (code != ERR_IN_USE || prefix->port != 0)
            break;
    }
    if (code < 0)
        explain(prefix, code, text);
    return code;
}

void endpoints_remove(struct endpoints *endpoints, const struct url_prefix *prefix)
{
    struct wanted wanted = wanted_by(endpoints, prefix);

    for (unsigned i = 0; i < wanted.count; i++) {
        struct endpoint *endpoint = find(endpoints, &wanted.addrs[i]);

        if (endpoint == NULL) /* an optional one that the machine does not have */
            continue;
        endpoint->uses--;
        endpoint->left = endpoints->version;
    }
}

/* ---- sockets of another process ---- */

int *endpoints_adopt(struct endpoints *endpoints, const struct net_addr *addr, bool https,
                     unsigned slot)
{
    struct endpoint *endpoint = find(endpoints, addr);

    if (slot >= endpoints->slots || (endpoint == NULL && endpoints->count == ENDPOINTS_MAX))
        return NULL;
    if (endpoint == NULL) {
        endpoints->at = mem_realloc(endpoints->at, sizeof(*endpoint) * (endpoints->count + 1));
        endpoint = &endpoints->at[endpoints->count++];
        *endpoint = (struct endpoint){.id = ++endpoints->last_id,
                                      .addr = *addr,
                                      .https = https,
                                      .sockets = no_sockets(endpoints->slots)};
    }
    return &endpoint->sockets[slot];
}

int endpoints_complete(struct endpoints *endpoints, struct err_text *text)
{
    int code = 0;

    for (unsigned i = 0; i < endpoints->count && code == 0; i++)
        for (unsigned slot = 0; slot < endpoints->slots && code == 0; slot++)
            if (endpoints->at[i].sockets[slot] < 0) {
                code = bind_socket(endpoints, &endpoints->at[i].addr, 0, text);
                endpoints->at[i].sockets[slot] = code;
                code = code < 0 ? code : 0;
            }
    return code;
}

/* ---- another listen list ---- */

static void use_list(struct endpoints *endpoints, const struct net_addr *listen, unsigned count)
{
    memmove(endpoints->listen, listen, count * sizeof(*listen));
    endpoints->listen_count = count;
}

struct moving {
    struct endpoints *endpoints;
    unsigned moved; /* prefixes that have their new sockets */
    unsigned left;  /* of those, which lose them again */
    struct err_text *text;
    int code;
};

static void move_one(void *context, const struct url_prefix *prefix)
{
    struct moving *moving = context;
    struct url_prefix copy;

    if (moving->code < 0)
        return;
    url_prefix_copy(&copy, prefix);
    moving->code = endpoints_add(moving->endpoints, &copy, moving->text);
    moving->moved += moving->code == 0;
    url_prefix_fini(&copy);
}

/* Of the list that is in use. */
static void leave_one(void *context, const struct url_prefix *prefix)
{
    struct moving *moving = context;

    if (moving->left == 0)
        return;
    moving->left--;
    endpoints_remove(moving->endpoints, prefix);
}

int endpoints_listen_on(struct endpoints *endpoints, const struct net_addr *listen, unsigned count,
                        endpoints_each_fn *each, void *owner, struct err_text *text)
{
    struct net_addr before[ENDPOINTS_LISTEN_MOST];
    unsigned count_before = endpoints->listen_count;
    struct moving moving = {.endpoints = endpoints, .text = text};

    CHECK(count <= ENDPOINTS_LISTEN_MOST);
    memcpy(before, endpoints->listen, sizeof(before));
    use_list(endpoints, listen, count);
    each(owner, move_one, &moving);
    moving.left = moving.moved;
    if (moving.code < 0) {
        each(owner, leave_one, &moving);
        use_list(endpoints, before, count_before);
        return moving.code;
    }
    use_list(endpoints, before, count_before);
    each(owner, leave_one, &moving);
    use_list(endpoints, listen, count);
    return 0;
}

int endpoints_judge_listen(const struct net_addr *addr, bool *is_missing, struct err_text *text)
{
    static const unsigned ways[] = {LISTENER_EARLY, 0};
    int fd = 0;

    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]) && fd >= 0; i++) {
        struct net_addr probe = *addr; /* with port 0: any that is free */

        fd = listener_bind(&probe, ways[i], text);
        if (fd >= 0)
            close(fd);
        *is_missing = i == 1 && fd == ERR_UNSUPPORTED;
    }
    return fd < 0 && !*is_missing ? fd : 0;
}

void endpoints_close_unused(struct endpoints *endpoints, unsigned version)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < endpoints->count; i++)
        if (endpoints->at[i].uses > 0 || (int)(endpoints->at[i].left - version) > 0)
            endpoints->at[kept++] = endpoints->at[i];
        else
            close_sockets(&endpoints->at[i], endpoints->slots);
    endpoints->count = kept;
}

void endpoints_close_all(struct endpoints *endpoints)
{
    while (endpoints->count > 0)
        close_last(endpoints);
    mem_free(endpoints->at);
    endpoints->at = NULL;
}
