/*
 * One table says which keys a binding has, what each takes and where it goes. A binding is complete
 * or wrong: what is missing, given twice or contradicts itself is told with the key's name.
 */
#include "server/tls_binding.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "net/addr.h"
#include "server/word_row.h"

#define FIELD(field) WORD_FIELD(tls_binding, field)
#define FILES(field) WORD_FIELDS(tls_binding, field, TLS_CERTS_MOST, TLS_BINDING_PATH)

static bool is_port(const char *value)
{
    return strlen(value) <= 5 && strspn(value, "0123456789") == strlen(value) && value[0] != '0' &&
           strtol(value, NULL, 10) <= 65535;
}

static bool is_address(const char *value)
{
    struct net_addr addr;

    return net_addr_parse(&addr, span_str(value), 0) == 0;
}

/* What a client can ask for: names of letters, digits and hyphens, no addresses (RFC 6066 s.3). */
bool tls_binding_is_name(const char *value)
{
    const char *name = strncmp(value, "*.", 2) == 0 ? value + 2 : value;
    size_t label = 0;

    if (is_address(value) || strlen(value) > TLS_NAME_MOST)
        return false;
    for (; *name; name++) {
        char c = ascii_lower(*name);

        if (c == '.' && label == 0)
            return false;
        if (c != '.' && c != '-' && c != '_' && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
            return false;
        label = c == '.' ? 0 : label + 1;
    }
    return label > 0;
}

static const struct word_key keys[] = {
    {"name", FIELD(name), .is_right = tls_binding_is_name, .form = "a host name or *.domain",
     .help = "the host that the client asks for, or *.domain"},
    {"address", FIELD(address), .is_right = is_address, .form = "an IP address",
     .help = "only connections to this IP address"},
    {"port", FIELD(port), .is_right = is_port, .is_number = true, .form = "between 1 and 65535",
     .help = "only connections to this port"},
    {"certificate", FILES(certificate), .required = true, .form = "a file name",
     .help = "file with the certificate and its chain (PEM); several for keys of several kinds"},
    {"key", FILES(key), .required = true, .form = "a file name",
     .help = "file with the private key (PEM)"},
    {"ocsp", FILES(ocsp), .form = "a file name",
     .help = "file with the OCSP responder's answer (DER), stapled while it is fresh"},
    {"min_version", FIELD(min_version), .choices = "1.2|1.3", .help = "the oldest TLS version"},
    {"max_version", FIELD(max_version), .choices = "1.2|1.3", .help = "the newest TLS version"},
    {"client_certificate", FIELD(client_certificate), .choices = "none|allow|require|delay",
     .help = "what the handshake asks of the client; delay: nothing until a handler does"},
    {"client_authorities", FIELD(client_authorities), .form = "a file name",
     .help = "file with the authorities that vouch for clients (PEM)"},
};

static int judge_whole(const void *record, char *why, size_t room);

const struct word_table tls_binding_table = {
    .keys = keys,
    .count = sizeof(keys) / sizeof(keys[0]),
    .bytes = sizeof(struct tls_binding),
    .noun = "binding",
    .type = "moonquay.TlsBinding",
    .judge = judge_whole,
};

static int wrong(char *why, size_t room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int wrong(char *why, size_t room, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, room, format, args);
    va_end(args);
    return ERR_INVALID;
}

static int judge_files(const struct tls_binding *binding, char *why, size_t room)
{
    unsigned certificates = word_row_count(&tls_binding_table, binding, "certificate");
    unsigned key_count = word_row_count(&tls_binding_table, binding, "key");
    unsigned answers = word_row_count(&tls_binding_table, binding, "ocsp");

    if (key_count != certificates)
        return wrong(why, room, "key: is given %u times, and certificate %u times", key_count,
                     certificates);
    if (answers != 0 && answers != certificates)
        return wrong(why, room, "ocsp: is given %u times, and certificate %u times", answers,
                     certificates);
    return 0;
}

/* A binding that lets in others than was meant is worse than none. */
static int judge_clients(const struct tls_binding *binding, char *why, size_t room)
{
    bool asks = binding->client_certificate[0] && strcmp(binding->client_certificate, "none") != 0;

    if (strcmp(binding->client_certificate, "require") == 0 && !binding->client_authorities[0])
        return wrong(why, room, "client_authorities: is missing, for client_certificate=require");
    if (binding->client_authorities[0] && !asks)
        return wrong(why, room,
                     "client_certificate: must be allow, require or delay beside "
                     "client_authorities");
    return 0;
}

static int judge_whole(const void *record, char *why, size_t room)
{
    const struct tls_binding *binding = record;

    if (binding->min_version[0] && binding->max_version[0] &&
        strcmp(binding->min_version, binding->max_version) > 0)
        return wrong(why, room, "min_version=%s: is above max_version=%s", binding->min_version,
                     binding->max_version);
    return judge_files(binding, why, room) < 0 ? ERR_INVALID : judge_clients(binding, why, room);
}

int tls_binding_next(const char **rest, struct tls_binding *binding, char *why, size_t room)
{
    return word_row_next(&tls_binding_table, rest, binding, why, room);
}

static bool has_binding(const char *text, const struct tls_binding *wanted)
{
    struct tls_binding binding;
    char why[200];

    while (tls_binding_next(&text, &binding, why, sizeof(why)) > 0)
        if (memcmp(&binding, wanted, sizeof(binding)) == 0)
            return true;
    return false;
}

void tls_bindings_join(struct buf *text, const char *more)
{
    struct tls_binding binding;
    const char *at = more;
    char why[200];

    while (tls_binding_next(&more, &binding, why, sizeof(why)) > 0) {
        struct span words = span_of(at, (size_t)(more - at));

        buf_append(text, SPAN("\0")); /* so that what is there can be read */
        bool is_new = !has_binding(buf_span(text).at, &binding);

        text->tail--;
        if (is_new && buf_len(text) > 0 && buf_span(text).at[buf_len(text) - 1] != ';')
            buf_append(text, SPAN(";"));
        if (is_new)
            buf_append(text, words);
        at = more;
    }
}

int tls_bindings_check(const char *text, char *why, size_t room)
{
    return word_rows_check(&tls_binding_table, text, why, room);
}
