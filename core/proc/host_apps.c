#include "proc/host_apps.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/host_launch.h"
#include "proc/host_rows.h"
#include "proc/master_priv.h"
#include "proc/takeover.h"

#define EARLY_MS       10000 /* an end sooner than this counts as one of a row */
#define PAUSE_FIRST_MS 100
#define PAUSE_MOST_MS  10000
#define LOOK_MOST_MS   5000 /* how often it is asked whether it has something to do */

enum hosted_state { HOSTED_RESTS, HOSTED_RUNS, HOSTED_STOPS };

struct hosted {
    struct host_apps *all;
    const struct host_row *row;
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
    struct host_rows rows;
    struct hosted at[HOSTED_APPS_MOST]; /* by row */
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
    int64_t idle_ms = hosted_app_idle_ms(&hosted->row->app), ms = idle_ms / 4 + 1;

    if (hosted_app_on_demand(&hosted->row->app) && idle_ms != INT64_MAX)
        loop_alarm_start(hosted->all->master->loop, &hosted->look,
                         (double)(ms < LOOK_MOST_MS ? ms : LOOK_MOST_MS) / 1000);
}

/* Those that ever came for it. */
static uint64_t requests_of(const struct hosted *hosted)
{
    return hosted->row->place < TALLY_APPS
               ? tally_app_counter_sum(hosted->all->master->tally, hosted->row->place, APP_REQUESTS)
               : 0;
}

static bool has_requests(const struct hosted *hosted)
{
    struct tally *tally = hosted->all->master->tally;

    return hosted->row->place < TALLY_APPS &&
           (tally_app_gauge_sum(tally, hosted->row->place, APP_RUNNING) > 0 ||
            tally_app_gauge_sum(tally, hosted->row->place, APP_QUEUED) > 0);
}

static void start(struct hosted *hosted)
{
    struct master *master = hosted->all->master;

    if (hosted->state != HOSTED_RESTS || master->state == MASTER_STOPPING)
        return;
    hosted->pid = host_launch(&hosted->row->app, &hosted->row->user, master->host.path);
    if (hosted->pid < 0) {
        hosted->pid = 0;
        log_event(LOG_ERROR, "spawn_failed", "%s: %s", hosted->row->app.file, strerror(errno));
        hosted->early_ends++;
        start_later(hosted);
        return;
    }
    hosted->state = HOSTED_RUNS;
    hosted->is_wanted = false;
    hosted->started_ms = hosted->busy_ms = loop_now_ms(master->loop);
    hosted->requests = requests_of(hosted);
    log_event(LOG_INFO, "app_started", "%s: process %d", hosted->row->app.file, (int)hosted->pid);
    look_later(hosted);
}

static void on_again(struct loop_alarm *alarm)
{
    struct hosted *hosted = LIST_OWNER(alarm, struct hosted, again);

    hosted->pauses = false;
    if (!takeover_is_shared(hosted->all->master) || has_requests(hosted) ||
        takeover_has_demand(hosted->all->master, hosted->row->place))
        start(hosted);
}

void host_apps_start(struct master *master)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->rows.count; i++)
        if (!hosted_app_on_demand(&master->host.apps->at[i].row->app))
            start(&master->host.apps->at[i]);
}

void host_apps_demand(struct master *master, unsigned app)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->rows.count; i++) {
        struct hosted *hosted = &master->host.apps->at[i];

        if (hosted->row->place != app)
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
    if (now_ms - hosted->busy_ms < hosted_app_idle_ms(&hosted->row->app)) {
        look_later(hosted);
        return;
    }
    log_event(LOG_INFO, "app_idle", "%s: it is stopped until somebody asks for it",
              hosted->row->app.file);
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
        log_event(status == 0 ? LOG_INFO : LOG_ERROR, "app_ended", "%s: %s %d",
                  hosted->row->app.file, WIFSIGNALED(status) ? "signal" : "status",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (hosted_app_on_demand(&hosted->row->app) && !hosted->is_wanted && !has_requests(hosted))
        return;
    if (was_stopped)
        start(hosted);
    else
        start_later(hosted);
}

void host_apps_reap(struct master *master, bool wait)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->rows.count; i++) {
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
    for (unsigned i = 0; master->host.apps && i < master->host.apps->rows.count; i++)
        stop(&master->host.apps->at[i]);
}

void host_apps_kill(struct master *master)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->rows.count; i++)
        if (master->host.apps->at[i].pid)
            kill(master->host.apps->at[i].pid, SIGKILL);
}

bool host_apps_are_gone(const struct master *master)
{
    for (unsigned i = 0; master->host.apps && i < master->host.apps->rows.count; i++)
        if (master->host.apps->at[i].pid)
            return false;
    return true;
}

int host_apps_open(struct master *master, struct err_text *text)
{
    struct host_apps *all = mem_zalloc(sizeof(*all));

    all->master = master;
    master->host.apps = all;
    for (unsigned i = 0; i < HOSTED_APPS_MOST; i++) {
        all->at[i].all = all;
        all->at[i].row = &all->rows.at[i];
        loop_alarm_init(&all->at[i].again, on_again);
        loop_alarm_init(&all->at[i].look, on_look);
    }
    return host_rows_open(&all->rows, master, text);
}

void host_apps_close(struct master *master)
{
    struct host_apps *all = master->host.apps;

    if (all == NULL)
        return;
    for (unsigned i = 0; i < all->rows.count; i++) {
        loop_alarm_stop(master->loop, &all->at[i].again);
        loop_alarm_stop(master->loop, &all->at[i].look);
    }
    host_rows_close(&all->rows);
    mem_free(all);
    master->host.apps = NULL;
}
