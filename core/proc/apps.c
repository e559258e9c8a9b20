/*
 * Values come in the order of DESIGN section 5, later ones win: built-in, what depends on the
 * terminal, configuration file, app, environment and command line, and at last changes at run time.
 */
#include "proc/apps_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "bind/vm.h"
#include "proc/certificates.h"
#include "proc/worker_ipc.h"
#include "server/hosting.h"
#include "server/tls_binding.h"

#define GIVER_BYTES 1200

/* What all prefixes take: a worker that starts is told them in one message, beside the settings. */
#define PREFIX_BYTES_MOST (12 << 20)
#define PREFIX_KEY_BYTES  6 /* "63:+" and the ends of key and value */
#define WARNED_WILDCARDS                                                                           \
    8 /* one line each for so many top-level wildcards, then one for the rest */

/* ---- settings ---- */

static bool is_place(const char *key)
{
    size_t length = strlen(key);

    return length > 0 && key[length - 1] == VM_SETTING_PLACE[0];
}

/* The place that follows a key in pairs; NULL when there is none. */
static const char *place_of(struct span pairs, const char *key)
{
    char name[160];

    snprintf(name, sizeof(name), "%s" VM_SETTING_PLACE, key);
    return pairs_find(pairs, name);
}

/* Of both scopes: what a server-wide key means for an app is the same. */
static int apply(struct settings *settings, struct span pairs, const char *where,
                 struct err_text *text)
{
    struct span all = pairs;
    const char *key, *value;
    int code = 0;

    while (code == 0 && pairs_next(&pairs, &key, &value)) {
        if (is_place(key))
            continue;
        const char *place = place_of(all, key);

        code = settings_set(settings, key, value, place ? place : where, text);
    }
    return code;
}

static struct span config_of(const struct apps *apps)
{
    return buf_span(&apps->options->config);
}

/* What is in force for one app, or for the server when asked holds what all of them ask of it. */
static int settle(const struct apps *apps, struct settings *settings, struct span asked,
                  struct err_text *text)
{
    const struct options *options = apps->options;
    int code;

    settings_fini(settings);
    settings_init(settings);
    code = apply(settings, buf_span(&options->defaults), "default", text);
    if (code == 0)
        code = apply(settings, config_of(apps), "configuration", text);
    if (code == 0)
        code = apply(settings, asked, "app", text);
    if (code == 0)
        code = apply(settings, buf_span(&options->overrides), "option", text);
    return code;
}

int apps_init(struct apps *apps, const struct options *options, struct err_text *text)
{
    apps->options = options;
    for (; apps->count < options->app_count; apps->count++) {
        struct served_app *app = &apps->at[apps->count];

        app->index = apps->count;
        app->path = options->apps[apps->count];
        app->is_open = true;
    }
    return settle(apps, &apps->settings, SPAN_NONE, text);
}

void served_app_fini(struct served_app *app)
{
    settings_fini(&app->settings);
    if (app->is_attached)
        mem_free((char *)(uintptr_t)app->path);
    prefix_list_fini(&app->kept);
    *app = (struct served_app){.index = app->index};
}

void apps_fini(struct apps *apps)
{
    settings_fini(&apps->settings);
    for (unsigned i = 0; i < apps->count; i++)
        served_app_fini(&apps->at[i]);
    prefix_table_free(apps->prefixes);
    apps->prefixes = NULL;
}

/* The pairs of app index out of all, without the number in front. */
void apps_pairs_of(struct span asked, unsigned index, struct buf *own)
{
    char scope[16];
    int length = snprintf(scope, sizeof(scope), "%u:", index);
    const char *key, *value;

    while (pairs_next(&asked, &key, &value))
        if (strncmp(key, scope, (size_t)length) == 0)
            pairs_add(own, key + length, value);
}

/* The addresses of an app are its own affair, although somebody outside may name them for all. */
static bool is_hosting(const char *key)
{
    return strcmp(key, "urls") == 0 || strcmp(key, "prefer_urls") == 0;
}

/* "64KiB" and "65536" are one value. Both are right, or they would have been refused before. */
static bool is_same(const char *key, const char *one, const char *other)
{
    struct err_text text;
    int64_t first, second;

    if (strcmp(one, other) == 0)
        return true;
    return settings_number(key, one, "", &first, &text) == 0 &&
           settings_number(key, other, "", &second, &text) == 0 && first == second;
}

