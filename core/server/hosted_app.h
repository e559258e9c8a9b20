/*
 * An app that a host starts itself, as a process of its own: one of the rows in the setting apps.
 *
 *   file=/srv/shop/app.lua user=alice prefix=http://+:80/shop/ start=demand idle=300; …
 */
#ifndef SERVER_HOSTED_APP_H
#define SERVER_HOSTED_APP_H

#include <stdint.h>

#include "server/word_row.h"

#define HOSTED_APPS_MOST     32
#define HOSTED_APP_PREFIXES  16
#define HOSTED_APP_SETTINGS  32
#define HOSTED_APP_VARIABLES 32
#define HOSTED_APP_TEXT      512
#define HOSTED_APP_IDLE_MS   600000

/* Texts are "" when they were not given. */
struct hosted_app {
    char file[HOSTED_APP_TEXT]; /* absolute */
    char user[64];
    char prefix[HOSTED_APP_PREFIXES][HOSTED_APP_TEXT];
    char start[16]; /* always, demand */
    char idle[16];  /* seconds, off */
    char workers[8];
    char set[HOSTED_APP_SETTINGS][HOSTED_APP_TEXT];  /* "KEY=VALUE" */
    char env[HOSTED_APP_VARIABLES][HOSTED_APP_TEXT]; /* likewise */
};

extern const struct word_table hosted_app_table;

/* As word_row_next. */
int hosted_app_next(const char **rest, struct hosted_app *app, char *why, size_t room);

/* Whether it waits for its first request. */
bool hosted_app_on_demand(const struct hosted_app *app);

/* How long it may have nothing to do before it is stopped; INT64_MAX: as long as it likes. */
int64_t hosted_app_idle_ms(const struct hosted_app *app);

#endif
