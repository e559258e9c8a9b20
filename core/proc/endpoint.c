/*
 * The first socket of an address is opened exclusively (net/listener.h), so that a second server
 * of the same user is refused and not let in silently; the other slots' sockets join it.
 */
#include "proc/endpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "net/listener.h"
#include "proc/holder.h"

#define PORT_TRIES 16 /* a free port of one family may be taken in the other */

static struct net_addr literal(const char *ip, uint16_t port)
{
    struct net_addr addr;

    CHECK(net_addr_parse(&addr, span_str(ip), port) == 0);
    return addr;
}

static int resolve(struct endpoint *endpoint)
{
    struct span host = span_str(endpoint->host);
    bool is_any = span_eq(host, SPAN("+")) || span_eq(host, SPAN("*"));

    endpoint->addr_count = 1;
    if (is_any || span_eq_nocase(host, SPAN("localhost"))) {
        endpoint->addrs[0] = literal(is_any ? "0.0.0.0" : "127.0.0.1", endpoint->port);
        endpoint->addrs[1] = literal(is_any ? "::" : "::1", endpoint->port);
        endpoint->addr_count = 2;
        endpoint->second_optional = true;
        return 0;
    }
    if (strchr(endpoint->host, ':') && endpoint->host[0] != '[')
        return ERR_INVALID;
    return net_addr_parse(&endpoint->addrs[0], host, endpoint->port);
}

static int parse_port(struct span digits, uint16_t *port)
{
    unsigned value = 0;

    if (digits.len == 0 || digits.len > 5)
        return ERR_INVALID;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.at[i] < '0' || digits.at[i] > '9')
            return ERR_INVALID;
        value = value * 10 + (unsigned)(digits.at[i] - '0');
    }
    if (value > 65535)
        return ERR_INVALID;
    *port = (uint16_t)value;
    return 0;
}

/* Up to the last colon outside brackets: what has more of them is told that it needs brackets. */
static size_t host_length(struct span authority)
{
    size_t length = authority.len;

    while (length > 0 && authority.at[length - 1] != ':' && authority.at[length - 1] != ']')
        length--;
    return length == 0 || authority.at[length - 1] == ']' ? authority.len : length - 1;
}

/* NULL, or what is wrong with the URL. */
static const char *parse_one(struct endpoint *endpoint, struct span url)
{
    const struct span scheme = SPAN("http://");
    size_t host_len;

    memset(endpoint, 0, sizeof(*endpoint));
    if (url.len >= 8 && strncasecmp(url.at, "https://", 8) == 0)
        return "https is not supported yet";
    if (url.len < scheme.len || strncasecmp(url.at, scheme.at, scheme.len) != 0)
        return "a URL begins with http://";
    url = span_of(url.at + scheme.len, url.len - scheme.len);
    if (url.len > 0 && url.at[url.len - 1] == '/')
        url.len--;
    if (url.len > 0 && memchr(url.at, '/', url.len))
        return "only the path / can be served";
    host_len = host_length(url);
    if (host_len == 0 || host_len >= sizeof(endpoint->host))
        return "there is no host";
    memcpy(endpoint->host, url.at, host_len);
    endpoint->port = 80;
    if (host_len < url.len &&
        parse_port(span_of(url.at + host_len + 1, url.len - host_len - 1), &endpoint->port) < 0)
        return "the port must be between 0 and 65535";
    if (resolve(endpoint) < 0)
        return "the host must be localhost, an IP address (IPv6 in brackets), + or *";
    return NULL;
}

int endpoints_parse(struct endpoints *endpoints, const char *urls, struct err_text *text)
{
    endpoints->count = 0;
    for (const char *at = urls; *at;) {
        struct span url = span_trim(span_of(at, strcspn(at, ",")));
        const char *wrong;

        at += strcspn(at, ",");
        at += *at == ',';
        if (url.len == 0)
            continue;
        if (endpoints->count == ENDPOINTS_MAX)
            wrong = "too many URLs";
        else
            wrong = parse_one(&endpoints->at[endpoints->count], url);
        if (wrong)
            return err_set(text, EXIT_OPTION, ERR_INVALID, "%.*s: %s", (int)url.len, url.at, wrong);
        endpoints->count++;
    }
    if (endpoints->count == 0)
        return err_set(text, EXIT_OPTION, ERR_INVALID, "there must be at least one URL");
    return 0;
}

