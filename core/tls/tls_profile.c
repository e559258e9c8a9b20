/*
 * A binding becomes an OpenSSL context. What a change of contexts in mid-handshake takes along
 * (certificates, authorities) lies in the context; what it does not (versions, what is asked of the
 * client, who may resume whose sessions) is set on the connection by tls_profile_apply.
 */
#include "tls/tls_profile_priv.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "tls/tls_cert_priv.h"

#define AUTHORITIES_MOST 256
#define OCSP_LEEWAY      300 /* seconds that clocks may differ */

/*
 * The servers of today (Mozilla's intermediate profile, without its finite-field groups): forward
 * secrecy and authenticated encryption only. AES-128 comes first: its margin is as good and it is a
 * fifth faster than AES-256. A client that puts ChaCha20 first, because it has no AES in hardware,
 * gets that.
 */
#define CIPHERS_1_2                                                                                \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"     \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS      "X25519:P-256:P-384" /* by cost */

#define SESSION_SECONDS 86400 /* in which a client may come back without its certificate */

bool tls_policy_apply(SSL_CTX *ctx)
{
    char groups[] = GROUPS; /* OpenSSL's macro casts its const away */

    /* No unexpected end: browsers close without a word, and messages have lengths of their own. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ctx, SESSION_SECONDS);
    SSL_CTX_set_max_early_data(ctx, 0);
    /* The one ticket of TLS 1.3 goes with the first answer (tls_stream). */
    return SSL_CTX_set_num_tickets(ctx, 0) == 1 &&
           SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ctx, CIPHERS_1_2) == 1 &&
           SSL_CTX_set_ciphersuites(ctx, CIPHERS_1_3) == 1 &&
           SSL_CTX_set1_groups_list(ctx, groups) == 1;
}

int tls_verify_later(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

/* ---- faults ---- */

static int wrong(struct tls_fault *fault, enum tls_part part, unsigned identity, const char *why)
{
    fault->part = part;
    fault->identity = identity;
    ERR_clear_error();
    return err_set(&fault->why, EXIT_OPTION, ERR_INVALID, "%s", why);
}

/* In OpenSSL's words. */
static int refused(struct tls_fault *fault, enum tls_part part, unsigned identity)
{
    char reason[128];

    tls_reason(reason, sizeof(reason));
    return wrong(fault, part, identity, reason);
}

/* ---- OCSP ---- */

/* Why the answer is not to be stapled; NULL when it is. */
static const char *judge_status(OCSP_SINGLERESP *single, struct tls_staple *staple)
{
    ASN1_GENERALIZEDTIME *next = NULL;

    if (OCSP_single_get0_status(single, NULL, NULL, NULL, &next) != V_OCSP_CERTSTATUS_GOOD)
        return "the OCSP answer does not call the certificate good";
    staple->until = next ? tls_time(next) : 0;
    return NULL;
}

/* Its digests are of the responder's choice: SHA-1 mostly, SHA-256 (RFC 6960 section 4.3). */
static bool is_about(OCSP_SINGLERESP *single, const struct tls_cert *cert)
{
    /* OpenSSL only reads it, and takes no const. */
    OCSP_CERTID *id = (OCSP_CERTID *)(uintptr_t)OCSP_SINGLERESP_get0_id(single);
    const EVP_MD *digest;
    ASN1_OBJECT *name;
    OCSP_CERTID *own;
    bool is_same;

    OCSP_id_get0_info(NULL, &name, NULL, NULL, id);
    digest = EVP_get_digestbyobj(name);
    if (digest == NULL)
        return false;
    own = OCSP_cert_to_id(digest, cert->leaf, sk_X509_value(cert->chain, 0));
    is_same = own && OCSP_id_cmp(own, id) == 0;
    OCSP_CERTID_free(own);
    return is_same;
}

static const char *judge_answer(OCSP_BASICRESP *basic, const struct tls_cert *cert,
                                struct tls_staple *staple)
{
    int at = -1;

    if (sk_X509_num(cert->chain) > 0) {
        for (int i = 0; i < OCSP_resp_count(basic) && at < 0; i++)
            at = is_about(OCSP_resp_get0(basic, i), cert) ? i : -1;
        if (at < 0)
            return "the OCSP answer is about another certificate";
    } else if (OCSP_resp_count(basic) == 1) {
        at = 0; /* without the issuer nothing tells whose it is */
    }
    if (at < 0)
        return "the OCSP answer is not about one certificate";
    return judge_status(OCSP_resp_get0(basic, at), staple);
}

static const char *judge_ocsp(struct span der, const struct tls_cert *cert,
                              struct tls_staple *staple)
{
    const unsigned char *at = (const unsigned char *)der.at;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)der.len);
    const char *why = "no OCSP answer in it (DER)";

    if (response && at == (const unsigned char *)der.at + der.len) {
        OCSP_BASICRESP *basic = OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL
                                    ? OCSP_response_get1_basic(response)
                                    : NULL;

        why = basic ? judge_answer(basic, cert, staple) : "the OCSP responder had no answer";
        OCSP_BASICRESP_free(basic);
    }
    OCSP_RESPONSE_free(response);
    return why;
}

