/*
 * A binding is a row of pairs that begins with the key "binding"; the certificates in it follow
 * each other, each with its key and its OCSP answer behind it.
 */
#include "proc/profile_pairs.h"

#include <stdlib.h>
#include <string.h>

#include "proc/worker_ipc.h"

void hex_add(struct buf *out, struct span bytes)
{
    static const char digits[] = "0123456789abcdef";
    char *at = buf_reserve(out, 2 * bytes.len + 1);

    for (size_t i = 0; i < bytes.len; i++) {
        *at++ = digits[(unsigned char)bytes.at[i] >> 4];
        *at++ = digits[(unsigned char)bytes.at[i] & 15];
    }
    buf_added(out, 2 * bytes.len);
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct span hex_read(const char *digits, struct arena *scratch)
{
    char *bytes = arena_alloc(scratch, strlen(digits) / 2 + 1);
    size_t length = 0;

    for (; digit(digits[0]) >= 0 && digit(digits[1]) >= 0; digits += 2)
        bytes[length++] = (char)(digit(digits[0]) << 4 | digit(digits[1]));
    return span_of(bytes, length);
}

/* A text of which no NUL-terminated copy is at hand. */
static void add_span(struct buf *pairs, const char *key, struct span value)
{
    buf_append(pairs, span_of(key, strlen(key) + 1));
    buf_append(pairs, value);
    buf_append(pairs, span_of("", 1));
}

void profile_pairs_add(struct buf *pairs, const struct tls_profile_parts *parts)
{
    char ip[NET_ADDR_TEXT];

    pairs_add(pairs, "binding", "");
    add_span(pairs, "name", parts->name);
    if (parts->address.family != NET_NONE) {
        net_addr_ip(&parts->address, ip);
        pairs_add(pairs, "address", ip);
    }
    pairs_add_number(pairs, "port", parts->port);
    pairs_add_number(pairs, "min_version", parts->min_version);
    pairs_add_number(pairs, "max_version", parts->max_version);
    pairs_add_number(pairs, "client", parts->client);
    add_span(pairs, "authorities", parts->authorities);
    for (unsigned i = 0; i < parts->identity_count; i++) {
        struct buf ocsp = {0};

        hex_add(&ocsp, parts->identities[i].ocsp);
        add_span(pairs, "certificate", parts->identities[i].certificate);
        add_span(pairs, "key", parts->identities[i].key);
        add_span(pairs, "ocsp", buf_span(&ocsp));
        buf_fini(&ocsp);
    }
}

static void take_identity(struct tls_profile_parts *parts, const char *key, const char *value,
                          struct arena *scratch)
{
    struct tls_identity *identity;

    if (strcmp(key, "certificate") == 0 && parts->identity_count < TLS_CERTS_MOST)
        parts->identities[parts->identity_count++].certificate = span_str(value);
    if (parts->identity_count == 0)
        return;
    identity = &parts->identities[parts->identity_count - 1];
    if (strcmp(key, "key") == 0)
        identity->key = span_str(value);
    else if (strcmp(key, "ocsp") == 0)
        identity->ocsp = hex_read(value, scratch);
}

static void take(struct tls_profile_parts *parts, const char *key, const char *value,
                 struct arena *scratch)
{
    unsigned number = (unsigned)strtoul(value, NULL, 10);

    if (strcmp(key, "name") == 0)
        parts->name = span_str(value);
    else if (strcmp(key, "address") == 0)
        net_addr_parse(&parts->address, span_str(value), 0);
    else if (strcmp(key, "port") == 0)
        parts->port = (uint16_t)number;
    else if (strcmp(key, "min_version") == 0)
        parts->min_version = (enum tls_version)number;
    else if (strcmp(key, "max_version") == 0)
        parts->max_version = (enum tls_version)number;
    else if (strcmp(key, "client") == 0)
        parts->client = (enum tls_client_policy)number;
    else if (strcmp(key, "authorities") == 0)
        parts->authorities = span_str(value);
    else
        take_identity(parts, key, value, scratch);
}

bool profile_pairs_next(struct span *rest, struct tls_profile_parts *parts, struct arena *scratch)
{
    struct span behind = *rest;
    const char *key, *value;
    bool has_begun = false;

    memset(parts, 0, sizeof(*parts));
    while (pairs_next(&behind, &key, &value)) {
        if (strcmp(key, "binding") == 0) {
            if (has_begun)
                return true;
            has_begun = true;
        }
        take(parts, key, value, scratch);
        *rest = behind;
    }
    return has_begun;
}
