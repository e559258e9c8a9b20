/*
 * Both versions are read from the start each time: a header comes in one piece but for a hostile
 * sender, and without state between calls no split can change the answer. What is wrong is looked
 * for in the order of the bytes, so that the first fault is the same one however many have arrived.
 */
#include "net/proxy_protocol.h"

#include <netinet/in.h>

#include "base/err.h"

#define V1_START   SPAN("PROXY ")
#define V2_START   SPAN("\r\n\r\n\0\r\nQUIT\n")
#define V2_FIXED   16 /* signature, version and command, family and transport, length */
#define UNIX_PATH  108
#define TLV_FIXED  3
#define TLV_CRC32C 0x03

static int invalid(struct proxy_header *out, const char *detail)
{
    out->detail = detail;
    return ERR_INVALID;
}

/* Whether in begins with all of start (0), may still (ERR_AGAIN), or cannot (ERR_NOT_FOUND). */
static int begins(struct span in, struct span start)
{
    size_t both = in.len < start.len ? in.len : start.len;

    if (both > 0 && memcmp(in.at, start.at, both) != 0)
        return ERR_NOT_FOUND;
    return in.len < start.len ? ERR_AGAIN : 0;
}

/* ---- version 1 */

/* Finds the line at the front of in, without its line end. */
static int find_line(struct span in, struct span *line, struct proxy_header *out)
{
    const size_t last = PROXY_V1_MOST - 2; /* where a CR may be */
    size_t most = in.len < last + 1 ? in.len : last + 1, i = 0;

    while (i < most && in.at[i] >= ' ' && in.at[i] <= '~')
        i++;
    if (i < most && in.at[i] != '\r')
        return invalid(out, "a byte in a PROXY v1 line that is no printable ASCII");
    if (i > last)
        return invalid(out, "a PROXY v1 line longer than 107 bytes");
    if (i + 1 >= in.len)
        return ERR_AGAIN;
    if (in.at[i + 1] != '\n')
        return invalid(out, "a bare CR in a PROXY v1 line");
    *line = span_of(in.at, i);
    return 0;
}

/* Takes bytes up to the next blank, and the blank, off the front of *text. False when there is no
 * blank. */
static bool take_word(struct span *text, struct span *word)
{
    const char *blank = text->len > 0 ? memchr(text->at, ' ', text->len) : NULL;
    size_t len = blank ? (size_t)(blank - text->at) : text->len;
    size_t taken = len + (blank != NULL);

    *word = span_of(text->at, len);
    *text = span_of(text->at + taken, text->len - taken);
    return blank != NULL;
}

