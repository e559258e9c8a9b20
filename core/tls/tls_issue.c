/*
 * A certificate is built field by field and signed last. What it may be used for is in extensions:
 * the rows of text that OpenSSL's own configuration files have for fixed ones, and structures where
 * names go in, so that no name can be read as something else.
 */
#include "tls/openssl_priv.h"

#include "tls/tls_issue.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/addr.h"
#include "tls/tls_cert_priv.h"

#define SERIAL_BYTES  20   /* the most that RFC 5280 s.4.1.2.2 allows */
#define BACKDATE      3600 /* seconds: clocks of the machines around are not all right */
#define DAY           86400
#define RSA_BITS      2048
#define LABEL_MOST    63 /* RFC 1035 s.2.3.4 */
#define KEY_PEM_BYTES 8192

static const char *const loopback_names[] = {"localhost", "127.0.0.0/8", "::1"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What OpenSSL could not do; on a sound system only for lack of memory or randomness. */
static int failed(struct err_text *why, const char *what)
{
    char reason[128];

    tls_reason(reason, sizeof(reason));
    return err_set(why, EXIT_INTERNAL, ERR_IO, "cannot make %s: %s", what, reason);
}

/* ---- names */

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

/* Letters, digits and inner hyphens (RFC 1123 s.2.1), and the underscores that people do use. */
static bool is_label(struct span label)
{
    if (label.len == 0 || label.len > LABEL_MOST || label.at[0] == '-' ||
        label.at[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!is_alnum(label.at[i]) && label.at[i] != '-' && label.at[i] != '_')
            return false;
    return true;
}

/* A last label of digits is an address that went wrong, never a host (RFC 1123 s.2.1). */
static bool is_host(const char *text)
{
    const char *at = text;
    bool is_number = false;

    for (;;) {
        struct span label = span_of(at, strcspn(at, "."));

        if (!is_label(label))
            return false;
        is_number = strspn(label.at, "0123456789") >= label.len;
        if (at[label.len] == '\0')
            return !is_number;
        at += label.len + 1;
    }
}

bool tls_issue_name(const char *text, char out[TLS_ISSUE_NAME_ROOM])
{
    size_t len = strlen(text);
    struct net_addr addr;

    if (net_addr_parse(&addr, span_of(text, len), 0) == 0) {
        net_addr_ip(&addr, out);
        return true;
    }
    if (len >= TLS_ISSUE_NAME_ROOM - 2 || !is_host(strncmp(text, "*.", 2) == 0 ? text + 2 : text))
        return false;
    for (size_t i = 0; i <= len; i++)
        out[i] = ascii_lower(text[i]);
    return true;
}

bool tls_issue_client(const char *text)
{
    size_t len = strlen(text);

    if (len == 0 || len > TLS_ISSUE_CLIENT_MOST || !is_alnum(text[0]) || text[len - 1] == ' ')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(text[i]) && strchr(" ._@+-", text[i]) == NULL)
            return false;
    return true;
}

/* An address as a certificate has it: 4 or 16 bytes; 0 for what is none. */
static size_t address_bytes(const char *name, unsigned char out[16])
{
    struct net_addr addr;

    if (net_addr_parse(&addr, span_str(name), 0) < 0)
        return 0;
    memcpy(out, addr.ip, sizeof(addr.ip));
    return addr.family == NET_IPV4 ? 4 : 16;
}

/* Takes what the name holds: bytes of a type of GENERAL_NAME. NULL without memory. */
static GENERAL_NAME *general_name(int type, const void *bytes, size_t len)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *text =
        ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);

    if (name == NULL || text == NULL || !ASN1_STRING_set(text, bytes, (int)len)) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(text);
        return NULL;
    }
    GENERAL_NAME_set0_value(name, type, text);
    return name;
}

static GENERAL_NAME *subject_name(const char *name)
{
    unsigned char bytes[16];
    size_t len = address_bytes(name, bytes);

    return len ? general_name(GEN_IPADD, bytes, len) : general_name(GEN_DNS, name, strlen(name));
}

/* A range of addresses is the address and its mask (RFC 5280 s.4.2.1.10); of *.domain the domain.
 */
