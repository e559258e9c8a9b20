/*
 * A worker lives through four states: it loads the apps, waits for its sockets, serves, and stops.
 * All that it does is on one loop; what the master wants comes as messages, and the end of the
 * master is the end of the channel. A worker that ends in good order frees everything, so that a
 * leak is a bug that the sanitized build can see.
 */
#include "proc/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/options.h"
#include "proc/worker_priv.h"
#include "tls/tls_ctx.h"

#define LEAST_WATCHDOG_MS 500  /* of the setting's range */
#define ACCEPT_BATCH      64   /* of one socket in a turn, then the connections get theirs */
#define ANSWER_MS         1000 /* for answers to what has waited in vain, at the end of a drain */

/* ---- life sign */

static void flush_logs(struct worker *worker)
{
    if (worker->access_log)
        access_log_flush(worker->access_log);
    if (worker->error_log)
        error_log_flush(worker->error_log);
}

static void on_turn(void *owner)
{
    struct worker *worker = owner;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    __atomic_store_n(&worker->slot->heartbeat_ms,
                     (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, __ATOMIC_RELAXED);
    flush_logs(worker);
}

/* An idle loop must turn too, several times within the time that the master allows; which time that
 * is, a worker that loads has not been told. */
static void on_heartbeat(struct loop_alarm *alarm)
{
    struct worker *worker = LIST_OWNER(alarm, struct worker, heartbeat);
    bool told = worker->state >= WORKER_SERVING;
    int64_t watchdog_ms = told ? worker->settings.watchdog_ms : LEAST_WATCHDOG_MS;

    if (watchdog_ms != SETTING_OFF)
        loop_alarm_start(worker->loop, alarm, (double)watchdog_ms / 4000);
}

/* ---- logs */

static void set_up_log(struct worker *worker)
{
    const struct settings *settings = &worker->settings;
    bool is_json = strcmp(settings->error_log_format, "json") == 0;
    char name[32];

    snprintf(name, sizeof(name), "worker-%u", worker->index);
    log_setup(worker->error_fd, (enum log_level)log_level_parse(span_str(settings->log_level)),
              is_json ? LOG_JSON : LOG_TEXT, name);
}

static void take_logs(struct worker *worker, struct ipc_message *message)
{
    unsigned next = 0;

    if ((message->value & IPC_LOG_ERROR) && next < message->fd_count) {
        worker->error_fd = message->fds[next];
        message->fds[next++] = -1;
        log_reopen(worker->error_fd);
    }
    if ((message->value & IPC_LOG_ACCESS) && next < message->fd_count) {
        if (worker->access_log) {
            access_log_reopen(worker->access_log, message->fds[next]);
        } else {
            if (worker->access_fd >= 0)
                close(worker->access_fd);
            worker->access_fd = message->fds[next];
        }
        message->fds[next++] = -1;
    }
    if ((message->value & IPC_LOG_HTTP_ERROR) && next < message->fd_count) {
        if (worker->error_log) {
            error_log_reopen(worker->error_log, message->fds[next]);
        } else {
            if (worker->http_error_fd >= 0)
                close(worker->http_error_fd);
            worker->http_error_fd = message->fds[next];
        }
        message->fds[next] = -1;
    }
}

static void on_log_full(void *owner)
{
    worker_tell(owner, IPC_LOG_FULL, IPC_LOG_HTTP_ERROR, SPAN_NONE);
}

static void open_error_log(struct worker *worker)
{
    const struct settings *settings = &worker->settings;
    int fd = strcmp(settings->http_error_log, "-") == 0 ? STDERR_FILENO : worker->http_error_fd;
    int64_t most = settings->http_error_log_max_bytes;

    if (fd >= 0)
        worker->error_log = error_log_new(fd, most == SETTING_OFF ? 0 : most, on_log_full, worker);
    worker->http_error_fd = -1;
}

static void open_access_log(struct worker *worker)
{
    bool is_json = strcmp(worker->settings.access_log_format, "json") == 0;
    int fd = worker->access_fd;

    if (strcmp(worker->settings.access_log, "-") == 0)
        fd = STDERR_FILENO;
    if (fd >= 0)
        worker->access_log = access_log_new(fd, is_json ? ACCESS_JSON : ACCESS_COMBINED);
    worker->access_fd = -1;
}

/* ---- the end */

static void stop_listening(struct worker *worker,
                           bool (*ends)(const struct served *served, unsigned value),
                           unsigned value)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < worker->served_count; i++) {
        struct served *served = &worker->served[i];

        if (!ends(served, value)) {
            worker->served[kept++] = *served;
            continue;
        }
        listener_stop(served->listener);
        mem_free(served->entry);
    }
    worker->served_count = kept;
}

