/*
 * Port sharing as the table of apps sees it: in a host apps come and go with the programs that
 * bring them, and in an attached program the host says which prefixes there are.
 */
#include "proc/apps_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HEADER_WAIT     "timeouts.header_wait"
#define IDLE_CONNECTION "timeouts.idle_connection"

/* ---- apps that come and go ---- */

static int read_wish(struct settings *settings, struct span wish, struct err_text *text)
{
    const char *key, *value;
    int code = 0;

    settings_init(settings);
    while (code == 0 && pairs_next(&wish, &key, &value))
        if (strncmp(key, "set:", 4) == 0 && settings_scope(key + 4) == SETTING_APP)
            code = settings_set(settings, key + 4, value, "app", text);
    return code;
}

/* An app that says nothing of these has what the machine has (reference/http-sys.md section 13):
 * the built-in values are as good as nothing. */
static void inherit(const struct apps *apps, struct served_app *app)
{
    struct settings builtin;

    settings_init(&builtin);
    app->inherits_header_wait =
        app->settings.timeout_header_wait_ms == builtin.timeout_header_wait_ms;
    app->inherits_idle =
        app->settings.timeout_idle_connection_ms == builtin.timeout_idle_connection_ms;
    settings_fini(&builtin);
    if (app->inherits_header_wait)
        app->settings.timeout_header_wait_ms = apps->settings.timeout_header_wait_ms;
    if (app->inherits_idle)
        app->settings.timeout_idle_connection_ms = apps->settings.timeout_idle_connection_ms;
}

static void use_timeout(const struct settings *settings, const char *scope, const char *key,
                        int64_t *value, int64_t ms, struct buf *change)
{
    if (*value == ms)
        return;
    *value = ms;
    apps_add_setting(&(struct telling){settings, SETTING_APP, scope, change}, key);
}

void apps_use_timeouts(struct apps *apps, int64_t header_wait_ms, int64_t idle_connection_ms,
                       struct buf *change)
{
    struct settings *server = &apps->settings;

    use_timeout(server, IPC_SERVER_SCOPE, HEADER_WAIT, &server->timeout_header_wait_ms,
                header_wait_ms, change);
    use_timeout(server, IPC_SERVER_SCOPE, IDLE_CONNECTION, &server->timeout_idle_connection_ms,
                idle_connection_ms, change);
    for (unsigned i = 0; i < apps->count; i++) {
        struct settings *settings = &apps->at[i].settings;
        char scope[16];

        snprintf(scope, sizeof(scope), "%u:", i);
        if (apps->at[i].is_open && apps->at[i].inherits_header_wait)
            use_timeout(settings, scope, HEADER_WAIT, &settings->timeout_header_wait_ms,
                        header_wait_ms, change);
        if (apps->at[i].is_open && apps->at[i].inherits_idle)
            use_timeout(settings, scope, IDLE_CONNECTION, &settings->timeout_idle_connection_ms,
                        idle_connection_ms, change);
    }
}

/* ---- prefixes of an app, apart from the table that they lie in ---- */

struct finding {
    const struct served_app *app;
    struct prefix_list *found;
};

static void add_copy(struct prefix_list *list, const struct url_prefix *prefix)
{
    list->at = mem_realloc(list->at, (list->count + 1) * sizeof(*list->at));
    url_prefix_copy(&list->at[list->count++], prefix);
}

static void find_own(void *context, const struct url_prefix *prefix, void *value)
{
    const struct finding *finding = context;

    if (value == finding->app)
        add_copy(finding->found, prefix);
}

static struct prefix_list prefixes_of(const struct apps *apps, const struct served_app *app)
{
    struct prefix_list own = {0};

    prefix_table_each(apps->prefixes, find_own, &(struct finding){app, &own});
    return own;
}

void prefix_list_fini(struct prefix_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        url_prefix_fini(&list->at[i]);
    mem_free(list->at);
    *list = (struct prefix_list){0};
}

static bool has(const struct prefix_list *list, const struct url_prefix *prefix)
{
    for (size_t i = 0; i < list->count; i++)
        if (url_prefix_equal(&list->at[i], prefix))
            return true;
    return false;
}

/* ---- what they have, and what is wished ---- */

static void drop(struct apps *apps, const struct served_app *app, struct endpoints *endpoints,
                 const struct url_prefix *prefix, struct buf *change)
{
    char scope[16];

    snprintf(scope, sizeof(scope), "%u:", app->index);
    if (change)
        apps_add_pair(change, scope, IPC_DROP_PREFIX, prefix->text);
    prefix_table_remove(apps->prefixes, prefix);
    apps->prefix_bytes -= apps_told_bytes(prefix);
    endpoints_remove(endpoints, prefix);
}