static GENERAL_NAME *constraint_name(const char *name)
{
    unsigned char bytes[32];
    size_t len;

    if (strcmp(name, "127.0.0.0/8") == 0)
        return general_name(GEN_IPADD, "\x7F\0\0\0\xFF\0\0\0", 8);
    len = address_bytes(name, bytes);
    if (len) {
        memset(bytes + len, 0xFF, len);
        return general_name(GEN_IPADD, bytes, 2 * len);
    }
    if (strncmp(name, "*.", 2) == 0)
        name += 2;
    return general_name(GEN_DNS, name, strlen(name));
}

/* ---- extensions */

static int add_text(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;
    int is_added;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    is_added = extension ? X509_add_ext(cert, extension, -1) : 0;
    X509_EXTENSION_free(extension);
    return is_added;
}

/* Takes name. */
static int push_name(GENERAL_NAMES *names, GENERAL_NAME *name)
{
    if (name && sk_GENERAL_NAME_push(names, name) > 0)
        return 1;
    GENERAL_NAME_free(name);
    return 0;
}

static int add_names(X509 *cert, const char *const *texts, size_t count)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    int is_right = names != NULL;

    for (size_t i = 0; i < count && is_right; i++)
        is_right = push_name(names, subject_name(texts[i]));
    is_right = is_right && X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0);
    GENERAL_NAMES_free(names);
    return is_right;
}

static int permit(NAME_CONSTRAINTS *constraints, const char *name)
{
    GENERAL_SUBTREE *subtree = GENERAL_SUBTREE_new();

    if (subtree) {
        GENERAL_NAME_free(subtree->base);
        subtree->base = constraint_name(name);
    }
    if (subtree && subtree->base &&
        sk_GENERAL_SUBTREE_push(constraints->permittedSubtrees, subtree) > 0)
        return 1;
    GENERAL_SUBTREE_free(subtree);
    return 0;
}

static bool is_loopback(const char *name)
{
    struct net_addr addr;
    size_t len = strlen(name), own = strlen("localhost");

    if (net_addr_parse(&addr, span_str(name), 0) == 0)
        return net_addr_loopback(&addr);
    return len >= own && strcmp(name + len - own, "localhost") == 0 &&
           (len == own || name[len - own - 1] == '.');
}

/* Critical: who does not understand it must not trust the authority for everything instead. */
static int add_constraints(X509 *cert, const struct tls_issue *issue)
{
    NAME_CONSTRAINTS *constraints = NAME_CONSTRAINTS_new();
    int is_right;

    if (constraints)
        constraints->permittedSubtrees = sk_GENERAL_SUBTREE_new_null();
    is_right = constraints && constraints->permittedSubtrees;
    for (size_t i = 0; i < COUNT(loopback_names) && is_right; i++)
        is_right = permit(constraints, loopback_names[i]);
    for (size_t i = 0; i < issue->name_count && is_right; i++)
        is_right = is_loopback(issue->names[i]) || permit(constraints, issue->names[i]);
    is_right = is_right && X509_add1_ext_i2d(cert, NID_name_constraints, constraints, 1, 0);
    NAME_CONSTRAINTS_free(constraints);
    return is_right;
}

/* ---- fields */

static EVP_PKEY *make_key(enum tls_issue_key key)
{
    return key == TLS_ISSUE_RSA ? EVP_RSA_gen(RSA_BITS) : EVP_EC_gen("P-256");
}

/* Positive, and 20 bytes long as DER too: the first byte is neither 0 nor has the sign's bit. */
static int set_serial(X509 *cert)
{
    unsigned char bytes[SERIAL_BYTES];
    BIGNUM *number;
    int is_set;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return 0;
    bytes[0] = (unsigned char)((bytes[0] & 0x7F) | 0x40);
    number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    is_set = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return is_set;
}

static int add_entry(X509 *cert, const char *field, const char *text)
{
    return X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), field, MBSTRING_UTF8,
                                      (const unsigned char *)text, -1, -1, 0);
}

static int set_validity(X509 *cert, int64_t begin, int64_t end)
{
    /* The last second is part of it (RFC 5280 s.4.1.2.5). */
    return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)begin) &&
           ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)end - 1);
}

