/*
 * A description is filled from one certificate after the other. Names are escaped here, because
 * what an IA5String holds is up to its maker: a NUL in the middle, an escape for a terminal.
 */
#include "tls/openssl_priv.h"

#include "tls/tls_describe.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/addr.h"
#include "tls/tls_cert_priv.h"

/* ---- texts */

/* Takes what the buffer holds. */
static char *take_text(struct buf *text)
{
    char *owned;

    buf_append(text, span_of("", 1));
    owned = mem_strdup(buf_span(text).at);
    buf_fini(text);
    return owned;
}

static void add_name(struct tls_names *names, struct buf *text)
{
    names->texts = mem_realloc(names->texts, (names->count + 1) * sizeof(*names->texts));
    names->texts[names->count++] = take_text(text);
}

static void free_names(struct tls_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        mem_free(names->texts[i]);
    mem_free(names->texts);
}

/* As RFC 4514 escapes: a backslash and two digits. */
static void append_ascii(struct buf *text, const ASN1_STRING *string)
{
    const unsigned char *at = ASN1_STRING_get0_data(string);

    for (int i = 0; i < ASN1_STRING_length(string); i++)
        if (at[i] > 0x20 && at[i] < 0x7F && at[i] != '\\')
            buf_append(text, span_of((const char *)at + i, 1));
        else
            buf_printf(text, "\\%02x", at[i]);
}