static bool is_any(const struct served *served, unsigned value)
{
    (void)served;
    (void)value;
    return true;
}

static bool is_of_slot(const struct served *served, unsigned slot)
{
    return served->owner == slot;
}

static bool is_of_endpoint(const struct served *served, unsigned id)
{
    return served->id == id;
}

static void on_idle(void *owner)
{
    struct worker *worker = owner;

    if (--worker->running_vms == 0)
        loop_stop(worker->loop);
}

static void on_drained(void *owner)
{
    struct worker *worker = owner;

    worker->running_vms = worker->app_count;
    if (worker->app_count == 0)
        loop_stop(worker->loop);
    for (unsigned i = 0; i < worker->app_count; i++)
        vm_stop(worker->apps[i].vm, on_idle, worker);
}

/* What waits has to be told something before the end. */
static int64_t answer_ms(const struct worker *worker)
{
    int64_t drain_ms = worker->settings.drain_ms;

    return drain_ms < 2 * ANSWER_MS ? drain_ms / 2 : ANSWER_MS;
}

static int64_t wait_ms(const struct worker *worker)
{
    return worker->settings.drain_ms - (worker->is_replaced ? answer_ms(worker) : 0);
}

static void on_drain_over(struct loop_alarm *alarm)
{
    struct worker *worker = LIST_OWNER(alarm, struct worker, drain);

    if (worker->is_replaced) {
        worker->is_replaced = false;
        server_keep_waiting(worker->server, false);
        loop_alarm_start(worker->loop, alarm, (double)answer_ms(worker) / 1000);
        return;
    }
    log_event(LOG_WARN, "drain_over", "%u connections are cut after %lld ms",
              server_connections(worker->server), (long long)worker->settings.drain_ms);
    loop_stop(worker->loop);
}

static void stop(struct worker *worker, bool is_replaced)
{
    enum worker_state before = worker->state;

    if (before == WORKER_STOPPING)
        return;
    worker->state = WORKER_STOPPING;
    if (before != WORKER_SERVING) {
        loop_stop(worker->loop);
        return;
    }
    stop_listening(worker, is_any, 0);
    worker->is_replaced = is_replaced;
    server_keep_waiting(worker->server, is_replaced);
    loop_alarm_start(worker->loop, &worker->drain, (double)wait_ms(worker) / 1000);
    server_drain(worker->server, on_drained, worker);
    if (is_replaced)
        worker_host_demand_again(worker);
}

/* The master is gone: nobody would replace us, and nobody could stop us any more. */
static void end_at_once(struct worker *worker)
{
    flush_logs(worker);
    _exit(EXIT_INTERNAL);
}

/* ---- messages */

void worker_tell(struct worker *worker, enum ipc_kind kind, unsigned value, struct span text)
{
    if (ipc_send(&worker->ipc, kind, value, text, NULL, 0) < 0)
        end_at_once(worker);
}

