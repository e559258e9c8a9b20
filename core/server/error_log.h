/*
 * The HTTP error log: a line for each request that the server refused and each connection that it
 * dropped, in the W3C extended form with HTTP.sys's fields (reference/http-sys.md section 18.1).
 * Lines are gathered and written once a turn. Not the server's own log (base/log.h).
 */
#ifndef SERVER_ERROR_LOG_H
#define SERVER_ERROR_LOG_H

#include <stdint.h>

#include "base/span.h"
#include "net/addr.h"
#include "server/reason.h"

enum error_version {
    ERROR_VERSION_NONE, /* nothing was read */
    ERROR_VERSION_UNKNOWN,
    ERROR_VERSION_1_0,
    ERROR_VERSION_1_1,
    ERROR_VERSION_2,
};

/* What is zero, NULL or empty is shown as missing. */
struct error_entry {
    const struct net_addr *client, *server;
    struct span method, target, queue; /* target: as it was received */
    int64_t unix_ms;
    uint32_t stream; /* of HTTP/2 */
    int status;      /* that was sent */
    enum error_version version;
    enum reason reason;
};

struct error_log;

/*
 * Takes fd (2 is never closed), borrows owner. full(owner) is called from a flush that finds
 * max_bytes or more in the file, once until error_log_reopen, which it may call; never when
 * max_bytes is 0. Writes no header.
 */
struct error_log *error_log_new(int fd, int64_t max_bytes, void (*full)(void *owner), void *owner);
void error_log_free(struct error_log *log);
void error_log_reopen(struct error_log *log, int fd);

/*
 * Appends a line; it reaches the file by the next error_log_flush (called each turn) or when 32 KiB
 * are gathered. A blank, a control or a byte that is no UTF-8 becomes "+" in a field, and so does
 * the userinfo of a target: passwords do not belong into a log.
 */
void error_log_add(struct error_log *log, const struct error_entry *entry);
void error_log_flush(struct error_log *log);

/*
 * Writes the comment lines that begin a file, when it is empty (a pipe or terminal always is). For
 * the process that opens the file, before it hands it to others: so each file has them once. 0 or a
 * negative enum err, with errno.
 */
int error_log_header(int fd);

#endif
