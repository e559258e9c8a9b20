/*
 * Certificates, chains and keys through OpenSSL's PEM readers. Its errors are read off its queue at
 * once and the queue is left empty: what stays there would be taken for the failure of a later
 * call.
 */
#include "tls/tls_cert_priv.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

#define NAME_ROOM 128
#define KEY_MARK  "PRIVATE KEY-----" /* ends the first line of every kind of key */

static int wrong(struct err_text *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int wrong(struct err_text *why, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ERR_clear_error();
    return err_set(why, EXIT_OPTION, ERR_INVALID, "%s", text);
}

void tls_reason(char *out, size_t room)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    snprintf(out, room, "%s", reason ? reason : "no reason given");
    ERR_clear_error();
}

/* PEM readers find the end of a text as the lack of a further start line. */
static bool is_end_of_pem(void)
{
    unsigned long code = ERR_peek_last_error();

    return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

static BIO *open_text(struct span pem)
{
    ERR_clear_error();
    if (pem.len > INT_MAX)
        return NULL;
    return BIO_new_mem_buf(pem.len ? pem.at : "", (int)pem.len);
}

/* ---- names and times ---- */

static bool first_alternative(X509 *cert, char *out, size_t room)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    bool found = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_DNS)
            continue;
        snprintf(out, room, "%.*s", ASN1_STRING_length(name->d.dNSName),
                 (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        found = true;
    }
    GENERAL_NAMES_free(names);
    return found;
}

void tls_cert_name(X509 *cert, char *out, size_t room)
{
    X509_NAME *subject = X509_get_subject_name(cert);

    if (X509_NAME_get_text_by_NID(subject, NID_commonName, out, (int)room) > 0)
        return;
    if (first_alternative(cert, out, room))
        return;
    if (X509_NAME_entry_count(subject) == 0 || X509_NAME_oneline(subject, out, (int)room) == NULL)
        snprintf(out, room, "without a name");
}

int64_t tls_time(const ASN1_TIME *when)
{
    struct tm parts;

    return ASN1_TIME_to_tm(when, &parts) ? (int64_t)timegm(&parts) : 0;
}

static void time_text(int64_t seconds, char *out, size_t room)
{
    time_t when = (time_t)seconds;
    struct tm parts;

    gmtime_r(&when, &parts);
    strftime(out, room, "%Y-%m-%d %H:%M:%S UTC", &parts);
}

/* ---- the chain ---- */

static void free_certs(STACK_OF(X509) * certs)
{
    sk_X509_pop_free(certs, X509_free);
}

STACK_OF(X509) * tls_certs_read(struct span pem, int most, struct err_text *why)
{
    BIO *text = open_text(pem);
    STACK_OF(X509) *certs = sk_X509_new_null();
    char reason[128];
    X509 *cert = NULL;
    int code = 0;

    while (text && certs && (cert = PEM_read_bio_X509(text, NULL, NULL, NULL)) != NULL) {
        if (sk_X509_num(certs) == most || !sk_X509_push(certs, cert)) {
            X509_free(cert);
            code = wrong(why, "more than %d certificates", most);
            break;
        }
    }
    if (code == 0 && !is_end_of_pem()) {
        tls_reason(reason, sizeof(reason));
        code = wrong(why, "certificate %d is broken: %s", sk_X509_num(certs) + 1, reason);
    } else if (code == 0 && sk_X509_num(certs) <= 0) {
        code = wrong(why, "no certificate in it (PEM, \"BEGIN CERTIFICATE\")");
    }
    ERR_clear_error();
    BIO_free(text);
    if (code == 0)
        return certs;
    free_certs(certs);
    return NULL;
}

/* Names and key identifiers first, for they say what is wrong; a signature for who has two keys of
 * one name. */
static bool has_issued(X509 *issuer, X509 *subject)
{
    return X509_check_issued(issuer, subject) == X509_V_OK &&
           X509_verify(subject, X509_get0_pubkey(issuer)) == 1;
}

static int check_order(STACK_OF(X509) * certs, struct err_text *why)
{
    for (int i = 1; i < sk_X509_num(certs); i++) {
        char name[NAME_ROOM], before[NAME_ROOM];

        if (has_issued(sk_X509_value(certs, i), sk_X509_value(certs, i - 1)))
            continue;
        tls_cert_name(sk_X509_value(certs, i), name, sizeof(name));
        tls_cert_name(sk_X509_value(certs, i - 1), before, sizeof(before));
        return wrong(why,
                     "certificate %d (%s) has not signed certificate %d (%s); the order is the "
                     "server's, then each one's issuer",
                     i + 1, name, i, before);
    }
    return 0;
}

int tls_cert_new(struct tls_cert **cert, struct span pem, struct err_text *why)
{
    STACK_OF(X509) *certs = tls_certs_read(pem, TLS_CHAIN_MOST, why);

    *cert = NULL;
    if (certs == NULL)
        return ERR_INVALID;
    if (check_order(certs, why) < 0) {
        free_certs(certs);
        return ERR_INVALID;
    }
    *cert = mem_zalloc(sizeof(**cert));
    (*cert)->leaf = sk_X509_shift(certs);
    (*cert)->chain = certs;
    return 0;
}

