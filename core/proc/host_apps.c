/*
 * An app on demand is there before its process: its place, prefixes and queue are made at the
 * start, as if a process of its user had left them behind and nobody ever forgot them. Its process
 * then takes them over like any other, and leaves them behind again.
 */
#include "proc/host_apps.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/child.h"
#include "proc/master_priv.h"
#include "server/hosted_app.h"

#define EARLY_MS       10000 /* an end sooner than this counts as one of a row */
#define PAUSE_FIRST_MS 100
#define PAUSE_MOST_MS  10000
#define LOOK_MOST_MS   5000 /* how often it is asked whether it has something to do */
#define WORDS_MOST     (16 + 2 * (HOSTED_APP_SETTINGS + 4))

enum hosted_state { HOSTED_RESTS, HOSTED_RUNS, HOSTED_STOPS };

struct hosted {
    struct host_apps *all;
    struct hosted_app app;
    struct passwd user; /* its texts are ours */
    bool changes_user;
    unsigned place; /* on demand: of its queue */
    enum hosted_state state;
    bool is_wanted; /* once it has ended */
    bool pauses;    /* before it is started again */
    pid_t pid;      /* 0: none */
    int64_t started_ms;
    unsigned early_ends; /* in a row */
    struct loop_alarm again, look;
    uint64_t requests; /* when it was looked at last */
    int64_t busy_ms;   /* when it last had something to do */
};

struct host_apps {
    struct master *master;
    struct hosted at[HOSTED_APPS_MOST];
    unsigned count;
};

/* ---- starting a process */

/* The command line of its process, for exec. */
struct launch {
    const struct hosted *hosted;
    const char *socket;
    char *words[WORDS_MOST + 1];
    unsigned count;
    struct buf prefixes;
};

static void add_word(struct launch *launch, const char *word)
{
    CHECK(launch->count < WORDS_MOST);
    launch->words[launch->count++] = (char *)(uintptr_t)word;
    launch->words[launch->count] = NULL;
}

static void add_setting(struct launch *launch, const char *pair)
{
    add_word(launch, "--set");
    add_word(launch, pair);
}

static void compose(struct launch *launch)
{
    const struct hosted_app *app = &launch->hosted->app;

    add_word(launch, "moonquay");
    add_word(launch, "serve");
    add_word(launch, "--share");
    add_word(launch, "--no-dev");
    for (unsigned i = 0; i < HOSTED_APP_SETTINGS && app->set[i][0]; i++)
        add_setting(launch, app->set[i]);
    if (hosted_app_on_demand(app))
        add_setting(launch, "registration_grace=off");
    buf_append(&launch->prefixes, SPAN("url_prefixes="));
    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && app->prefix[i][0]; i++)
        buf_printf(&launch->prefixes, "%s%s", i ? "," : "", app->prefix[i]);
    buf_append(&launch->prefixes, SPAN("\0"));
    if (app->prefix[0][0])
        add_setting(launch, buf_span(&launch->prefixes).at);
    if (app->workers[0]) {
        add_word(launch, "--workers");
        add_word(launch, app->workers);
    }
    add_word(launch, "--");
    add_word(launch, app->file);
}

static void become_user(const struct hosted *hosted)
{
    const struct passwd *user = &hosted->user;

    if (hosted->changes_user && (initgroups(user->pw_name, user->pw_gid) < 0 ||
                                 setresgid(user->pw_gid, user->pw_gid, user->pw_gid) < 0 ||
                                 setresuid(user->pw_uid, user->pw_uid, user->pw_uid) < 0))
        _exit(EXIT_PERMISSION);
    setenv("HOME", user->pw_dir, 1);
    setenv("USER", user->pw_name, 1);
    setenv("LOGNAME", user->pw_name, 1);
}

