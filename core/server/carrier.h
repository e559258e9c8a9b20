/*
 * How the messages of an exchange are carried: by an HTTP/1.1 connection, or by a stream of HTTP/2.
 * What is the same for both is decided in exchange.c; it calls these only while exchange->conn is
 * there.
 */
#ifndef SERVER_CARRIER_H
#define SERVER_CARRIER_H

#include "server/server_priv.h"

struct carrier {
    /* As exchange_content, for content that is neither held nor at its end. */
    int (*content)(struct exchange *exchange, struct span *data);

    /* So much of what content has returned was used up; less than nothing: it was given back. */
    void (*used)(struct exchange *exchange, ssize_t bytes);

    /* Whether some of the content is here already: then nobody waits for 100 (Continue). */
    bool (*has_bytes)(const struct exchange *exchange);

    /* Sends status and fields; the content's length is in exchange->length. */
    void (*head)(struct exchange *exchange);
    void (*interim)(struct exchange *exchange, int status, const struct fields *fields);

    /* 0, or ERR_AGAIN while the peer has too much to take already, or ERR_CLOSED. */
    int (*room)(struct exchange *exchange);

    /* Content that may be sent, at most OUT_HIGH_BYTES: all of it is taken. A negative code when
     * the connection broke. */
    int (*write)(struct exchange *exchange, struct span data);

    /* The last content, maybe empty, and with it the end. */
    void (*finish)(struct exchange *exchange, struct span data);

    /* The handler has no more to say: the exchange is finished. */
    void (*finished)(struct exchange *exchange);
    int (*flush)(struct exchange *exchange);

    /* A page of ours is about to answer a message that may be broken. */
    void (*refusing)(struct exchange *exchange);

    /* Breaks off what is not complete: the connection, or the stream with exchange->reset_code. */
    void (*drop)(struct exchange *exchange, enum conn_close_reason reason);

    /* The same behind a complete answer, where the request goes on. */
    void (*drop_rest)(struct exchange *exchange);
};

extern const struct carrier h1_carrier, h2_carrier;

/* exchange.c, for both */
bool exchange_drops_content(const struct exchange *exchange);
bool exchange_has_no_content(const struct exchange *exchange); /* by its status */
bool exchange_is_head(const struct exchange *exchange);
bool exchange_content_broken(const struct exchange *exchange);
int exchange_content_failed(struct exchange *exchange, int code);
struct span exchange_date(struct exchange *exchange);
struct span exchange_server_name(const struct exchange *exchange);

#endif
