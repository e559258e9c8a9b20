/*
 * Whom something is for: a user or a group of the machine, and whether a caller, as the kernel says
 * who it is, is one of them.
 */
#ifndef SHARE_PRINCIPAL_H
#define SHARE_PRINCIPAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/span.h"

#define CALLER_GROUPS                                                                              \
    256 /* of a program that count; the kernel lets nobody have so many by chance */

/* A program, as the kernel says who it is. */
struct caller {
    uid_t uid;
    gid_t groups[CALLER_GROUPS]; /* its own first */
    unsigned group_count;
    bool has_more_groups; /* which are not known */
};

struct principal {
    bool is_group;
    bool is_unknown; /* the machine knows none of this name: it is nobody */
    uint32_t id;     /* uid or gid */
};

#define PRINCIPAL_NAME 256 /* bytes */

/* Of a name, or of a number as "#1000". ERR_INVALID; ERR_NOT_FOUND, and the principal is_unknown,
 * when the machine knows no such user or group. */
int principal_find(struct principal *principal, bool is_group, const char *name,
                   struct err_text *text);

/* Whether the caller is who it is. The overflow uid and gid, which stand for those that this
 * namespace does not know, are nobody. */
bool principal_is(const struct principal *principal, const struct caller *caller);

/* Whether the list (setting request_queue_acl) lets the caller in: it names it, and nothing in it
 * excludes it. A name that the machine does not know (now) lets nobody in, and excludes everybody.
 */
bool principals_allow(const char *list, const struct caller *caller);

#endif