/* Writes both as PEM behind what the buffers hold; the key's text leaves no other copy. */
static int write_pem(X509 *cert, X509 *issuer, EVP_PKEY *key, struct buf *certificate,
                     struct buf *key_pem)
{
    BIO *certs = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_secmem());
    int is_written = certs && secret && PEM_write_bio_X509(certs, cert) &&
                     (issuer == NULL || PEM_write_bio_X509(certs, issuer)) &&
                     PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL);
    char *bytes;
    long len;

    if (is_written) {
        len = BIO_get_mem_data(certs, &bytes);
        buf_append(certificate, span_of(bytes, (size_t)len));
        len = BIO_get_mem_data(secret, &bytes);
        buf_reserve(key_pem, KEY_PEM_BYTES); /* at once: growing would leave pieces behind */
        buf_append(key_pem, span_of(bytes, (size_t)len));
    }
    BIO_free(certs);
    BIO_free(secret);
    return is_written;
}

/* ---- the authority */

/* Some letters of the key in the name: lists of trusted authorities show names only. */
static int name_authority(X509 *cert)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char text[64];

    if (!X509_pubkey_digest(cert, EVP_sha256(), digest, NULL))
        return 0;
    snprintf(text, sizeof(text), "Moonquay development authority %02x%02x%02x", digest[0],
             digest[1], digest[2]);
    return add_entry(cert, "O", "Moonquay") && add_entry(cert, "CN", text);
}

static int fill_authority(X509 *cert, EVP_PKEY *key, const struct tls_issue *issue)
{
    int64_t begin = issue->now - BACKDATE;

    return X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
           X509_set_pubkey(cert, key) && name_authority(cert) &&
           X509_set_issuer_name(cert, X509_get_subject_name(cert)) &&
           set_validity(cert, begin, begin + TLS_ISSUE_AUTHORITY_DAYS * (int64_t)DAY) &&
           add_text(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           add_text(cert, cert, NID_key_usage, "critical,keyCertSign") &&
           add_text(cert, cert, NID_subject_key_identifier, "hash") &&
           add_text(cert, cert, NID_authority_key_identifier, "keyid:always") &&
           add_constraints(cert, issue) && X509_sign(cert, key, EVP_sha256());
}

int tls_issue_authority(const struct tls_issue *issue, struct buf *certificate, struct buf *key,
                        struct err_text *why)
{
    EVP_PKEY *secret;
    X509 *cert;
    int code = 0;

    ERR_clear_error();
    secret = make_key(issue->key);
    cert = X509_new();
    if (secret == NULL || cert == NULL || !fill_authority(cert, secret, issue) ||
        !write_pem(cert, NULL, secret, certificate, key))
        code = failed(why, "an authority");
    X509_free(cert);
    EVP_PKEY_free(secret);
    return code;
}

/* ---- what it signs */

/* A client whose name looks like a host's is held to the authority's names (OpenSSL compares the
 * common name with them then), so it gets the name where hosts have theirs. */
static bool is_host_client(const char *client)
{
    return strchr(client, '.') != NULL && is_host(client);
}

static bool is_mail_client(const char *client)
{
    const char *at = strchr(client, '@');

    return at && at > client && strchr(client, ' ') == NULL && is_host(at + 1);
}

static int add_client_names(X509 *cert, const char *client)
{
    GENERAL_NAMES *names;
    int is_right;

    if (is_host_client(client))
        return add_names(cert, &client, 1);
    if (!is_mail_client(client))
        return 1;
    names = sk_GENERAL_NAME_new_null();
    is_right = names && push_name(names, general_name(GEN_EMAIL, client, strlen(client))) &&
               X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0);
    GENERAL_NAMES_free(names);
    return is_right;
}

/* An address is no common name: it would be taken for a host that the authority may not sign for.
 */
static int name_subject(X509 *cert, const struct tls_issue *issue)
{
    unsigned char address[16];
    const char *common = issue->client;

    if (common == NULL && issue->name_count > 0 && address_bytes(issue->names[0], address) == 0 &&
        strlen(issue->names[0]) <= TLS_ISSUE_CLIENT_MOST)
        common = issue->names[0];
    if (!add_entry(cert, "O",
                   issue->client ? "Moonquay development client"
                                 : "Moonquay development certificate"))
        return 0;
    return common == NULL || add_entry(cert, "CN", common);
}

