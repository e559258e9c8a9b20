/*
 * Networks as text and the comparison of the bits that count. An entry means what it says or is
 * refused: bits beyond the mask are a slip of whoever wrote it, and who is trusted is no place to
 * guess.
 */
#include "net/addr_set.h"

#include <stdio.h>

#include "base/mem.h"

#define ALLOWED "allowed are IPv4 and IPv6 addresses, networks as 10.0.0.0/8 or fd00::/8, and unix"
#define SHOWN   64 /* bytes of an entry in a message */
#define MAPPED  96 /* bits before the IPv4 address in an IPv4-mapped one */

struct addr_net {
    uint8_t ip[16];
    uint8_t family, bits;
};

static unsigned family_bits(uint8_t family)
{
    return family == NET_IPV4 ? 32 : 128;
}

static int shown(struct span entry)
{
    return (int)(entry.len < SHOWN ? entry.len : SHOWN);
}

/* Decimal digits without leading zeros, at most three; -1 for anything else. */
static int parse_bits(struct span text)
{
    int bits = 0;

    if (text.len < 1 || text.len > 3 || (text.len > 1 && text.at[0] == '0'))
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return -1;
        bits = 10 * bits + (text.at[i] - '0');
    }
    return bits;
}

/* Takes out the bits beyond the mask; whether there were any. */
static bool clear_beyond(uint8_t ip[16], unsigned bits)
{
    bool found = false;

    for (unsigned i = bits / 8; i < 16; i++) {
        uint8_t keep = i == bits / 8 ? (uint8_t)(0xFF00u >> bits % 8) : 0;

        found = found || (ip[i] & (uint8_t)~keep) != 0;
        ip[i] &= keep;
    }
    return found;
}

static int parse_mask(struct addr_net *net, struct span entry, struct span mask,
                      struct err_text *why)
{
    bool mapped = net->family == NET_IPV4 && memchr(entry.at, ':', entry.len) != NULL;
    int least = mapped ? MAPPED : 0, most = least + (int)family_bits(net->family);
    int bits = parse_bits(mask);

    if (bits < least || bits > most)
        return err_set(why, EXIT_OPTION, ERR_INVALID,
                       "'%.*s' has no such number of bits behind its slash: allowed are %d to %d",
                       shown(entry), entry.at, least, most);
    net->bits = (uint8_t)(bits - least);
    return 0;
}

/* A network whose address has bits beyond its mask. */
static int refuse_bits(const struct addr_net *net, struct span entry, struct err_text *why)
{
    struct net_addr addr = {.family = net->family};
    char ip[NET_ADDR_TEXT];

    memcpy(addr.ip, net->ip, sizeof(addr.ip));
    net_addr_ip(&addr, ip);
    return err_set(why, EXIT_OPTION, ERR_INVALID,
                   "'%.*s' has bits beyond its mask: the network is %s/%u, one address has no "
                   "slash",
                   shown(entry), entry.at, ip, net->bits);
}

static int parse_net(struct addr_net *net, struct span entry, struct err_text *why)
{
    const char *slash = memchr(entry.at, '/', entry.len);
    struct span ip = span_of(entry.at, slash ? (size_t)(slash - entry.at) : entry.len);
    struct net_addr addr;

    if (entry.at[0] == '[' || net_addr_parse(&addr, ip, 0) < 0)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "'%.*s' is no address: " ALLOWED,
                       shown(entry), entry.at);
    *net = (struct addr_net){.family = addr.family, .bits = (uint8_t)family_bits(addr.family)};
    memcpy(net->ip, addr.ip, sizeof(net->ip));
    if (slash && parse_mask(net, entry, span_of(slash + 1, entry.len - ip.len - 1), why) < 0)
        return ERR_INVALID;
    return clear_beyond(net->ip, net->bits) ? refuse_bits(net, entry, why) : 0;
}

/* Takes the next entry off the front of *text. False at the end. */
static bool next_entry(const char **text, struct span *entry)
{
    static const char separators[] = ", \t\r\n";

    *text += strspn(*text, separators);
    *entry = span_of(*text, strcspn(*text, separators));
    *text += entry->len;
    return entry->len > 0;
}

int addr_set_parse(struct addr_set *set, const char *text, struct err_text *why)
{
    struct addr_net nets[ADDR_SET_MOST];
    struct span entry;
    int entries = 0;
    uint16_t count = 0;
    bool has_unix = false;

    *set = (struct addr_set){0};
    for (; next_entry(&text, &entry); entries++) {
        if (entries == ADDR_SET_MOST)
            return err_set(why, EXIT_OPTION, ERR_INVALID,
                           "'%.*s' is one too many: allowed are at most %d addresses and networks",
                           shown(entry), entry.at, ADDR_SET_MOST);
        if (span_eq(entry, SPAN("unix")))
            has_unix = true;
        else if (parse_net(&nets[count++], entry, why) < 0)
            return ERR_INVALID;
    }
    set->has_unix = has_unix;
    if (count > 0) {
        set->at = memcpy(mem_alloc(count * sizeof(*nets)), nets, count * sizeof(*nets));
        set->count = count;
    }
    return 0;
}

void addr_set_fini(struct addr_set *set)
{
    mem_free(set->at);
    *set = (struct addr_set){0};
}

static bool net_has(const struct addr_net *net, const struct net_addr *addr)
{
    unsigned whole = net->bits / 8, part = net->bits % 8;

    if (net->family != addr->family || memcmp(net->ip, addr->ip, whole) != 0)
        return false;
    return part == 0 || ((net->ip[whole] ^ addr->ip[whole]) & (0xFF00u >> part) & 0xFF) == 0;
}

bool addr_set_has(const struct addr_set *set, const struct net_addr *addr)
{
    if (addr->family == NET_UNIX)
        return set->has_unix;
    for (uint16_t i = 0; i < set->count; i++)
        if (net_has(&set->at[i], addr))
            return true;
    return false;
}
