/*
 * A record is judged by the table of server/tls_binding once it has become a binding; only what a
 * binding does not know is judged here: the place as one word, hash and id.
 */
#include "share/sslcert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/addr.h"
#include "server/tls_binding.h"

#define PLACE_BYTES   300
#define HEX           "0123456789abcdefABCDEF"
#define SHA1_DIGITS   40
#define SHA256_DIGITS 64

const char *const sslcert_names[SSLCERT_KEYS] = {
    [SSLCERT_IPPORT] = "ipport",
    [SSLCERT_HOSTNAMEPORT] = "hostnameport",
    [SSLCERT_CERT] = "cert",
    [SSLCERT_KEY] = "key",
    [SSLCERT_CERTHASH] = "certhash",
    [SSLCERT_APPID] = "appid",
    [SSLCERT_MIN_VERSION] = "min_version",
    [SSLCERT_MAX_VERSION] = "max_version",
    [SSLCERT_CLIENT_CERTIFICATE] = "client_certificate",
    [SSLCERT_CLIENT_AUTHORITIES] = "client_authorities",
};

static void fini(struct sslcert *record)
{
    for (unsigned i = 0; i < SSLCERT_KEYS; i++)
        mem_free(record->text[i]);
}

void sslcerts_fini(struct sslcerts *list)
{
    for (size_t i = 0; i < list->count; i++)
        fini(&list->at[i]);
    mem_free(list->at);
    *list = (struct sslcerts){0};
}

void sslcerts_copy(struct sslcerts *copy, const struct sslcerts *list)
{
    *copy = (struct sslcerts){.count = list->count};
    copy->at = mem_zalloc(list->count * sizeof(*list->at) + 1);
    for (size_t i = 0; i < list->count; i++)
        for (unsigned key = 0; key < SSLCERT_KEYS; key++)
            if (list->at[i].text[key])
                copy->at[i].text[key] = mem_strdup(list->at[i].text[key]);
}

const char *sslcert_place(const struct sslcert *record)
{
    return record->text[SSLCERT_IPPORT] ? record->text[SSLCERT_IPPORT]
                                        : record->text[SSLCERT_HOSTNAMEPORT];
}

/* ---- places ---- */

/* Cuts "HOST:PORT" at its last colon. */
static int split(const char *place, struct span *host, uint16_t *port, struct err_text *text)
{
    const char *colon = strrchr(place, ':');
    const char *digits = colon ? colon + 1 : "";
    long number = strtol(digits, NULL, 10);

    if (colon == NULL || colon == place || strlen(place) >= PLACE_BYTES || digits[0] == '0' ||
        strlen(digits) > 5 || strspn(digits, "0123456789") != strlen(digits) || number < 1 ||
        number > 65535)
        return err_set(text, EXIT_OPTION, ERR_INVALID,
                       "%.200s: a place is HOST:PORT, the port from 1 to 65535", place);
    *host = span_of(place, (size_t)(colon - place));
    *port = (uint16_t)number;
    return 0;
}

static int read_ipport(const char *place, char out[PLACE_BYTES], struct err_text *text)
{
    struct span host;
    struct net_addr addr;
    uint16_t port;
    int code = split(place, &host, &port, text);

    if (code < 0)
        return code;
    if (net_addr_parse(&addr, host, port) < 0)
        return err_set(text, EXIT_OPTION, ERR_INVALID,
                       "ipport=%.200s: %.*s is no IP address; hostnameport= takes names", place,
                       (int)host.len, host.at);
    net_addr_text(&addr, out);
    return 0;
}

static int read_hostnameport(const char *place, char out[PLACE_BYTES], struct err_text *text)
{
    struct span host;
    uint16_t port;
    int code = split(place, &host, &port, text);

    if (code < 0)
        return code;
    snprintf(out, PLACE_BYTES, "%.*s:%u", (int)host.len, host.at, port);
    for (char *at = out; *at; at++)
        *at = ascii_lower(*at);
    return 0;
}

/* Which of the two, and its canonical text. */
static int read_place(const struct sslcert *record, enum sslcert_key *which, char out[PLACE_BYTES],
                      struct err_text *text)
{
    const char *address = record->text[SSLCERT_IPPORT];
    const char *name = record->text[SSLCERT_HOSTNAMEPORT];