/* The environment is ours but for what is about us, and for the user. */
static void become_app(const void *arg)
{
    static const char *const ours[] = {"MOONQUAY_URLS", "MOONQUAY_CONFIG", "XDG_RUNTIME_DIR",
                                       "STATE_DIRECTORY"};
    const struct launch *launch = arg;
    char dir[HOSTED_APP_TEXT];

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        unsetenv(ours[i]);
    setenv("MOONQUAY_HOST", launch->socket, 1);
    become_user(launch->hosted);
    snprintf(dir, sizeof(dir), "%.*s",
             (int)(strrchr(launch->hosted->app.file, '/') - launch->hosted->app.file),
             launch->hosted->app.file);
    if (chdir(dir[0] ? dir : "/") < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
        fprintf(stderr, "moonquay: %s: %s\n", dir, strerror(errno)); /* the app will say more */
    close_range(STDERR_FILENO + 1, ~0U, 0);
    child_unblock();
    execv("/proc/self/exe", launch->words);
    fprintf(stderr, "moonquay: cannot start an app: %s\n", strerror(errno));
    _exit(EXIT_INTERNAL);
}

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

static void start(struct hosted *hosted)
{
    struct master *master = hosted->all->master;
    struct launch launch = {.hosted = hosted, .socket = master->host.path};

    if (hosted->state != HOSTED_RESTS || master->state == MASTER_STOPPING)
        return;
    compose(&launch);
    hosted->pid = child_fork(become_app, &launch);
    buf_fini(&launch.prefixes);
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
    log_event(LOG_INFO, "app_started", "%s: process %d", hosted->app.file, (int)hosted->pid);
    look_later(hosted);
}

static void on_again(struct loop_alarm *alarm)
{
    struct hosted *hosted = LIST_OWNER(alarm, struct hosted, again);

    hosted->pauses = false;
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

        if (!hosted_app_on_demand(&hosted->app) || hosted->place != app)
            continue;
        hosted->is_wanted = hosted->state != HOSTED_RUNS; /* else another worker has asked before */
        if (!hosted->pauses)
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

static bool has_work(struct hosted *hosted)
{
    struct tally *tally = hosted->all->master->tally;
    uint64_t requests = tally_app_counter_sum(tally, hosted->place, APP_REQUESTS);
    bool is_busy = requests != hosted->requests ||
                   tally_app_gauge_sum(tally, hosted->place, APP_RUNNING) > 0 ||
                   tally_app_gauge_sum(tally, hosted->place, APP_QUEUED) > 0;

    hosted->requests = requests;
    return is_busy;
}

static void on_look(struct loop_alarm *alarm)
{
    struct hosted *hosted = LIST_OWNER(alarm, struct hosted, look);
    int64_t now_ms = loop_now_ms(hosted->all->master->loop);

    if (has_work(hosted))
        hosted->busy_ms = now_ms;
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
        log_event(LOG_ERROR, "app_ended", "%s: %s %d", hosted->app.file,
                  WIFSIGNALED(status) ? "signal" : "status",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (hosted_app_on_demand(&hosted->app) && !hosted->is_wanted && !has_work(hosted))
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
    hosted->changes_user = user->pw_uid != geteuid();
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

/* As the process itself will ask for it. */
static int register_it(struct hosted *hosted, struct err_text *text)
{
    struct master *master = hosted->all->master;
    const struct served_app *there = apps_with_prefix(&master->apps, hosted->app.prefix[0]);
    struct buf wish = {0}, change = {0}, reply = {0};
    int code;

    hosted->place = there ? there->index : apps_free_place(&master->apps);
    if (there) /* a host before this one has made it */
        return 0;
    if (hosted->place == TALLY_APPS)
        return err_set(text, EXIT_OPTION, ERR_LIMIT, "apps: %.400s: the host has %d apps already",
                       hosted->app.file, TALLY_APPS);
    pairs_add(&wish, "value", hosted->app.file);
    pairs_add_number(&wish, "uid", hosted->user.pw_uid);
    for (unsigned i = 0; i < HOSTED_APP_SETTINGS && hosted->app.set[i][0]; i++) {
        const char *equals = strchr(hosted->app.set[i], '=');
        char key[HOSTED_APP_TEXT + 8];

        snprintf(key, sizeof(key), "set:%.*s", (int)(equals - hosted->app.set[i]),
                 hosted->app.set[i]);
        pairs_add(&wish, key, equals + 1);
    }
    pairs_add(&wish, "set:registration_grace", "off");
    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && hosted->app.prefix[i][0]; i++)
        pairs_add(&wish, "+", hosted->app.prefix[i]);
    code = apps_attach(&master->apps, hosted->place, buf_span(&wish), &master->endpoints, &change,
                       &reply, text);
    buf_fini(&wish);
    buf_fini(&change);
    buf_fini(&reply);
    return code;
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
        all->count++;
        loop_alarm_init(&hosted->again, on_again);
        loop_alarm_init(&hosted->look, on_look);
        code = find_user(hosted, text);
        if (code == 0 && hosted_app_on_demand(&hosted->app))
            code = register_it(hosted, text);
    }
    if (code == 0 && rest[strspn(rest, " ")])
        code = err_set(text, EXIT_OPTION, ERR_LIMIT, "apps: more than %d", HOSTED_APPS_MOST);
    return code;
}

int host_apps_open(struct master *master, struct err_text *text)
{
    struct host_apps *all;

    if (master->apps.settings.apps[0] == '\0')
        return 0;
    all = mem_zalloc(sizeof(*all));
    all->master = master;
    master->host.apps = all;
    return open_all(all, text);
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
