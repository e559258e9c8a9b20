/*
 * HTTP.sys's words for what we have: a session is a process that is attached, a group is an app
 * with its URLs, and a queue is where its requests wait. Two views of the same: what each process
 * has brought, or which processes each queue has.
 */
#include "proc/service_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_out.h"
#include "share/control.h"

#define VALUE_BYTES 4096 /* of a setting; no text is longer */

struct view {
    struct master *master;
    struct json_out json;
    struct span asked;
    bool verbose;
};

/* An app of an attached process. */
struct attached {
    unsigned long long session;
    int pid;
    unsigned uid, app;
};

/* The next of *rest, which then begins with its URLs; false at the end. */
static bool next_attached(struct span *rest, struct attached *attached)
{
    const char *key, *value;

    while (pairs_next(rest, &key, &value))
        if (strcmp(key, "process") == 0 &&
            sscanf(value, "%llu %d %u %u", &attached->session, &attached->pid, &attached->uid,
                   &attached->app) == 4)
            return true;
    return false;
}

/* Many processes may have many URLs: what nobody will be told is not gathered. */
static bool is_full(const struct view *view)
{
    return buf_len(view->json.out) > CONTROL_DOCUMENT_BYTES;
}

/* ---- an app ---- */

static void add_setting(struct view *view, const struct served_app *app, const char *key)
{
    const char *name = strrchr(key, '.');
    char value[VALUE_BYTES];

    settings_get(&app->settings, key, value, sizeof(value));
    json_out_text(&view->json, name ? name + 1 : key, value);
}

struct timers {
    struct view *view;
    const struct served_app *app;
};

static void add_timer(void *owner, const char *key)
{
    const struct timers *timers = owner;

    if (strncmp(key, "timeouts.", strlen("timeouts.")) == 0)
        add_setting(timers->view, timers->app, key);
}

static void add_url(void *context, const struct url_prefix *prefix, void *value)
{
    const struct timers *of = context;

    if (value == of->app && !is_full(of->view))
        json_out_text(&of->view->json, NULL, prefix->text);
}

static const char *queue_of(const struct served_app *app)
{
    const char *name = app->settings.request_queue_name;

    return name[0] ? name : "unnamed";
}

/* Those that a process has brought, up to the next process. */
static void add_brought(struct view *view, struct span rest)
{
    const char *key, *value;

    while (!is_full(view) && pairs_next(&rest, &key, &value) && strcmp(key, "url") == 0)
        json_out_text(&view->json, NULL, value);
}

/* brought NULL: all URLs that lead to the queue, whoever has brought them. */
static void add_group(struct view *view, const struct served_app *app, const struct span *brought)
{
    struct timers of = {view, app};
    struct json_out *json = &view->json;

    if (is_full(view))
        return;

    json_out_object(json, NULL);
    json_out_text(json, "app", app->path);
    json_out_text(json, "state", app->settings.enabled ? "enabled" : "disabled");
    json_out_text(json, "queue", queue_of(app));
    json_out_number(json, "connections",
                    tally_app_gauge_sum(view->master->tally, app->index, APP_CONNECTIONS));
    if (view->verbose)
        add_setting(view, app, "max_connections");
    json_out_array(json, "urls");
    if (brought)
        add_brought(view, *brought);
    else
        prefix_table_each(view->master->apps.prefixes, add_url, &of);
    json_out_close(json);
    if (view->verbose) {
        json_out_object(json, "timeouts");
        settings_each(add_timer, &of);
        json_out_close(json);
    }
    json_out_close(json);
}

/* ---- a queue ---- */

static void add_processes(struct view *view, const struct served_app *app)
{
    struct span rest = view->asked;
    struct attached attached;

    json_out_array(&view->json, "processes");
    while (next_attached(&rest, &attached))
        if (attached.app == app->index) {
            json_out_object(&view->json, NULL);
            json_out_number(&view->json, "process", attached.pid);
            json_out_number(&view->json, "uid", attached.uid);
            json_out_close(&view->json);
        }
    json_out_close(&view->json);
}

static void add_queue(struct view *view, const struct served_app *app, bool with_group)
{
    struct tally *tally = view->master->tally;
    struct json_out *json = &view->json;

    json_out_object(json, NULL);
    json_out_text(json, "queue", queue_of(app));
    if (!with_group)
        json_out_text(json, "app", app->path);
    json_out_text(json, "state", app->settings.enabled ? "active" : "inactive");
    json_out_number(json, "uid", app->uid);
    json_out_number(json, "running", tally_app_gauge_sum(tally, app->index, APP_RUNNING));
    json_out_number(json, "queued", tally_app_gauge_sum(tally, app->index, APP_QUEUED));
    if (view->verbose) {
        add_setting(view, app, "request_queue_limit");
        add_setting(view, app, "max_concurrent_requests");
        add_setting(view, app, "http_503_verbosity");
    }
    add_processes(view, app);
    if (with_group) {
        json_out_array(json, "groups");
        add_group(view, app, NULL);
        json_out_close(json);
    }
    json_out_close(json);
}

static void add_queues(struct view *view, bool with_groups)
{
    const struct apps *apps = &view->master->apps;

    json_out_array(&view->json, "queues");
    for (unsigned i = 0; i < apps->count; i++)
        if (apps->at[i].is_open)
            add_queue(view, &apps->at[i], with_groups);
    json_out_close(&view->json);
}

/* ---- sessions ---- */

static void add_sessions(struct view *view)
{
    const struct apps *apps = &view->master->apps;
    struct span rest = view->asked;
    struct attached attached;
    unsigned long long last = 0; /* no session has this number */

    json_out_array(&view->json, "sessions");
    while (next_attached(&rest, &attached)) {
        if (attached.session != last && last != 0) {
            json_out_close(&view->json);
            json_out_close(&view->json);
        }
        if (attached.session != last) {
            json_out_object(&view->json, NULL);
            json_out_number(&view->json, "session", (int64_t)attached.session);
            json_out_number(&view->json, "process", attached.pid);
            json_out_number(&view->json, "uid", attached.uid);
            json_out_array(&view->json, "groups");
        }
        last = attached.session;
        if (attached.app < apps->count && apps->at[attached.app].is_open)
            add_group(view, &apps->at[attached.app], &rest);
    }
    if (last != 0) {
        json_out_close(&view->json);
        json_out_close(&view->json);
    }
    json_out_close(&view->json);
}

int service_state_answer(struct master *master, struct span asked, struct buf *reply,
                         struct err_text *text)
{
    const char *kind = pairs_find(asked, "view"), *verbose = pairs_find(asked, "verbose");
    bool by_queue = kind && strcmp(kind, "requestq") == 0;
    struct view view = {.master = master, .asked = asked, .verbose = !verbose || verbose[0] != '0'};
    struct buf document = {0};
    int code = 0;

    json_out_init(&view.json, &document);
    json_out_object(&view.json, NULL);
    if (!by_queue)
        add_sessions(&view);
    add_queues(&view, by_queue);
    json_out_close(&view.json);
    if (is_full(&view))
        code =
            err_set(text, EXIT_OPTION, ERR_TOO_LARGE,
                    "show servicestate: the answer has more than %u bytes", CONTROL_DOCUMENT_BYTES);
    buf_append(&document, SPAN("\0"));
    if (code == 0)
        pairs_add(reply, "ok", buf_span(&document).at);
    buf_fini(&document);
    return code;
}
