/*
 * An app whose prefixes the configuration names is there before its process: its place, prefixes
 * and queue are made at the start, as if a process of its user had left them behind and nobody ever
 * forgot them. Its process then takes them over like any other, and leaves them behind again.
 */
#include "proc/host_apps.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/host_launch.h"
#include "proc/master_priv.h"
#include "proc/takeover.h"
#include "proc/worker_ipc.h"
#include "server/hosted_app.h"

#define EARLY_MS       10000 /* an end sooner than this counts as one of a row */
#define PAUSE_FIRST_MS 100
#define PAUSE_MOST_MS  10000
#define LOOK_MOST_MS   5000 /* how often it is asked whether it has something to do */

enum hosted_state { HOSTED_RESTS, HOSTED_RUNS, HOSTED_STOPS };

struct hosted {
    struct host_apps *all;
    struct hosted_app app;
    struct passwd user; /* its texts are ours */
    unsigned place;     /* of its queue; TALLY_APPS: only the app knows its prefixes */
    enum hosted_state state;
    bool is_wanted; /* once it has ended */
    bool pauses;    /* before it is started again */
    pid_t pid;      /* 0: none */
    int64_t started_ms;
    unsigned early_ends; /* in a row */
    struct loop_alarm again, look;
    uint64_t requests; /* that had come when it was looked at last */
    int64_t busy_ms;   /* when it last had something to do */
};

struct host_apps {
    struct master *master;
    struct hosted at[HOSTED_APPS_MOST];
    unsigned count;
};

/* ---- starting a process */

static int64_t pause_ms(const struct hosted *hosted)
{
    int64_t pause = PAUSE_FIRST_MS;

    for (unsigned i = 1; i < hosted->early_ends && pause < PAUSE_MOST_MS; i++)
        pause *= 2;
    return pause < PAUSE_MOST_MS ? pause : PAUSE_MOST_MS;
}

static void start_later(struct hosted *hosted)
{
    hosted->pauses = true;
    loop_alarm_start(hosted->all->master->loop, &hosted->again, (double)pause_ms(hosted) / 1000);
}

static void look_later(struct hosted *hosted)
{
    int64_t idle_ms = hosted_app_idle_ms(&hosted->app), ms = idle_ms / 4 + 1;

    if (hosted_app_on_demand(&hosted->app) && idle_ms != INT64_MAX)
        loop_alarm_start(hosted->all->master->loop, &hosted->look,
                         (double)(ms < LOOK_MOST_MS ? ms : LOOK_MOST_MS) / 1000);
}

/* Those that ever came for it. */
static uint64_t requests_of(const struct hosted *hosted)
{
    return hosted->place < TALLY_APPS
               ? tally_app_counter_sum(hosted->all->master->tally, hosted->place, APP_REQUESTS)
               : 0;
}

static bool has_requests(const struct hosted *hosted)
{
    struct tally *tally = hosted->all->master->tally;

    return hosted->place < TALLY_APPS &&
           (tally_app_gauge_sum(tally, hosted->place, APP_RUNNING) > 0 ||
            tally_app_gauge_sum(tally, hosted->place, APP_QUEUED) > 0);
}

static void start(struct hosted *hosted)
{
    struct master *master = hosted->all->master;
    if (hosted->state != HOSTED_RESTS || master->state == MASTER_STOPPING)
        return;
    hosted->pid = host_launch(&hosted->app, &hosted->user, master->host.path);
    if (hosted->pid < 0) {
        hosted->pid = 0;
        log_event(LOG_ERROR, "spawn_failed", "%s: %s", hosted->app.file, strerror(errno));
        hosted->early_ends++;
        start_later(hosted);
        return;
    }
    hosted->state = HOSTED_RUNS;
    hosted->is_wanted = false;
    hosted->started_ms = hosted->busy_ms = loop_now_ms(master->loop);
    hosted->requests = requests_of(hosted);
    log_event(LOG_INFO, "app_started", "%s: process %d", hosted->app.file, (int)hosted->pid);
    look_later(hosted);
}

static void on_again(struct loop_alarm *alarm)
{
    struct hosted *hosted = LIST_OWNER(alarm, struct hosted, again);

    hosted->pauses = false;
    if (!takeover_is_shared(hosted->all->master) || has_requests(hosted))
        start(hosted);
}

void host_apps_start(struct master *master)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->count; i++)
        if (!hosted_app_on_demand(&master->host.apps->at[i].app))
            start(&master->host.apps->at[i]);
}

