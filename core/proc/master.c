/*
 * The start is a sequence that any step can fail: one worker loads the app and says what it asks
 * for, then the sockets are opened, then the other workers start. So a broken app or a port in use
 * is told once, before anything is served, and nothing is left behind. A stop is the same for all
 * workers, bounded by drain.
 */
#include "proc/master.h"

#include <errno.h>
#include <fcntl.h>
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
#include "bind/vm.h"
#include "proc/ipc.h"
#include "proc/master_priv.h"
#include "proc/status_answer.h"

#define SPARE_DESCRIPTORS   64 /* for a few connections and files in each process */
#define WORKER_DESCRIPTORS  2  /* that the master holds for a worker, beside its sockets */
#define WATCH_MOST_MS       1000
#define KILL_AFTER_DRAIN_MS 2000

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

/* ---- settings, user, logs */

/* A URL is understood only now, when all is known that may replace it: says where it came from. */
static int read_urls(struct master *master, struct span app, struct err_text *text)
{
    const char *from = master->options->urls_from, *key, *value, *place = NULL;
    struct err_text wrong;
    int code = endpoints_parse(&master->endpoints, master->settings.urls, &wrong);

    if (code == 0)
        return 0;
    while (pairs_next(&app, &key, &value))
        if (strcmp(key, "urls" VM_SETTING_PLACE) == 0)
            place = value;
    if (from[0] || place == NULL)
        return err_set(text, wrong.exit_code, code, "%s: %s", from, wrong.text);
    return err_set(text, wrong.exit_code, code, "%s: urls: %s", place, wrong.text);
}

/* What app asked for lies between what the terminal suggests and what the command line says. */
static int read_settings(struct master *master, struct span app, struct err_text *text)
{
    const struct options *options = master->options;
    struct span defaults = buf_span(&options->defaults), overrides = buf_span(&options->overrides);
    int code;

    settings_init(&master->settings);
    code = options_apply(&master->settings, defaults, false, "default", text);
    if (code == 0)
        code = options_apply(&master->settings, app, true, options->app, text);
    if (code == 0)
        code = options_apply(&master->settings, overrides, false, "option", text);
    if (code == 0)
        code = read_urls(master, app, text);
    return code;
}

struct pairs_of {
    const struct settings *settings;
    struct buf *pairs;
};

static void add_server_setting(void *arg, const char *key)
{
    struct pairs_of *of = arg;
    char value[sizeof(of->settings->urls)];

    if (settings_scope(key) != SETTING_SERVER)
        return;
    settings_get(of->settings, key, value, sizeof(value));
    pairs_add(of->pairs, key, value);
}

void master_server_settings(const struct master *master, struct buf *pairs)
{
    struct pairs_of of = {.settings = &master->settings, .pairs = pairs};

    settings_each(add_server_setting, &of);
}

static int find_user(struct master *master, struct err_text *text)
{
    const char *name = master->settings.user;
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

/* A new descriptor of a log; 2 for "-", -1 for "off". */
static int open_log(const char *path, struct err_text *text)
{
    int fd;

    if (strcmp(path, "-") == 0)
        return STDERR_FILENO;
    if (strcmp(path, "off") == 0 || path[0] == '\0')
        return -1;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0)
        return err_set(text, EXIT_LOG, ERR_IO, "cannot write the log %s: %s", path,
                       strerror(errno));
    return fd;
}

static void close_log(int fd)
{
    if (fd >= 0 && fd != STDERR_FILENO)
        close(fd);
}