static int add_staple(struct tls_profile *profile, const struct tls_cert *cert, struct span der,
                      unsigned identity, struct tls_fault *fault)
{
    struct tls_staple staple = {.length = (int)der.len, .leaf = cert->leaf};
    const char *why;

    if (der.len == 0)
        return 0;
    why = judge_ocsp(der, cert, &staple);
    if (why)
        return wrong(fault, TLS_PART_OCSP, identity, why);
    staple.answer = mem_alloc(der.len);
    memcpy(staple.answer, der.at, der.len);
    profile->staples[profile->staple_count++] = staple;
    return 0;
}

/*
 * Clients end the handshake over a stapled answer that is out of date, and do without one: when the
 * file is not renewed in time, nothing is stapled.
 */
static int staple(SSL *ssl, void *argument)
{
    const struct tls_profile *profile = argument;
    const X509 *leaf = SSL_get_certificate(ssl);
    int64_t now = (int64_t)time(NULL);

    for (unsigned i = 0; i < profile->staple_count; i++) {
        const struct tls_staple *staple = &profile->staples[i];
        unsigned char *copy;

        if (staple->leaf != leaf || (staple->until != 0 && now > staple->until + OCSP_LEEWAY))
            continue;
        copy = OPENSSL_memdup(staple->answer, (size_t)staple->length);
        if (copy == NULL)
            break;
        SSL_set_tlsext_status_ocsp_resp(ssl, copy, staple->length);
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* ---- certificates and authorities ---- */

static int use_cert(struct tls_profile *profile, const struct tls_cert *cert, unsigned identity,
                    struct tls_fault *fault)
{
    if (SSL_CTX_use_cert_and_key(profile->ctx, cert->leaf, cert->key, cert->chain, 0) == 1)
        return 0;
    if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_NOT_REPLACING_CERTIFICATE)
        return wrong(fault, TLS_PART_CERTIFICATE, identity,
                     "another certificate of the binding has the same kind of key");
    return refused(fault, TLS_PART_CERTIFICATE, identity);
}

static int add_identity(struct tls_profile *profile, const struct tls_identity *identity,
                        unsigned index, struct tls_fault *fault)
{
    struct tls_cert *cert;
    int code = tls_cert_new(&cert, identity->certificate, &fault->why);

    fault->part = TLS_PART_CERTIFICATE;
    fault->identity = index;
    if (code == 0) {
        fault->part = TLS_PART_KEY;
        code = tls_cert_set_key(cert, identity->key, &fault->why);
    }
    if (code == 0)
        code = use_cert(profile, cert, index, fault);
    if (code == 0)
        code = add_staple(profile, cert, identity->ocsp, index, fault);
    tls_cert_free(cert); /* the context keeps what it needs */
    return code;
}

static int add_authorities(struct tls_profile *profile, struct span pem, struct tls_fault *fault)
{
    X509_STORE *store = SSL_CTX_get_cert_store(profile->ctx);
    STACK_OF(X509) *certs = tls_certs_read(pem, AUTHORITIES_MOST, &fault->why);
    bool is_right = certs != NULL;

    fault->part = TLS_PART_AUTHORITIES;
    for (int i = 0; is_right && i < sk_X509_num(certs); i++)
        is_right = X509_STORE_add_cert(store, sk_X509_value(certs, i)) == 1 &&
                   SSL_CTX_add_client_CA(profile->ctx, sk_X509_value(certs, i)) == 1;
    if (certs && !is_right)
        refused(fault, TLS_PART_AUTHORITIES, 0);
    sk_X509_pop_free(certs, X509_free);
    return is_right ? 0 : ERR_INVALID;
}

static int check_authorities(struct tls_profile *profile, const struct tls_profile_parts *parts,
                             struct tls_fault *fault)
{
    if (parts->authorities.len > 0)
        return add_authorities(profile, parts->authorities, fault);
    if (parts->client != TLS_CLIENT_REQUIRE)
        return 0;
    return wrong(fault, TLS_PART_AUTHORITIES, 0,
                 "client_certificate=require needs authorities that vouch for clients");
}

/* ---- who is who ---- */

static void digest_part(EVP_MD_CTX *digest, const void *bytes, size_t length)
{
    uint64_t size = length;

    EVP_DigestUpdate(digest, &size, sizeof(size)); /* or "ab", "c" would be "a", "bc" */
    EVP_DigestUpdate(digest, bytes, length);
}

/*
 * Two ids: of what is asked of clients, and of the binding with that. They outlive a renewed
 * certificate and are the same in all workers and on all machines with the same settings.
 */
static void digest_ids(struct tls_profile *profile, const struct tls_profile_parts *parts)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    unsigned char client = (unsigned char)parts->client;

    EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
    digest_part(digest, &client, 1);
    if (client != TLS_CLIENT_NONE)
        digest_part(digest, parts->authorities.at, parts->authorities.len);
    EVP_DigestFinal_ex(digest, profile->policy, NULL);
    EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
    digest_part(digest, profile->policy, sizeof(profile->policy));
    digest_part(digest, profile->name, strlen(profile->name));
    digest_part(digest, profile->address.ip, sizeof(profile->address.ip));
    digest_part(digest, &profile->address.family, sizeof(profile->address.family));
    digest_part(digest, &profile->port, sizeof(profile->port));
    EVP_DigestFinal_ex(digest, profile->id, NULL);
    EVP_MD_CTX_free(digest);
}