/* Each app brings the bindings of its own names. */
static void add_bindings(struct buf *all, const char *other, const char *value, const char *place)
{
    struct buf text = {0};

    buf_append(&text, span_str(other ? other : ""));
    tls_bindings_join(&text, value);
    buf_append(&text, SPAN("\0"));
    pairs_add(all, "tls", buf_span(&text).at);
    pairs_add(all, "tls" VM_SETTING_PLACE, place ? place : "?");
    buf_fini(&text);
}

/* Adds what the app wants of the server to what the apps before it want. */
static int merge_server_wide(struct span own, struct buf *all, struct err_text *text)
{
    struct span rest = own;
    const char *key, *value;

    while (pairs_next(&rest, &key, &value)) {
        if (settings_scope(key) != SETTING_SERVER || is_hosting(key))
            continue;
        const char *other = pairs_find(buf_span(all), key), *place = place_of(own, key);
        char name[160];

        if (strcmp(key, "tls") == 0) {
            add_bindings(all, other, value, place);
            continue;
        }
        if (other && !is_same(key, other, value))
            return err_set(text, EXIT_OPTION, ERR_EXISTS,
                           "%s is one for all apps: %s says %.80s, and %s says %.80s", key,
                           place_of(buf_span(all), key), other, place ? place : "?", value);
        pairs_add(all, key, value);
        snprintf(name, sizeof(name), "%s" VM_SETTING_PLACE, key);
        pairs_add(all, name, place ? place : "?");
    }
    return 0;
}

int apps_loaded(struct apps *apps, struct span asked, struct err_text *text)
{
    struct buf all = {0};
    int code = 0;

    for (unsigned i = 0; i < apps->count && code == 0; i++) {
        struct buf own = {0};

        apps_pairs_of(asked, i, &own);
        code = settle(apps, &apps->at[i].settings, buf_span(&own), text);
        if (code == 0)
            code = merge_server_wide(buf_span(&own), &all, text);
        buf_fini(&own);
    }
    if (code == 0)
        code = settle(apps, &apps->settings, buf_span(&all), text);
    buf_fini(&all);
    return code;
}

/* ---- prefixes at the start ---- */

static bool is_in(struct span pairs, const char *key)
{
    return pairs_find(pairs, key) != NULL;
}

/*
 * Who gave the value of a key, as the start of a message: "--urls", "--set url_prefixes",
 * "app.lua:3: urls".
 */
static void name_giver(const struct apps *apps, struct span own, const char *key, char *out,
                       size_t room)
{
    const struct options *options = apps->options;
    const char *place = place_of(own, key);

    if (is_in(buf_span(&options->overrides), key)) {
        if (strcmp(key, "urls") == 0)
            snprintf(out, room, "%s", options->urls_from);
        else
            snprintf(out, room, "--set %s", key);
        return;
    }
    if (place == NULL)
        place = place_of(config_of(apps), key);
    snprintf(out, room, "%s: %s", place ? place : "default", key);
}

static bool is_given(const struct apps *apps, struct span own, const char *key)
{
    return is_in(own, key) || is_in(config_of(apps), key) ||
           is_in(buf_span(&apps->options->overrides), key);
}

bool apps_is_given(const struct apps *apps, struct span asked, const char *key)
{
    const char *name, *value;

    if (is_given(apps, SPAN_NONE, key) || is_in(buf_span(&apps->options->defaults), key))
        return true;
    while (pairs_next(&asked, &name, &value))
        if (strchr(name, ':') && strcmp(strchr(name, ':') + 1, key) == 0)
            return true;
    return false;
}

static int refuse_duplicate(const struct url_prefix *prefix, const struct served_app *app,
                            const struct served_app *other, struct err_text *text)
{
    if (app == other)
        return err_set(text, EXIT_OPTION, ERR_EXISTS, "%s names the prefix %.300s twice", app->path,
                       prefix->text);
    return err_set(text, EXIT_OPTION, ERR_EXISTS, "%.300s: both %s and %s name this prefix",
                   prefix->text, other->path, app->path);
}

