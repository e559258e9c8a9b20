/* What apps.c (values, prefixes, changes) and apps_shared.c (hosts and attached apps) share. */
#ifndef PROC_APPS_PRIV_H
#define PROC_APPS_PRIV_H

#include "proc/apps.h"
#include "proc/worker_ipc.h"
#include "server/hosting.h"

/* What a prefix takes of what all prefixes may (apps->prefix_bytes). */
size_t apps_told_bytes(const struct url_prefix *prefix);

/* Takes a prefix into the table, its sockets open, a port 0 chosen; or the error, and nothing has
 * changed. */
int apps_take_prefix(struct apps *apps, struct served_app *app, struct endpoints *endpoints,
                     struct url_prefix *prefix, struct err_text *text);

/* Which of its lists of addresses counts; *is_urls: it is urls. */
struct hosting_choice apps_choose(const struct apps *apps, const struct served_app *app,
                                  struct span own, bool *is_urls);

/* ---- what others are told */

struct telling {
    const struct settings *settings;
    enum setting_scope scope;
    const char *prefix; /* of the keys: "3:" */
    struct buf *pairs;
};
void apps_add_pair(struct buf *pairs, const char *prefix, const char *key, const char *value);
void apps_add_setting(struct telling *telling, const char *key);

/* An app without its prefixes; and one of these (context: the pairs, value: the app). */
void apps_add_app(const struct served_app *app, struct buf *pairs);
void apps_add_prefix(void *context, const struct url_prefix *prefix, void *value);

#endif