/* Opens both logs, again if they are open; on failure what was open stays. */
static int open_logs(struct master *master, struct err_text *text)
{
    const struct settings *settings = &master->settings;
    bool is_json = strcmp(settings->error_log_format, "json") == 0;
    const char *path = settings->error_log[0] ? settings->error_log : "-";
    int error_fd, access_fd = -1;

    if (strcmp(path, "off") == 0)
        return err_set(text, EXIT_OPTION, ERR_INVALID, "error_log=off: a file or - is needed");
    error_fd = open_log(path, text);
    if (error_fd >= 0 && (access_fd = open_log(settings->access_log, text)) < -1) {
        close_log(error_fd);
        return access_fd;
    }
    if (error_fd < 0)
        return error_fd;
    close_log(master->access_fd);
    master->access_fd = access_fd;
    master->error_fd = error_fd;
    log_setup(error_fd, (enum log_level)log_level_parse(span_str(settings->log_level)),
              is_json ? LOG_JSON : LOG_TEXT, "master");
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

static int check_descriptors(const struct master *master, struct err_text *text)
{
    unsigned workers = (unsigned)master->settings.workers;
    unsigned per_worker = WORKER_DESCRIPTORS + endpoints_sockets(&master->endpoints);
    unsigned long long needed = SPARE_DESCRIPTORS + (unsigned long long)workers * per_worker;
    struct rlimit limit = {0};

    if (raise_descriptors(&limit) == 0 && limit.rlim_max >= needed)
        return 0;
    return err_set(text, EXIT_DESCRIPTORS, ERR_LIMIT,
                   "%llu file descriptors are needed for %u workers, %llu are allowed (ulimit -n)",
                   needed, workers, (unsigned long long)limit.rlim_max);
}

/* ---- the start */

static void open_sockets(struct master *master, struct err_text *text)
{
    unsigned workers = (unsigned)master->settings.workers;
    int count;

    master->socket_stride = endpoints_sockets(&master->endpoints);
    master->sockets = mem_alloc(sizeof(int) * master->socket_stride * workers);
    count = endpoints_open(&master->endpoints, workers, master->sockets, text);
    if (count < 0) {
        mem_free(master->sockets);
        master->sockets = NULL;
        master_fail(master, text->exit_code, "%s", text->text);
        return;
    }
    master->socket_count = (unsigned)count;
}

/* The server can do without, unless it was told where. False when the start has failed. */
static bool open_control(struct master *master)
{
    char path[512] = "";
    struct err_text text;

    settings_get(&master->settings, "control_socket", path, sizeof(path));
    master->control = control_open(master->loop, path, status_answer, master, &text);
    if (master->control || text.exit_code == 0)
        return true;
    master_fail(master, text.exit_code, "control_socket: %s", text.text);
    return false;
}

void master_app_loaded(struct master *master, struct span pairs)
{
    unsigned workers;
    struct err_text text;

    if (read_settings(master, pairs, &text) < 0 || find_user(master, &text) < 0 ||
        check_descriptors(master, &text) < 0 || open_logs(master, &text) < 0) {
        master_fail(master, text.exit_code, "%s", text.text);
        return;
    }
    open_sockets(master, &text);
    if (master->sockets == NULL || !open_control(master))
        return;
    workers = (unsigned)master->settings.workers;
    tally_use(master->tally, workers);
    slot_serve(master->slots[0]);
    for (; master->slot_count < workers && master->state == MASTER_STARTING;) {
        struct slot *slot = slot_new(master, master->slot_count);

        master->slots[master->slot_count++] = slot;
        slot_spawn(slot);
    }
}

static void announce(struct master *master)
{
    struct buf urls = {0};
    struct log_line line;
    unsigned workers = master->slot_count;
    bool seen = master->error_fd == STDERR_FILENO && isatty(STDERR_FILENO);

    endpoints_print(&master->endpoints, &urls);
    printf("moonquay: serving %s on %.*s with %u worker%s (Ctrl-C stops)\n", master->options->app,
           (int)buf_len(&urls), buf_span(&urls).at, workers, workers == 1 ? "" : "s");
    fflush(stdout);
    /* Who sits at the terminal has just read it. */
    log_begin(&line, seen ? LOG_DEBUG : LOG_INFO, "started", NULL);
    log_str(&line, "app", master->options->app);
    log_span(&line, "urls", buf_span(&urls));
    log_int(&line, "workers", workers);
    log_end(&line);
    buf_fini(&urls);
    if (master->socket_count < master->socket_stride)
        log_event(LOG_INFO, "ipv6_missing", "this machine has no IPv6: only IPv4 is served");
    if (geteuid() == 0 && master->uid == 0)
        log_event(LOG_WARN, "running_as_root", "the workers run as root; --user NAME changes that");
}

/* Work of ours that took long, or a stopped machine, is not the workers' silence. */
static void on_watchdog(struct loop_alarm *alarm)
{
    struct master *master = LIST_OWNER(alarm, struct master, watchdog);
    int64_t interval_ms = master->settings.watchdog_ms / 4, now;
    struct timespec time;

    if (master->settings.watchdog_ms == SETTING_OFF)
        return;
    if (interval_ms > WATCH_MOST_MS)
        interval_ms = WATCH_MOST_MS;
    clock_gettime(CLOCK_MONOTONIC, &time);
    now = (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
    if (now - master->watched_ms < 3 * interval_ms)
        for (unsigned i = 0; i < master->slot_count; i++)
            slot_watch(master->slots[i], now);
    master->watched_ms = now;
    loop_alarm_start(master->loop, alarm, (double)interval_ms / 1000);
}

void master_slot_serving(struct master *master)
{
    if (master->state != MASTER_STARTING || master->slot_count < master->settings.workers)
        return;
    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->state != SLOT_SERVING)
            return;
    master->state = MASTER_SERVING;
    on_watchdog(&master->watchdog); /* the app may have changed the time */
    announce(master);
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
    if (!any_worker(master))
        loop_stop(master->loop);
}

static void close_sockets(struct master *master)
{
    for (unsigned i = 0; i < master->slot_count && master->sockets; i++)
        for (unsigned j = 0; j < master->socket_count; j++)
            close(master->sockets[i * master->socket_stride + j]);
    mem_free(master->sockets);
    master->sockets = NULL;
    master->socket_count = 0;
}

static void kill_workers(struct master *master)
{
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_kill(master->slots[i]);
}

static void on_drain_over(struct loop_alarm *alarm)
{
    struct master *master = LIST_OWNER(alarm, struct master, drain);

    if (master->status == 0) /* a failed start has been told, in one line */
        log_event(LOG_ERROR, "stop_forced", "workers did not end in time and are killed");
    kill_workers(master);
}

/*
 * Lets the workers end in good order, for so long. Our copies of the sockets go first: what arrives
 * until a worker closes its own is then served by it.
 */
static void end_workers(struct master *master, int64_t ms)
{
    master->state = MASTER_STOPPING;
    loop_alarm_stop(master->loop, &master->watchdog);
    close_sockets(master);
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_stop(master->slots[i]);
    loop_alarm_start(master->loop, &master->drain, (double)(ms + KILL_AFTER_DRAIN_MS) / 1000);
    master_slot_gone(master);
}

void master_stop(struct master *master)
{
    log_event(LOG_INFO, "stopping", "running requests may go on for %lld ms",
              (long long)master->settings.drain_ms);
    end_workers(master, master->settings.drain_ms);
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
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_reap(master->slots[i], false);
}

static void on_reopen(struct loop_signal *signal, int number)
{
    struct master *master = LIST_OWNER(signal, struct master, on_usr1);
    struct err_text text;

    (void)number;
    if (open_logs(master, &text) < 0) {
        log_event(LOG_ERROR, "reopen_failed", "%s; the old log is kept", text.text);
        return;
    }
    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->pid != 0)
            slot_send_logs(master->slots[i]);
    log_event(LOG_INFO, "reopened", NULL);
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
    if (read_settings(master, SPAN_NONE, text) < 0 || find_user(master, text) < 0 ||
        check_descriptors(master, text) < 0 || open_logs(master, text) < 0)
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
    close_sockets(master);
    control_close(master->control);
    for (unsigned i = 0; i < master->slot_count; i++)
        slot_free(master->slots[i]);
    mem_free(master->slots);
    loop_free(master->loop);
    tally_close(master->tally);
    if (master->tally_fd >= 0)
        close(master->tally_fd);
    close_log(master->access_fd);
    log_reopen(STDERR_FILENO);
}

int master_run(const struct options *options)
{
    struct master *master = mem_zalloc(sizeof(*master)); /* too large for a stack */
    struct err_text text = {0};
    int status;

    master->options = options;
    master->tally_fd = -1;
    master->error_fd = STDERR_FILENO;
    master->access_fd = -1;
    if (set_up(master, &text) < 0) {
        fprintf(stderr, "moonquay: %s\n", text.text);
        master->status = text.exit_code;
    } else {
        slot_spawn(master->slots[0]);
        on_watchdog(&master->watchdog);
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
