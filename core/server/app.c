/*
 * Apps come and go in a host. One that is closed leaves the table, the connections and its column
 * of the tally at once, so that another may take its place; its memory stays until the last
 * exchange that names it is freed, which may still run or wait for a slow client.
 */
#include "server/app.h"

#include "base/err.h"
#include "server/server_priv.h"

/* Stands in the table for prefixes that are kept for somebody who is not there. */
static struct app nobody;

bool app_is_reserved(const struct app *app)
{
    return app == &nobody;
}

/* ---- life ---- */

static void on_last(struct loop_call *call)
{
    struct app *app = LIST_OWNER(call, struct app, last);

    if (app->gone)
        app->gone(app->gone_owner);
    list_remove(&app->closing);
    mem_free(app);
}

struct app *app_new(struct server *server, unsigned index, const char *name,
                    const struct settings *settings, const struct handler *handler)
{
    struct app *app = mem_zalloc(sizeof(*app));

    CHECK(index < TALLY_APPS && server->apps[index] == NULL);
    app->server = server;
    app->index = index;
    app->name = name;
    app->settings = settings;
    app->handler = handler;
    list_init(&app->closing);
    loop_call_init(&app->last, on_last);
    admission_init(app);
    server->apps[index] = app;
    server->app_count++;
    server_apply_settings(server);
    return app;
}

static void free_app(struct app *app)
{
    if (app == NULL)
        return;
    loop_call_cancel(&app->pull);
    loop_call_cancel(&app->last);
    mem_free(app);
}

void apps_free(struct server *server)
{
    struct list *node;

    for (unsigned i = 0; i < TALLY_APPS; i++)
        free_app(server->apps[i]);
    while ((node = list_take(&server->closing_apps)) != NULL)
        free_app(LIST_OWNER(node, struct app, closing));
}

void app_join(struct app *app, struct exchange *exchange)
{
    exchange->app = app;
    app->refs++;
}

static bool is_closed(const struct app *app)
{
    return app->tally == &app->server->nowhere;
}

/* Behind what runs in this turn: a caller may look at the app once more. */
static void end_when_unused(struct app *app)
{
    if (is_closed(app) && app->refs == 0)
        loop_defer_turn(app->server->loop, &app->last);
}

void app_leave(struct exchange *exchange)
{
    struct app *app = exchange->app;

    exchange->app = NULL;
    app->refs--;
    end_when_unused(app);
}

unsigned app_index(const struct app *app)
{
    return app->index;
}

int64_t app_waits_since_us(const struct app *app)
{
    return queue_since_us(&app->queue);
}

/* ---- prefixes ---- */

struct search {
    const struct app *app;
    struct url_prefix *found;
    size_t count;
};

static void find_prefix(void *context, const struct url_prefix *prefix, void *value)
{
    struct search *search = context;

    if (value != search->app)
        return;
    search->found = mem_realloc(search->found, (search->count + 1) * sizeof(*search->found));
    url_prefix_copy(&search->found[search->count++], prefix);
}

static void drop_prefixes(struct app *app)
{
    struct search search = {app, NULL, 0};

    prefix_table_each(app->server->prefixes, find_prefix, &search);
    for (size_t i = 0; i < search.count; i++) {
        app_remove_prefix(app, &search.found[i]);
        url_prefix_fini(&search.found[i]);
    }
    mem_free(search.found);
}

static int put(struct server *server, const struct url_prefix *prefix, void *value)
{
    void *other = NULL;
    int code;

    server->last_port.port = NULL;
    code = prefix_table_add(server->prefixes, prefix, value, &other);
    if (code != ERR_EXISTS || other != &nobody || value == &nobody)
        return code;
    prefix_table_remove(server->prefixes, prefix);
    return prefix_table_add(server->prefixes, prefix, value, &other);
}

int app_add_prefix(struct app *app, const struct url_prefix *prefix)
{
    return put(app->server, prefix, app);
}

static bool is_kept(const struct server *server, const struct url_prefix *prefix)
{
    bool kept = server->reserved && prefix_table_remove(server->reserved, prefix);

    if (kept)
        prefix_table_add(server->reserved, prefix, &nobody, NULL);
    return kept;
}

void app_remove_prefix(struct app *app, const struct url_prefix *prefix)
{
    struct server *server = app->server;

    server->last_port.port = NULL;
    prefix_table_remove(server->prefixes, prefix);
    if (is_kept(server, prefix))
        put(server, prefix, &nobody);
}

int server_reserve_prefix(struct server *server, const struct url_prefix *prefix)
{
    int code;

    if (server->reserved == NULL)
        server->reserved = prefix_table_new();
    code = prefix_table_add(server->reserved, prefix, &nobody, NULL);
    if (code < 0)
        return code;
    code = put(server, prefix, &nobody);
    if (code == ERR_STATE) { /* the port carries the other scheme */
        prefix_table_remove(server->reserved, prefix);
        return code;
    }
    return 0; /* ERR_EXISTS: an app hides it */
}

void server_release_prefix(struct server *server, const struct url_prefix *prefix)
{
    void *owner;

    if (server->reserved == NULL || prefix_table_remove(server->reserved, prefix) == NULL)
        return;
    server->last_port.port = NULL;
    owner = prefix_table_remove(server->prefixes, prefix);
    if (owner && owner != &nobody)
        prefix_table_add(server->prefixes, prefix, owner, NULL);
}

/* ---- the end ---- */

static void leave_connections(struct app *app)
{
    struct server *server = app->server;

    for (struct list *node = server->conns.next; node != &server->conns; node = node->next) {
        struct conn *conn = LIST_OWNER(node, struct conn, node);
        uint64_t bit = (uint64_t)1 << app->index;

        if (conn->joined & bit)
            app->tally->gauge[APP_CONNECTIONS]--;
        conn->joined &= ~bit;
        if (conn->app == app)
            conn->app = NULL;
    }
}

void app_close(struct app *app, void (*gone)(void *owner), void *owner)
{
    struct server *server = app->server;

    CHECK(!is_closed(app));
    app->gone = gone;
    app->gone_owner = owner;
    drop_prefixes(app);
    admission_close(app);
    leave_connections(app);
    app->tally->gauge[APP_RUNNING] -= app->running;
    app->tally = &server->nowhere;
    server->apps[app->index] = NULL;
    server->app_count--;
    list_append(&server->closing_apps, &app->closing);
    server_apply_settings(server);
    end_when_unused(app);
}
