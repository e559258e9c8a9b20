/*
 * moonquay cert create: first all is judged and made in memory, then written at once. What is there
 * is replaced without being asked only when it is ours, which its authority's signature shows.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "proc/cert_dir.h"
#include "proc/cert_priv.h"
#include "proc/terminal.h"
#include "tls/tls_describe.h"

#define AUTHORITY_FILE "ca.pem"
#define AUTHORITY_KEY  "ca.key"
#define DAY            86400
#define SOON_DAYS      30 /* before its end a certificate is renewed; a third of a shorter life */
#define STEM_ROOM      (TLS_ISSUE_NAME_ROOM + 2)
#define FILE_ROOM      (STEM_ROOM + 4)

static const char *const default_names[] = {"localhost", "127.0.0.1", "::1", "*.localhost"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A certificate and its key, as they are in the files. */
struct pair {
    char file[FILE_ROOM], key_file[FILE_ROOM];
    struct buf pem, key;
    struct tls_cert *cert; /* NULL: there is none, or it cannot be used */
    struct tls_description *facts;
    size_t fact_count;
};

struct creation {
    struct cert *cert;
    struct cert_dir dir;
    struct pair authority, own;
    bool is_new_authority;
    char reason[80]; /* why the certificate is made although there is one; "" */
};

/* ---- pairs of files */

static void pair_name(struct pair *pair, const char *stem)
{
    snprintf(pair->file, sizeof(pair->file), "%s.pem", stem);
    snprintf(pair->key_file, sizeof(pair->key_file), "%s.key", stem);
}

static void pair_clear(struct pair *pair)
{
    tls_cert_free(pair->cert);
    tls_descriptions_free(pair->facts, pair->fact_count);
    buf_fini(&pair->pem);
    buf_wipe(&pair->key);
    pair->cert = NULL;
    pair->facts = NULL;
    pair->fact_count = 0;
}

/* Makes cert and facts of the texts. */
static int pair_parse(struct pair *pair, const char *dir, struct err_text *text)
{
    const char *file = pair->file;
    struct err_text why = {0};
    int code = tls_cert_new(&pair->cert, buf_span(&pair->pem), &why);

    if (code == 0) {
        file = pair->key_file;
        code = tls_cert_set_key(pair->cert, buf_span(&pair->key), &why);
    }
    if (code == 0) {
        file = pair->file;
        code = tls_describe(buf_span(&pair->pem), &pair->facts, &pair->fact_count, &why);
    }
    if (code < 0)
        return err_set(text, why.exit_code, code, "%.300s/%.260s: %.380s", dir, file, why.text);
    return 0;
}

/* 0, with pair->cert NULL when neither file is there; or what is wrong with one of them. */
static int pair_load(struct pair *pair, const struct cert_dir *dir, struct err_text *text)
{
    int code = cert_dir_read(dir, pair->file, &pair->pem, text);
    bool is_missing = code == ERR_NOT_FOUND;

    if (code < 0 && !is_missing)
        return code;
    code = cert_dir_read(dir, pair->key_file, &pair->key, text);
    if (code == ERR_NOT_FOUND && is_missing)
        return 0;
    if (code < 0 || is_missing) {
        const char *missing = is_missing ? pair->file : pair->key_file;

        if (code < 0 && code != ERR_NOT_FOUND)
            return code;
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%.300s/%.260s: is missing beside %.260s",
                       dir->path, missing, is_missing ? pair->key_file : pair->file);
    }
    return pair_parse(pair, dir->path, text);
}

/* ---- the authority */

/* Adds to the error what the user can do. */
static int offer_force(struct err_text *text, int code, const char *what)
{
    size_t used = strlen(text->text);

    snprintf(text->text + used, sizeof(text->text) - used, "; --force makes %s", what);
    return code;
}

static bool can_replace(int code)
{
    return code == ERR_INVALID || code == ERR_NOT_FOUND || code == ERR_TOO_LARGE;
}

static bool ends_soon(const struct tls_cert *cert, int64_t now)
{
    int64_t begin = tls_cert_not_before(cert), end = tls_cert_not_after(cert);
    int64_t third = (end - begin) / 3, soon = SOON_DAYS * (int64_t)DAY;

    return end - now < (third < soon ? third : soon);
}

