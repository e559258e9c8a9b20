/*
 * Facts are read off OpenSSL when somebody asks, and nothing is kept for who does not. Texts of a
 * certificate are its holder's choice: they are escaped where a name ends (RFC 4514), and names
 * that hold a NUL, which some readers would cut there, are left out.
 */
#include "tls/tls_facts.h"

#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>

#include "tls/tls_cert_priv.h"
#include "tls/tls_stream_priv.h"

/* The names that people and RFC 8446 use; OpenSSL has others for the NIST curves. */
static struct span group_name(SSL *ssl)
{
    int group = (int)SSL_get_negotiated_group(ssl);

    switch (group) {
    case NID_X25519:
        return SPAN("X25519");
    case NID_X9_62_prime256v1:
        return SPAN("P-256");
    case NID_secp384r1:
        return SPAN("P-384");
    default:
        return group == NID_undef ? SPAN_NONE : span_str(SSL_group_to_name(ssl, group));
    }
}

bool tls_stream_facts(const struct stream *stream, struct tls_facts *facts)
{
    const struct tls_stream *self = tls_stream_of(stream);

    *facts = (struct tls_facts){.is_resumed = false};
    if (self->ssl == NULL || !self->is_established)
        return false;
    facts->version = span_str(SSL_get_version(self->ssl));
    facts->cipher = span_str(SSL_get_cipher_name(self->ssl));
    facts->group = group_name(self->ssl);
    facts->sni = span_str(SSL_get_servername(self->ssl, TLSEXT_NAMETYPE_host_name));
    facts->alpn = tls_stream_alpn(stream);
    facts->is_resumed = SSL_session_reused(self->ssl);
    return true;
}

static struct span hex(struct arena *arena, const unsigned char *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    char *text = arena_alloc(arena, 2 * length + 1);

    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * length] = '\0';
    return span_of(text, 2 * length);
}

static struct span name_text(struct arena *arena, const X509_NAME *name)
{
    BIO *text = BIO_new(BIO_s_mem());
    struct span copy = SPAN_NONE;
    char *at;

    if (text && X509_NAME_print_ex(text, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
        long length = BIO_get_mem_data(text, &at);

        copy = arena_copy(arena, span_of(at, (size_t)length));
    }
    BIO_free(text);
    return copy;
}

static struct span serial_text(struct arena *arena, const X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    int length = ASN1_STRING_length(serial);

    return hex(arena, ASN1_STRING_get0_data(serial), length > 0 ? (size_t)length : 0);
}

static void add_text(struct arena *arena, struct tls_peer *peer, const char *kind,
                     const ASN1_STRING *string)
{
    struct span value =
        span_of((const char *)ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));

    if (value.len == 0 || memchr(value.at, '\0', value.len))
        return;
    peer->names[peer->name_count++] = (struct tls_alternative){kind, arena_copy(arena, value)};
}

static void add_ip(struct arena *arena, struct tls_peer *peer, const ASN1_OCTET_STRING *string)
{
    int length = ASN1_STRING_length(string);
    char text[INET6_ADDRSTRLEN];

    if ((length == 4 || length == 16) &&
        inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(string), text,
                  sizeof(text)))
        peer->names[peer->name_count++] =
            (struct tls_alternative){"ip", arena_copy(arena, span_str(text))};
}

static void add_names(struct arena *arena, struct tls_peer *peer, const X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && peer->name_count < TLS_NAMES_MOST; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_DNS)
            add_text(arena, peer, "dns", name->d.dNSName);
        else if (name->type == GEN_EMAIL)
            add_text(arena, peer, "email", name->d.rfc822Name);
        else if (name->type == GEN_URI)
            add_text(arena, peer, "uri", name->d.uniformResourceIdentifier);
        else if (name->type == GEN_IPADD)
            add_ip(arena, peer, name->d.iPAddress);
    }
    GENERAL_NAMES_free(names);
}

static void describe(X509 *cert, struct arena *arena, struct tls_peer *peer)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;

    peer->subject = name_text(arena, X509_get_subject_name(cert));
    peer->issuer = name_text(arena, X509_get_issuer_name(cert));
    peer->serial = serial_text(arena, cert);
    X509_digest(cert, EVP_sha256(), digest, &length);
    peer->fingerprint = hex(arena, digest, length);
    peer->not_before = tls_time(X509_get0_notBefore(cert));
    peer->not_after = tls_time(X509_get0_notAfter(cert));
    add_names(arena, peer, cert);
    ERR_clear_error();
}

static X509 *peer_certificate(const struct stream *stream)
{
    const struct tls_stream *self = tls_stream_of(stream);

    return self->ssl ? SSL_get0_peer_certificate(self->ssl) : NULL;
}

bool tls_stream_peer(const struct stream *stream, struct arena *arena, struct tls_peer *peer)
{
    X509 *cert = peer_certificate(stream);
    long result;

    memset(peer, 0, sizeof(*peer));
    if (cert == NULL)
        return false;
    result = SSL_get_verify_result(tls_stream_of(stream)->ssl);
    describe(cert, arena, peer);
    peer->is_verified = result == X509_V_OK;
    peer->verification = span_str(X509_verify_cert_error_string(result));
    return true;
}

struct span tls_stream_peer_der(const struct stream *stream, struct arena *arena)
{
    X509 *cert = peer_certificate(stream);
    int length = cert ? i2d_X509(cert, NULL) : 0;
    unsigned char *bytes, *end;

    if (length <= 0)
        return SPAN_NONE;
    bytes = end = arena_alloc(arena, (size_t)length);
    i2d_X509(cert, &end);
    return span_of((const char *)bytes, (size_t)length);
}

bool tls_peer_read(struct tls_peer *peer, struct span der, struct span verification,
                   struct arena *arena)
{
    const unsigned char *at = (const unsigned char *)der.at;
    X509 *cert = d2i_X509(NULL, &at, (long)der.len);

    memset(peer, 0, sizeof(*peer));
    ERR_clear_error();
    if (cert == NULL)
        return false;
    describe(cert, arena, peer);
    X509_free(cert);
    peer->verification = verification;
    peer->is_verified = span_eq(verification, SPAN("ok"));
    return true;
}

/* ---- what the owner decides by ---- */

const char *tls_stream_failure(const struct stream *stream)
{
    return tls_stream_of(stream)->failure;
}

struct span tls_stream_alpn(const struct stream *stream)
{
    const struct tls_stream *self = tls_stream_of(stream);
    const unsigned char *name = NULL;
    unsigned length = 0;

    if (self->ssl && self->is_established)
        SSL_get0_alpn_selected(self->ssl, &name, &length);
    return span_of((const char *)name, length);
}

bool tls_stream_serves(const struct stream *stream, struct span host)
{
    const struct tls_stream *self = tls_stream_of(stream);
    const struct tls_profile *profile;
    char name[TLS_NAME_MOST + 1];

    if (!self->generation->asks_clients || self->profile == NULL)
        return true;
    if (host.len > 0 && host.at[host.len - 1] == '.')
        host.len--;
    if (host.len > TLS_NAME_MOST)
        return false;
    for (size_t i = 0; i < host.len; i++)
        name[i] = ascii_lower(host.at[i]);
    profile = tls_find(self->generation, &self->local, span_of(name, host.len));
    return profile == NULL ||
           memcmp(profile->policy, self->profile->policy, sizeof(profile->policy)) == 0;
}
