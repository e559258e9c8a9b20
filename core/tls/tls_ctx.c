/*
 * Which binding a connection gets is decided in one place: the callback for the client's hello,
 * which comes before OpenSSL has looked at version, ticket, certificate or protocol, so that all of
 * them follow the binding (platform-notes section 4 has what would not, elsewhere).
 */
#include "tls/tls_ctx_priv.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/mem.h"

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

/* ---- generations ---- */

struct tls_generation *tls_generation_ref(struct tls_generation *generation)
{
    generation->refs++;
    return generation;
}

void tls_generation_unref(struct tls_generation *generation)
{
    if (generation == NULL || --generation->refs > 0)
        return;
    for (unsigned i = 0; i < generation->count; i++)
        tls_profile_free(generation->profiles[i]);
    SSL_CTX_free(generation->front);
    mem_free(generation->profiles);
    mem_free(generation);
}

/* ---- choosing ---- */

static bool fits(const struct tls_profile *profile, const struct net_addr *local, struct span host)
{
    struct span name = span_str(profile->name);

    if (profile->port != 0 && profile->port != local->port)
        return false;
    if (profile->address.family != NET_NONE &&
        (profile->address.family != local->family ||
         memcmp(profile->address.ip, local->ip, sizeof(local->ip)) != 0))
        return false;
    if (profile->is_wildcard)
        return tls_wildcard_covers(name, host);
    return name.len == 0 || span_eq(name, host);
}

/* The higher one is chosen. */
static int rank(const struct tls_profile *profile)
{
    int name = profile->name[0] == '\0' ? 0 : profile->is_wildcard ? 1 : 2;

    return (profile->address.family != NET_NONE ? 100 : 0) + name * 10 + (profile->port != 0);
}

const struct tls_profile *tls_find(const struct tls_generation *generation,
                                   const struct net_addr *local, struct span host)
{
    const struct tls_profile *best = NULL;

    for (unsigned i = 0; i < generation->count; i++) {
        const struct tls_profile *profile = generation->profiles[i];

        if (fits(profile, local, host) && (best == NULL || rank(profile) > rank(best)))
            best = profile;
    }
    return best;
}

/*
 * The name in a client's hello in lower case, without a final dot; 0 when there is none. Lengths
 * that contradict each other are none: OpenSSL itself refuses them a moment later (RFC 6066 s.3).
 */
static size_t asked_name(SSL *ssl, char out[TLS_NAME_MOST + 1])
{
    const unsigned char *data;
    size_t size, length;

    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) || size < 5 ||
        data[2] != TLSEXT_NAMETYPE_host_name)
        return 0;
    length = (size_t)data[3] << 8 | data[4];
    if (length + 5 > size || length > TLS_NAME_MOST)
        return 0;
    for (size_t i = 0; i < length; i++)
        out[i] = ascii_lower((char)data[5 + i]);
    return length > 0 && out[length - 1] == '.' ? length - 1 : length;
}

static int on_hello(SSL *ssl, int *alert, void *argument)
{
    const struct tls *tls = argument;
    struct tls_stream *stream = tls->active;
    const struct tls_profile *profile;
    char name[TLS_NAME_MOST + 1];

    profile = tls_find(tls_stream_generation(stream), tls_stream_local(stream),
                       span_of(name, asked_name(ssl, name)));
    if (profile == NULL) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (!tls_profile_apply(profile, ssl)) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    tls_stream_choose(stream, profile);
    return SSL_CLIENT_HELLO_SUCCESS;
}

/* The hello has been judged; this only lets OpenSSL remember the name, with a session too. */
static int on_name(SSL *ssl, int *alert, void *argument)
{
    (void)ssl;
    (void)alert;
    (void)argument;
    return SSL_TLSEXT_ERR_OK;
}

/* ---- protocols and tickets ---- */