size_t apps_told_bytes(const struct url_prefix *prefix)
{
    return strlen(prefix->text) + PREFIX_KEY_BYTES;
}

/* Takes a prefix into the table, its sockets open. */
static int add_to_table(struct apps *apps, struct served_app *app, struct endpoints *endpoints,
                        struct url_prefix *prefix, struct err_text *text)
{
    void *other = NULL;
    int code;

    if (prefix->port != 0) {
        code = prefix_table_add(apps->prefixes, prefix, app, &other);
        if (code == ERR_EXISTS)
            return refuse_duplicate(prefix, app, other, text);
        if (code < 0)
            return err_set(text, EXIT_OPTION, code, "%.300s: the port carries the other scheme",
                           prefix->text);
        code = endpoints_add(endpoints, prefix, text);
        if (code < 0)
            prefix_table_remove(apps->prefixes, prefix);
        return code;
    }
    code = endpoints_add(endpoints, prefix, text);
    if (code == 0)
        CHECK(prefix_table_add(apps->prefixes, prefix, app, &other) == 0); /* the port is new */
    return code;
}

/* In a host the binding may come later; until then handshakes fail (reference section 12.1). */
static int lacks_binding(const struct apps *apps, const struct url_prefix *prefix,
                         struct err_text *text)
{
    if (apps->options->command != COMMAND_HOST)
        return err_set(text, EXIT_OPTION, ERR_UNSUPPORTED,
                       "%.300s: no certificate is for it: the setting tls has no binding that fits "
                       "(name, address, port)",
                       prefix->text);
    log_event(LOG_WARN, "no_certificate", "%.300s: none is for it: moonquay http add sslcert",
              prefix->text);
    return 0;
}

int apps_take_prefix(struct apps *apps, struct served_app *app, struct endpoints *endpoints,
                     struct url_prefix *prefix, struct err_text *text)
{
    int code;

    if (prefix->https && !certificates_can_serve(apps->certificates, prefix) &&
        (code = lacks_binding(apps, prefix, text)) < 0)
        return code;
    if (apps->prefix_bytes + apps_told_bytes(prefix) > PREFIX_BYTES_MOST)
        return err_set(text, EXIT_OPTION, ERR_LIMIT,
                       "%.300s: the prefixes of all apps take more than %d MiB", prefix->text,
                       PREFIX_BYTES_MOST >> 20);
    code = add_to_table(apps, app, endpoints, prefix, text);
    if (code == 0)
        apps->prefix_bytes += apps_told_bytes(prefix);
    return code;
}

struct opening {
    struct apps *apps;
    struct served_app *app;
    struct endpoints *endpoints;
    const char *from; /* who named the prefixes */
    unsigned wildcards;
    struct err_text *text;
};

static void warn_of_wildcard(struct opening *opening, const struct url_prefix *prefix)
{
    if (!url_prefix_is_wildcard_top(prefix) || opening->wildcards++ >= WARNED_WILDCARDS)
        return;
    log_event(LOG_WARN, "wildcard_prefix",
              "%.300s takes requests for any host, also forged ones: name the host where there is "
              "one",
              prefix->text);
}

static int open_prefix(struct opening *opening, struct span item)
{
    struct url_prefix prefix;
    struct err_text wrong;
    int code = url_prefix_parse(&prefix, item, &wrong);

    if (code == 0) {
        code = apps_take_prefix(opening->apps, opening->app, opening->endpoints, &prefix, &wrong);
        if (code == 0)
            warn_of_wildcard(opening, &prefix);
        url_prefix_fini(&prefix);
    }
    if (code == ERR_INVALID || code == ERR_UNSUPPORTED)
        return err_set(opening->text, wrong.exit_code, code, "%s: %s", opening->from, wrong.text);
    if (code < 0)
        *opening->text = wrong;
    return code;
}

struct hosting_choice apps_choose(const struct apps *apps, const struct served_app *app,
                                  struct span own, bool *is_urls)
{
    char urls_from[GIVER_BYTES];
    struct hosting hosting = {
        .url_prefixes = app->settings.url_prefixes,
        .urls = is_given(apps, own, "urls") ? app->settings.urls : NULL,
        .default_urls = pairs_find(buf_span(&apps->options->defaults), "urls"),
        .urls_from = urls_from,
        .prefer_urls = app->settings.prefer_urls,
    };
    struct hosting_choice choice = hosting_choose(&hosting);
    char warning[512];