void host_apps_demand(struct master *master, unsigned app)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->count; i++) {
        struct hosted *hosted = &master->host.apps->at[i];

        if (hosted->place != app)
            continue;
        hosted->is_wanted = hosted->state != HOSTED_RUNS; /* else another worker has asked before */
        if (takeover_is_shared(master) && !hosted->pauses)
            start_later(hosted); /* when the old host's process does not come to us */
        else if (!hosted->pauses)
            start(hosted);
    }
}

/* ---- nothing to do */

static void stop(struct hosted *hosted)
{
    if (hosted->state != HOSTED_RUNS)
        return;
    hosted->state = HOSTED_STOPS;
    loop_alarm_stop(hosted->all->master->loop, &hosted->look);
    kill(hosted->pid, SIGTERM);
}

static void on_look(struct loop_alarm *alarm)
{
    struct hosted *hosted = LIST_OWNER(alarm, struct hosted, look);
    int64_t now_ms = loop_now_ms(hosted->all->master->loop);

    if (has_requests(hosted) || requests_of(hosted) != hosted->requests)
        hosted->busy_ms = now_ms;
    hosted->requests = requests_of(hosted);
    if (now_ms - hosted->busy_ms < hosted_app_idle_ms(&hosted->app)) {
        look_later(hosted);
        return;
    }
    log_event(LOG_INFO, "app_idle", "%s: it is stopped until somebody asks for it",
              hosted->app.file);
    stop(hosted);
}

/* ---- the end of a process */

static void ended(struct hosted *hosted, int status)
{
    struct master *master = hosted->all->master;
    bool was_stopped = hosted->state == HOSTED_STOPS;
    int64_t lived_ms = loop_now_ms(master->loop) - hosted->started_ms;

    hosted->pid = 0;
    hosted->state = HOSTED_RESTS;
    loop_alarm_stop(master->loop, &hosted->look);
    if (master->state == MASTER_STOPPING)
        return;
    hosted->early_ends = was_stopped || lived_ms >= EARLY_MS ? 0 : hosted->early_ends + 1;
    if (!was_stopped)
        log_event(status == 0 ? LOG_INFO : LOG_ERROR, "app_ended", "%s: %s %d", hosted->app.file,
                  WIFSIGNALED(status) ? "signal" : "status",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (hosted_app_on_demand(&hosted->app) && !hosted->is_wanted && !has_requests(hosted))
        return;
    if (was_stopped)
        start(hosted);
    else
        start_later(hosted);
}

void host_apps_reap(struct master *master, bool wait)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->count; i++) {
        struct hosted *hosted = &master->host.apps->at[i];
        int status = 0;
        pid_t pid;

        if (hosted->pid == 0)
            continue;
        while ((pid = waitpid(hosted->pid, &status, wait ? 0 : WNOHANG)) < 0 && errno == EINTR)
            ;
        if (pid == hosted->pid)
            ended(hosted, status);
    }
    if (master->state == MASTER_STOPPING && master->loop)
        master_slot_gone(master);
}

void host_apps_stop(struct master *master)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->count; i++)
        stop(&master->host.apps->at[i]);
}

void host_apps_kill(struct master *master)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->count; i++)
        if (master->host.apps->at[i].pid)
            kill(master->host.apps->at[i].pid, SIGKILL);
}

bool host_apps_are_gone(const struct master *master)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->count; i++)
        if (master->host.apps->at[i].pid)
            return false;
    return true;
}

/* ---- the rows */

static void copy_user(struct hosted *hosted, const struct passwd *user)
{
    hosted->user = *user;
    hosted->user.pw_name = mem_strdup(user->pw_name);
    hosted->user.pw_dir = mem_strdup(user->pw_dir);
}

static int find_user(struct hosted *hosted, struct err_text *text)
{
    const char *name = hosted->app.user;
    const struct passwd *user = name[0] ? getpwnam(name) : getpwuid(geteuid());

    if (name[0] == '\0' && geteuid() == 0)
        return err_set(text, EXIT_OPTION, ERR_INVALID,
                       "apps: %.400s: user= is missing: whom shall root start it as?",
                       hosted->app.file);
    if (user == NULL)
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "apps: %.400s: user=%s: there is none",
                       hosted->app.file, name);
    if (user->pw_uid != geteuid() && geteuid() != 0)
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "apps: %.400s: user=%s: only root can start it as another user",
                       hosted->app.file, name);
    copy_user(hosted, user);
    return 0;
}

/* Where a host before this one has it; NULL. */
static struct served_app *find_place(struct hosted *hosted)
{
    struct apps *apps = &hosted->all->master->apps;
    const struct served_app *found = NULL;