static void write_hex(const unsigned char *bytes, size_t len, char *out, size_t room)
{
    out[0] = '\0';
    for (size_t i = 0; i < len && 2 * i + 2 < room; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* Takes what is printed from the memory of a BIO. */
static void append_bio(struct buf *text, BIO *printed)
{
    char *bytes = NULL;
    long len = BIO_get_mem_data(printed, &bytes);

    if (len > 0)
        buf_append(text, span_of(bytes, (size_t)len));
    BIO_free(printed);
}

static void append_dn(struct buf *text, const X509_NAME *name)
{
    unsigned long flags = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
    BIO *printed = BIO_new(BIO_s_mem());

    if (printed && X509_NAME_print_ex(printed, name, 0, flags) >= 0)
        append_bio(text, printed);
    else
        BIO_free(printed);
}

static char *dn_text(const X509_NAME *name)
{
    struct buf text = {0};

    append_dn(&text, name);
    return take_text(&text);
}

const char *tls_time_text(int64_t seconds, char out[TLS_TIME_ROOM])
{
    time_t when = (time_t)seconds;
    struct tm parts = {0};

    gmtime_r(&when, &parts);
    strftime(out, TLS_TIME_ROOM, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return out;
}

/* ---- alternative names and constraints */

static struct net_addr address_of(const unsigned char *bytes, int len)
{
    struct net_addr addr = {.family = len == 4 ? NET_IPV4 : NET_IPV6};

    memcpy(addr.ip, bytes, (size_t)len);
    return addr;
}

static unsigned mask_bits(const unsigned char *mask, int len)
{
    unsigned bits = 0;

    while (bits < 8 * (unsigned)len && mask[bits / 8] & (0x80 >> bits % 8))
        bits++;
    return bits;
}

/* 4 or 16 bytes; twice as many, of a constraint, are an address and its mask. */
static void append_address(struct buf *text, const ASN1_STRING *string)
{
    const unsigned char *bytes = ASN1_STRING_get0_data(string);
    int len = ASN1_STRING_length(string), half = len == 8 || len == 32 ? len / 2 : len;
    char ip[NET_ADDR_TEXT];

    if (half != 4 && half != 16) {
        buf_append(text, SPAN("IP:"));
        append_ascii(text, string);
        return;
    }

    struct net_addr addr = address_of(bytes, half);

    net_addr_ip(&addr, ip);
    buf_append(text, span_str(ip));
    if (half < len && mask_bits(bytes + half, half) < 8 * (unsigned)half)
        buf_printf(text, "/%u", mask_bits(bytes + half, half));
}

static void append_other(struct buf *text, GENERAL_NAME *name)
{
    BIO *printed = BIO_new(BIO_s_mem());
    struct buf raw = {0};

    if (printed)
        GENERAL_NAME_print(printed, name);
    append_bio(&raw, printed);
    for (size_t i = 0; i < buf_len(&raw); i++) {
        char c = buf_span(&raw).at[i];

        if (c >= 0x20 && c < 0x7F)
            buf_append(text, span_of(&c, 1));
        else
            buf_printf(text, "\\%02x", (unsigned char)c);
    }
    buf_fini(&raw);
}

static struct span span_of_string(const ASN1_STRING *string)
{
    int len = ASN1_STRING_length(string);

    return len > 0 ? span_of((const char *)ASN1_STRING_get0_data(string), (size_t)len) : SPAN("");
}

/* Whether it could be taken for nothing but a host, also when its kind is not told with it. */
static bool looks_like_host(struct span text)
{
    struct net_addr addr;

    for (size_t i = 0; i < text.len; i++)
        if (memchr(":@/ ", text.at[i], 4))
            return false;
    return text.len > 0 && net_addr_parse(&addr, text, 0) < 0;
}

static bool looks_like_mail(struct span text)
{
    return memchr(text.at, '@', text.len) != NULL;
}

static void describe_name(struct tls_names *names, GENERAL_NAME *name)
{
    struct buf text = {0};

    switch (name->type) {
    case GEN_DNS:
        buf_append(&text, looks_like_host(span_of_string(name->d.ia5)) ? SPAN("") : SPAN("DNS:"));
        append_ascii(&text, name->d.ia5);
        break;
    case GEN_EMAIL:
        buf_append(&text, looks_like_mail(span_of_string(name->d.ia5)) ? SPAN("") : SPAN("email:"));
        append_ascii(&text, name->d.ia5);
        break;
    case GEN_URI:
        buf_append(&text, SPAN("URI:"));
        append_ascii(&text, name->d.ia5);
        break;
    case GEN_IPADD:
        append_address(&text, name->d.iPAddress);
        break;
    default:
        append_other(&text, name);
        break;
    }
    add_name(names, &text);
}

static void describe_names(struct tls_description *description, X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        describe_name(&description->names, sk_GENERAL_NAME_value(names, i));
    GENERAL_NAMES_free(names);
}

static void describe_constraints(struct tls_description *description, X509 *cert)
{
    NAME_CONSTRAINTS *constraints = X509_get_ext_d2i(cert, NID_name_constraints, NULL, NULL);
    STACK_OF(GENERAL_SUBTREE) *trees = constraints ? constraints->permittedSubtrees : NULL;

    for (int i = 0; i < sk_GENERAL_SUBTREE_num(trees); i++)
        describe_name(&description->permitted, sk_GENERAL_SUBTREE_value(trees, i)->base);
    NAME_CONSTRAINTS_free(constraints);
}

/* ---- the rest */

static void describe_number(struct tls_description *description, X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};

    write_hex(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial),
              description->serial, sizeof(description->serial));
    X509_digest(cert, EVP_sha256(), digest, NULL);
    write_hex(digest, 32, description->fingerprint, sizeof(description->fingerprint));
    X509_digest(cert, EVP_sha1(), digest, NULL);
    write_hex(digest, 20, description->thumbprint, sizeof(description->thumbprint));
}

static void describe_key(struct tls_description *description, X509 *cert)
{
    struct tls_cert borrowed = {.leaf = cert};
    EVP_PKEY *key = X509_get0_pubkey(cert);

    tls_cert_key_type(&borrowed, description->key_type);
    description->key_bits = key ? (unsigned)EVP_PKEY_get_bits(key) : 0;
}

/* Without an extended key usage a certificate is for everything (RFC 5280 s.4.2.1.12). */
static void describe_purpose(struct tls_description *description, X509 *cert)
{
    uint32_t flags = X509_get_extension_flags(cert), uses = X509_get_extended_key_usage(cert);
    bool has_all = !(flags & EXFLAG_XKUSAGE) || uses & XKU_ANYEKU;

    description->is_authority = X509_check_ca(cert) == 1;
    description->for_servers = !description->is_authority && (has_all || uses & XKU_SSL_SERVER);
    description->for_clients = !description->is_authority && (has_all || uses & XKU_SSL_CLIENT);
}

static void describe(struct tls_description *description, X509 *cert)
{
    description->subject = dn_text(X509_get_subject_name(cert));
    description->issuer = dn_text(X509_get_issuer_name(cert));
    description->not_before = tls_time(X509_get0_notBefore(cert));
    description->not_after = tls_time(X509_get0_notAfter(cert));
    describe_number(description, cert);
    describe_key(description, cert);
    describe_purpose(description, cert);
    describe_names(description, cert);
    describe_constraints(description, cert);
    ERR_clear_error();
}

int tls_describe(struct span pem, struct tls_description **list, size_t *count,
                 struct err_text *why)
{
    STACK_OF(X509) *certs = tls_certs_read(pem, TLS_DESCRIBE_MOST, why);

    *list = NULL;
    *count = 0;
    if (certs == NULL)
        return ERR_INVALID;
    *count = (size_t)sk_X509_num(certs);
    *list = mem_zalloc(*count * sizeof(**list));
    for (size_t i = 0; i < *count; i++)
        describe(&(*list)[i], sk_X509_value(certs, (int)i));
    sk_X509_pop_free(certs, X509_free);
    return 0;
}

void tls_descriptions_free(struct tls_description *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mem_free(list[i].subject);
        mem_free(list[i].issuer);
        free_names(&list[i].names);
        free_names(&list[i].permitted);
    }
    mem_free(list);
}
