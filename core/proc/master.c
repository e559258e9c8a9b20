/*
 * The start is a sequence that any step can fail: one worker loads the app and says what it asks
 * for, then the sockets are opened, then the other workers start. So a broken app or a port in use
 * is told once, before anything is served, and nothing is left behind. A stop is the same for all
 * workers, bounded by drain.
 */
#include "proc/master.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/host.h"
#include "proc/host_apps.h"
#include "proc/host_state.h"
#include "proc/master_priv.h"
#include "proc/share.h"
#include "proc/status_answer.h"
#include "proc/takeover.h"
#include "proc/worker_ipc.h"

#define SPARE_DESCRIPTORS   64 /* for a few connections and files in each process */
#define WORKER_DESCRIPTORS  2  /* that the master holds for a worker, beside its sockets */
#define WATCH_MOST_MS       1000
#define KILL_AFTER_DRAIN_MS 2000
#define ANNOUNCED_ADDRESSES 16
#define HOST_USER           "moonquay" /* whom a host's workers become, if there is one */

static void end_workers(struct master *master, int64_t ms);

void master_fail(struct master *master, int exit_code, const char *format, ...)
{
    char text[1200];
    va_list args;

    if (master->state == MASTER_STOPPING)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "moonquay: %s\n", text);
    master->status = exit_code;
    end_workers(master, 0);
}

/* ---- user, descriptors */

/* A host's workers need no file of anybody's: they are nobody when root does not say who. */
static const char *user_name(const struct master *master)
{
    const char *name = master->apps.settings.user;

    if (name[0] || master->options->command != COMMAND_HOST || geteuid() != 0)
        return name;
    return getpwnam(HOST_USER) ? HOST_USER : "nobody";
}

static int find_user(struct master *master, struct err_text *text)
{
    const char *name = user_name(master);
    const struct passwd *user;

    if (name[0] == '\0')
        return 0;
    user = getpwnam(name);
    if (user == NULL)
        return err_set(text, EXIT_OPTION, ERR_INVALID, "user=%s: there is no such user", name);
    if (user->pw_uid == geteuid())
        return 0;
    if (geteuid() != 0)
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "user=%s: only root can start workers as another user", name);
    master->uid = user->pw_uid;
    master->gid = user->pw_gid;
    return 0;
}

/* Takes all that we may have; each worker inherits it. */
static int raise_descriptors(struct rlimit *limit)
{
    if (getrlimit(RLIMIT_NOFILE, limit) < 0)
        return -1;
    limit->rlim_cur = limit->rlim_max;
    return setrlimit(RLIMIT_NOFILE, limit);
}

static int check_descriptors(unsigned workers, unsigned addresses, struct err_text *text)
{
    unsigned per_worker = WORKER_DESCRIPTORS + addresses;
    unsigned long long needed = SPARE_DESCRIPTORS + (unsigned long long)workers * per_worker;
    struct rlimit limit = {0};

    if (raise_descriptors(&limit) == 0 && limit.rlim_max >= needed)
        return 0;
    return err_set(text, EXIT_DESCRIPTORS, ERR_LIMIT,
                   "%llu file descriptors are needed for %u workers, %llu are allowed (ulimit -n)",
                   needed, workers, (unsigned long long)limit.rlim_max);
}

/* For how many addresses there are descriptors besides. */
static unsigned most_addresses(unsigned workers)
{
    struct rlimit limit;
    unsigned long long all;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return ENDPOINTS_MAX;
    all = (limit.rlim_cur - SPARE_DESCRIPTORS) / workers - WORKER_DESCRIPTORS;
    return all < ENDPOINTS_MAX ? (unsigned)all : ENDPOINTS_MAX;
}

/* ---- the start */

/* The server can do without, unless it was told where. False when the start has failed. */
static bool open_control(struct master *master)
{
    struct err_text text;

    master->control = control_open(master->loop, master->apps.settings.control_socket,
                                   status_answer, master, &text);
    if (master->control || text.exit_code == 0)
        return true;
    master_fail(master, text.exit_code, "control_socket: %s", text.text);
    return false;
}

static void certificates_changed(void *owner)
{
    struct master *master = owner;

    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->told)
            slot_send_certificates(master->slots[i]);
}

static void tickets_changed(void *owner)
{
    struct master *master = owner;

    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->told)
            slot_send_tickets(master->slots[i]);
}

