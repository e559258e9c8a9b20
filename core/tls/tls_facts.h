/*
 * What a handshake has agreed on, and who the client says it is, for handlers and logs.
 */
#ifndef TLS_TLS_FACTS_H
#define TLS_TLS_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/span.h"
#include "net/stream.h"

/* Static texts, or borrowed until the stream is closed; those that do not exist are SPAN_NONE. */
struct tls_facts {
    struct span version; /* "TLSv1.3" */
    struct span cipher;  /* "TLS_AES_128_GCM_SHA256" */
    struct span group;   /* "X25519"; none in a resumed session of TLS 1.2 */
    struct span sni;     /* the host that the client asked for */
    struct span alpn;    /* "http/1.1" */
    bool is_resumed;
};

/* False before the end of the handshake and after a failure. */
bool tls_stream_facts(const struct stream *stream, struct tls_facts *facts);

#define TLS_NAMES_MOST 64 /* alternative names of a certificate; the rest is left out */

struct tls_alternative {
    const char *kind; /* "dns", "ip", "email", "uri" */
    struct span value;
};

struct tls_peer {
    struct span subject, issuer; /* RFC 4514 */
    struct span serial;          /* hexadecimal, lower case */
    struct span fingerprint;     /* SHA-256 of the certificate, hexadecimal, lower case */
    int64_t not_before, not_after;
    struct tls_alternative names[TLS_NAMES_MOST];
    unsigned name_count;
    bool is_verified;
    struct span verification; /* "ok", or why it is not */
};

/* The client's certificate, its texts in arena. False when it has shown none. */
bool tls_stream_peer(const struct stream *stream, struct arena *arena, struct tls_peer *peer);

/* The same certificate as DER, in arena; SPAN_NONE when there is none. */
struct span tls_stream_peer_der(const struct stream *stream, struct arena *arena);

/* What tls_stream_peer said of a certificate elsewhere: borrows verification. False when der is
 * none. */
bool tls_peer_read(struct tls_peer *peer, struct span der, struct span verification,
                   struct arena *arena);

#endif
