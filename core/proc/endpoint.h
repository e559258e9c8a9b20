/*
 * Where the server listens: the addresses behind each URL, and the socket that each worker slot has
 * for each of them.
 */
#ifndef PROC_ENDPOINT_H
#define PROC_ENDPOINT_H

#include "base/buf.h"
#include "base/err.h"
#include "net/addr.h"

#define ENDPOINTS_MAX 64 /* two sockets each fit into one message to a worker */

struct endpoint {
    char host[256];           /* as it was written, with brackets */
    uint16_t port;            /* 0 until the kernel has chosen one */
    struct net_addr addrs[2]; /* localhost and + have one of each family */
    unsigned addr_count;
    bool second_optional; /* a machine without IPv6 can serve it too */
};

struct endpoints {
    struct endpoint at[ENDPOINTS_MAX];
    unsigned count;
};

/* Reads a list of URLs, separated by commas. 0, or ERR_INVALID and EXIT_OPTION with the URL that is
 * wrong and why. */
int endpoints_parse(struct endpoints *endpoints, const char *urls, struct err_text *text);

/* How many sockets a slot needs at most. */
unsigned endpoints_sockets(const struct endpoints *endpoints);

/*
 * Opens the sockets of so many slots: sockets[slot * stride + i], with i below the returned count
 * and stride endpoints_sockets(). Ports and addresses that turned out are written back; a missing
 * optional address is dropped. On failure nothing stays open, and the text names the URL.
 */
int endpoints_open(struct endpoints *endpoints, unsigned slots, int *sockets,
                   struct err_text *text);

/* "http://localhost:5000, http://[::1]:80", with the real ports. */
void endpoints_print(const struct endpoints *endpoints, struct buf *out);

#endif
