/*
 * The access log: a line a request when its response ended, in combined or JSON form. Lines are
 * gathered and written once a turn.
 */
#ifndef SERVER_ACCESS_LOG_H
#define SERVER_ACCESS_LOG_H

#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"
#include "net/addr.h"

enum access_format { ACCESS_COMBINED, ACCESS_JSON };

struct access_entry {
    const struct net_addr *client;
    struct span method, target, user_agent, referer, user, request_id, host;
    int64_t unix_ms;                       /* when the request's head was complete */
    uint64_t content_bytes, request_bytes; /* of the response's and request's content */
    int64_t duration_us;
    int status;           /* 0: aborted before a status was sent */
    struct span protocol; /* "HTTP/1.1" */
    bool aborted;
};

struct access_log;

/* Takes fd (2 is never closed). */
struct access_log *access_log_new(int fd, enum access_format format);
void access_log_free(struct access_log *log);
void access_log_reopen(struct access_log *log, int fd);

/* Appends a line; it reaches the file by the next access_log_flush (called each turn) or when 32
 * KiB are gathered. */
void access_log_add(struct access_log *log, const struct access_entry *entry);
void access_log_flush(struct access_log *log);

#endif