/* Those of a host come from its state too, and may change. */
static int open_certificates(struct master *master, struct err_text *text)
{
    bool is_host = master->options->command == COMMAND_HOST;
    const struct certificates_parts parts = {
        .may_change = is_host,
        .settings = &master->apps.settings,
        .loop = master->loop,
        .changed = certificates_changed,
        .tickets_changed = tickets_changed,
        .owner = master,
    };

    master->apps.certificates = &master->certificates;
    if (is_host && (host_find_path(master, text) < 0 ||
                    (master->options->replaces && takeover_take(master, text) < 0) ||
                    host_state_open(master, text) < 0))
        return ERR_INVALID;
    if (certificates_open(&master->certificates, &parts, text) < 0)
        return ERR_INVALID;
    return is_host ? host_state_begin(master, text) : 0;
}

static int open_addresses(struct master *master, unsigned workers, struct span asked,
                          struct err_text *text)
{
    int code = check_descriptors(workers, 2, text);

    if (code < 0)
        return code;
    master->endpoints.slots = workers;
    master->endpoints.most = most_addresses(workers);
    return apps_open(&master->apps, &master->endpoints, asked, text);
}

static void start_workers(struct master *master, unsigned workers)
{
    tally_use(master->tally, workers);
    slot_serve(master->slots[0]);
    for (; master->slot_count < workers && master->state == MASTER_STARTING;) {
        struct slot *slot = slot_new(master, master->slot_count);

        master->slots[master->slot_count++] = slot;
        slot_spawn(slot);
    }
}

void master_apps_loaded(struct master *master, struct span asked)
{
    unsigned workers;
    struct err_text text;

    if (apps_loaded(&master->apps, asked, &text) < 0 || find_user(master, &text) < 0 ||
        logs_open(&master->logs, &master->apps.settings, &text) < 0 ||
        open_certificates(master, &text) < 0) {
        master_fail(master, text.exit_code, "%s", text.text);
        return;
    }
    if (master->apps.settings.share) {
        if (!apps_is_given(&master->apps, asked, "workers"))
            master->apps.settings.workers = 1; /* the host's do most of the work */
        if (master->apps.settings.tls[0])
            log_event(LOG_WARN, "tls_unused", "certificates are the host's: %s",
                      "moonquay http add sslcert");
        if (share_open(master, asked, &text) < 0)
            master_fail(master, text.exit_code, "%s", text.text);
        return;
    }
    workers = (unsigned)master->apps.settings.workers;
    if (open_addresses(master, workers, asked, &text) < 0) {
        master_fail(master, text.exit_code, "%s", text.text);
        return;
    }
    if (!open_control(master))
        return;
    if (master->options->command == COMMAND_HOST) {
        if (takeover_install(master, &text) < 0 || host_open(master, &text) < 0 ||
            host_apps_open(master, &text) < 0) {
            master_fail(master, text.exit_code, "%s", text.text);
            return;
        }
        if (!takeover_is_on(master))
            host_start(master);
    }
    start_workers(master, workers);
}

void master_shared(struct master *master)
{
    if (open_control(master))
        start_workers(master, (unsigned)master->apps.settings.workers);
}

static void print_apps(const struct master *master, struct buf *out)
{
    const struct options *options = master->options;

    for (unsigned i = 0; i < options->app_count; i++)
        buf_printf(out, "%s%s", i ? ", " : "", options->apps[i]);
}

static void announce_host(const struct master *master)
{
    printf("moonquay: host at %s with %u worker%s (Ctrl-C stops)\n", master->host.path,
           master->slot_count, master->slot_count == 1 ? "" : "s");
    fflush(stdout);
    log_event(LOG_INFO, "started", "host at %s", master->host.path);
}

