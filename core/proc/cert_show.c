/* moonquay cert show: what certificates say of themselves. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "proc/cert_priv.h"
#include "proc/terminal.h"
#include "tls/tls_describe.h"

/* ---- for programs */

static void add_string(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, "\"%s\": ", key);
    log_quote(out, span_str(text));
    buf_append(out, SPAN(", "));
}

static void add_names(struct buf *out, const char *key, const struct tls_names *names)
{
    buf_printf(out, "\"%s\": [", key);
    for (size_t i = 0; i < names->count; i++) {
        buf_append(out, i ? SPAN(", ") : SPAN(""));
        log_quote(out, span_str(names->texts[i]));
    }
    buf_append(out, SPAN("], "));
}

static const char *bool_text(bool is_true)
{
    return is_true ? "true" : "false";
}

static void add_certificate(struct buf *out, const struct tls_description *one, int64_t now)
{
    char when[TLS_TIME_ROOM];

    buf_append(out, SPAN("{"));
    add_string(out, "subject", one->subject);
    add_string(out, "issuer", one->issuer);
    add_string(out, "serial", one->serial);
    add_names(out, "names", &one->names);
    add_string(out, "not_before", tls_time_text(one->not_before, when));
    add_string(out, "not_after", tls_time_text(one->not_after, when));
    buf_printf(out, "\"days_left\": %lld, ", cert_days_left(now, one->not_after));
    add_string(out, "key_type", one->key_type);
    buf_printf(out, "\"key_bits\": %u, ", one->key_bits);
    add_string(out, "fingerprint_sha256", one->fingerprint);
    buf_printf(out, "\"is_authority\": %s, ", bool_text(one->is_authority));
    add_names(out, "permitted", &one->permitted);
    buf_printf(out, "\"for_servers\": %s, \"for_clients\": %s}", bool_text(one->for_servers),
               bool_text(one->for_clients));
}

static void print_json(const struct cert *cert, const struct tls_description *list, size_t count)
{
    struct buf out = {0};

    buf_append(&out, SPAN("{"));
    add_string(&out, "file", cert->words[0]);
    buf_append(&out, SPAN("\"certificates\": ["));
    for (size_t i = 0; i < count; i++) {
        buf_append(&out, i ? SPAN(", ") : SPAN(""));
        add_certificate(&out, &list[i], cert->now);
    }
    buf_append(&out, SPAN("]}\n"));
    fwrite(buf_span(&out).at, 1, buf_len(&out), stdout);
    buf_fini(&out);
}

/* ---- for people */

static void print_row(const char *title, const char *text)
{
    printf("  %-12s ", title);
    terminal_print(stdout, text[0] ? text : "-");
    putchar('\n');
}

static void print_names(const char *title, const struct tls_names *names)
{
    if (names->count == 0)
        return;
    printf("  %-12s ", title);
    for (size_t i = 0; i < names->count; i++) {
        printf("%s", i ? ", " : "");
        terminal_print(stdout, names->texts[i]);
    }
    putchar('\n');
}

static void print_validity(const struct tls_description *one, int64_t now)
{
    char begin[TLS_TIME_ROOM], end[TLS_TIME_ROOM], left[64];

    if (now < one->not_before)
        snprintf(left, sizeof(left), "not yet");
    else if (now > one->not_after)
        snprintf(left, sizeof(left), "expired");
    else
        snprintf(left, sizeof(left), "%lld days left", cert_days_left(now, one->not_after));
    printf("  %-12s %s to %s (%s)\n", "valid", tls_time_text(one->not_before, begin),
           tls_time_text(one->not_after, end), left);
}

static const char *purpose(const struct tls_description *one)
{
    if (one->is_authority)
        return one->permitted.count > 0 ? "an authority for the names below" : "an authority";
    if (one->for_servers)
        return one->for_clients ? "servers and clients" : "servers";
    return one->for_clients ? "clients" : "neither servers nor clients";
}

/* In pairs, as other tools print it. */
static void print_fingerprint(const struct tls_description *one)
{
    printf("  %-12s ", "SHA-256");
    for (size_t i = 0; one->fingerprint[i]; i += 2)
        printf("%s%.2s", i ? ":" : "", one->fingerprint + i);
    putchar('\n');
}

static void print_certificate(const struct tls_description *one, int64_t now)
{
    print_row("subject", one->subject);
    print_row("issuer", one->issuer);
    print_row("serial", one->serial);
    print_names("names", &one->names);
    print_validity(one, now);
    print_row("key", one->key_type);
    print_row("for", purpose(one));
    print_names("permitted", &one->permitted);
    print_fingerprint(one);
}

int cert_show(struct cert *cert)
{
    struct tls_description *list = NULL;
    struct err_text why = {0};
    struct buf pem = {0};
    size_t count = 0;
    int code = cert_read(AT_FDCWD, cert->words[0], cert->words[0], &pem, &cert->text);

    if (code == 0 && (code = tls_describe(buf_span(&pem), &list, &count, &why)) < 0)
        err_set(&cert->text, why.exit_code, code, "%.300s: %s", cert->words[0], why.text);
    if (code == 0 && cert->json)
        print_json(cert, list, count);
    for (size_t i = 0; i < count && !cert->json; i++) {
        fputs(i ? "\n" : "", stdout);
        cert_line("%s: certificate %zu of %zu", cert->words[0], i + 1, count);
        print_certificate(&list[i], cert->now);
    }
    tls_descriptions_free(list, count);
    buf_fini(&pem);
    return code;
}
