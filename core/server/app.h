/*
 * An app as the server of a worker sees it: a handler with settings of its own, the URL prefixes
 * that lead to it, and the queue of requests that wait for it.
 */
#ifndef SERVER_APP_H
#define SERVER_APP_H

#include "base/err.h"
#include "route/url_prefix.h"
#include "server/handler.h"
#include "server/server.h"
#include "server/settings.h"

struct app;
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

/*
 * The app is no more: its prefixes go, what waits in its queue is refused as AppOffline, and its
 * column and index are free for another at once. What its handler has goes on; handler and settings
 * are borrowed until gone is called, from the loop, once. Not for the app of channels.
 */
void app_close(struct app *app, void (*gone)(void *owner), void *owner);

/*
 * A prefix that is kept for somebody who is not there: requests whose best match it is get 503
 * (reference section 2.3), until an app adds the equal prefix, which hides it while it is there. 0;
 * ERR_EXISTS when it is kept already; ERR_STATE when the port carries the other scheme.
 */
int server_reserve_prefix(struct server *server, const struct url_prefix *prefix);
void server_release_prefix(struct server *server, const struct url_prefix *prefix);

/* There is room for waiting requests (handler->has_room). */
void app_pull(struct app *app);

/* Its column in the tally; since when the oldest of its waiting requests waits, 0: none does. */
unsigned app_index(const struct app *app);
int64_t app_waits_since_us(const struct app *app);

#endif