static void announce(struct master *master)
{
    struct buf urls = {0}, apps = {0};
    struct log_line line;
    unsigned workers = master->slot_count;
    bool seen = master->logs.error_fd == STDERR_FILENO && isatty(STDERR_FILENO);

    if (master->options->command == COMMAND_HOST) {
        announce_host(master);
        return;
    }
    apps_print_addresses(&master->apps, ANNOUNCED_ADDRESSES, &urls);
    print_apps(master, &apps);
    printf("moonquay: serving %.*s on %.*s with %u worker%s (Ctrl-C stops)\n", (int)buf_len(&apps),
           buf_span(&apps).at, (int)buf_len(&urls), buf_span(&urls).at, workers,
           workers == 1 ? "" : "s");
    fflush(stdout);
    /* Who sits at the terminal has just read it. */
    log_begin(&line, seen ? LOG_DEBUG : LOG_INFO, "started", NULL);
    log_span(&line, "app", buf_span(&apps));
    log_span(&line, "urls", buf_span(&urls));
    log_int(&line, "workers", workers);
    log_end(&line);
    buf_fini(&urls);
    buf_fini(&apps);
    if (geteuid() == 0 && master->uid == 0)
        log_event(LOG_WARN, "running_as_root", "the workers run as root; --user NAME changes that");
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Work of ours that took long, or a stopped machine, is not the workers' silence. */
static void on_watchdog(struct loop_alarm *alarm)
{
    struct master *master = LIST_OWNER(alarm, struct master, watchdog);
    int64_t interval_ms = master->apps.settings.watchdog_ms / 4, now = now_ms();

    if (master->apps.settings.watchdog_ms == SETTING_OFF)
        return;
    if (interval_ms > WATCH_MOST_MS)
        interval_ms = WATCH_MOST_MS;
    if (now - master->watched_ms < 3 * interval_ms)
        for (unsigned i = 0; i < master->slot_count; i++)
            slot_watch(master->slots[i], now);
    master->watched_ms = now;
    loop_alarm_start(master->loop, alarm, (double)interval_ms / 1000);
}

/* Another time may hold from now on. The workers learn of it when we do: what they were silent
 * before is not judged by it. */
static void watch_anew(struct master *master)
{
    if (master->watchdog_ms == master->apps.settings.watchdog_ms)
        return;
    master->watchdog_ms = master->apps.settings.watchdog_ms;
    master->watchdog_since_ms = now_ms();
    on_watchdog(&master->watchdog);
}

void master_slot_serving(struct master *master)
{
    if (master->state != MASTER_STARTING || master->slot_count < master->apps.settings.workers)
        return;
    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->state != SLOT_SERVING)
            return;
    master->state = MASTER_SERVING;
    watch_anew(master); /* the app may have changed the time */
    announce(master);
    if (master->options->command == COMMAND_HOST && !takeover_is_on(master))
        takeover_listen(master);
    takeover_done(master);
    if (!takeover_is_shared(master)) /* else when the old host has stopped its own */
        host_apps_start(master);
}

/* ---- signals and stop */

static bool any_worker(const struct master *master)
{
    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->pid != 0)
            return true;
    return false;
}

void master_slot_gone(struct master *master)
{
    if (any_worker(master))
        return;
    host_apps_stop(master); /* the last request of theirs has ended */
    if (host_apps_are_gone(master) && !takeover_is_between(master))
        loop_stop(master->loop);
}

static void kill_workers(struct master *master)
{
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_kill(master->slots[i]);
}

void master_settings_changed(struct master *master)
{
    const struct settings *settings = &master->apps.settings;

    log_set_level((enum log_level)log_level_parse(span_str(settings->log_level)));
    if (master->state != MASTER_STOPPING)
        watch_anew(master);
}

static void on_drain_over(struct loop_alarm *alarm)
{
    struct master *master = LIST_OWNER(alarm, struct master, drain);

    if (master->status == 0) /* a failed start has been told, in one line */
        log_event(LOG_ERROR, "stop_forced", "workers did not end in time and are killed");
    kill_workers(master);
    host_apps_kill(master);
}

/*
 * Lets the workers end in good order, for so long. Our copies of the sockets go first: what arrives
 * until a worker closes its own is then served by it.
 */
static void end_workers(struct master *master, int64_t ms)
{
    master->state = MASTER_STOPPING;
    loop_alarm_stop(master->loop, &master->watchdog);
    endpoints_close_all(&master->endpoints);
    host_stop(master);
    share_stop(master);
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_stop(master->slots[i]);
    loop_alarm_start(master->loop, &master->drain, (double)(ms + KILL_AFTER_DRAIN_MS) / 1000);
    master_slot_gone(master);
}

void master_stop(struct master *master)
{
    log_event(LOG_INFO, "stopping", "running requests may go on for %lld ms",
              (long long)master->apps.settings.drain_ms);
    end_workers(master, master->apps.settings.drain_ms);
}

static void on_stop(struct loop_signal *signal, int number)
{
    struct master *master = number == SIGINT ? LIST_OWNER(signal, struct master, on_int)
                                             : LIST_OWNER(signal, struct master, on_term);

    if (master->state != MASTER_STOPPING) {
        master_stop(master);
        return;
    }
    master->status = 128 + number;
    loop_stop(master->loop);
}

