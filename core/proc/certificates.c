/*
 * Each binding is judged and replaced for itself: one with a broken file does not keep another from
 * its new certificate. A change is taken up when the files have been at rest from one look to the
 * next, because certificate and key are written one after the other.
 */
#include "proc/certificates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/profile_pairs.h"
#include "server/tls_binding.h"
#include "tls/tls_cert.h"

#define LOOK_SECONDS    2
#define FILES_MOST      (3 * TLS_CERTS_MOST + 1)
#define STATE_BYTES     (12u << 20) /* of all files; a worker is told them in one message */
#define AUTHORITIES_KEY "client_authorities"

struct binding_file {
    struct watched_file file;
    const char *key; /* of the setting */
    enum tls_part part;
    unsigned identity;
};

struct binding {
    struct tls_binding text;
    struct tls_profile_parts place; /* without contents */
    struct binding_file files[FILES_MOST];
    unsigned file_count;
    unsigned number; /* from 1; 0: it is only judged, and no word of it goes to the log */
    bool is_moving;  /* a file has changed, and may change on */
};

/* Contents of a binding's files that are not in force yet. */
struct contents {
    struct buf text[FILES_MOST];
};

static void contents_fini(struct contents *contents)
{
    for (unsigned i = 0; i < FILES_MOST; i++)
        buf_wipe(&contents->text[i]);
}

/* ---- a binding without its files ---- */

static enum tls_version version_of(const char *text)
{
    return strcmp(text, "1.2") == 0   ? TLS_VERSION_1_2
           : strcmp(text, "1.3") == 0 ? TLS_VERSION_1_3
                                      : TLS_VERSION_ANY;
}

static enum tls_client_policy policy_of(const char *text)
{
    return strcmp(text, "allow") == 0     ? TLS_CLIENT_ALLOW
           : strcmp(text, "require") == 0 ? TLS_CLIENT_REQUIRE
           : strcmp(text, "delay") == 0   ? TLS_CLIENT_DELAY
                                          : TLS_CLIENT_NONE;
}

static void add_file(struct binding *binding, const char *key, enum tls_part part,
                     unsigned identity, const char *path)
{
    if (path[0])
        binding->files[binding->file_count++] = (struct binding_file){
            .file = {.path = path}, .key = key, .part = part, .identity = identity};
}

/* Its text is in place and stays there. */
static void binding_init(struct binding *binding, unsigned number)
{
    struct tls_binding *text = &binding->text;

    for (char *at = text->name; *at; at++)
        *at = ascii_lower(*at);
    binding->number = number;
    binding->place = (struct tls_profile_parts){
        .name = span_str(text->name),
        .port = (uint16_t)strtoul(text->port, NULL, 10),
        .min_version = version_of(text->min_version),
        .max_version = version_of(text->max_version),
        .client = policy_of(text->client_certificate),
    };
    if (text->address[0])
        net_addr_parse(&binding->place.address, span_str(text->address), 0);
    for (unsigned i = 0; i < TLS_CERTS_MOST && text->certificate[i][0]; i++) {
        binding->place.identity_count++;
        add_file(binding, "certificate", TLS_PART_CERTIFICATE, i, text->certificate[i]);
        add_file(binding, "key", TLS_PART_KEY, i, text->key[i]);
        add_file(binding, "ocsp", TLS_PART_OCSP, i, text->ocsp[i]);
    }
    add_file(binding, AUTHORITIES_KEY, TLS_PART_AUTHORITIES, 0, text->client_authorities);
}

static const struct binding_file *file_of(const struct binding *binding, enum tls_part part,
                                          unsigned identity)
{
    for (unsigned i = 0; i < binding->file_count; i++)
        if (binding->files[i].part == part && binding->files[i].identity == identity)
            return &binding->files[i];
    return NULL;
}

/* ---- judging ---- */

/* "tls: binding 2: key=/etc/a.key: …" */
static int wrong(const struct binding *binding, const struct binding_file *file, const char *reason,
                 struct err_text *text)
{
    char name[40] = "";

    if (binding->number)
        snprintf(name, sizeof(name), "tls: binding %u: ", binding->number);
    return err_set(text, EXIT_OPTION, ERR_INVALID, "%s%s=%.300s: %.500s", name, file->key,
                   file->file.path, reason);
}