static int on_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *length,
                   const unsigned char *offered, unsigned offered_length, void *argument)
{
    const struct tls *tls = argument;
    unsigned char *found;

    (void)ssl;
    if (SSL_select_next_proto(&found, length, tls->alpn, tls->alpn_length, offered,
                              offered_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int seals)
{
    const struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    return tls_tickets_use(&tls->tickets, name, iv, cipher, mac, seals);
}

/* A session would keep a client's certificate, and what it was worth, beyond the time that it is
 * good for: then the client shows what it has now. */
static SSL_TICKET_RETURN on_session(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                    size_t name_length, SSL_TICKET_STATUS status, void *argument)
{
    X509 *cert = session ? SSL_SESSION_get0_peer(session) : NULL;

    (void)ssl;
    (void)name;
    (void)name_length;
    (void)argument;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (cert && X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

static unsigned alpn_extension(const char *names, unsigned char *out)
{
    unsigned used = 0;

    while (*names) {
        size_t length = strcspn(names, ",");

        CHECK(length > 0 && length < 256 && used + 1 + length <= TLS_ALPN_MOST);
        out[used++] = (unsigned char)length;
        memcpy(out + used, names, length);
        used += (unsigned)length;
        names += length + (names[length] == ',');
    }
    return used;
}

/* ---- the worker's ---- */

/* NULL when OpenSSL cannot work. */
static SSL_CTX *front_new(struct tls *tls)
{
    SSL_CTX *front = SSL_CTX_new(TLS_server_method());

    if (front == NULL)
        return NULL;
    if (!tls_policy_apply(front)) {
        SSL_CTX_free(front);
        return NULL;
    }
    if (tls->ktls)
        SSL_CTX_set_options(front, SSL_OP_ENABLE_KTLS);
    SSL_CTX_set_app_data(front, tls);
    SSL_CTX_set_client_hello_cb(front, on_hello, tls);
    SSL_CTX_set_tlsext_servername_callback(front, on_name);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(front, on_ticket);
    SSL_CTX_set_session_ticket_cb(front, NULL, on_session, NULL);
    return front;
}

static struct tls_generation *generation_new(struct tls *tls, struct tls_profile *const *profiles,
                                             unsigned count)
{
    struct tls_generation *generation = mem_zalloc(sizeof(*generation));

    generation->refs = 1;
    generation->front = front_new(tls);
    generation->count = count;
    generation->profiles = mem_alloc(count * sizeof(*profiles) + 1);
    for (unsigned i = 0; i < count; i++) {
        generation->profiles[i] = profiles[i];
        generation->asks_clients |= profiles[i]->client != TLS_CLIENT_NONE;
        SSL_CTX_set_app_data(profiles[i]->ctx, tls);
        SSL_CTX_set_alpn_select_cb(profiles[i]->ctx, on_alpn, tls);
    }
    return generation;
}

/* Whether the kernel seals records: asked of a connection, for there is no other way. */
static bool kernel_has_tls(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = false;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (server >= 0 && client >= 0 &&
        bind(server, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(server, 1) == 0 &&
        getsockname(server, (struct sockaddr *)&address, &length) == 0 &&
        connect(client, (struct sockaddr *)&address, length) == 0)
        has = setsockopt(client, IPPROTO_TCP, TCP_ULP, "tls", 3) == 0;
    if (server >= 0)
        close(server);
    if (client >= 0)
        close(client);
    return has;
}

struct tls *tls_new(const struct tls_parts *parts, struct err_text *why)
{
    struct tls *tls = mem_zalloc(sizeof(*tls));

    tls->parts = *parts;
    tls->alpn_length = alpn_extension(parts->alpn, tls->alpn);
    tls->ktls = kernel_has_tls();
    tls->socket_bio = parts->socket_bio || tls->ktls;
    tls->now = generation_new(tls, NULL, 0);
    if (tls_bio_open(tls) && tls->now->front && tls_tickets_rotate(&tls->tickets) == 0)
        return tls;
    ERR_clear_error();
    tls_free(tls);
    err_set(why, EXIT_INTERNAL, ERR_NO_MEMORY, "OpenSSL cannot be set up");
    return NULL;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    tls_generation_unref(tls->now);
    tls_bio_close(tls);
    buf_fini(&tls->sealed);
    OPENSSL_cleanse(tls, sizeof(*tls));
    mem_free(tls);
}

void tls_use(struct tls *tls, struct tls_profile *const *profiles, unsigned count)
{
    struct tls_generation *next = generation_new(tls, profiles, count);

    CHECK(next->front != NULL);
    tls_generation_unref(tls->now);
    tls->now = next;
}

int tls_use_tickets(struct tls *tls, struct span keys, struct err_text *why)
{
    return tls_tickets_set(&tls->tickets, keys, why);
}
