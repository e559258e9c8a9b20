/*
 * Reservations: who may register URL prefixes at or below one (reference/http-sys.md sections 2.4
 * and 2.5). They outlive programs, restarts and the machine.
 */
#ifndef SHARE_RESERVATION_H
#define SHARE_RESERVATION_H

#include <stdbool.h>

#include "base/err.h"
#include "route/url_prefix.h"
#include "share/principal.h"

#define RESERVATIONS_MOST 4096

struct reservation {
    struct url_prefix prefix;
    char *holder; /* "user" or "group" and its name: "user:alice", "group:#1000" */
    struct principal who;
    bool listens;   /* the holder may register at or below */
    bool delegates; /* the holder may reserve below */
};

/* {0} is an empty list. */
struct reservations {
    struct reservation *at; /* in the order in which they were added */
    size_t count;
};

void reservations_fini(struct reservations *list);
void reservations_copy(struct reservations *copy, const struct reservations *list);

/* Reads a URL that is to be reserved, or is; url_prefix_fini frees what it becomes. 0 or
 * ERR_INVALID. */
int reservation_url(struct url_prefix *prefix, const char *url, struct err_text *text);

/* What is to be reserved, as texts. */
struct reservation_wish {
    const char *url;   /* ends with a slash */
    const char *user;  /* a name or "#1000"; NULL when group says who */
    const char *group; /* likewise */
    bool listens, delegates;
    bool was_there; /* it is no news: a holder whom the machine does not know (any more) is kept */
};

/*
 * 0; ERR_INVALID for a URL or a holder that is none, ERR_NOT_FOUND for an unknown one unless it
 * was_there, ERR_EXISTS when the URL is reserved, ERR_STATE when a reservation of its port has the
 * other scheme, ERR_LIMIT.
 */
int reservations_add(struct reservations *list, const struct reservation_wish *wish,
                     struct err_text *text);

/* ERR_INVALID, or ERR_NOT_FOUND when the URL is not reserved. */
int reservations_remove(struct reservations *list, const char *url, struct err_text *text);

/* The one with the longest path at or above prefix in the same bucket; NULL: nobody has reserved
 * it.
 */
const struct reservation *reservations_find(const struct reservations *list,
                                            const struct url_prefix *prefix);

/* Whether the caller is who it is for. A holder whom the machine did not know is looked up again:
 * accounts may come from a directory that is not always there. */
bool reservation_is_for(const struct reservation *reservation, const struct caller *caller);

/* Whether it lies above prefix, in the same bucket; and how many reservations it lies above. */
bool reservation_is_above(const struct reservation *reservation, const struct url_prefix *prefix);
size_t reservations_below(const struct reservations *list, const struct reservation *above);

#endif
