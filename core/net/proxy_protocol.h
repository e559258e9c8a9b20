/*
 * The PROXY protocol, versions 1 and 2: what a proxy says before the first byte of a connection, so
 * that the server learns for whom it speaks. Bytes in, a header out; whom to believe is the
 * caller's to judge. https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
 */
#ifndef NET_PROXY_PROTOCOL_H
#define NET_PROXY_PROTOCOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "net/addr.h"

/* Bytes of a header. Version 1's is the protocol's own; version 2 would allow 65551, which nobody
 * sends and nobody shall make us hold before it is known who speaks. */
#define PROXY_V1_MOST 107
#define PROXY_V2_MOST (16 + 4096)

struct proxy_header {
    uint8_t version;                     /* 1 or 2 */
    bool has_addresses;                  /* false (LOCAL, UNKNOWN): the socket's own count */
    struct net_addr source, destination; /* NET_NONE when there are none */
    const char *detail;                  /* static; why it is malformed */
};

/*
 * Reads the header at the front of in, which holds all bytes since the connection began. 0: it is
 * complete, *used bytes are to be taken off; ERR_AGAIN: a header as far as it goes, more is needed;
 * ERR_NOT_FOUND: certainly none, these bytes are another protocol's; ERR_INVALID: begins as one and
 * is malformed, out->detail says how. *used is 0 but for a complete one. The answer does not depend
 * on how the bytes arrive.
 */
int proxy_protocol_read(struct span in, struct proxy_header *out, size_t *used);

#endif