    name_giver(apps, own, "urls", urls_from, sizeof(urls_from));
    *is_urls = choice.is_urls;
    if (hosting_warning(&hosting, choice.note, warning, sizeof(warning)) > 0)
        log_event(LOG_WARN, "prefixes_chosen", "%s: %s", app->path, warning);
    return choice;
}

static int open_app(struct apps *apps, struct served_app *app, struct endpoints *endpoints,
                    struct span own, struct err_text *text)
{
    bool is_urls;
    struct hosting_choice choice = apps_choose(apps, app, own, &is_urls);
    char from[GIVER_BYTES];
    struct opening opening = {apps, app, endpoints, from, 0, text};
    const char *rest = choice.list;
    struct span item;
    int code = 0;

    name_giver(apps, own, is_urls ? "urls" : "url_prefixes", from, sizeof(from));
    while (code == 0 && settings_item(&rest, &item))
        code = open_prefix(&opening, item);
    if (opening.wildcards > WARNED_WILDCARDS)
        log_event(LOG_WARN, "wildcard_prefix", "and %u more of %s",
                  opening.wildcards - WARNED_WILDCARDS, app->path);
    return code;
}

/* A queue of that name can only be found in a host. */
static int check_queue(const struct served_app *app, struct err_text *text)
{
    if (strcmp(app->settings.request_queue_mode, "attach") != 0)
        return 0;
    return err_set(text, EXIT_OPTION, ERR_NOT_FOUND,
                   "%s: request_queue_mode=attach: there is no request queue \"%.260s\"", app->path,
                   app->settings.request_queue_name);
}

int apps_open(struct apps *apps, struct endpoints *endpoints, struct span asked,
              struct err_text *text)
{
    int code = 0;

    apps->prefixes = prefix_table_new();
    for (unsigned i = 0; i < apps->count && code == 0; i++) {
        struct buf own = {0};

        apps_pairs_of(asked, i, &own);
        code = check_queue(&apps->at[i], text);
        if (code == 0)
            code = open_app(apps, &apps->at[i], endpoints, buf_span(&own), text);
        buf_fini(&own);
    }
    if (code < 0)
        endpoints_close_all(endpoints);
    return code;
}

/* ---- telling ---- */

void apps_add_pair(struct buf *pairs, const char *prefix, const char *key, const char *value)
{
    buf_append(pairs, span_str(prefix));
    pairs_add(pairs, key, value);
}

void apps_add_setting(struct telling *telling, const char *key)
{
    const char *text = settings_text(telling->settings, key);
    char value[64];

    if (text == NULL) {
        settings_get(telling->settings, key, value, sizeof(value));
        text = value;
    }
    apps_add_pair(telling->pairs, telling->prefix, key, text);
}

static void add_setting_of_scope(void *arg, const char *key)
{
    struct telling *telling = arg;

    /* The lists of addresses have become prefixes. */
    if (settings_scope(key) == (int)telling->scope && strcmp(key, "url_prefixes") != 0 &&
        !is_hosting(key))
        apps_add_setting(telling, key);
}

void apps_add_prefix(void *context, const struct url_prefix *prefix, void *value)
{
    const struct served_app *app = value;
    char scope[16];

    snprintf(scope, sizeof(scope), "%u:", app->index);
    apps_add_pair(context, scope, IPC_ADD_PREFIX, prefix->text);
}

/* All but its prefixes. */
void apps_add_app(const struct served_app *app, struct buf *pairs)
{
    char scope[16], uid[16];
    struct telling telling = {&app->settings, SETTING_APP, scope, pairs};

    snprintf(scope, sizeof(scope), "%u:", app->index);
    if (app->is_attached) {
        snprintf(uid, sizeof(uid), "%u", (unsigned)app->uid);
        apps_add_pair(pairs, scope, IPC_OPEN_APP, app->path);
        apps_add_pair(pairs, scope, IPC_APP_OWNER, uid);
        if (app->kept.count > 0)
            apps_add_pair(pairs, scope, IPC_APP_HOSTED, "1");
    }
    settings_each(add_setting_of_scope, &telling);
}

