/*
 * An app as the server of a worker sees it: a handler with settings of its own, the URL prefixes
 * that lead to it, and the queue of requests that wait for it.
 */
#ifndef SERVER_APP_H
#define SERVER_APP_H

#include "base/err.h"
#include "route/url_prefix.h"
#include "server/handler.h"
#include "server/settings.h"

struct app;
struct exchange;
struct server;

/*
 * Makes the app with this column of the tally, below TALLY_APPS and not yet taken. Borrows name,
 * settings and handler until server_free; a NULL handler answers 503 (AppOffline).
 */
struct app *app_new(struct server *server, unsigned index, const char *name,
                    const struct settings *settings, const struct handler *handler);

/* Requests at or below the prefix are the app's from now on. ERR_EXISTS when another has it. */
int app_add_prefix(struct app *app, const struct url_prefix *prefix);
void app_remove_prefix(struct app *app, const struct url_prefix *prefix);

/* Takes up what changed in its settings. */
void app_apply_settings(struct app *app);

/* ---- for a host, whose apps come and go */

/*
 * From now on home's queue and handler serve its requests, with home's queue limits and verbosity;
 * its own settings are all others (reference section 3.2). NULL: its own again.
 */
void app_feed(struct app *app, struct app *home);

/*
 * The app is no more: its prefixes go, what waits in its queue is refused as AppOffline, its column
 * in the tally and its index are free for another at once. What its handler has goes on; handler
 * and settings are no longer borrowed when gone is called, from the loop, once.
 */
void app_close(struct app *app, void (*gone)(void *owner), void *owner);

/* There is room for waiting requests (handler->has_room). */
void app_pull(struct app *app);

/* A prefix that is kept for somebody who is not there: requests whose best match it is get 503
 * (reference section 2.3), until an app adds the equal prefix, which then hides it. */
int server_reserve_prefix(struct server *server, const struct url_prefix *prefix);
void server_release_prefix(struct server *server, const struct url_prefix *prefix);

/*
 * Gives an exchange that the handler has, and has neither read nor answered, to the queue of
 * another app (reference section 3.3): the handler has released it by that. ERR_STATE: it was read
 * or answered.
 */
int app_delegate(struct exchange *exchange, struct app *target);

/* Gives it back to its own queue, in front: nobody has seen it. */
void app_requeue(struct exchange *exchange);

#endif
