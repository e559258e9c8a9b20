/* Between the kernel's socket addresses, text, and the compact form that connections keep. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/err.h"

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

static void set_ipv6(struct net_addr *addr, const uint8_t ip[16])
{
    bool mapped = memcmp(ip, mapped_prefix, sizeof(mapped_prefix)) == 0;

    addr->family = mapped ? NET_IPV4 : NET_IPV6;
    if (mapped)
        memcpy(addr->ip, ip + sizeof(mapped_prefix), 4);
    else
        memcpy(addr->ip, ip, 16);
}

struct net_addr net_addr_from(const struct sockaddr *address, socklen_t len)
{
    struct net_addr addr = {.family = NET_NONE};

    if (len < sizeof(address->sa_family))
        return addr;
    if (address->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        addr.family = NET_IPV4;
        addr.port = ntohs(in->sin_port);
        memcpy(addr.ip, &in->sin_addr, 4);
    } else if (address->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;

        addr.port = ntohs(in6->sin6_port);
        set_ipv6(&addr, in6->sin6_addr.s6_addr);
    } else if (address->sa_family == AF_UNIX) {
        addr.family = NET_UNIX;
    }
    return addr;
}

socklen_t net_addr_to(const struct net_addr *addr, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (addr->family == NET_IPV4) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)out;

        in->sin_family = AF_INET;
        in->sin_port = htons(addr->port);
        memcpy(&in->sin_addr, addr->ip, 4);
        return sizeof(*in);
    }
    if (addr->family == NET_IPV6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)out;

        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(addr->port);
        memcpy(&in6->sin6_addr, addr->ip, 16);
        return sizeof(*in6);
    }
    return 0;
}

size_t net_addr_ip(const struct net_addr *addr, char out[NET_ADDR_TEXT])
{
    if (addr->family == NET_IPV4)
        inet_ntop(AF_INET, addr->ip, out, NET_ADDR_TEXT);
    else if (addr->family == NET_IPV6)
        inet_ntop(AF_INET6, addr->ip, out, NET_ADDR_TEXT);
    else
        snprintf(out, NET_ADDR_TEXT, "%s", addr->family == NET_UNIX ? "unix" : "-");
    return strlen(out);
}

size_t net_addr_text(const struct net_addr *addr, char out[NET_ADDR_TEXT])
{
    char ip[NET_ADDR_TEXT];
    int length;

    net_addr_ip(addr, ip);
    if (addr->family == NET_IPV4)
        length = snprintf(out, NET_ADDR_TEXT, "%.45s:%u", ip, addr->port);
    else if (addr->family == NET_IPV6)
        length = snprintf(out, NET_ADDR_TEXT, "[%.45s]:%u", ip, addr->port);
    else
        length = snprintf(out, NET_ADDR_TEXT, "%.45s", ip);
    return (size_t)length;
}

int net_addr_parse(struct net_addr *addr, struct span ip, uint16_t port)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    bool bracketed = ip.len > 2 && ip.at[0] == '[' && ip.at[ip.len - 1] == ']';

    if (bracketed)
        ip = span_of(ip.at + 1, ip.len - 2);
    if (ip.len >= sizeof(text) || memchr(ip.at, '\0', ip.len))
        return ERR_INVALID;
    memcpy(text, ip.at, ip.len);
    text[ip.len] = '\0';

    struct net_addr parsed = {.port = port};

    if (!bracketed && inet_pton(AF_INET, text, bytes) == 1) {
        parsed.family = NET_IPV4;
        memcpy(parsed.ip, bytes, 4);
    } else if (inet_pton(AF_INET6, text, bytes) == 1) {
        set_ipv6(&parsed, bytes);
    } else {
        return ERR_INVALID;
    }
    *addr = parsed;
    return 0;
}

bool net_addr_loopback(const struct net_addr *addr)
{
    static const uint8_t ipv6_loopback[16] = {[15] = 1};

    if (addr->family == NET_IPV4)
        return addr->ip[0] == 127;
    return addr->family == NET_IPV6 && memcmp(addr->ip, ipv6_loopback, 16) == 0;
}