static struct tls_profile_parts parts_of(const struct binding *binding,
                                         const struct contents *contents)
{
    struct tls_profile_parts parts = binding->place;

    for (unsigned i = 0; i < binding->file_count; i++) {
        const struct binding_file *file = &binding->files[i];
        struct span text = contents ? buf_span(&contents->text[i]) : buf_span(&file->file.text);

        switch (file->part) {
        case TLS_PART_CERTIFICATE:
            parts.identities[file->identity].certificate = text;
            break;
        case TLS_PART_KEY:
            parts.identities[file->identity].key = text;
            break;
        case TLS_PART_OCSP:
            parts.identities[file->identity].ocsp = text;
            break;
        case TLS_PART_AUTHORITIES:
            parts.authorities = text;
            break;
        }
    }
    return parts;
}

static int read_files(struct binding *binding, struct contents *contents, struct err_text *text)
{
    for (unsigned i = 0; i < binding->file_count; i++) {
        struct binding_file *file = &binding->files[i];
        struct buf *content = &contents->text[i];
        struct err_text why;

        if (watched_file_read(&file->file, content, &why) < 0)
            return wrong(binding, file, why.text, text);
        if (buf_len(content) == 0)
            return wrong(binding, file, "is empty", text);
        if (file->part != TLS_PART_OCSP &&
            memchr(buf_span(content).at, '\0', buf_len(content)) != NULL)
            return wrong(binding, file, "no text in it (PEM)", text);
    }
    return 0;
}

/* As the workers will do it. */
static int judge(const struct binding *binding, const struct contents *contents,
                 struct err_text *text)
{
    struct tls_profile_parts parts = parts_of(binding, contents);
    struct tls_profile *profile;
    struct tls_fault fault;
    const struct binding_file *file;

    if (tls_profile_new(&profile, &parts, &fault) == 0) {
        tls_profile_free(profile);
        return 0;
    }
    file = file_of(binding, fault.part, fault.identity);
    return wrong(binding, file ? file : &binding->files[0], fault.why.text, text);
}

/* ---- warnings ---- */

static void warn(const struct binding *binding, const struct binding_file *file, const char *event,
                 const char *what)
{
    log_event(LOG_WARN, event, "tls: binding %u: %s=%.300s: %s", binding->number, file->key,
              file->file.path, what);
}

static void warn_of_certificate(const struct binding *binding, const struct binding_file *file)
{
    const char *name = binding->text.name;
    struct tls_cert *cert;
    struct err_text why;
    char what[400];

    if (tls_cert_new(&cert, buf_span(&file->file.text), &why) < 0)
        return;
    if (tls_cert_warning(cert, (int64_t)time(NULL), what, sizeof(what)))
        warn(binding, file, "certificate_time", what);
    if (name[0] && !tls_cert_covers(cert, name)) {
        snprintf(what, sizeof(what), "the certificate is not for %s, the name of the binding",
                 name);
        warn(binding, file, "certificate_name", what);
    }
    tls_cert_free(cert);
}

static void warn_of_files(const struct binding *binding)
{
    for (unsigned i = 0; i < binding->file_count; i++) {
        const struct binding_file *file = &binding->files[i];

        if (file->part == TLS_PART_CERTIFICATE)
            warn_of_certificate(binding, file);
        if (file->part == TLS_PART_KEY && (file->file.mode & S_IROTH))
            warn(binding, file, "key_readable", "everybody on this machine can read the key");
    }
}

/* ---- taking up ---- */

/* True when something is different from what is in force. */
static bool take(struct binding *binding, struct contents *contents)
{
    bool is_new = false;

    for (unsigned i = 0; i < binding->file_count; i++)
        is_new |= !span_eq(buf_span(&contents->text[i]), buf_span(&binding->files[i].file.text));
    if (!is_new)
        return false;
    for (unsigned i = 0; i < binding->file_count; i++)
        watched_file_take(&binding->files[i].file, &contents->text[i]);
    return true;
}

/* As they are told to a worker: what is no text goes as digits. contents may be NULL: in force. */
static size_t bytes_of(const struct binding *binding, const struct contents *contents)
{
    size_t sum = 0;

    for (unsigned i = 0; i < binding->file_count; i++) {
        const struct binding_file *file = &binding->files[i];
        size_t bytes = buf_len(contents ? &contents->text[i] : &file->file.text);

        sum += file->part == TLS_PART_OCSP ? 2 * bytes : bytes;
    }
    return sum;
}