/* 0.0.0.0 and [::] are any address. */
static struct net_addr place_of(const struct tls_profile_parts *parts)
{
    static const uint8_t zeros[sizeof(parts->address.ip)];
    struct net_addr place = {.family = NET_NONE};

    if (parts->address.family == NET_NONE || memcmp(parts->address.ip, zeros, sizeof(zeros)) == 0)
        return place;
    place = parts->address;
    place.port = 0;
    return place;
}

bool tls_profile_same_place(const struct tls_profile_parts *a, const struct tls_profile_parts *b)
{
    struct net_addr first = place_of(a), second = place_of(b);

    return span_eq_nocase(a->name, b->name) && a->port == b->port &&
           first.family == second.family && memcmp(first.ip, second.ip, sizeof(first.ip)) == 0;
}

bool tls_wildcard_covers(struct span pattern, struct span host)
{
    const char *dot = host.len ? memchr(host.at, '.', host.len) : NULL;

    return dot && dot > host.at && pattern.len > 2 &&
           span_eq(span_skip(pattern, 1), span_skip(host, (size_t)(dot - host.at)));
}

/* ---- all of it ---- */

static int number_of(enum tls_version version)
{
    static const int numbers[] = {0, TLS1_2_VERSION, TLS1_3_VERSION};

    return numbers[version];
}

static void describe(struct tls_profile *profile, const struct tls_profile_parts *parts)
{
    CHECK(parts->name.len <= TLS_NAME_MOST);
    for (size_t i = 0; i < parts->name.len; i++)
        profile->name[i] = ascii_lower(parts->name.at[i]);
    profile->is_wildcard = parts->name.len > 2 && parts->name.at[0] == '*';
    profile->address = place_of(parts);
    profile->port = parts->port;
    profile->min_version =
        parts->min_version == TLS_VERSION_ANY ? TLS1_2_VERSION : number_of(parts->min_version);
    profile->max_version = number_of(parts->max_version); /* 0: the newest */
    profile->client = parts->client;
    digest_ids(profile, parts);
}

int tls_profile_new(struct tls_profile **out, const struct tls_profile_parts *parts,
                    struct tls_fault *fault)
{
    struct tls_profile *profile = mem_zalloc(sizeof(*profile));
    int code = 0;

    *out = NULL;
    CHECK(parts->identity_count > 0 && parts->identity_count <= TLS_CERTS_MOST);
    ERR_clear_error();
    describe(profile, parts);
    profile->ctx = SSL_CTX_new(TLS_server_method());
    if (profile->ctx == NULL || !tls_policy_apply(profile->ctx))
        code = refused(fault, TLS_PART_CERTIFICATE, 0);
    for (unsigned i = 0; i < parts->identity_count && code == 0; i++)
        code = add_identity(profile, &parts->identities[i], i, fault);
    if (code == 0)
        code = check_authorities(profile, parts, fault);
    ERR_clear_error();
    if (code < 0) {
        tls_profile_free(profile);
        return code;
    }
    SSL_CTX_set_tlsext_status_cb(profile->ctx, staple);
    SSL_CTX_set_tlsext_status_arg(profile->ctx, profile);
    *out = profile;
    return 0;
}

void tls_profile_free(struct tls_profile *profile)
{
    if (profile == NULL)
        return;
    for (unsigned i = 0; i < profile->staple_count; i++)
        mem_free(profile->staples[i].answer);
    SSL_CTX_free(profile->ctx);
    mem_free(profile);
}

static int verify_mode(enum tls_client_policy client)
{
    switch (client) {
    case TLS_CLIENT_ALLOW:
        return SSL_VERIFY_PEER;
    case TLS_CLIENT_REQUIRE:
        return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    default:
        return SSL_VERIFY_NONE;
    }
}

bool tls_profile_apply(const struct tls_profile *profile, SSL *ssl)
{
    SSL_verify_cb verify = profile->client == TLS_CLIENT_REQUIRE ? NULL : tls_verify_later;

    SSL_set_verify(ssl, verify_mode(profile->client), verify);
    return SSL_set_SSL_CTX(ssl, profile->ctx) == profile->ctx &&
           SSL_set_min_proto_version(ssl, profile->min_version) == 1 &&
           SSL_set_max_proto_version(ssl, profile->max_version) == 1 &&
           SSL_set_session_id_context(ssl, profile->id, sizeof(profile->id)) == 1;
}
