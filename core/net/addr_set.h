/*
 * A set of addresses and networks: whom the server trusts. Few and rarely changed, looked at for
 * each new connection.
 */
#ifndef NET_ADDR_SET_H
#define NET_ADDR_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "net/addr.h"

/* Every look compares with all of them. */
#define ADDR_SET_MOST 256

struct addr_net;

struct addr_set {
    struct addr_net *at; /* count networks, owned; an address is a network of one */
    uint16_t count;
    bool has_unix; /* any peer on a Unix socket */
};

/*
 * Fills *set, whatever it held before, from "127.0.0.1, 10.0.0.0/8, ::1, fd00::/8, unix": entries
 * separated by commas, blanks or both; none are an empty set. ERR_INVALID with *why (which may be
 * NULL) naming the entry and what is allowed; *set is empty then.
 */
int addr_set_parse(struct addr_set *set, const char *text, struct err_text *why);
void addr_set_fini(struct addr_set *set);

/* IPv4-mapped IPv6 is IPv4 on both sides: 10.0.0.0/8 has ::ffff:10.0.0.1, and ::/0 has it not. */
bool addr_set_has(const struct addr_set *set, const struct net_addr *addr);

#endif
