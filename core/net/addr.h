/* Addresses of sockets, compact enough to be kept by every connection. */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/span.h"

enum net_family { NET_NONE, NET_IPV4, NET_IPV6, NET_UNIX };

struct net_addr {
    uint8_t ip[16]; /* the first 4 for IPv4 */
    uint16_t port;  /* host byte order */
    uint8_t family;
};

#define NET_ADDR_TEXT 64

/* An IPv4-mapped IPv6 address becomes IPv4. Unknown families become NET_NONE. */
struct net_addr net_addr_from(const struct sockaddr *address, socklen_t len);
socklen_t net_addr_to(const struct net_addr *addr, struct sockaddr_storage *out);

/* "192.0.2.1", "2001:db8::1", "unix", "-"; NUL-terminated, returns the length. */
size_t net_addr_ip(const struct net_addr *addr, char out[NET_ADDR_TEXT]);

/* "192.0.2.1:80", "[::1]:80". */
size_t net_addr_text(const struct net_addr *addr, char out[NET_ADDR_TEXT]);

/* Reads an IPv4 or IPv6 literal (IPv6 with or without brackets). ERR_INVALID. */
int net_addr_parse(struct net_addr *addr, struct span ip, uint16_t port);
bool net_addr_loopback(const struct net_addr *addr);

#endif
