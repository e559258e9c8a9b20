/*
 * The apps in a worker: each is loaded into a Lua state of its own, one after the other, and
 * changes as the master says. What a running app asks of the server goes out from here, and the
 * answer back to it.
 */
#include "proc/worker_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "proc/options.h"

/* ---- loading */

static void on_shutdown(void *owner)
{
    const struct worker_app *app = owner;

    worker_tell(app->worker, IPC_SHUTDOWN, 0, SPAN_NONE);
}

static void on_ask(void *owner, unsigned number, const struct vm_question *question)
{
    const struct worker_app *app = owner;
    struct buf pairs = {0};

    pairs_add_number(&pairs, "app", app->index);
    pairs_add(&pairs, "op", question->op);
    pairs_add(&pairs, "key", question->key);
    pairs_add(&pairs, "value", question->value);
    pairs_add(&pairs, "place", question->place);
    worker_tell(app->worker, IPC_ASK, number * TALLY_APPS + app->index, buf_span(&pairs));
    buf_fini(&pairs);
}

static void load_next(struct worker *worker, unsigned index);

/* The first line of what is wrong names the file. */
static void load_failed(struct worker_app *app, const struct err_text *text)
{
    struct worker *worker = app->worker;
    bool names_app = strstr(text->text, app->path) != NULL;
    char line[sizeof(text->text) + 300];

    snprintf(line, sizeof(line), "%.280s%s%s", names_app ? "" : app->path, names_app ? "" : ": ",
             text->text);
    worker_tell(worker, IPC_FAILED, (unsigned)text->exit_code, span_str(line));
    worker->status = text->exit_code;
    worker->state = WORKER_STOPPING;
    loop_stop(worker->loop);
}

static void on_loaded(void *owner, int code, const struct err_text *text)
{
    struct worker_app *app = owner;
    struct worker *worker = app->worker;
    struct err_text wrong;
    char scope[16];

    if (worker->state != WORKER_LOADING)
        return;
    if (code < 0) {
        load_failed(app, text);
        return;
    }
    /* What the command line says wins over what the app has set meanwhile. */
    CHECK(options_apply(&app->settings, buf_span(&worker->overrides), false, "", &wrong) == 0);
    snprintf(scope, sizeof(scope), "%u:", app->index);
    pairs_add_prefixed(&worker->asked, scope, vm_asked_settings(app->vm));
    if (buf_len(&worker->asked) > IPC_TEXT_BYTES) {
        err_set(&wrong, EXIT_OPTION, ERR_TOO_LARGE,
                "the settings of all apps take more than %d MiB", IPC_TEXT_BYTES >> 20);
        load_failed(app, &wrong);
        return;
    }
    load_next(worker, app->index + 1);
}

static void load_next(struct worker *worker, unsigned index)
{
    struct worker_app *app = &worker->apps[index];

    if (index == worker->app_count) {
        worker->state = WORKER_LOADED;
        worker_tell(worker, IPC_READY, 0, buf_span(&worker->asked));
        return;
    }
    worker_tell(worker, IPC_LOADING, index, SPAN_NONE);
    vm_load(app->vm, app->path, on_loaded, app);
}

static void prepare_app(struct worker *worker, struct worker_app *app)
{
    const struct vm_parts parts = {
        .loop = worker->loop,
        .settings = &app->settings,
        .tally = worker->tally,
        .slot = worker->index,
        .column = app->index,
        .lua_dir = worker->lua_dir,
    };

    settings_copy(&app->settings, &worker->settings);
    app->vm = vm_new(&parts);
    vm_on_shutdown(app->vm, on_shutdown, app);
    vm_on_ask(app->vm, on_ask, app);
    vm_watch_cpu(app->vm);
}

void worker_apps_prepare(struct worker *worker)
{
    for (unsigned i = 0; i < worker->app_count; i++)
        prepare_app(worker, &worker->apps[i]);
}