unsigned endpoints_sockets(const struct endpoints *endpoints)
{
    unsigned sockets = 0;

    for (unsigned i = 0; i < endpoints->count; i++)
        sockets += endpoints->at[i].addr_count;
    return sockets;
}

static void set_port(struct endpoint *endpoint, uint16_t port)
{
    endpoint->port = port;
    for (unsigned i = 0; i < endpoint->addr_count; i++)
        endpoint->addrs[i].port = port;
}

/* One socket for each address, the first of its kind. Returns how many, or the error. */
static int open_first(struct endpoint *endpoint, int sockets[2], struct err_text *text)
{
    uint16_t wanted = endpoint->port;
    int code = 0;

    for (int tries = 0; tries < PORT_TRIES; tries++) {
        set_port(endpoint, wanted);
        sockets[0] = listener_bind(&endpoint->addrs[0], true, text);
        if (sockets[0] < 0 || endpoint->addr_count == 1) {
            endpoint->port = endpoint->addrs[0].port;
            return sockets[0] < 0 ? sockets[0] : 1;
        }
        set_port(endpoint, endpoint->addrs[0].port);
        code = sockets[1] = listener_bind(&endpoint->addrs[1], true, text);
        if (sockets[1] >= 0)
            return 2;
        if (code == ERR_UNSUPPORTED && endpoint->second_optional) {
            endpoint->addr_count = 1;
            return 1;
        }
        close(sockets[0]);
        if (code != ERR_IN_USE || wanted != 0)
            break;
    }
    return code;
}

static int open_slot(struct endpoints *endpoints, int *sockets, struct err_text *text)
{
    int count = 0;

    for (unsigned i = 0; i < endpoints->count; i++)
        for (unsigned j = 0; j < endpoints->at[i].addr_count; j++) {
            sockets[count] = listener_bind(&endpoints->at[i].addrs[j], false, text);
            if (sockets[count] < 0)
                return sockets[count];
            count++;
        }
    return count;
}

/* "http://localhost:5000: " in front of text, and who has the port behind it. */
static void explain(const struct endpoint *endpoint, int code, struct err_text *text)
{
    char reason[sizeof(text->text)], holder[128] = "";

    memcpy(reason, text->text, sizeof(reason));
    if (code == ERR_IN_USE)
        holder_of_port(endpoint->port, holder, sizeof(holder));
    snprintf(text->text, sizeof(text->text), "http://%s:%u: %.500s%s%s", endpoint->host,
             endpoint->port, reason, holder[0] ? " by " : "", holder);
}

int endpoints_open(struct endpoints *endpoints, unsigned slots, int *sockets, struct err_text *text)
{
    unsigned stride = endpoints_sockets(endpoints);
    int count = 0, code = 0;

    for (unsigned i = 0; i < slots * stride; i++)
        sockets[i] = -1;
    for (unsigned i = 0; i < endpoints->count && code >= 0; i++) {
        code = open_first(&endpoints->at[i], sockets + count, text);
        if (code < 0)
            explain(&endpoints->at[i], code, text);
        else
            count += code;
    }
    for (unsigned slot = 1; slot < slots && code >= 0; slot++)
        code = open_slot(endpoints, sockets + slot * stride, text);
    if (code >= 0)
        return count;
    for (unsigned i = 0; i < slots * stride; i++)
        if (sockets[i] >= 0)
            close(sockets[i]);
    return code;
}

void endpoints_print(const struct endpoints *endpoints, struct buf *out)
{
    for (unsigned i = 0; i < endpoints->count; i++)
        buf_printf(out, "%shttp://%s:%u", i ? ", " : "", endpoints->at[i].host,
                   endpoints->at[i].port);
}
