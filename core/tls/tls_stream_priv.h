/* A connection, for tls_stream.c and tls_facts.c. */
#ifndef TLS_TLS_STREAM_PRIV_H
#define TLS_TLS_STREAM_PRIV_H

#include "tls/tls_ctx_priv.h"
#include "tls/tls_stream.h"

struct tls_stream {
    struct stream stream;
    struct tls *tls;
    struct tls_generation *generation;
    const struct tls_profile *profile; /* NULL before the client's hello */
    SSL *ssl;                          /* NULL after a failure */
    struct loop *loop;
    struct loop_io io;
    struct loop_call again; /* there is something to read that no event announces */
    struct buf kept;        /* received, and not given to OpenSSL yet */
    struct buf unsent;      /* sealed, and not taken by the socket yet */
    size_t owed;            /* plain bytes in unsent of which the owner has not been told */
    const char *failure;
    struct net_addr local;
    uint8_t wanted; /* events */
    bool is_established, is_failed;
    bool failure_told; /* to the owner */
    bool has_begun;    /* the peer has sent something */
    bool input_over;   /* the socket's end has come */
    bool is_over;      /* the peer has said that it ends, or has ended */
    bool ends_output;  /* no more is written once unsent is empty */
    bool own_bio;      /* tls_bio.c, not OpenSSL's for sockets */
    bool is_asking;    /* for a certificate */
    bool has_ticket;   /* the client got its ticket */
    bool write_blocks_read, read_blocks_write;
};

static inline const struct tls_stream *tls_stream_of(const struct stream *stream)
{
    return (const struct tls_stream *)(const void *)stream;
}

#endif