static int check_size(const struct certificates *certificates, const struct binding *binding,
                      const struct contents *contents, struct err_text *text)
{
    size_t sum = bytes_of(binding, contents);

    for (unsigned i = 0; i < certificates->count; i++)
        if (&certificates->bindings[i] != binding)
            sum += bytes_of(&certificates->bindings[i], NULL);
    if (sum <= STATE_BYTES)
        return 0;
    return err_set(text, EXIT_OPTION, ERR_TOO_LARGE,
                   "tls: binding %u: with its files those of all bindings take more than %u MiB",
                   binding->number, STATE_BYTES >> 20);
}

static int load(const struct certificates *certificates, struct binding *binding, bool *is_new,
                struct err_text *text)
{
    struct contents contents = {0};
    int code = read_files(binding, &contents, text);

    if (code == 0)
        code = check_size(certificates, binding, &contents, text);
    if (code == 0)
        code = judge(binding, &contents, text);
    if (code == 0)
        *is_new = take(binding, &contents);
    contents_fini(&contents);
    if (code == 0 && *is_new && binding->number)
        warn_of_files(binding);
    return code;
}

/* True when it has a new certificate. */
static bool look_at(const struct certificates *certificates, struct binding *binding)
{
    struct err_text text;
    bool moved = false, is_new = false;

    for (unsigned i = 0; i < binding->file_count; i++)
        moved |= watched_file_moved(&binding->files[i].file);
    if (moved || !binding->is_moving) {
        binding->is_moving = moved;
        return false;
    }
    binding->is_moving = false;
    if (load(certificates, binding, &is_new, &text) < 0)
        log_event(LOG_ERROR, "certificate_kept", "%s; what was read before stays in use",
                  text.text);
    else if (is_new)
        log_event(LOG_INFO, "certificate_changed", "tls: binding %u: certificate=%.300s",
                  binding->number, binding->text.certificate[0]);
    return is_new;
}

static void on_look(struct loop_alarm *alarm)
{
    struct certificates *certificates = LIST_OWNER(alarm, struct certificates, look);
    bool is_new = false;

    for (unsigned i = 0; i < certificates->count; i++)
        is_new |= look_at(certificates, &certificates->bindings[i]);
    if (is_new)
        certificates->changed(certificates->owner);
    ticket_keys_look(&certificates->tickets);
    loop_alarm_start(certificates->loop, alarm, LOOK_SECONDS);
}

/* ---- the start ---- */

static int check_places(const struct certificates *certificates, struct err_text *text)
{
    for (unsigned i = 1; i < certificates->count; i++)
        for (unsigned j = 0; j < i; j++)
            if (tls_profile_same_place(&certificates->bindings[i].place,
                                       &certificates->bindings[j].place))
                return err_set(text, EXIT_OPTION, ERR_EXISTS,
                               "tls: binding %u: is for the same name, address and port as "
                               "binding %u",
                               i + 1, j + 1);
    return 0;
}

static void read_bindings(struct certificates *certificates, const char *rest)
{
    struct tls_binding one;
    const char *counted = rest;
    char why[8]; /* checked before */

    while (tls_binding_next(&counted, &one, why, sizeof(why)) > 0)
        certificates->count++;
    certificates->bindings = mem_zalloc(certificates->count * sizeof(struct binding) + 1);
    for (unsigned i = 0; i < certificates->count; i++) {
        tls_binding_next(&rest, &certificates->bindings[i].text, why, sizeof(why));
        binding_init(&certificates->bindings[i], i + 1);
    }
}

static void free_bindings(struct certificates *certificates)
{
    for (unsigned i = 0; i < certificates->count; i++)
        for (unsigned j = 0; j < certificates->bindings[i].file_count; j++)
            watched_file_fini(&certificates->bindings[i].files[j].file);
    mem_free(certificates->bindings);
    certificates->bindings = NULL;
    certificates->count = 0;
}