/* What the certificate will be for. */
static struct tls_issue issue_of(const struct cert *cert)
{
    return (struct tls_issue){
        .key = cert->is_rsa ? TLS_ISSUE_RSA : TLS_ISSUE_ECDSA,
        .names = cert->names,
        .name_count = cert->name_count,
        .client = cert->client,
        .now = cert->now,
        .days = cert->days,
    };
}

/* A client that is named like a host needs an authority for that host. */
static int make_authority(struct creation *creation)
{
    struct pair *authority = &creation->authority;
    struct tls_issue issue = issue_of(creation->cert);
    char host[TLS_ISSUE_NAME_ROOM];
    const char *client = host;
    int code;

    if (issue.client && strchr(issue.client, '.') && tls_issue_name(issue.client, host)) {
        issue.names = &client;
        issue.name_count = 1;
    }
    pair_clear(authority);
    creation->is_new_authority = true;
    code = tls_issue_authority(&issue, &authority->pem, &authority->key, &creation->cert->text);
    return code < 0 ? code : pair_parse(authority, creation->dir.path, &creation->cert->text);
}

static int prepare_authority(struct creation *creation)
{
    struct cert *cert = creation->cert;
    struct pair *authority = &creation->authority;
    int code = pair_load(authority, &creation->dir, &cert->text);

    if (code < 0 && !(cert->force && can_replace(code)))
        return can_replace(code) ? offer_force(&cert->text, code, "a new authority") : code;
    if (code < 0 || authority->cert == NULL ||
        (cert->force && ends_soon(authority->cert, cert->now)))
        return make_authority(creation);
    return 0;
}

/* ---- the certificate that is there */

static bool names_contain(const struct tls_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->texts[i], name) == 0)
            return true;
    return false;
}

/* Names that nobody gave are those that it has, else the default ones. */
static void complete_names(struct cert *cert, const struct tls_description *old)
{
    for (size_t i = 0; old && i < old->names.count && cert->name_count < CERT_NAMES_MOST; i++)
        if (tls_issue_name(old->names.texts[i], cert->room[cert->name_count])) {
            cert->names[cert->name_count] = cert->room[cert->name_count];
            cert->name_count++;
        }
    for (size_t i = 0; cert->name_count < COUNT(default_names) && i < COUNT(default_names) &&
                       (old == NULL || old->names.count == 0);
         i++)
        cert->names[cert->name_count++] = default_names[i];
}

static bool has_names(const struct tls_names *names, const struct cert *cert)
{
    for (size_t i = 0; i < cert->name_count; i++)
        if (!names_contain(names, cert->names[i]))
            return false;
    return names->count == cert->name_count;
}

/* Writes why the certificate is made again; "" when it is not. */
static void judge_own(struct creation *creation)
{
    const struct cert *cert = creation->cert;
    const struct pair *own = &creation->own;

    if (ends_soon(own->cert, cert->now))
        snprintf(creation->reason, sizeof(creation->reason), "%lld days were left",
                 cert_days_left(cert->now, tls_cert_not_after(own->cert)));
    else if (cert->client == NULL && !has_names(&own->facts[0].names, cert))
        snprintf(creation->reason, sizeof(creation->reason), "it had other names");
    else if (cert->is_rsa && strncmp(own->facts[0].key_type, "RSA", 3) != 0)
        snprintf(creation->reason, sizeof(creation->reason), "its key was no RSA key");
}

static int refuse_own(struct creation *creation, const char *what)
{
    err_set(&creation->cert->text, EXIT_OPTION, ERR_EXISTS, "%.300s/%.260s: is there and %s",
            creation->dir.path, creation->own.file, what);
    return offer_force(&creation->cert->text, ERR_EXISTS, "it anew");
}