/* Takes what the wish names and the app has not; nothing when one of it fails. */
static int take_wished(struct apps *apps, struct served_app *app, struct span wish,
                       struct endpoints *endpoints, const struct prefix_list *before,
                       struct prefix_list *wished, struct err_text *text)
{
    const char *key, *value;
    int code = 0;

    while (code == 0 && pairs_next(&wish, &key, &value)) {
        struct url_prefix prefix;

        if (strcmp(key, "+") != 0)
            continue;
        if ((code = url_prefix_parse(&prefix, span_str(value), text)) < 0)
            break;
        if (!has(before, &prefix))
            code = apps_take_prefix(apps, app, endpoints, &prefix, text);
        if (code < 0) {
            url_prefix_fini(&prefix);
            break;
        }
        wished->at = mem_realloc(wished->at, (wished->count + 1) * sizeof(*wished->at));
        wished->at[wished->count++] = prefix;
    }
    for (size_t i = 0; code < 0 && i < wished->count; i++)
        if (!has(before, &wished->at[i]))
            drop(apps, app, endpoints, &wished->at[i], NULL);
    return code;
}

/* What its owner says of it. */
static void use_wish(struct apps *apps, struct served_app *app, struct settings settings,
                     struct span wish)
{
    const char *name = pairs_find(wish, "value"), *uid = pairs_find(wish, "uid");

    if (app->is_attached)
        mem_free((char *)(uintptr_t)app->path);
    settings_fini(&app->settings);
    app->settings = settings;
    inherit(apps, app);
    app->path = mem_strdup(name ? name : "?");
    app->uid = uid ? (uid_t)strtoul(uid, NULL, 10) : 0;
    app->is_open = app->is_attached = true;
}

/* Of the configuration: what whoever serves it does not give up. */
static void keep(struct served_app *app, const struct prefix_list *wished)
{
    prefix_list_fini(&app->kept);
    for (size_t i = 0; i < wished->count; i++)
        add_copy(&app->kept, &wished->at[i]);
}

int apps_attach(struct apps *apps, unsigned index, struct span wish, struct endpoints *endpoints,
                struct buf *change, struct buf *reply, struct err_text *text)
{
    struct served_app *app = &apps->at[index];
    struct prefix_list before = prefixes_of(apps, app), wished = {0};
    bool is_guest = pairs_find(wish, "guest") != NULL;
    struct settings settings;
    int code = read_wish(&settings, wish, text);

    if (is_guest && !app->is_open)
        code =
            err_set(text, EXIT_PORT_IN_USE, ERR_STATE, "the request queue is not there any more");
    if (code == 0)
        code = take_wished(apps, app, wish, endpoints, &before, &wished, text);
    if (code < 0) {
        settings_fini(&settings);
        prefix_list_fini(&before);
        prefix_list_fini(&wished);
        return code;
    }
    app->index = index;
    if (apps->count <= index)
        apps->count = index + 1;
    if (is_guest) {
        settings_fini(&settings);
    } else {
        use_wish(apps, app, settings, wish);
        apps_add_app(app, change);
    }
    if (pairs_find(wish, IPC_APP_HOSTED))
        keep(app, &wished);
    for (size_t i = 0; i < before.count; i++)
        if (!has(&wished, &before.at[i]) && !has(&app->kept, &before.at[i]))
            drop(apps, app, endpoints, &before.at[i], change);
    for (size_t i = 0; i < wished.count; i++) {
        if (!has(&before, &wished.at[i]))
            apps_add_prefix(change, &wished.at[i], app);
        pairs_add(reply, "+", wished.at[i].text);
    }
    for (size_t i = 0; i < before.count; i++) /* behind those that the asker has counted */
        if (!has(&wished, &before.at[i]) && has(&app->kept, &before.at[i]))
            pairs_add(reply, "+", before.at[i].text);
    prefix_list_fini(&before);
    prefix_list_fini(&wished);
    return 0;
}

void apps_detach(struct apps *apps, unsigned index, struct endpoints *endpoints, struct buf *change)
{
    struct served_app *app = &apps->at[index];
    struct prefix_list own = prefixes_of(apps, app);
    char scope[16];

    for (size_t i = 0; i < own.count; i++)
        drop(apps, app, endpoints, &own.at[i], change);
    prefix_list_fini(&own);
    snprintf(scope, sizeof(scope), "%u:", index);
    apps_add_pair(change, scope, IPC_CLOSE_APP, "1");
    served_app_fini(app);
}

struct search {
    const struct url_prefix *prefix;
    const struct served_app *found;
};

static void compare(void *context, const struct url_prefix *prefix, void *value)
{
    struct search *search = context;

    if (url_prefix_equal(prefix, search->prefix))
        search->found = value;
}

const struct served_app *apps_with_prefix(const struct apps *apps, const char *prefix)
{
    struct url_prefix parsed;
    struct search search = {.prefix = &parsed};

    if (url_prefix_parse(&parsed, span_str(prefix), NULL) < 0)
        return NULL;
    prefix_table_each(apps->prefixes, compare, &search);
    url_prefix_fini(&parsed);
    return search.found;
}