    if ((address == NULL) == (name == NULL))
        return err_set(text, EXIT_OPTION, ERR_INVALID,
                       "a certificate is for one ipport= or one hostnameport=");
    *which = address ? SSLCERT_IPPORT : SSLCERT_HOSTNAMEPORT;
    return address ? read_ipport(address, out, text) : read_hostnameport(name, out, text);
}

static struct sslcert *find(const struct sslcerts *list, enum sslcert_key which, const char *place)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].text[which] && strcmp(list->at[i].text[which], place) == 0)
            return &list->at[i];
    return NULL;
}

const struct sslcert *sslcerts_find(const struct sslcerts *list, const struct sslcert *place)
{
    enum sslcert_key which;
    char text[PLACE_BYTES];

    return read_place(place, &which, text, NULL) < 0 ? NULL : find(list, which, text);
}

/* ---- the rest of a record ---- */

bool sslcert_is_hash(const char *text)
{
    size_t digits = strspn(text, HEX);

    return text[digits] == '\0' && (digits == SHA1_DIGITS || digits == SHA256_DIGITS);
}

bool sslcert_is_appid(const char *text)
{
    static const char form[] = SSLCERT_APPID_FORM;

    if (strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; i < sizeof(form) - 1; i++)
        if (form[i] == 'x' ? !strchr(HEX, text[i]) : text[i] != form[i])
            return false;
    return true;
}

static int check_files(const struct sslcert *record, struct err_text *text)
{
    static const enum sslcert_key files[] = {SSLCERT_CERT, SSLCERT_KEY, SSLCERT_CLIENT_AUTHORITIES};
    const char *hash = record->text[SSLCERT_CERTHASH];
    bool has_cert = record->text[SSLCERT_CERT], has_key = record->text[SSLCERT_KEY];

    if (has_cert != has_key || has_cert == (hash != NULL))
        return err_set(text, EXIT_OPTION, ERR_INVALID,
                       "a certificate is cert= and key=, or certhash=");
    if (hash && !sslcert_is_hash(hash))
        return err_set(text, EXIT_OPTION, ERR_INVALID,
                       "certhash=%.100s: must have %d (SHA-1) or %d (SHA-256) hexadecimal digits",
                       hash, SHA1_DIGITS, SHA256_DIGITS);
    for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        if (record->text[files[i]] && record->text[files[i]][0] != '/')
            return err_set(text, EXIT_OPTION, ERR_INVALID, "%s=%.300s: must be an absolute path",
                           sslcert_names[files[i]], record->text[files[i]]);
    return 0;
}

static int check_binding(const struct sslcert *record, struct err_text *text)
{
    const char *cert = record->text[SSLCERT_CERT], *key = record->text[SSLCERT_KEY];
    struct buf binding = {0};
    char why[300];
    int code;

    sslcert_binding(record, cert ? cert : "/", key ? key : "/", &binding);
    buf_append(&binding, SPAN("\0"));
    code = tls_bindings_check(buf_span(&binding).at, why, sizeof(why));
    if (code < 0)
        err_set(text, EXIT_OPTION, code, "%.300s: %s", sslcert_place(record),
                strchr(why, ':') ? strchr(why, ':') + 2 : why);
    buf_fini(&binding);
    return code;
}

/* Makes fresh a copy of the record, or fails and leaves nothing. */
static int copy(struct sslcert *fresh, const struct sslcert *record, struct err_text *text)
{
    const char *id = record->text[SSLCERT_APPID];
    enum sslcert_key which;
    char place[PLACE_BYTES];
    int code = read_place(record, &which, place, text);

    if (code == 0)
        code = check_files(record, text);
    if (code == 0 && id && !sslcert_is_appid(id))
        code = err_set(text, EXIT_OPTION, ERR_INVALID, "appid=%.100s: must be " SSLCERT_APPID_FORM,
                       id);
    if (code < 0)
        return code;
    *fresh = (struct sslcert){{NULL}};
    for (unsigned i = 0; i < SSLCERT_KEYS; i++)
        if (record->text[i])
            fresh->text[i] = mem_strdup(i == which ? place : record->text[i]);
    code = check_binding(fresh, text);
    if (code < 0)
        fini(fresh);
    return code;
}

/* ---- the list ---- */