/* 1: keep it; 0: make it; or an error when it is not ours. */
static int consider_own(struct creation *creation)
{
    struct cert *cert = creation->cert;
    struct pair *own = &creation->own;
    int code = pair_load(own, &creation->dir, &cert->text);
    bool is_ours = own->cert && tls_issue_is_of(own->cert, creation->authority.cert);

    if (code < 0 && !can_replace(code))
        return code;
    if (cert->force)
        pair_clear(own);
    else if (code < 0)
        return offer_force(&cert->text, code, "it anew");
    if (own->cert && !is_ours)
        return refuse_own(creation, "not signed by the authority " AUTHORITY_FILE);
    if (own->cert && cert->client && !own->facts[0].for_clients)
        return refuse_own(creation, "no client's certificate");
    if (own->cert && cert->client == NULL && !own->facts[0].for_servers)
        return refuse_own(creation, "no server's certificate");
    if (cert->client == NULL && cert->name_count == 0)
        complete_names(cert, own->cert ? &own->facts[0] : NULL);
    if (own->cert == NULL)
        return 0;
    judge_own(creation);
    return creation->reason[0] == '\0';
}

/* ---- making it */

static int sign(struct creation *creation, struct err_text *why)
{
    struct tls_issue issue = issue_of(creation->cert);

    pair_clear(&creation->own);
    return tls_issue_certificate(&issue, creation->authority.cert, &creation->own.pem,
                                 &creation->own.key, why);
}

static int make_own(struct creation *creation)
{
    struct cert *cert = creation->cert;
    struct err_text why = {0};
    int code = sign(creation, &why);

    if ((code == ERR_PERMISSION || code == ERR_INVALID) && cert->force) {
        code = make_authority(creation);
        if (code < 0)
            return code;
        code = sign(creation, &why);
    }
    if (code == 0)
        return pair_parse(&creation->own, creation->dir.path, &cert->text);
    err_set(&cert->text, why.exit_code, code, "%.300s/" AUTHORITY_FILE ": %.500s",
            creation->dir.path, why.text);
    return code == ERR_PERMISSION || code == ERR_INVALID
               ? offer_force(&cert->text, code, "a new authority, which has to be trusted again")
               : code;
}

static int write_files(struct creation *creation)
{
    const struct pair *authority = &creation->authority, *own = &creation->own;
    const struct cert_file files[] = {
        {authority->key_file, buf_span(&authority->key), 0600},
        {authority->file, buf_span(&authority->pem), 0644},
        {own->key_file, buf_span(&own->key), 0600},
        {own->file, buf_span(&own->pem), 0644},
    };
    size_t kept = creation->is_new_authority ? 0 : 2;

    return cert_dir_replace(&creation->dir, files + kept, COUNT(files) - kept,
                            &creation->cert->text);
}

/* ---- telling it */

static bool is_plain(char c)
{
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
           strchr("/._-+:@%", c) != NULL;
}

/* A path as a shell takes it. */
static void append_path(struct buf *out, const char *dir, const char *file)
{
    struct buf path = {0};
    bool is_plain_path = dir[0] != '-';

    buf_printf(&path, "%s/%s", dir, file);
    for (size_t i = 0; i < buf_len(&path); i++)
        is_plain_path = is_plain_path && is_plain(buf_span(&path).at[i]);
    if (is_plain_path) {
        buf_append(out, buf_span(&path));
        buf_fini(&path);
        return;
    }
    buf_append(out, dir[0] == '-' ? SPAN("'./") : SPAN("'"));
    for (size_t i = 0; i < buf_len(&path); i++) {
        struct span c = span_of(buf_span(&path).at + i, 1);

        buf_append(out, c.at[0] == '\'' ? SPAN("'\\''") : c);
    }
    buf_append(out, SPAN("'"));
    buf_fini(&path);
}

/* Returns owned, NUL-terminated. */
static char *shell_path(const struct creation *creation, const char *file)
{
    struct buf out = {0};
    char *path;

    append_path(&out, creation->dir.path, file);
    buf_append(&out, span_of("", 1));
    path = mem_strdup(buf_span(&out).at);
    buf_fini(&out);
    return path;
}

static void print_names(const struct tls_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        printf("%s", i ? ", " : "");
        terminal_print(stdout, names->texts[i]);
    }
}

