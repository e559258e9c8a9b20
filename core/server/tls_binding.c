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
#include "server/settings_priv.h"
#include "server/tls_binding_priv.h"

#define FIELD(field)                                                                               \
    .at = offsetof(struct tls_binding, field), .room = sizeof(((struct tls_binding *)0)->field),   \
    .most = 1
#define FILES(field)                                                                               \
    .at = offsetof(struct tls_binding, field), .room = TLS_BINDING_PATH, .most = TLS_CERTS_MOST

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

const struct tls_binding_key tls_binding_keys[] = {
    {"name", FIELD(name), .is_right = tls_binding_is_name, .form = "a host name or *.domain",
     .help = "the host that the client asks for, or *.domain"},
    {"address", FIELD(address), .is_right = is_address, .form = "an IP address",
     .help = "only connections to this IP address"},
    {"port", FIELD(port), .is_right = is_port, .form = "between 1 and 65535",
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

const size_t tls_binding_key_count = sizeof(tls_binding_keys) / sizeof(tls_binding_keys[0]);

/* What is read, and where the reason goes. */
struct reader {
    const char *at;
    struct tls_binding *binding;
    char *why;
    size_t room;
};

static int wrong(struct reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int wrong(struct reader *reader, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(reader->why, reader->room, format, args);
    va_end(args);
    return ERR_INVALID;
}

static const struct tls_binding_key *find(struct span name)
{
    for (size_t i = 0; i < tls_binding_key_count; i++)
        if (span_eq(name, span_str(tls_binding_keys[i].name)))
            return &tls_binding_keys[i];
    return NULL;
}

static char *field_of(struct tls_binding *binding, const struct tls_binding_key *key)
{
    return (char *)binding + key->at;
}

static unsigned count_of(struct tls_binding *binding, const struct tls_binding_key *key)
{
    unsigned count = 0;

    while (count < key->most && field_of(binding, key)[count * key->room])
        count++;
    return count;
}

static int unknown_key(struct reader *reader, struct span name)
{
    char names[192] = "";
    size_t used = 0;

    for (size_t i = 0; i < tls_binding_key_count; i++)
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
                                 tls_binding_keys[i].name);
    return wrong(reader, "%.*s: no such key, there are %s", name.len > 40 ? 40 : (int)name.len,
                 name.at, names);
}

/* Copies a value, without its quotes; ERR_TOO_LARGE, or ERR_INVALID when a quote is not closed. */
static int take_value(struct reader *reader, char *out, size_t room)
{
    bool is_quoted = *reader->at == '"';
    size_t length = 0;

    reader->at += is_quoted;
    for (; *reader->at; reader->at++) {
        char c = *reader->at;

        if (is_quoted ? c == '"' : c == ' ' || c == ';')
            break;
        if (is_quoted && c == '\\' && (reader->at[1] == '"' || reader->at[1] == '\\'))
            c = *++reader->at;
        if (length + 1 >= room)
            return ERR_TOO_LARGE;
        out[length++] = c;
    }
    out[length] = '\0';
    if (!is_quoted)
        return 0;
    if (*reader->at != '"')
        return ERR_INVALID;
    reader->at++;
    return *reader->at == '\0' || *reader->at == ' ' || *reader->at == ';' ? 0 : ERR_INVALID;
}

static int judge_value(struct reader *reader, const struct tls_binding_key *key, const char *value)
{
    char allowed[96];
    bool is_right;

    if (key->choices) {
        setting_describe_choices(key->choices, " or ", allowed, sizeof(allowed));
        is_right = setting_is_choice(key->choices, span_str(value));
    } else {
        snprintf(allowed, sizeof(allowed), "%s", key->form);
        is_right = value[0] && (key->is_right == NULL || key->is_right(value));
    }
    return is_right ? 0 : wrong(reader, "%s=%.60s: must be %s", key->name, value, allowed);
}

static int read_word(struct reader *reader)
{
    struct span name = span_of(reader->at, strcspn(reader->at, "=; "));
    const struct tls_binding_key *key = find(name);
    int code;

    if (key == NULL)
        return unknown_key(reader, name);
    if (name.at[name.len] != '=')
        return wrong(reader, "%s: a value is missing behind it: %s=VALUE", key->name, key->name);
    unsigned count = count_of(reader->binding, key);
    char *field = field_of(reader->binding, key) + count * key->room;

    if (count == key->most && count == 1)
        return wrong(reader, "%s: is given twice", key->name);
    if (count == key->most)
        return wrong(reader, "%s: is given more than %u times", key->name, count);
    reader->at += name.len + 1;
    code = take_value(reader, field, key->room);
    if (code == ERR_TOO_LARGE)
        return wrong(reader, "%s: must be at most %zu bytes long", key->name, key->room - 1);
    if (code < 0)
        return wrong(reader, "%s: the quotes around its value do not close it", key->name);
    return judge_value(reader, key, field);
}

static int judge_files(struct reader *reader)
{
    struct tls_binding *binding = reader->binding;
    unsigned certificates = count_of(binding, find(SPAN("certificate")));
    unsigned keys = count_of(binding, find(SPAN("key")));
    unsigned answers = count_of(binding, find(SPAN("ocsp")));

    if (keys != certificates)
        return wrong(reader, "key: is given %u times, and certificate %u times", keys,
                     certificates);
    if (answers != 0 && answers != certificates)
        return wrong(reader, "ocsp: is given %u times, and certificate %u times", answers,
                     certificates);
    return 0;
}

/* A binding that lets in others than was meant is worse than none. */
static int judge_clients(struct reader *reader)
{
    const struct tls_binding *binding = reader->binding;
    bool asks = binding->client_certificate[0] && strcmp(binding->client_certificate, "none") != 0;

    if (strcmp(binding->client_certificate, "require") == 0 && !binding->client_authorities[0])
        return wrong(reader, "client_authorities: is missing, for client_certificate=require");
    if (binding->client_authorities[0] && !asks)
        return wrong(reader, "client_certificate: must be allow, require or delay beside "
                             "client_authorities");
    return 0;
}

static int judge_whole(struct reader *reader)
{
    struct tls_binding *binding = reader->binding;

    for (size_t i = 0; i < tls_binding_key_count; i++)
        if (tls_binding_keys[i].required && field_of(binding, &tls_binding_keys[i])[0] == '\0')
            return wrong(reader, "%s: is missing", tls_binding_keys[i].name);
    if (binding->min_version[0] && binding->max_version[0] &&
        strcmp(binding->min_version, binding->max_version) > 0)
        return wrong(reader, "min_version=%s: is above max_version=%s", binding->min_version,
                     binding->max_version);
    return judge_files(reader) < 0 ? ERR_INVALID : judge_clients(reader);
}

int tls_binding_next(const char **rest, struct tls_binding *binding, char *why, size_t room)
{
    struct reader reader = {.at = *rest, .binding = binding, .why = why, .room = room};
    int code = 0;

    memset(binding, 0, sizeof(*binding));
    if (reader.at[strspn(reader.at, " ")] == '\0')
        return 0;
    while (code == 0) {
        reader.at += strspn(reader.at, " ");
        if (*reader.at == '\0' || *reader.at == ';')
            break;
        code = read_word(&reader);
    }
    if (code == 0)
        code = judge_whole(&reader);
    *rest = reader.at + (*reader.at == ';');
    return code < 0 ? code : 1;
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
    struct tls_binding binding;
    char reason[200];
    int code;

    for (int number = 1;; number++) {
        code = tls_binding_next(&text, &binding, reason, sizeof(reason));
        if (code < 0)
            snprintf(why, room, "binding %d: %s", number, reason);
        if (code <= 0)
            return code;
    }
}