/* 0 to 65535 without leading zeros. */
static bool parse_port(struct span text, uint16_t *port)
{
    unsigned long number = 0;

    if (text.len < 1 || text.len > 5 || (text.len > 1 && text.at[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        number = 10 * number + (unsigned long)(text.at[i] - '0');
    }
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

/* An address of the family that was named, as it is written: TCP6 may carry a mapped IPv4 one. */
static bool parse_ip(struct span text, bool is_v6, struct net_addr *addr)
{
    if (text.len == 0 || text.at[0] == '[')
        return false;
    return (memchr(text.at, ':', text.len) != NULL) == is_v6 && net_addr_parse(addr, text, 0) == 0;
}

/* What follows "TCP4 " or "TCP6 ": two addresses and two ports. */
static int read_v1_addresses(struct span rest, bool is_v6, struct proxy_header *out)
{
    struct span source, destination, source_port, destination_port;

    if (!take_word(&rest, &source) || !take_word(&rest, &destination) ||
        !take_word(&rest, &source_port) || take_word(&rest, &destination_port))
        return invalid(out, "a PROXY v1 line without two addresses and two ports");
    if (!parse_ip(source, is_v6, &out->source) || !parse_ip(destination, is_v6, &out->destination))
        return invalid(out, "a PROXY v1 address that is none of its family");
    if (!parse_port(source_port, &out->source.port) ||
        !parse_port(destination_port, &out->destination.port))
        return invalid(out, "a malformed port in a PROXY v1 line");
    out->has_addresses = true;
    return 0;
}

static int read_v1(struct span in, struct proxy_header *out, size_t *used)
{
    struct span line, protocol;
    int rc = find_line(in, &line, out);

    if (rc < 0)
        return rc;

    struct span rest = span_of(line.at + V1_START.len, line.len - V1_START.len);

    take_word(&rest, &protocol);

    bool is_v6 = span_eq(protocol, SPAN("TCP6"));

    *used = line.len + 2;
    if (span_eq(protocol, SPAN("UNKNOWN")))
        return 0; /* whatever follows is to be ignored */
    if (!is_v6 && !span_eq(protocol, SPAN("TCP4")))
        return invalid(out, "a PROXY v1 protocol other than TCP4, TCP6 and UNKNOWN");
    return read_v1_addresses(rest, is_v6, out);
}

/* ---- version 2 */

enum { V2_LOCAL, V2_PROXY };
enum { V2_UNSPEC, V2_INET, V2_INET6, V2_UNIX, V2_FAMILIES };
enum { V2_NO_TRANSPORT, V2_STREAM, V2_DGRAM, V2_TRANSPORTS };

static uint8_t byte_at(struct span in, size_t i)
{
    return (uint8_t)in.at[i];
}

static size_t length_at(struct span in, size_t i)
{
    return (size_t)byte_at(in, i) << 8 | byte_at(in, i + 1);
}

/* Castagnoli's, reflected, four bits at a time: headers are short. */
static uint32_t crc32c(uint32_t crc, struct span bytes)
{
    static const uint32_t steps[16] = {
        0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3,
        0x61C69362, 0x7198540D, 0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9,
        0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75,
    };

    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= byte_at(bytes, i);
        crc = crc >> 4 ^ steps[crc & 15];
        crc = crc >> 4 ^ steps[crc & 15];
    }
    return crc;
}

/* Whether the checksum at offset at is that of the header with zeros in its place. */
static bool checksum_fits(struct span header, size_t at)
{
    uint32_t said = (uint32_t)(length_at(header, at) << 16 | length_at(header, at + 2));
    size_t behind = at + sizeof(said);
    uint32_t crc = crc32c(UINT32_MAX, span_of(header.at, at));

    crc = crc32c(crc, SPAN("\0\0\0\0"));
    crc = crc32c(crc, span_of(header.at + behind, header.len - behind));
    return ~crc == said;
}

/* The vectors behind the addresses. Only the checksum says something to us. */
static int check_vectors(struct span header, size_t at, struct proxy_header *out)
{
    bool checked = false;

    while (at < header.len) {
        size_t left = header.len - at;

        if (left < TLV_FIXED || left - TLV_FIXED < length_at(header, at + 1))
            return invalid(out, "a PROXY v2 vector longer than its header");

        size_t len = length_at(header, at + 1);

        if (byte_at(header, at) == TLV_CRC32C) {
            if (checked || len != sizeof(uint32_t))
                return invalid(out, "a malformed or second checksum in a PROXY v2 header");
            if (!checksum_fits(header, at + TLV_FIXED))
                return invalid(out, "a PROXY v2 header whose checksum is wrong");
            checked = true;
        }
        at += TLV_FIXED + len;
    }
    return 0;
}

static struct net_addr ipv4_at(struct span header, size_t ip, size_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    memcpy(&in.sin_addr, header.at + ip, 4);
    memcpy(&in.sin_port, header.at + port, 2);
    return net_addr_from((const struct sockaddr *)(const void *)&in, sizeof(in));
}

static struct net_addr ipv6_at(struct span header, size_t ip, size_t port)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    memcpy(&in6.sin6_addr, header.at + ip, 16);
    memcpy(&in6.sin6_port, header.at + port, 2);
    return net_addr_from((const struct sockaddr *)(const void *)&in6, sizeof(in6));
}

static int read_v2_addresses(struct span header, unsigned family, struct proxy_header *out)
{
    static const size_t lengths[V2_FAMILIES] = {
        [V2_INET] = 2 * 4 + 2 * 2, [V2_INET6] = 2 * 16 + 2 * 2, [V2_UNIX] = 2 * UNIX_PATH};
    size_t at = V2_FIXED, end = at + lengths[family];

    if (header.len < end)
        return invalid(out, "a PROXY v2 header shorter than its addresses");
    if (family == V2_INET) {
        out->source = ipv4_at(header, at, at + 8);
        out->destination = ipv4_at(header, at + 4, at + 10);
    } else if (family == V2_INET6) {
        out->source = ipv6_at(header, at, at + 32);
        out->destination = ipv6_at(header, at + 16, at + 34);
    } else {
        out->source = out->destination = (struct net_addr){.family = NET_UNIX};
    }
    out->has_addresses = true;
    return check_vectors(header, end, out);
}

/* LOCAL's block is discarded unread, and so is one of an unspecified family or transport. */
static int read_v2(struct span in, struct proxy_header *out, size_t *used)
{
    unsigned version = in.len > 12 ? byte_at(in, 12) >> 4 : 2;
    unsigned command = in.len > 12 ? byte_at(in, 12) & 15 : V2_LOCAL;
    unsigned family = in.len > 13 ? byte_at(in, 13) >> 4 : V2_UNSPEC;
    unsigned transport = in.len > 13 ? byte_at(in, 13) & 15 : V2_NO_TRANSPORT;

    if (version != 2)
        return invalid(out, "a PROXY version other than 2 behind the signature of 2");
    if (command > V2_PROXY)
        return invalid(out, "a PROXY v2 command other than LOCAL and PROXY");
    if (command == V2_PROXY && (family >= V2_FAMILIES || transport >= V2_TRANSPORTS))
        return invalid(out, "an unknown family or transport in a PROXY v2 header");
    if (in.len < V2_FIXED)
        return ERR_AGAIN;

    size_t whole = V2_FIXED + length_at(in, 14);

    if (whole > PROXY_V2_MOST)
        return invalid(out, "a PROXY v2 header longer than 4112 bytes");
    if (in.len < whole)
        return ERR_AGAIN;
    *used = whole;
    if (command == V2_LOCAL || family == V2_UNSPEC || transport == V2_NO_TRANSPORT)
        return 0;
    return read_v2_addresses(span_of(in.at, whole), family, out);
}

/* A refused header says nothing but why. */
static int finish(int rc, struct proxy_header *out, size_t *used)
{
    if (rc == 0)
        return 0;
    *out = (struct proxy_header){.version = out->version, .detail = out->detail};
    *used = 0;
    return rc;
}

int proxy_protocol_read(struct span in, struct proxy_header *out, size_t *used)
{
    int v1 = begins(in, V1_START), v2 = begins(in, V2_START);

    *out = (struct proxy_header){.version = v1 == 0 ? 1 : v2 == 0 ? 2 : 0};
    *used = 0;
    if (v1 == 0)
        return finish(read_v1(in, out, used), out, used);
    if (v2 == 0)
        return finish(read_v2(in, out, used), out, used);
    return v1 == ERR_AGAIN || v2 == ERR_AGAIN ? ERR_AGAIN : ERR_NOT_FOUND;
}