void apps_state(const struct apps *apps, struct buf *pairs)
{
    struct telling telling = {&apps->settings, SETTING_SERVER, IPC_SERVER_SCOPE, pairs};

    settings_each(add_setting_of_scope, &telling);
    for (unsigned i = 0; i < apps->count; i++)
        if (apps->at[i].is_open)
            apps_add_app(&apps->at[i], pairs);
    prefix_table_each(apps->prefixes, apps_add_prefix, pairs);
}

struct addresses {
    struct buf *out;
    size_t count, most;
};

static void print_address(void *context, const struct url_prefix *prefix, void *value)
{
    struct addresses *addresses = context;

    (void)value;
    if (addresses->count++ < addresses->most)
        buf_printf(addresses->out, "%s%s", addresses->count > 1 ? ", " : "", prefix->text);
}

void apps_print_addresses(const struct apps *apps, size_t most, struct buf *out)
{
    struct addresses addresses = {out, 0, most};

    prefix_table_each(apps->prefixes, print_address, &addresses);
    if (addresses.count == 0)
        buf_append(out, SPAN("no address"));
    if (addresses.count > most)
        buf_printf(out, " and %zu more", addresses.count - most);
}

/* ---- changes ---- */

int apps_change_setting(struct apps *apps, struct served_app *app, const char *key,
                        const char *value, const char *place, struct buf *change,
                        struct err_text *text)
{
    bool is_server = settings_scope(key) == SETTING_SERVER;
    struct settings *settings = is_server ? &apps->settings : &app->settings;
    char scope[16];
    int code = settings_check_change(key, value, place, text);

    if (code < 0)
        return code;
    settings_set(settings, key, value, place, text);
    snprintf(scope, sizeof(scope), "%u:", app->index);
    apps_add_setting(
        &(struct telling){settings, SETTING_APP, is_server ? IPC_SERVER_SCOPE : scope, change},
        key);
    return 0;
}

int apps_listen(struct apps *apps, struct served_app *app, struct endpoints *endpoints,
                const char *prefix, struct buf *change, struct buf *reply, struct err_text *text)
{
    struct url_prefix parsed;
    int code = url_prefix_parse(&parsed, span_str(prefix), text);

    if (code < 0)
        return code;
    code = apps_take_prefix(apps, app, endpoints, &parsed, text);
    if (code == 0) {
        apps_add_prefix(change, &parsed, app);
        pairs_add(reply, "ok", parsed.text);
        warn_of_wildcard(&(struct opening){.app = app}, &parsed);
    }
    url_prefix_fini(&parsed);
    return code;
}

struct ownership {
    const struct url_prefix *prefix, *published;
    const struct served_app *owner;
};

static void find_owner(void *context, const struct url_prefix *prefix, void *value)
{
    struct ownership *ownership = context;

    if (url_prefix_equal(prefix, ownership->prefix)) {
        ownership->owner = value;
        ownership->published = prefix;
    }
}

int apps_unlisten(struct apps *apps, struct served_app *app, struct endpoints *endpoints,
                  const char *prefix, struct buf *change, struct buf *reply, struct err_text *text)
{
    struct url_prefix parsed;
    char scope[16];
    int code = url_prefix_parse(&parsed, span_str(prefix), text);

    if (code < 0)
        return code;
    struct ownership ownership = {.prefix = &parsed};

    prefix_table_each(apps->prefixes, find_owner, &ownership);
    if (ownership.owner == app) {
        const char *published = ownership.published->text; /* may differ in case */

        snprintf(scope, sizeof(scope), "%u:", app->index);
        apps_add_pair(change, scope, IPC_DROP_PREFIX, published);
        pairs_add(reply, "ok", published);
        prefix_table_remove(apps->prefixes, &parsed);
        apps->prefix_bytes -= apps_told_bytes(&parsed);
        endpoints_remove(endpoints, &parsed);
    } else {
        code = err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%.300s is no prefix of %s", parsed.text,
                       app->path);
    }
    url_prefix_fini(&parsed);
    return code;
}
