/*
 * The stream over TLS: what its owner reads and writes is plain, what passes the socket is not. The
 * handshake happens inside reads. A stream whose handshake fails reads ERR_INVALID once; from then
 * on what the peer sends is dropped, so that the owner can wait for its end (the alert must reach
 * it), and then 0 is read.
 */
#ifndef TLS_TLS_STREAM_H
#define TLS_TLS_STREAM_H

#include "net/loop.h"
#include "net/stream.h"
#include "tls/tls_ctx.h"

/*
 * A server's stream over a connected, non-blocking socket. Takes fd; borrows tls until it is
 * closed. local is the address that the connection came to. received are bytes that have been read
 * off the socket already, as behind a PROXY header; they are copied.
 */
struct stream *tls_stream_new(struct tls *tls, struct loop *loop, int fd,
                              const struct net_addr *local, struct span received);

/* Why it failed, for people: static text; NULL when it did not. */
const char *tls_stream_failure(const struct stream *stream);

/* The protocol of the handshake: "http/1.1", "h2"; empty before its end, or when the client named
 * none. Borrowed until close. */
struct span tls_stream_alpn(const struct stream *stream);

/*
 * Whether a request for that host (lower or upper case, without a port) may come over this
 * connection: its binding asks the same of clients as that of the handshake. Where it may not, 421
 * (RFC 9110 s.15.5.20).
 */
bool tls_stream_serves(const struct stream *stream, struct span host);

/*
 * Asks the client for its certificate now (RFC 8446 s.4.6.2); the answer comes while the owner
 * reads. ERR_UNSUPPORTED: TLS 1.2, HTTP/2 or a client that does not know this; ERR_STATE: asked
 * already and not answered, or not after the binding's client_certificate=delay.
 */
int tls_stream_ask_certificate(struct stream *stream);

/* Whether the client has yet to answer that. */
bool tls_stream_is_asking(const struct stream *stream);

#endif
