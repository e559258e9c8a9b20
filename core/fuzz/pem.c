/*
 * Certificates and keys from any bytes: as the PEM text that they may be, and as the DER of one
 * certificate, so that mutations reach what is inside without a right base64 around it. What can be
 * read can be described and asked; what cannot is refused with a reason.
 */
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "tls/tls_describe.h"
#include "tls/tls_issue.h"
#include "tls/tls_verify.h"

#define NOW 1800000000 /* of no meaning, and the same each time */

static void check_refusal(int code, const struct err_text *why)
{
    CHECK(code == ERR_INVALID);
    CHECK(why->exit_code == EXIT_OPTION && why->text[0]);
}

static void check_hex(const char *text)
{
    CHECK(strspn(text, "0123456789abcdef") == strlen(text));
}

static void check_no_controls(const char *text)
{
    for (const char *c = text; *c; c++)
        CHECK((unsigned char)*c >= 0x20 && *c != 0x7F);
}

static void check_names(const struct tls_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        for (const char *c = names->texts[i]; *c; c++)
            CHECK(*c >= 0x20 && *c < 0x7F);
}

static void check_description(const struct tls_description *one)
{
    char when[TLS_TIME_ROOM];

    check_hex(one->serial);
    check_hex(one->fingerprint);
    CHECK(strlen(one->fingerprint) == TLS_FINGERPRINT_ROOM - 1);
    check_no_controls(one->subject);
    check_no_controls(one->issuer);
    check_names(&one->names);
    check_names(&one->permitted);
    CHECK(tls_time_text(one->not_before, when)[0] && tls_time_text(one->not_after, when)[0]);
    CHECK(!one->is_authority || (!one->for_servers && !one->for_clients));
}

/* A host that a certificate names is one that it covers. */
static void check_covers(const struct tls_cert *cert, const struct tls_description *one)
{
    char canonical[TLS_ISSUE_NAME_ROOM];

    for (size_t i = 0; i < one->names.count; i++)
        if (tls_issue_name(one->names.texts[i], canonical))
            CHECK(tls_cert_covers(cert, one->names.texts[i]));
}

static void check_signed(const struct tls_cert *cert)
{
    static const char *const name = "localhost";
    struct tls_issue issue = {.names = &name, .name_count = 1, .now = NOW, .days = 1};
    struct buf pem = {0}, key = {0};
    struct err_text why = {0};
    int code = tls_issue_certificate(&issue, cert, &pem, &key, &why);

    CHECK(code == 0 || why.text[0]);
    buf_fini(&pem);
    buf_fini(&key);
}

static void check_cert(const struct tls_cert *cert, struct span pem,
                       const struct tls_description *one)
{
    struct tls_authorities *trusted = NULL;
    char type[TLS_KEY_TYPE], warning[64];
    struct err_text why = {0};

    CHECK(strcmp(tls_cert_key_type(cert, type), one->key_type) == 0);
    CHECK(tls_cert_not_before(cert) == one->not_before);
    CHECK(tls_cert_not_after(cert) == one->not_after);
    CHECK(!tls_cert_warning(cert, NOW, warning, sizeof(warning)) || warning[0]);
    check_covers(cert, one);
    CHECK(tls_authorities_new(&trusted, pem, &why) == 0);
    CHECK(tls_verify(cert, trusted, NOW, &why) == 0 || why.text[0]);
    tls_authorities_free(trusted);
}

static void check_text(struct span pem)
{
    struct tls_description *list;
    struct err_text why = {0};
    struct tls_cert *cert;
    size_t count;
    int described = tls_describe(pem, &list, &count, &why), code;

    if (described < 0)
        check_refusal(described, &why);
    CHECK((described == 0) == (count > 0));
    for (size_t i = 0; i < count; i++)
        check_description(&list[i]);
    code = tls_cert_new(&cert, pem, &why);
    if (code < 0) {
        check_refusal(code, &why);
        CHECK(cert == NULL);
    } else {
        CHECK(described == 0 && count <= TLS_CHAIN_MOST);
        check_cert(cert, pem, &list[0]);
        code = tls_cert_set_key(cert, pem, &why);
        if (code < 0)
            check_refusal(code, &why);
        else
            check_signed(cert);
    }
    tls_cert_free(cert);
    tls_descriptions_free(list, count);
}

/* The bytes as one certificate of a PEM text (RFC 7468). */
static void write_pem(struct span der, struct buf *pem)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    buf_append(pem, SPAN("-----BEGIN CERTIFICATE-----\n"));
    for (size_t i = 0; i < der.len; i += 3) {
        unsigned char in[3] = {0};
        size_t len = der.len - i < 3 ? der.len - i : 3;
        char out[4];

        memcpy(in, der.at + i, len);
        out[0] = digits[in[0] >> 2];
        out[1] = digits[(in[0] & 3) << 4 | in[1] >> 4];
        out[2] = len > 1 ? digits[(in[1] & 15) << 2 | in[2] >> 6] : '=';
        out[3] = len > 2 ? digits[in[2] & 63] : '=';
        buf_append(pem, span_of(out, sizeof(out)));
        if (i % 48 == 45)
            buf_append(pem, SPAN("\n"));
    }
    buf_append(pem, SPAN("\n-----END CERTIFICATE-----\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of((const char *)data, size);
    struct buf pem = {0};

    check_text(text);
    write_pem(text, &pem);
    check_text(buf_span(&pem));
    buf_fini(&pem);
    return 0;
}
