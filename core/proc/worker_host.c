/*
 * The apps of a host in one worker: each is a queue with a dispatch, and no Lua. One that is closed
 * while requests of it run is freed when the last has gone; its number may be another's by then.
 */
#include "proc/worker_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "share/dispatch.h"
#include "share/principal.h"

struct host_app {
    struct worker *worker;
    unsigned index;
    char *name;
    uid_t uid; /* whose it is */
    struct settings settings;
    struct dispatch *dispatch;
    struct app *app;
};

static void on_renew(void *owner, uint64_t process, unsigned number)
{
    struct host_app *app = owner;
    struct buf pairs = {0};
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)process);
    pairs_add(&pairs, "process", text);
    pairs_add_number(&pairs, "worker", number);
    worker_tell(app->worker, IPC_RENEW, app->index, buf_span(&pairs));
    buf_fini(&pairs);
}

static void on_wake(void *owner, unsigned slot)
{
    const struct host_app *app = owner;

    worker_tell(app->worker, IPC_WAKE, slot * TALLY_APPS + app->index, SPAN_NONE);
}

static void on_demand(void *owner)
{
    const struct host_app *app = owner;

    worker_tell(app->worker, IPC_DEMAND, app->index, SPAN_NONE);
}

/* Who may attach to a queue may hand requests to it; of lists only users count here. */
static struct app *on_find(void *owner, uid_t uid, const char *queue, int *code)
{
    const struct host_app *from = owner;
    const struct caller caller = {.uid = uid, .has_more_groups = true};

    *code = ERR_NOT_FOUND;
    for (unsigned i = 0; i < TALLY_APPS; i++) {
        const struct host_app *to = from->worker->host_apps[i];

        if (to == NULL || queue[0] == '\0' || strcmp(to->settings.request_queue_name, queue) != 0)
            continue;
        if (uid == to->uid || uid == 0 || principals_allow(to->settings.request_queue_acl, &caller))
            return to->app;
        *code = ERR_PERMISSION;
    }
    return NULL;
}

static void host_app_free(void *owner)
{
    struct host_app *app = owner;

    dispatch_free(app->dispatch);
    settings_fini(&app->settings);
    mem_free(app->name);
    mem_free(app);
}

static void open_app(struct worker *worker, unsigned index, const char *name)
{
    struct host_app *app;

    if (worker->host_apps[index])
        return; /* its next process: what changes of it follows */
    app = mem_zalloc(sizeof(*app));
    app->worker = worker;
    app->index = index;
    app->name = mem_strdup(name);
    settings_copy(&app->settings, &worker->settings);
    app->dispatch = dispatch_new(&(struct dispatch_parts){.loop = worker->loop,
                                                          .tally = worker->tally,
                                                          .slot = worker->index,
                                                          .owner = app,
                                                          .renew = on_renew,
                                                          .wake = on_wake,
                                                          .demand = on_demand,
                                                          .find = on_find});
    app->app =
        app_new(worker->server, index, app->name, &app->settings, dispatch_handler(app->dispatch));
    dispatch_serve(app->dispatch, app->app);
    worker->host_apps[index] = app;
}

static void change_prefix(const struct host_app *app, const char *text, bool add)
{
    struct url_prefix prefix;

    if (url_prefix_parse(&prefix, span_str(text), NULL) < 0)
        return;
    if (add)
        app_add_prefix(app->app, &prefix);
    else
        app_remove_prefix(app->app, &prefix);
    url_prefix_fini(&prefix);
}

/* Checked by the master with the same tables. */
static void change_app(struct worker *worker, unsigned index, const char *key, const char *value)
{
    struct host_app *app = worker->host_apps[index];
    struct err_text text;

    if (strcmp(key, IPC_OPEN_APP) == 0) {
        open_app(worker, index, value);
    } else if (app == NULL) {
        log_event(LOG_ERROR, "ipc_unknown", "a change of app %u, which is not there", index);
    } else if (strcmp(key, IPC_CLOSE_APP) == 0) {
        worker->host_apps[index] = NULL;
        dispatch_stop(app->dispatch);
        app_close(app->app, host_app_free, app);
    } else if (strcmp(key, IPC_ADD_PREFIX) == 0 || strcmp(key, IPC_DROP_PREFIX) == 0) {
        change_prefix(app, value, key[0] == '+');
    } else if (strcmp(key, IPC_APP_OWNER) == 0) {
        app->uid = (uid_t)strtoul(value, NULL, 10);
    } else if (strcmp(key, IPC_APP_HOSTED) != 0) { /* the registrar's affair */
        CHECK(settings_set(&app->settings, key, value, "", &text) == 0);
    }
}

static void change_reserved(struct worker *worker, const char *text, bool add)
{
    struct url_prefix prefix;

    if (url_prefix_parse(&prefix, span_str(text), NULL) < 0)
        return;
    if (add)
        server_reserve_prefix(worker->server, &prefix);
    else
        server_release_prefix(worker->server, &prefix);
    url_prefix_fini(&prefix);
}

void worker_host_change(struct worker *worker, struct span pairs)
{
    const size_t server_scope = strlen(IPC_SERVER_SCOPE);
    const size_t reserved_scope = strlen(IPC_RESERVED_SCOPE);
    const char *key, *value;

    while (pairs_next(&pairs, &key, &value)) {
        char *rest;
        unsigned index;

        if (strncmp(key, IPC_SERVER_SCOPE, server_scope) == 0) {
            worker_change_server(worker, key + server_scope, value);
            continue;
        }
        if (strncmp(key, IPC_RESERVED_SCOPE, reserved_scope) == 0) {
            change_reserved(worker, value, strcmp(key + reserved_scope, IPC_ADD_PREFIX) == 0);
            continue;
        }
        index = (unsigned)strtoul(key, &rest, 10);
        CHECK(index < TALLY_APPS && *rest == ':');
        change_app(worker, index, rest + 1, value);
    }
    log_set_level((enum log_level)log_level_parse(span_str(worker->settings.log_level)));
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (worker->host_apps[i])
            app_apply_settings(worker->host_apps[i]->app);
}

static unsigned long long number_of(struct span pairs, const char *key)
{
    const char *text = pairs_find(pairs, key);

    return text ? strtoull(text, NULL, 10) : 0;
}

void worker_host_connect(struct worker *worker, unsigned app, struct span pairs, int fd)
{
    const struct dispatch_peer peer = {
        .process = number_of(pairs, "process"),
        .worker = (unsigned)number_of(pairs, "worker"),
        .uid = (uid_t)number_of(pairs, "uid"),
        .most_running = (int64_t)number_of(pairs, "most"),
        .column = (unsigned)number_of(pairs, "column") % TALLY_PEERS,
        .gets_credentials = number_of(pairs, "credentials") != 0,
    };

    if (app >= TALLY_APPS || worker->host_apps[app] == NULL)
        close(fd); /* closed meanwhile */
    else if (dispatch_connect(worker->host_apps[app]->dispatch, &peer, fd) < 0)
        log_event(LOG_ERROR, "app_link_refused", "app %u has %d links already", app,
                  DISPATCH_LINKS);
}

void worker_host_wake(struct worker *worker, unsigned app)
{
    if (app < TALLY_APPS && worker->host_apps[app])
        dispatch_woken(worker->host_apps[app]->dispatch);
}

void worker_host_demand_again(struct worker *worker)
{
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (worker->host_apps[i])
            dispatch_demand_again(worker->host_apps[i]->dispatch);
}

void worker_host_free(struct worker *worker)
{
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (worker->host_apps[i])
            host_app_free(worker->host_apps[i]);
}