/* The first bindings of a server: tickets are sealed and files are watched from now on. */
static int begin(struct certificates *certificates, struct err_text *text)
{
    int code =
        ticket_keys_start(&certificates->tickets, certificates->settings, certificates->loop, text);

    if (code < 0)
        return code;
    certificates->is_watching = certificates->is_told = true;
    loop_alarm_start(certificates->loop, &certificates->look, LOOK_SECONDS);
    return 0;
}

/* Reads what the files of fresh hold. */
static int load_all(struct certificates *fresh, struct err_text *text)
{
    bool is_new;
    int code = check_places(fresh, text);

    for (unsigned i = 0; i < fresh->count && code == 0; i++)
        code = load(fresh, &fresh->bindings[i], &is_new, text);
    return code;
}

int certificates_judge(const struct certificates *certificates, const char *bindings,
                       struct err_text *text)
{
    struct certificates fresh = {.loop = certificates->loop};
    int code;

    read_bindings(&fresh, bindings);
    for (unsigned i = 0; i < fresh.count; i++)
        fresh.bindings[i].number = 0;
    code = load_all(&fresh, text);
    free_bindings(&fresh);
    return code;
}

int certificates_use(struct certificates *certificates, const char *bindings, struct err_text *text)
{
    struct certificates fresh = {.loop = certificates->loop};
    int code;

    read_bindings(&fresh, bindings);
    code = load_all(&fresh, text);
    if (code == 0 && fresh.count > 0 && !certificates->is_watching)
        code = begin(certificates, text);
    if (code < 0) {
        free_bindings(&fresh);
        return code;
    }
    free_bindings(certificates);
    certificates->bindings = fresh.bindings;
    certificates->count = fresh.count;
    return 0;
}

int certificates_open(struct certificates *certificates, const struct certificates_parts *parts,
                      struct err_text *text)
{
    certificates->loop = parts->loop;
    certificates->settings = parts->settings;
    certificates->changed = parts->changed;
    certificates->owner = certificates->tickets.owner = parts->owner;
    certificates->tickets.changed = parts->tickets_changed;
    certificates->is_told = parts->may_change;
    loop_alarm_init(&certificates->look, on_look);
    return certificates_use(certificates, parts->settings->tls, text);
}

void certificates_close(struct certificates *certificates)
{
    if (certificates->loop == NULL)
        return;
    loop_alarm_stop(certificates->loop, &certificates->look);
    ticket_keys_stop(&certificates->tickets);
    free_bindings(certificates);
    *certificates = (struct certificates){0};
}

/* ---- what others ask ---- */

void certificates_state(const struct certificates *certificates, struct buf *pairs)
{
    for (unsigned i = 0; i < certificates->count; i++) {
        struct tls_profile_parts parts = parts_of(&certificates->bindings[i], NULL);

        profile_pairs_add(pairs, &parts);
    }
}

static bool is_wildcard(struct span name)
{
    return name.len > 2 && name.at[0] == '*';
}

/* What a client of the prefix would ask for: names in lower case both. */
static bool name_fits(struct span name, const struct url_prefix *prefix)
{
    if (name.len == 0 || prefix->bucket == PREFIX_STRONG || prefix->bucket == PREFIX_WEAK)
        return true;
    if (prefix->bucket == PREFIX_IP)
        return false; /* nobody asks for an address by name */
    if (span_eq_nocase(name, prefix->host))
        return true;
    if (is_wildcard(name))
        return tls_wildcard_covers(name, prefix->host);
    return prefix->subdomains && tls_wildcard_covers(prefix->host, name);
}

static bool address_fits(const struct net_addr *address, const struct url_prefix *prefix)
{
    struct net_addr own;

    if (address->family == NET_NONE || prefix->bucket != PREFIX_IP ||
        net_addr_parse(&own, prefix->host, 0) < 0)
        return true;
    return own.family == address->family && memcmp(own.ip, address->ip, sizeof(own.ip)) == 0;
}

bool certificates_can_serve(const struct certificates *certificates,
                            const struct url_prefix *prefix)
{
    for (unsigned i = 0; i < certificates->count; i++) {
        const struct tls_profile_parts *place = &certificates->bindings[i].place;

        if ((place->port == 0 || place->port == prefix->port) && name_fits(place->name, prefix) &&
            address_fits(&place->address, prefix))
            return true;
    }
    return false;
}
