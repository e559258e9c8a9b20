/*
 * How the server reaches a consumer of requests: Lua is one, the specs' probe another, a channel to
 * another process a third. Each function gets the exchange; context is the handler's own.
 */
#ifndef SERVER_HANDLER_H
#define SERVER_HANDLER_H

#include <stdbool.h>

struct exchange;

struct handler {
    void *context;

    /*
     * The head is complete. The handler owns the answer from now on and ends it exactly once, at
     * once or later, with exchange_finish, exchange_fail or exchange_abort, and calls
     * exchange_release when it needs the exchange no more.
     */
    void (*start)(void *context, struct exchange *exchange);

    /*
     * Whether another request could be started now; NULL: max_concurrent_requests decides. When
     * that becomes true again the handler calls app_pull.
     */
    bool (*has_room)(void *context);

    /* Content, its end or its failure can be read; once after each ERR_AGAIN of exchange_content.
     */
    void (*readable)(struct exchange *exchange);

    /* There is room for output again, or sending failed; once after each ERR_AGAIN of
     * exchange_write. */
    void (*writable)(struct exchange *exchange);

    /* The client has answered exchange_ask_certificate, or the host exchange_delegate; once after
     * each. */
    void (*certified)(struct exchange *exchange);

    /* The client left, or the server gives the request up; code: ERR_CLOSED, ERR_RESET,
     * ERR_TIMEOUT, ERR_CANCELLED. At most once, and only after start. */
    void (*cancelled)(struct exchange *exchange, int code);
};

#endif
