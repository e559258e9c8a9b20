/*
 * moonquay cert check: all objections, not the first one only. What it finds is its answer and goes
 * to standard output; that there was something is the exit status.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "proc/cert_priv.h"
#include "tls/tls_describe.h"
#include "tls/tls_profile.h"
#include "tls/tls_verify.h"

struct check {
    struct cert *cert;
    const char *file, *key_file; /* key_file is NULL when no key is looked at */
    struct buf pem, key;
    struct tls_cert *certificate; /* NULL when it could not be read */
    struct buf found;             /* objections, JSON strings or lines */
    size_t count;
};

static void object(struct check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void object(struct check *check, const char *format, ...)
{
    char text[1400];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (check->cert->json) {
        buf_append(&check->found, check->count ? SPAN(", ") : SPAN(""));
        log_quote(&check->found, span_str(text));
    } else {
        cert_line("%s", text);
    }
    check->count++;
}

/* ---- the certificate */

static void read_certificate(struct check *check)
{
    struct err_text why = {0};

    if (cert_read(AT_FDCWD, check->file, check->file, &check->pem, &why) < 0)
        object(check, "%s", why.text);
    else if (tls_cert_new(&check->certificate, buf_span(&check->pem), &why) < 0)
        object(check, "%.300s: %s", check->file, why.text);
}

static void check_time(struct check *check)
{
    char warning[256];

    if (tls_cert_warning(check->certificate, check->cert->now, warning, sizeof(warning)))
        object(check, "%.300s: %s", check->file, warning);
}

static void check_purpose(struct check *check)
{
    struct tls_description *list;
    size_t count;

    if (tls_describe(buf_span(&check->pem), &list, &count, NULL) < 0)
        return;
    if (list[0].is_authority)
        object(check, "%.300s: the certificate is an authority's: browsers take none for a server",
               check->file);
    else if (!list[0].for_servers)
        object(check, "%.300s: the certificate is not for servers%s", check->file,
               list[0].for_clients ? " but for clients" : "");
    else if (list[0].names.count == 0)
        object(check,
               "%.300s: the certificate has no alternative names: clients take it for no host",
               check->file);
    tls_descriptions_free(list, count);
}

static void check_names(struct check *check)
{
    for (size_t i = 0; i < check->cert->name_count; i++)
        if (!tls_cert_covers(check->certificate, check->cert->names[i]))
            object(check, "%.300s: the certificate is not for %s", check->file,
                   check->cert->names[i]);
}

/* Times are told already, by name. */
static void check_trust(struct check *check)
{
    const char *file = check->cert->authority;
    struct tls_authorities *trusted = NULL;
    struct err_text why = {0};
    struct buf pem = {0};
    char warning[8];

    if (cert_read(AT_FDCWD, file, file, &pem, &why) < 0)
        object(check, "%s", why.text);
    else if (tls_authorities_new(&trusted, buf_span(&pem), &why) < 0)
        object(check, "%.300s: %s", file, why.text);
    else if (!tls_cert_warning(check->certificate, check->cert->now, warning, sizeof(warning)) &&
             tls_verify(check->certificate, trusted, check->cert->now, &why) < 0)
        object(check, "%.300s: who trusts %.300s does not take it: %s", check->file, file,
               why.text);
    tls_authorities_free(trusted);
    buf_fini(&pem);
}

/* ---- the key */

static bool holds_key(struct span pem)
{
    static const char mark[] = "PRIVATE KEY-----";

    return pem.len > 0 && memmem(pem.at, pem.len, mark, sizeof(mark) - 1) != NULL;
}

static void check_mode(struct check *check)
{
    struct stat facts;

    if (stat(check->key_file, &facts) == 0 && facts.st_mode & (S_IROTH | S_IWOTH))
        object(check, "%.300s: everybody may %s the key (mode %04o): chmod 600 %.300s",
               check->key_file, facts.st_mode & S_IROTH ? "read" : "write",
               (unsigned)facts.st_mode & 07777, check->key_file);
}

/* A server makes a binding of them. */
static void check_serving(struct check *check)
{
    struct tls_profile_parts parts = {
        .identities[0] = {.certificate = buf_span(&check->pem), .key = buf_span(&check->key)},
        .identity_count = 1,
    };
    struct tls_profile *profile;
    struct tls_fault fault = {0};

    if (tls_profile_new(&profile, &parts, &fault) < 0)
        object(check, "%.300s: %s", fault.part == TLS_PART_KEY ? check->key_file : check->file,
               fault.why.text);
    else
        tls_profile_free(profile);
}

static void check_key(struct check *check)
{
    struct err_text why = {0};
    int code = cert_read(AT_FDCWD, check->key_file, check->key_file, &check->key, &why);

    if (code < 0) {
        object(check, "%s", why.text);
        return;
    }
    check_mode(check);
    if (check->certificate)
        check_serving(check);
}

/* ---- all of it */

static void add_file(struct buf *out, const char *key, const char *file)
{
    buf_printf(out, "\"%s\": ", key);
    if (file)
        log_quote(out, span_str(file));
    else
        buf_append(out, SPAN("null"));
    buf_append(out, SPAN(", "));
}

static void print_json(const struct check *check, long long days)
{
    struct buf out = {0};

    buf_append(&out, SPAN("{"));
    add_file(&out, "certificate", check->file);
    add_file(&out, "key", check->key_file);
    if (check->certificate)
        buf_printf(&out, "\"days_left\": %lld, ", days);
    buf_append(&out, SPAN("\"problems\": ["));
    buf_append(&out, buf_span(&check->found));
    buf_append(&out, SPAN("]}\n"));
    fwrite(buf_span(&out).at, 1, buf_len(&out), stdout);
    buf_fini(&out);
}

static void run(struct check *check)
{
    read_certificate(check);
    if (check->certificate) {
        check_time(check);
        check_purpose(check);
        check_names(check);
        if (check->cert->authority)
            check_trust(check);
    }
    if (check->key_file == NULL && holds_key(buf_span(&check->pem)))
        check->key_file = check->file;
    if (check->key_file)
        check_key(check);
}

int cert_check(struct cert *cert)
{
    struct check check = {
        .cert = cert,
        .file = cert->words[0],
        .key_file = cert->word_count > 1 ? cert->words[1] : NULL,
    };
    long long days = 0;

    run(&check);
    if (check.certificate)
        days = cert_days_left(cert->now, tls_cert_not_after(check.certificate));
    if (cert->json)
        print_json(&check, days);
    else if (check.count == 0)
        cert_line("%s%s%s: all right, %lld days left", check.file, check.key_file ? ", " : "",
                  check.key_file ? check.key_file : "", days);
    tls_cert_free(check.certificate);
    buf_wipe(&check.pem);
    buf_wipe(&check.key);
    buf_fini(&check.found);
    if (check.count == 0)
        return 0;
    cert->text.text[0] = '\0'; /* all is said */
    cert->text.exit_code = EXIT_OPTION;
    return ERR_INVALID;
}