void tls_cert_free(struct tls_cert *cert)
{
    if (cert == NULL)
        return;
    X509_free(cert->leaf);
    free_certs(cert->chain);
    EVP_PKEY_free(cert->key);
    mem_free(cert);
}

/* ---- the key ---- */

static bool curve_is_known(EVP_PKEY *key)
{
    char group[32] = "";
    int nid;

    if (!EVP_PKEY_get_group_name(key, group, sizeof(group), NULL))
        return false;
    nid = OBJ_sn2nid(group);
    return nid == NID_X9_62_prime256v1 || nid == NID_secp384r1 || nid == NID_secp521r1;
}

static bool kind_is_known(EVP_PKEY *key)
{
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
    case EVP_PKEY_ED25519:
        return true;
    case EVP_PKEY_EC:
        return curve_is_known(key);
    default:
        return false;
    }
}

/* Nobody sits there to type it: without this OpenSSL would ask on the terminal. */
static int no_passphrase(char *out, int room, int is_writing, void *asked)
{
    (void)out;
    (void)room;
    (void)is_writing;
    *(bool *)asked = true;
    return -1;
}

static EVP_PKEY *read_key(struct span pem, struct err_text *why)
{
    BIO *text = open_text(pem);
    bool is_encrypted = false;
    EVP_PKEY *key = text ? PEM_read_bio_PrivateKey(text, NULL, no_passphrase, &is_encrypted) : NULL;
    char reason[128];

    BIO_free(text);
    if (key) {
        ERR_clear_error();
        return key;
    }
    if (memmem(pem.at, pem.len, KEY_MARK, sizeof(KEY_MARK) - 1) == NULL) {
        wrong(why, "no private key in it (PEM, \"BEGIN PRIVATE KEY\")");
    } else if (is_encrypted) {
        wrong(why, "the key is encrypted; a server needs it without a passphrase");
    } else {
        tls_reason(reason, sizeof(reason));
        wrong(why, "the private key is broken: %s", reason);
    }
    return NULL;
}

int tls_cert_set_key(struct tls_cert *cert, struct span pem, struct err_text *why)
{
    EVP_PKEY *key = read_key(pem, why);
    char name[NAME_ROOM];
    int code = 0;

    if (key == NULL)
        return ERR_INVALID;
    tls_cert_name(cert->leaf, name, sizeof(name));
    if (!kind_is_known(key))
        code = wrong(why, "a key of a kind that is not served: RSA, ECDSA (P-256, P-384, P-521) or "
                          "Ed25519 are");
    else if (X509_check_private_key(cert->leaf, key) != 1)
        code = wrong(why, "it is not the key of the certificate (%s)", name);
    if (code < 0) {
        EVP_PKEY_free(key);
        return code;
    }
    EVP_PKEY_free(cert->key);
    cert->key = key;
    return 0;
}

const char *tls_cert_key_type(const struct tls_cert *cert, char out[TLS_KEY_TYPE])
{
    EVP_PKEY *key = X509_get0_pubkey(cert->leaf);
    char group[20] = "";
    const char *nist;

    switch (key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
        snprintf(out, TLS_KEY_TYPE, "RSA %d", EVP_PKEY_get_bits(key));
        break;
    case EVP_PKEY_EC:
        EVP_PKEY_get_group_name(key, group, sizeof(group), NULL);
        nist = EC_curve_nid2nist(OBJ_sn2nid(group));
        snprintf(out, TLS_KEY_TYPE, "ECDSA %s", nist ? nist : group);
        break;
    case EVP_PKEY_ED25519:
        snprintf(out, TLS_KEY_TYPE, "Ed25519");
        break;
    default:
        snprintf(out, TLS_KEY_TYPE, "unknown");
        break;
    }
    ERR_clear_error();
    return out;
}

/* ---- what may be asked of it ---- */

int64_t tls_cert_not_before(const struct tls_cert *cert)
{
    return tls_time(X509_get0_notBefore(cert->leaf));
}

int64_t tls_cert_not_after(const struct tls_cert *cert)
{
    return tls_time(X509_get0_notAfter(cert->leaf));
}

static bool warn_of(X509 *cert, int64_t now, char *out, size_t room)
{
    int64_t begin = tls_time(X509_get0_notBefore(cert)), end = tls_time(X509_get0_notAfter(cert));
    char name[NAME_ROOM], when[40];

    if (now >= begin && now <= end)
        return false;
    tls_cert_name(cert, name, sizeof(name));
    time_text(now < begin ? begin : end, when, sizeof(when));
    snprintf(out, room, "the certificate (%s) %s %s", name,
             now < begin ? "is not valid before" : "expired on", when);
    return true;
}

bool tls_cert_warning(const struct tls_cert *cert, int64_t now, char *out, size_t room)
{
    if (warn_of(cert->leaf, now, out, room))
        return true;
    for (int i = 0; i < sk_X509_num(cert->chain); i++)
        if (warn_of(sk_X509_value(cert->chain, i), now, out, room))
            return true;
    return false;
}

bool tls_cert_covers(const struct tls_cert *cert, const char *host)
{
    bool covers =
        X509_check_ip_asc(cert->leaf, host, 0) == 1 ||
        X509_check_host(cert->leaf, host, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;

    ERR_clear_error();
    return covers;
}