static unsigned number_of(struct span pairs, const char *key)
{
    const char *text = pairs_find(pairs, key);

    return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

static void listen_to(struct worker *worker, struct ipc_message *message)
{
    struct span pairs = buf_span(&message->text);
    const char *ip = pairs_find(pairs, "ip");
    struct served served = {.owner = message->value, .id = number_of(pairs, "id")};
    struct net_addr addr;

    if (message->fd_count == 0)
        log_event(LOG_ERROR, "socket_lost",
                  "no descriptor is left for %s port %u: connections wait", ip ? ip : "?",
                  number_of(pairs, "port"));
    if (message->fd_count != 1 || ip == NULL ||
        net_addr_parse(&addr, span_str(ip), (uint16_t)number_of(pairs, "port")) < 0)
        return;
    served.entry = mem_alloc(sizeof(*served.entry));
    server_entry_init(served.entry, worker->server, &addr, number_of(pairs, "https") != 0);
    served.listener =
        listener_start(worker->loop, message->fds[0], ACCEPT_BATCH, server_accept, served.entry);
    message->fds[0] = -1;
    worker->served = mem_realloc(worker->served, (worker->served_count + 1) * sizeof(served));
    worker->served[worker->served_count++] = served;
}

/* One end, whose other the host or an attached app has. */
static void take_channel(struct worker *worker, struct ipc_message *message)
{
    if (message->fd_count != 1)
        return;
    if (worker->is_host)
        worker_host_connect(worker, message->value, buf_span(&message->text), message->fds[0]);
    else if (message->value < worker->app_count)
        server_accept_channel(worker->server, worker->apps[message->value].app, message->fds[0]);
    else
        return;
    message->fds[0] = -1;
}

/* ---- serving */

static void open_server(struct worker *worker)
{
    struct server_parts parts = {
        .loop = worker->loop,
        .settings = &worker->settings,
        .tally = worker->tally,
        .slot = worker->index,
        .access_log = worker->access_log,
        .error_log = worker->error_log,
        .tls = worker->tls,
    };

    if (getrandom(&parts.boot, sizeof(parts.boot), 0) != sizeof(parts.boot))
        parts.boot = (uint64_t)getpid() << 20 ^ (uint64_t)loop_now_ms(worker->loop);
    worker->server = server_new(&parts);
    for (unsigned i = 0; i < worker->app_count; i++) {
        struct worker_app *app = &worker->apps[i];

        app->app = app_new(worker->server, i, app->path, &app->settings, vm_handler(app->vm));
    }
}

static void change(struct worker *worker, struct span pairs)
{
    if (worker->is_host)
        worker_host_change(worker, pairs);
    else
        worker_apps_change(worker, pairs);
    on_heartbeat(&worker->heartbeat); /* the time may be another */
}

/* The settings that say how to log come first: the rest may have something to say. */
static void serve(struct worker *worker, struct ipc_message *message)
{
    struct span state = buf_span(&message->text);

    worker_apps_change_server(worker, state);
    set_up_log(worker);
    open_access_log(worker);
    open_error_log(worker);
    open_server(worker);
    worker->state = WORKER_SERVING;
    change(worker, state);
}

/* After the first of these all sockets are there. */
static void confirm(struct worker *worker, unsigned version)
{
    flush_logs(worker);
    worker_tell(worker, IPC_APPLIED, version, SPAN_NONE);
    if (!worker->confirmed)
        worker_tell(worker, IPC_SERVING, 0, SPAN_NONE);
    worker->confirmed = true;
}

static void handle(struct worker *worker, struct ipc_message *message)
{
    switch (message->kind) {
    case IPC_LOGS:
        take_logs(worker, message);
        break;
    case IPC_TLS:
        worker_tls_use(worker, buf_span(&message->text));
        break;
    case IPC_TICKETS:
        worker_tls_use_tickets(worker, buf_span(&message->text));
        break;
    case IPC_SERVE:
        if (worker->state == WORKER_LOADED)
            serve(worker, message);
        break;
    case IPC_SOCKET:
        if (worker->state == WORKER_SERVING)
            listen_to(worker, message);
        break;
    case IPC_CHANNEL:
        if (worker->state == WORKER_SERVING || worker->is_replaced)
            take_channel(worker, message);
        break;
    case IPC_RETURN:
        stop_listening(worker, is_of_slot, message->value);
        break;
    case IPC_CLOSE:
        stop_listening(worker, is_of_endpoint, message->value);
        break;
    case IPC_CHANGE:
        if (worker->state == WORKER_SERVING)
            change(worker, buf_span(&message->text));
        break;
    case IPC_WAKE:
        worker_host_wake(worker, message->value);
        break;
    case IPC_SYNC:
        confirm(worker, message->value);
        break;
    case IPC_REPLY:
        worker_apps_reply(worker, message);
        break;
    case IPC_STOP:
        stop(worker, message->value == 1);
        break;
    default:
        log_event(LOG_ERROR, "ipc_unknown", "a message of kind %d", (int)message->kind);
    }
}

static void on_message(struct ipc_channel *channel)
{
    struct worker *worker = LIST_OWNER(channel, struct worker, ipc);
    struct ipc_message message;
    int code;

    while ((code = ipc_receive(&worker->ipc, &message)) == 0) {
        handle(worker, &message);
        ipc_message_fini(&message);
    }
    if (code != ERR_AGAIN)
        end_at_once(worker);
}

/* ---- set-up */

/* Handlers, not SIG_IGN: a program that the app starts gets the defaults back. */
static void no_action(int number)
{
    (void)number;
}

/*
 * The master alone answers to signals: a terminal and systemd send them to the whole group, and a
 * worker that ended by itself could not finish its requests.
 */
static void set_up_signals(void)
{
    static const int left_to_master[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE};
    struct sigaction action = {.sa_handler = no_action, .sa_flags = SA_RESTART};

    for (size_t i = 0; i < sizeof(left_to_master) / sizeof(left_to_master[0]); i++)
        sigaction(left_to_master[i], &action, NULL);
}

/* The order matters: groups while we still may, and the death signal again, which a change of user
 * clears. */
static int drop_privileges(const struct worker *worker)
{
    if (worker->uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(worker->gid, worker->gid, worker->gid) < 0 ||
         setresuid(worker->uid, worker->uid, worker->uid) < 0 || setuid(0) == 0))
        return -1;
    /* Ends also a worker that is stuck in a C function when the master dies. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void add_app(struct worker *worker, const char *path)
{
    struct worker_app *app = &worker->apps[worker->app_count];

    app->worker = worker;
    app->index = worker->app_count++;
    app->path = path;
}

static int read_config(struct worker *worker)
{
    struct span pairs = buf_span(&worker->config);
    struct err_text text;
    const char *key, *value;

    settings_init(&worker->settings);
    while (pairs_next(&pairs, &key, &value)) {
        if (strcmp(key, "slot") == 0)
            worker->index = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(key, "app") == 0 && worker->app_count < TALLY_APPS)
            add_app(worker, value);
        else if (strcmp(key, "host") == 0)
            worker->is_host = strcmp(value, "1") == 0;
        else if (strcmp(key, "lua_dir") == 0)
            worker->lua_dir = value;
        else if (strcmp(key, "uid") == 0)
            worker->uid = (uid_t)strtoul(value, NULL, 10);
        else if (strcmp(key, "gid") == 0)
            worker->gid = (gid_t)strtoul(value, NULL, 10);
        else if (strncmp(key, "set:", 4) == 0)
            pairs_add(&worker->overrides, key + 4, value);
        else if (strncmp(key, "default:", 8) == 0)
            pairs_add(&worker->defaults, key + 8, value);
    }
    if (worker->is_host != (worker->app_count == 0) || worker->lua_dir == NULL ||
        options_apply(&worker->settings, buf_span(&worker->defaults), false, "", &text) < 0)
        return ERR_INVALID;
    return options_apply(&worker->settings, buf_span(&worker->overrides), false, "", &text);
}

/* The first message, which the master sent before we were born. */
static int receive_config(struct worker *worker)
{
    struct pollfd wait = {.fd = WORKER_IPC_FD, .events = POLLIN};
    struct ipc_message message;

    while (poll(&wait, 1, -1) < 0 && errno == EINTR)
        ;
    if (ipc_receive(&worker->ipc, &message) < 0)
        return ERR_INVALID;
    if (message.kind == IPC_CONFIG) {
        worker->config = message.text;
        message.text = (struct buf){0};
    }
    ipc_message_fini(&message);
    return buf_len(&worker->config) > 0 ? read_config(worker) : ERR_INVALID;
}

static void fail(struct worker *worker, const char *what)
{
    char text[256];

    snprintf(text, sizeof(text), "the worker could not start: %s: %s", what, strerror(errno));
    worker_tell(worker, IPC_FAILED, EXIT_INTERNAL, span_str(text));
    worker->status = EXIT_INTERNAL;
}

static void run(struct worker *worker)
{
    if (drop_privileges(worker) < 0) {
        fail(worker, "changing the user");
        return;
    }
    worker->tally = tally_attach(WORKER_TALLY_FD);
    worker->loop = worker->tally ? loop_new() : NULL;
    if (worker->loop == NULL) {
        fail(worker, worker->tally ? "event loop" : "shared segment");
        return;
    }
    set_up_log(worker);
    worker->slot = tally_slot(worker->tally, worker->index);
    loop_alarm_init(&worker->heartbeat, on_heartbeat);
    loop_alarm_init(&worker->drain, on_drain_over);
    loop_on_turn(worker->loop, on_turn, worker);
    on_heartbeat(&worker->heartbeat);
    ipc_watch(&worker->ipc, worker->loop, on_message);
    ipc_reserve(&worker->ipc);
    worker_apps_prepare(worker);
    on_message(&worker->ipc); /* the log files, before an app can write to them */
    if (worker->state != WORKER_STOPPING)
        worker_apps_load(worker);
    if (worker->state != WORKER_STOPPING)
        loop_run(worker->loop);
}

static void clean_up(struct worker *worker)
{
    stop_listening(worker, is_any, 0);
    if (worker->server)
        server_abort(worker->server);
    worker_host_free(worker);
    for (unsigned i = 0; i < worker->app_count; i++)
        vm_free(worker->apps[i].vm);
    if (worker->server)
        server_free(worker->server);
    tls_free(worker->tls);
    access_log_free(worker->access_log);
    error_log_free(worker->error_log);
    if (worker->http_error_fd >= 0)
        close(worker->http_error_fd);
    if (worker->access_fd >= 0)
        close(worker->access_fd);
    worker_apps_free(worker);
    settings_fini(&worker->settings);
    ipc_close(&worker->ipc);
    loop_free(worker->loop);
    tally_close(worker->tally);
    mem_free(worker->served);
    buf_fini(&worker->config);
    buf_fini(&worker->defaults);
    buf_fini(&worker->overrides);
    buf_fini(&worker->asked);
}

int worker_run(void)
{
    struct worker *worker = mem_zalloc(sizeof(*worker)); /* too large for a stack */
    int status = EXIT_USAGE_ERROR;

    mem_keep_freed();
    worker->error_fd = STDERR_FILENO;
    worker->access_fd = worker->http_error_fd = -1;
    set_up_signals();
    ipc_open(&worker->ipc, WORKER_IPC_FD);
    /* Not for the programs that the app starts: one that lives on would keep the channel open. */
    fcntl(WORKER_IPC_FD, F_SETFD, FD_CLOEXEC);
    fcntl(WORKER_TALLY_FD, F_SETFD, FD_CLOEXEC);
    if (receive_config(worker) == 0) {
        run(worker);
        status = worker->status;
    } else {
        fputs("moonquay: a worker is started by moonquay serve only\n", stderr);
    }
    clean_up(worker);
    mem_free(worker);
    return status;
}