unsigned apps_free_place(const struct apps *apps)
{
    unsigned place = 0;

    while (place < TALLY_APPS && apps->at[place].is_open)
        place++;
    return place;
}

struct visit {
    void (*each)(void *context, const struct url_prefix *prefix);
    void *context;
};

static void visit_prefix(void *context, const struct url_prefix *prefix, void *value)
{
    const struct visit *visit = context;

    (void)value;
    visit->each(visit->context, prefix);
}

static void each_prefix(void *owner, void (*each)(void *context, const struct url_prefix *prefix),
                        void *context)
{
    prefix_table_each(((struct apps *)owner)->prefixes, visit_prefix,
                      &(struct visit){each, context});
}

int apps_listen_on(struct apps *apps, struct endpoints *endpoints, const struct net_addr *listen,
                   unsigned count, struct err_text *text)
{
    return endpoints_listen_on(endpoints, listen, count, each_prefix, apps, text);
}

/* ---- apps that are attached to a host ---- */

struct describing {
    const struct settings *settings;
    unsigned index;
    struct buf *pairs;
};

static void describe_setting(void *arg, const char *key)
{
    struct describing *describing = arg;
    char prefix[24];

    snprintf(prefix, sizeof(prefix), "%u:set:", describing->index);
    if (settings_scope(key) == SETTING_APP && strcmp(key, "url_prefixes") != 0)
        apps_add_setting(
            &(struct telling){describing->settings, SETTING_APP, prefix, describing->pairs}, key);
}

/* All but its prefixes. */
static void describe_app(const struct served_app *app, struct buf *pairs)
{
    struct describing describing = {&app->settings, app->index, pairs};
    char scope[16];

    snprintf(scope, sizeof(scope), "%u:", app->index);
    apps_add_pair(pairs, scope, "name", app->path);
    settings_each(describe_setting, &describing);
}

static int describe_wish(struct apps *apps, struct served_app *app, struct span own,
                         struct buf *pairs, struct err_text *text)
{
    bool is_urls;
    struct hosting_choice choice = apps_choose(apps, app, own, &is_urls);
    const char *rest = choice.list;
    struct span item;
    char scope[16];

    snprintf(scope, sizeof(scope), "%u:", app->index);
    describe_app(app, pairs);
    while (settings_item(&rest, &item)) {
        struct url_prefix prefix;
        int code = url_prefix_parse(&prefix, item, text);

        if (code < 0)
            return code;
        apps_add_pair(pairs, scope, IPC_ADD_PREFIX, prefix.text);
        url_prefix_fini(&prefix);
    }
    return 0;
}

int apps_describe(struct apps *apps, struct span asked, struct buf *pairs, struct err_text *text)
{
    int code = 0;

    for (unsigned i = 0; i < apps->count && code == 0; i++) {
        struct buf own = {0};

        apps_pairs_of(asked, i, &own);
        code = describe_wish(apps, &apps->at[i], buf_span(&own), pairs, text);
        buf_fini(&own);
    }
    return code;
}

void apps_describe_again(const struct apps *apps, struct buf *pairs)
{
    for (unsigned i = 0; i < apps->count; i++)
        describe_app(&apps->at[i], pairs);
    prefix_table_each(apps->prefixes, apps_add_prefix, pairs);
}

static bool note_prefix(struct apps *apps, struct served_app *app, const char *text, bool is_there)
{
    struct url_prefix prefix;
    void *other;
    bool is_new;

    if (url_prefix_parse(&prefix, span_str(text), NULL) < 0)
        return false;
    if (is_there)
        is_new = prefix_table_add(apps->prefixes, &prefix, app, &other) == 0;
    else
        is_new = prefix_table_remove(apps->prefixes, &prefix) != NULL;
    url_prefix_fini(&prefix);
    return is_new;
}

void apps_note_prefix(struct apps *apps, struct served_app *app, const char *prefix, bool is_there,
                      struct buf *change)
{
    char scope[16];

    snprintf(scope, sizeof(scope), "%u:", app->index);
    if (note_prefix(apps, app, prefix, is_there))
        apps_add_pair(change, scope, is_there ? IPC_ADD_PREFIX : IPC_DROP_PREFIX, prefix);
}

void apps_given(struct apps *apps, struct span pairs)
{
    const char *key, *value;

    if (apps->prefixes == NULL)
        apps->prefixes = prefix_table_new();
    while (pairs_next(&pairs, &key, &value)) {
        char *rest;
        unsigned index = (unsigned)strtoul(key, &rest, 10);

        if (index < apps->count && strcmp(rest, ":" IPC_ADD_PREFIX) == 0)
            note_prefix(apps, &apps->at[index], value, true);
    }
}