    for (unsigned i = 0; i < TALLY_APPS; i++) {
        struct served_app *app = &apps->at[i];

        if (app->is_open && buf_len(&app->kept) > 0 && app->uid == hosted->user.pw_uid &&
            strcmp(app->path, hosted->app.file) == 0)
            return app;
    }
    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && found == NULL && hosted->app.prefix[i][0]; i++)
        found = apps_with_prefix(apps, hosted->app.prefix[i]);
    return found ? &apps->at[found->index] : NULL;
}

/* As its process will ask for it. */
static void describe(const struct hosted_app *app, uid_t uid, struct buf *wish)
{
    pairs_add(wish, "value", app->file);
    pairs_add_number(wish, "uid", uid);
    pairs_add(wish, IPC_APP_HOSTED, "1");
    for (unsigned i = 0; i < HOSTED_APP_SETTINGS && app->set[i][0]; i++) {
        const char *equals = strchr(app->set[i], '=');
        char key[HOSTED_APP_TEXT + 8];

        snprintf(key, sizeof(key), "set:%.*s", (int)(equals - app->set[i]), app->set[i]);
        pairs_add(wish, key, equals + 1);
    }
    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && app->prefix[i][0]; i++)
        pairs_add(wish, "+", app->prefix[i]);
}

/* All of it is as the row says, whatever a host before this one had. */
static int register_it(struct hosted *hosted, struct err_text *text)
{
    struct master *master = hosted->all->master;
    const struct served_app *there = find_place(hosted);
    struct buf wish = {0}, change = {0}, reply = {0};
    int code;

    if (there && there->uid != hosted->user.pw_uid)
        return err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS,
                       "apps: %.400s: an app of user %u has a prefix of it", hosted->app.file,
                       (unsigned)there->uid);
    hosted->place = there ? there->index : apps_free_place(&master->apps);
    if (hosted->place == TALLY_APPS)
        return err_set(text, EXIT_OPTION, ERR_LIMIT, "apps: %.400s: the host has %d apps already",
                       hosted->app.file, TALLY_APPS);
    describe(&hosted->app, hosted->user.pw_uid, &wish);
    code = apps_attach(&master->apps, hosted->place, buf_span(&wish), &master->endpoints, &change,
                       &reply, text);
    buf_fini(&wish);
    buf_fini(&change);
    buf_fini(&reply);
    return code;
}

/* What the configuration has no more is an app that has left, and forgotten like one. */
static void release_others(struct host_apps *all)
{
    struct apps *apps = &all->master->apps;
    bool is_ours[TALLY_APPS] = {false};

    for (unsigned i = 0; i < all->count; i++)
        if (all->at[i].place < TALLY_APPS)
            is_ours[all->at[i].place] = true;
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (!is_ours[i])
            buf_fini(&apps->at[i].kept);
}

static int open_all(struct host_apps *all, struct err_text *text)
{
    const char *rest = all->master->apps.settings.apps;
    char why[200]; /* checked before */
    int code = 0;

    while (code == 0 && all->count < HOSTED_APPS_MOST) {
        struct hosted *hosted = &all->at[all->count];

        if (hosted_app_next(&rest, &hosted->app, why, sizeof(why)) <= 0)
            return 0;
        hosted->all = all;
        hosted->place = TALLY_APPS;
        all->count++;
        loop_alarm_init(&hosted->again, on_again);
        loop_alarm_init(&hosted->look, on_look);
        code = find_user(hosted, text);
        if (code == 0 && hosted->app.prefix[0][0])
            code = register_it(hosted, text);
    }
    if (code == 0 && rest[strspn(rest, " ")])
        code = err_set(text, EXIT_OPTION, ERR_LIMIT, "apps: more than %d", HOSTED_APPS_MOST);
    return code;
}

int host_apps_open(struct master *master, struct err_text *text)
{
    struct host_apps *all = mem_zalloc(sizeof(*all));
    int code;

    all->master = master;
    master->host.apps = all;
    code = open_all(all, text);
    release_others(all);
    return code;
}

void host_apps_close(struct master *master)
{
    struct host_apps *all = master->host.apps;

    if (all == NULL)
        return;
    for (unsigned i = 0; i < all->count; i++) {
        loop_alarm_stop(master->loop, &all->at[i].again);
        loop_alarm_stop(master->loop, &all->at[i].look);
        mem_free(all->at[i].user.pw_name);
        mem_free(all->at[i].user.pw_dir);
    }
    mem_free(all);
    master->host.apps = NULL;
}