void worker_apps_load(struct worker *worker)
{
    load_next(worker, 0);
}

/* ---- what is in force (proc/worker_ipc.h) */

static void drop_address(struct buf *addresses, const char *address)
{
    struct span rest = buf_span(addresses);
    struct buf kept = {0};

    while (rest.len > 0) {
        size_t length = strlen(rest.at) + 1;

        if (strcmp(rest.at, address) != 0)
            buf_append(&kept, span_of(rest.at, length));
        rest = span_of(rest.at + length, rest.len - length);
    }
    buf_fini(addresses);
    *addresses = kept;
}

static void change_prefix(struct worker_app *app, const char *text, bool add)
{
    struct url_prefix prefix;

    if (url_prefix_parse(&prefix, span_str(text), NULL) < 0)
        return;
    if (add && app_add_prefix(app->app, &prefix) == 0)
        buf_append(&app->addresses, span_of(text, strlen(text) + 1));
    if (!add) {
        app_remove_prefix(app->app, &prefix);
        drop_address(&app->addresses, text);
    }
    url_prefix_fini(&prefix);
}

static void change_app(struct worker_app *app, const char *key, const char *value)
{
    struct err_text text;

    /* Checked by the master with the same table. */
    if (strcmp(key, IPC_ADD_PREFIX) == 0)
        change_prefix(app, value, true);
    else if (strcmp(key, IPC_DROP_PREFIX) == 0)
        change_prefix(app, value, false);
    else
        CHECK(settings_set(&app->settings, key, value, "", &text) == 0);
}

void worker_change_server(struct worker *worker, const char *key, const char *value)
{
    struct err_text text;

    CHECK(settings_set(&worker->settings, key, value, "", &text) == 0);
    for (unsigned i = 0; i < worker->app_count; i++)
        CHECK(settings_set(&worker->apps[i].settings, key, value, "", &text) == 0);
}

void worker_apps_change_server(struct worker *worker, struct span pairs)
{
    const size_t server_scope = strlen(IPC_SERVER_SCOPE);
    const char *key, *value;

    while (pairs_next(&pairs, &key, &value))
        if (strncmp(key, IPC_SERVER_SCOPE, server_scope) == 0)
            worker_change_server(worker, key + server_scope, value);
}

void worker_apps_change(struct worker *worker, struct span pairs)
{
    const size_t server_scope = strlen(IPC_SERVER_SCOPE);
    const char *key, *value;

    while (pairs_next(&pairs, &key, &value)) {
        char *rest;
        unsigned index;

        if (strncmp(key, IPC_SERVER_SCOPE, server_scope) == 0) {
            worker_change_server(worker, key + server_scope, value);
            continue;
        }
        index = (unsigned)strtoul(key, &rest, 10);
        CHECK(index < worker->app_count && *rest == ':');
        change_app(&worker->apps[index], rest + 1, value);
    }
    log_set_level((enum log_level)log_level_parse(span_str(worker->settings.log_level)));
    for (unsigned i = 0; i < worker->app_count; i++) {
        vm_set_addresses(worker->apps[i].vm, buf_span(&worker->apps[i].addresses));
        app_apply_settings(worker->apps[i].app);
    }
}

/* ---- questions */

void worker_apps_reply(struct worker *worker, const struct ipc_message *message)
{
    struct span pairs = buf_span(&message->text);
    const char *wrong = pairs_find(pairs, "wrong"), *ok = pairs_find(pairs, "ok");
    unsigned index = message->value % TALLY_APPS; /* as in on_ask */

    if (index < worker->app_count)
        vm_answer(worker->apps[index].vm, message->value / TALLY_APPS, wrong, ok);
}

void worker_apps_free(struct worker *worker)
{
    for (unsigned i = 0; i < worker->app_count; i++) {
        settings_fini(&worker->apps[i].settings);
        buf_fini(&worker->apps[i].addresses);
    }
}