int sslcerts_add(struct sslcerts *list, const struct sslcert *record, struct err_text *text)
{
    struct sslcert fresh;
    int code = copy(&fresh, record, text);

    if (code < 0)
        return code;
    if (sslcerts_find(list, &fresh))
        code = err_set(text, EXIT_OPTION, ERR_EXISTS, "%.300s has a certificate already",
                       sslcert_place(&fresh));
    else if (list->count == SSLCERTS_MOST)
        code = err_set(text, EXIT_OPTION, ERR_LIMIT, "there are %d certificates already",
                       SSLCERTS_MOST);
    if (code < 0) {
        fini(&fresh);
        return code;
    }
    list->at = mem_realloc(list->at, (list->count + 1) * sizeof(*list->at));
    list->at[list->count++] = fresh;
    return 0;
}

static int not_there(const struct sslcert *place, struct err_text *text)
{
    return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%.300s has no certificate",
                   sslcert_place(place));
}

int sslcerts_update(struct sslcerts *list, const struct sslcert *record, struct err_text *text)
{
    struct sslcert fresh, *old;
    int code = copy(&fresh, record, text);

    if (code < 0)
        return code;
    old = (struct sslcert *)(uintptr_t)sslcerts_find(list, &fresh);
    if (old == NULL) {
        code = not_there(&fresh, text);
        fini(&fresh);
        return code;
    }
    fini(old);
    *old = fresh;
    return 0;
}

int sslcerts_remove(struct sslcerts *list, const struct sslcert *place, struct err_text *text)
{
    enum sslcert_key which;
    char canonical[PLACE_BYTES];
    struct sslcert *old;
    int code = read_place(place, &which, canonical, text);

    if (code < 0)
        return code;
    old = find(list, which, canonical);
    if (old == NULL)
        return not_there(place, text);
    fini(old);
    memmove(old, old + 1, (size_t)(list->at + --list->count - old) * sizeof(*old));
    return 0;
}

static bool same_text(const char *a, const char *b)
{
    return (a == NULL && b == NULL) || (a && b && strcmp(a, b) == 0);
}

static bool same_record(const struct sslcert *a, const struct sslcert *b)
{
    for (unsigned key = 0; key < SSLCERT_KEYS; key++)
        if (!same_text(a->text[key], b->text[key]))
            return false;
    return true;
}

bool sslcerts_have(const struct sslcerts *list, const struct sslcert *record)
{
    for (size_t i = 0; i < list->count; i++)
        if (same_record(&list->at[i], record))
            return true;
    return false;
}

bool sslcerts_equal(const struct sslcerts *a, const struct sslcerts *b)
{
    for (size_t i = 0; i < a->count && i < b->count; i++)
        if (!same_record(&a->at[i], &b->at[i]))
            return false;
    return a->count == b->count;
}

/* ---- as a binding ---- */

static void add_word(struct buf *out, const char *name, struct span value)
{
    buf_printf(out, " %s=\"", name);
    for (size_t i = 0; i < value.len; i++)
        buf_printf(out, "%s%c", strchr("\"\\", value.at[i]) ? "\\" : "", value.at[i]);
    buf_append(out, SPAN("\""));
}

static void add_place(const struct sslcert *record, struct buf *out)
{
    bool is_address = record->text[SSLCERT_IPPORT] != NULL;
    const char *place = sslcert_place(record), *colon = strrchr(place, ':');
    struct span host = span_of(place, (size_t)(colon - place));

    if (host.at[0] == '[')
        host = span_of(host.at + 1, host.len - 2);
    if (!is_address)
        add_word(out, "name", host);
    else if (!span_eq(host, SPAN("0.0.0.0")) && !span_eq(host, SPAN("::")))
        add_word(out, "address", host);
    add_word(out, "port", span_str(colon + 1));
}

void sslcert_binding(const struct sslcert *record, const char *certificate, const char *key,
                     struct buf *out)
{
    add_place(record, out);
    add_word(out, "certificate", span_str(certificate));
    add_word(out, "key", span_str(key));
    for (enum sslcert_key i = SSLCERT_MIN_VERSION; i < SSLCERT_KEYS; i++)
        if (record->text[i])
            add_word(out, sslcert_names[i], span_str(record->text[i]));
}