static void on_child(struct loop_signal *signal, int number)
{
    struct master *master = LIST_OWNER(signal, struct master, on_child);

    (void)number;
    host_reap(master, false);
    host_apps_reap(master, false);
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_reap(master->slots[i], false);
}

static void reopen_logs(struct master *master)
{
    struct err_text text;

    if (logs_open(&master->logs, &master->apps.settings, &text) < 0) {
        log_event(LOG_ERROR, "reopen_failed", "%s; the old log is kept", text.text);
        return;
    }
    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->pid != 0)
            slot_send_logs(master->slots[i]);
    log_event(LOG_INFO, "reopened", NULL);
}

static void on_reopen(struct loop_signal *signal, int number)
{
    (void)number;
    reopen_logs(LIST_OWNER(signal, struct master, on_usr1));
}

void master_rotate_log(struct master *master)
{
    if (logs_rotate(&master->logs, &master->apps.settings))
        reopen_logs(master);
}

static void on_reload(struct loop_signal *signal, int number)
{
    (void)signal;
    (void)number;
    log_event(LOG_WARN, "hup_ignored", "SIGHUP is reserved for a reload, which does not exist yet");
}

static void set_up_signals(struct master *master)
{
    signal(SIGPIPE, SIG_IGN);
    loop_signal_start(master->loop, &master->on_int, SIGINT, on_stop);
    loop_signal_start(master->loop, &master->on_term, SIGTERM, on_stop);
    loop_signal_start(master->loop, &master->on_child, SIGCHLD, on_child);
    loop_signal_start(master->loop, &master->on_usr1, SIGUSR1, on_reopen);
    loop_signal_start(master->loop, &master->on_hup, SIGHUP, on_reload);
}

/* ---- all of it */

static int set_up(struct master *master, struct err_text *text)
{
    if (apps_init(&master->apps, master->options, text) < 0 || find_user(master, text) < 0 ||
        check_descriptors((unsigned)master->apps.settings.workers, 2, text) < 0 ||
        logs_open(&master->logs, &master->apps.settings, text) < 0)
        return ERR_INVALID;
    master->tally = tally_create(MAX_WORKERS, &master->tally_fd);
    master->loop = master->tally ? loop_new() : NULL;
    if (master->loop == NULL)
        return err_set(text, EXIT_DESCRIPTORS, ERR_LIMIT, "cannot start: %s", strerror(errno));
    master->started_ms = loop_now_ms(master->loop);
    tally_use(master->tally, 1);
    master->slots = mem_zalloc(sizeof(struct slot *) * MAX_WORKERS);
    master->slots[0] = slot_new(master, 0);
    master->slot_count = 1;
    set_up_signals(master);
    loop_alarm_init(&master->watchdog, on_watchdog);
    loop_alarm_init(&master->drain, on_drain_over);
    return 0;
}

static void clean_up(struct master *master)
{
    kill_workers(master);
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_reap(master->slots[i], true);
    host_stop(master);
    host_reap(master, true);
    host_apps_kill(master);
    host_apps_reap(master, true);
    host_apps_close(master);
    host_state_close(master); /* before who waits for the lock hears of our end */
    host_close(master);
    takeover_close(master);
    share_close(master);
    endpoints_close_all(&master->endpoints);
    changes_fini(&master->changes);
    certificates_close(&master->certificates);
    control_close(master->control);
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_free(master->slots[i]);
    mem_free(master->slots);
    loop_free(master->loop);
    tally_close(master->tally);
    apps_fini(&master->apps);
    if (master->tally_fd >= 0)
        close(master->tally_fd);
    logs_close(&master->logs);
}

int master_run(const struct options *options)
{
    struct master *master = mem_zalloc(sizeof(*master)); /* too large for a stack */
    struct err_text text = {0};
    int status;

    master->options = options;
    changes_init(&master->changes);
    host_init(master);
    master->tally_fd = -1;
    logs_init(&master->logs);
    if (set_up(master, &text) < 0) {
        fprintf(stderr, "moonquay: %s\n", text.text);
        master->status = text.exit_code;
    } else {
        slot_spawn(master->slots[0]);
        watch_anew(master);
        if (master->state == MASTER_STARTING)
            loop_run(master->loop);
    }
    master->state = MASTER_STOPPING;
    if (master->status == 0)
        log_event(LOG_INFO, "stopped", NULL);
    clean_up(master);
    status = master->status;
    mem_free(master);
    return status;
}
