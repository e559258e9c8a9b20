#include "server/hosted_app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "route/url_prefix.h"
#include "server/settings.h"

#define FIELD(field) WORD_FIELD(hosted_app, field)

static bool is_absolute(const char *value)
{
    return value[0] == '/';
}

static bool is_prefix(const char *value)
{
    struct url_prefix prefix;
    bool is_right = url_prefix_parse(&prefix, span_str(value), NULL) == 0;

    if (is_right && prefix.port == 0)
        is_right = false;
    else if (!is_right)
        return false;
    url_prefix_fini(&prefix);
    return is_right;
}

static bool is_idle(const char *value)
{
    int64_t ms;

    return strcmp(value, "off") == 0 || (settings_parse_seconds(value, &ms) == 0 && ms > 0);
}

static bool is_workers(const char *value)
{
    return settings_check("workers", value, "", NULL) == 0;
}

/* A setting of an app, but for those that the row says itself. */
static bool is_setting(const char *value)
{
    const char *equals = strchr(value, '=');
    char key[128];

    if (equals == NULL)
        return false;
    snprintf(key, sizeof(key), "%.*s", (int)(equals - value), value);
    return strcmp(key, "url_prefixes") != 0 && strcmp(key, "registration_grace") != 0 &&
           settings_check(key, equals + 1, "", NULL) == 0;
}

static bool is_variable(const char *value)
{
    return strchr(value, '=') > value;
}

static const struct word_key keys[] = {
    {"file", FIELD(file), .required = true, .is_right = is_absolute, .form = "an absolute path",
     .help = "the app"},
    {"user", FIELD(user), .form = "a name",
     .help = "whom its process becomes, when root starts it"},
    {"prefix", WORD_FIELDS(hosted_app, prefix, HOSTED_APP_PREFIXES, HOSTED_APP_TEXT),
     .is_right = is_prefix, .form = "a URL prefix with a port",
     .help = "what it serves, in place of its own url_prefixes; needed for start=demand"},
    {"start", FIELD(start), .choices = "always|demand",
     .help = "with the host, or with the first request for it"},
    {"idle", FIELD(idle), .is_right = is_idle, .form = "seconds above 0, or off", .is_number = true,
     .help = "with start=demand: it is stopped when it had nothing to do for so long; 600"},
    {"workers", FIELD(workers), .is_right = is_workers, .form = "between 1 and 1024",
     .is_number = true, .help = "processes of it"},
    {"set", WORD_FIELDS(hosted_app, set, HOSTED_APP_SETTINGS, HOSTED_APP_TEXT),
     .is_right = is_setting, .form = "KEY=VALUE, a setting", .help = "beats what the app says"},
    {"env", WORD_FIELDS(hosted_app, env, HOSTED_APP_VARIABLES, HOSTED_APP_TEXT),
     .is_right = is_variable, .form = "NAME=VALUE", .help = "a variable of its environment"},
};

static int judge(const void *record, char *why, size_t room)
{
    const struct hosted_app *app = record;

    if (hosted_app_on_demand(app) && app->prefix[0][0] == '\0') {
        snprintf(why, room, "prefix: is missing, for start=demand");
        return ERR_INVALID;
    }
    if (!hosted_app_on_demand(app) && app->idle[0]) {
        snprintf(why, room, "idle: counts for start=demand only");
        return ERR_INVALID;
    }
    return 0;
}

const struct word_table hosted_app_table = {
    .keys = keys,
    .count = sizeof(keys) / sizeof(keys[0]),
    .bytes = sizeof(struct hosted_app),
    .noun = "app",
    .type = "moonquay.HostedApp",
    .judge = judge,
};

int hosted_app_next(const char **rest, struct hosted_app *app, char *why, size_t room)
{
    return word_row_next(&hosted_app_table, rest, app, why, room);
}

bool hosted_app_on_demand(const struct hosted_app *app)
{
    return strcmp(app->start, "demand") == 0;
}

int64_t hosted_app_idle_ms(const struct hosted_app *app)
{
    int64_t ms = HOSTED_APP_IDLE_MS;

    if (strcmp(app->idle, "off") == 0)
        return INT64_MAX;
    if (app->idle[0])
        settings_parse_seconds(app->idle, &ms);
    return ms;
}