static int add_purpose(X509 *cert, X509 *issuer, const struct tls_issue *issue)
{
    const char *usage = issue->key == TLS_ISSUE_RSA && issue->client == NULL
                            ? "critical,digitalSignature,keyEncipherment"
                            : "critical,digitalSignature";

    return add_text(cert, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
           add_text(cert, issuer, NID_key_usage, usage) &&
           add_text(cert, issuer, NID_ext_key_usage, issue->client ? "clientAuth" : "serverAuth") &&
           add_text(cert, issuer, NID_subject_key_identifier, "hash") &&
           add_text(cert, issuer, NID_authority_key_identifier, "keyid:always");
}

static int fill_certificate(X509 *cert, EVP_PKEY *key, X509 *issuer, const struct tls_issue *issue)
{
    int64_t begin = issue->now - BACKDATE, end = begin + issue->days * (int64_t)DAY;
    int64_t last = tls_time(X509_get0_notAfter(issuer)) + 1;

    return X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
           X509_set_pubkey(cert, key) && name_subject(cert, issue) &&
           X509_set_issuer_name(cert, X509_get_subject_name(issuer)) &&
           set_validity(cert, begin, end < last ? end : last) && add_purpose(cert, issuer, issue) &&
           (issue->client ? add_client_names(cert, issue->client)
                          : add_names(cert, issue->names, issue->name_count));
}

/* Whether the authority's constraints, if it has any, allow the name. */
static bool is_permitted(const char *name, NAME_CONSTRAINTS *constraints)
{
    X509 *only = X509_new(); /* OpenSSL judges certificates, not names */
    bool is_right = only && add_names(only, &name, 1);

    if (is_right) {
        X509_get_extension_flags(only); /* reads the names in, which the judgement takes for done */
        is_right = NAME_CONSTRAINTS_check(only, constraints) == X509_V_OK;
    }
    X509_free(only);
    return is_right;
}

static int check_names(X509 *authority, const struct tls_issue *issue, struct err_text *why)
{
    NAME_CONSTRAINTS *constraints = X509_get_ext_d2i(authority, NID_name_constraints, NULL, NULL);
    bool is_host = issue->client && is_host_client(issue->client);
    const char *const *names = is_host ? &issue->client : issue->names;
    size_t count = is_host ? 1 : issue->client ? 0 : issue->name_count;
    const char *wrong = NULL;

    for (size_t i = 0; i < count && constraints && wrong == NULL; i++)
        if (!is_permitted(names[i], constraints))
            wrong = names[i];
    NAME_CONSTRAINTS_free(constraints);
    ERR_clear_error();
    if (wrong == NULL)
        return 0;
    return err_set(why, EXIT_OPTION, ERR_PERMISSION, "this authority may not sign for %s", wrong);
}

static int check_authority(const struct tls_cert *authority, int64_t now, struct err_text *why)
{
    char warning[256];

    if (X509_check_ca(authority->leaf) != 1)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "it is no authority's certificate");
    if (tls_cert_warning(authority, now, warning, sizeof(warning)))
        return err_set(why, EXIT_OPTION, ERR_INVALID, "%s", warning);
    return 0;
}

/* Ed25519 names its own digest. */
static const EVP_MD *digest_of(EVP_PKEY *key)
{
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

int tls_issue_certificate(const struct tls_issue *issue, const struct tls_cert *authority,
                          struct buf *certificate, struct buf *key, struct err_text *why)
{
    int code = check_authority(authority, issue->now, why);
    EVP_PKEY *secret;
    X509 *cert;

    if (code == 0)
        code = check_names(authority->leaf, issue, why);
    if (code < 0)
        return code;
    ERR_clear_error();
    secret = make_key(issue->key);
    cert = X509_new();
    if (secret == NULL || cert == NULL || !fill_certificate(cert, secret, authority->leaf, issue) ||
        !X509_sign(cert, authority->key, digest_of(authority->key)) ||
        !write_pem(cert, authority->leaf, secret, certificate, key))
        code = failed(why, "a certificate");
    X509_free(cert);
    EVP_PKEY_free(secret);
    return code;
}

bool tls_issue_is_of(const struct tls_cert *cert, const struct tls_cert *authority)
{
    bool is_of = X509_check_issued(authority->leaf, cert->leaf) == X509_V_OK &&
                 X509_verify(cert->leaf, X509_get0_pubkey(authority->leaf)) == 1;

    ERR_clear_error();
    return is_of;
}