static void tell_pair(const struct creation *creation, const struct pair *pair, const char *what)
{
    const struct tls_description *facts = &pair->facts[0];
    char end[TLS_TIME_ROOM];

    terminal_print(stdout, creation->dir.path);
    printf("/%s, %s: %s, ", pair->file, pair->key_file, what);
    if (!facts->is_authority && creation->cert->client) {
        printf("for the client %s", creation->cert->client);
    } else {
        printf("%sfor ", facts->is_authority ? "an authority " : "");
        print_names(facts->is_authority ? &facts->permitted : &facts->names);
        fputs(facts->is_authority && facts->permitted.count == 0 ? "all names" : "", stdout);
    }
    printf(", until %.10s\n", tls_time_text(facts->not_after, end));
}

static void tell_made(const struct creation *creation, bool is_kept)
{
    char what[128] = "made";

    if (is_kept)
        snprintf(what, sizeof(what), "kept");
    else if (creation->reason[0])
        snprintf(what, sizeof(what), "renewed (%s)", creation->reason);
    tell_pair(creation, &creation->authority, creation->is_new_authority ? "made" : "kept");
    tell_pair(creation, &creation->own, what);
}

static void tell_client(const struct creation *creation)
{
    char *file = shell_path(creation, creation->own.file);
    char *key = shell_path(creation, creation->own.key_file);

    printf("\nThe client shows it to a server that takes the authority for its clients':\n");
    cert_line("  curl      curl --cert %s --key %s https://...", file, key);
    cert_line("  browsers  openssl pkcs12 -export -in %s -inkey %s -out client.p12", file, key);
    cert_line("            and import that file among your certificates");
    mem_free(file);
    mem_free(key);
}

static void tell_trust(const struct creation *creation)
{
    char *file = shell_path(creation, creation->authority.file);
    const char *number = creation->authority.facts[0].fingerprint;

    printf("\nClients have to trust the authority. Whoever has its key can sign for its names:\n");
    cert_line("keep %s/%s to yourself.", creation->dir.path, creation->authority.key_file);
    cert_line("  curl      curl --cacert %s https://localhost:5001/", file);
    cert_line("  Debian    sudo cp %s /usr/local/share/ca-certificates/moonquay-%.8s.crt", file,
              number);
    cert_line("            sudo update-ca-certificates");
    cert_line("  Chromium  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n moonquay-%.8s -i %s",
              number, file);
    cert_line("            (package libnss3-tools; Chromium makes the database when it starts)");
    cert_line("  Firefox   Settings, Privacy & Security, View Certificates, Authorities, Import");
    mem_free(file);
}

/* ---- all of it */

/* localhost, _.example.test for *.example.test, alice. */
static void name_pairs(struct creation *creation)
{
    const struct cert *cert = creation->cert;
    const char *name = cert->client           ? cert->client
                       : cert->name_count > 0 ? cert->names[0]
                                              : default_names[0];
    char stem[STEM_ROOM];

    snprintf(stem, sizeof(stem), "%s%s", name[0] == '*' ? "_" : "",
             name[0] == '*' ? name + 1 : name);
    pair_name(&creation->authority, "ca");
    pair_name(&creation->own, stem);
}

static int create(struct creation *creation)
{
    int code = prepare_authority(creation);
    bool is_kept;

    if (code == 0)
        code = consider_own(creation);
    is_kept = code == 1;
    if (code == 0)
        code = make_own(creation);
    if (code == 0)
        code = write_files(creation);
    if (code < 0)
        return code;
    tell_made(creation, is_kept);
    if (creation->cert->client)
        tell_client(creation);
    else
        tell_trust(creation);
    return 0;
}

int cert_create(struct cert *cert)
{
    struct creation creation = {.cert = cert};
    int code;

    if (cert->name_count > 0 && strcmp(cert->names[0], "ca") == 0)
        return err_set(&cert->text, EXIT_USAGE_ERROR, ERR_INVALID,
                       "--name ca: cannot be the first one, its files would be the authority's");
    name_pairs(&creation);
    code = cert_dir_open(&creation.dir, cert->dir, &cert->text);
    if (code == 0)
        code = create(&creation);
    pair_clear(&creation.authority);
    pair_clear(&creation.own);
    cert_dir_close(&creation.dir);
    return code;
}
