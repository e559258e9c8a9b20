/*
 * A worker lives through four states: it loads the app, waits for its sockets, serves, and stops.
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
#include "bind/vm.h"
#include "net/listener.h"
#include "net/loop.h"
#include "proc/ipc.h"
#include "proc/options.h"
#include "server/server.h"

#define ACCEPT_BATCH 64 /* of one socket in a turn, then the connections get theirs */

enum worker_state { WORKER_LOADING, WORKER_LOADED, WORKER_SERVING, WORKER_STOPPING };

struct served {
    struct listener *listener;
    unsigned owner; /* the slot whose socket it is: ours, or one that was lent */
};

struct worker {
    enum worker_state state;
    unsigned index; /* of our slot */
    struct settings settings;
    struct buf config; /* the pairs of the first message, for as long as we live */
    struct buf overrides;
    const char *app, *lua_dir;
    uid_t uid; /* 0: stay what we are */
    gid_t gid;
    struct loop *loop;
    struct loop_io ipc;
    struct loop_alarm heartbeat, drain;
    struct tally *tally;
    struct tally_slot *slot;
    struct vm *vm;
    struct server *server;
    struct access_log *access_log;
    int error_fd, access_fd; /* as the master sent them; access_fd is -1 once access_log has it */
    struct served *served;
    unsigned served_count;
    int status;
};

/* ---- life sign */

static void on_turn(void *owner)
{
    struct worker *worker = owner;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    __atomic_store_n(&worker->slot->heartbeat_ms,
                     (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, __ATOMIC_RELAXED);
    if (worker->access_log)
        access_log_flush(worker->access_log);
}

/* An idle loop must turn too, several times within the time that the master allows. */
static void on_heartbeat(struct loop_alarm *alarm)
{
    struct worker *worker = LIST_OWNER(alarm, struct worker, heartbeat);

    if (worker->settings.watchdog_ms != SETTING_OFF)
        loop_alarm_start(worker->loop, alarm, (double)worker->settings.watchdog_ms / 4000);
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
        message->fds[next] = -1;
    }
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

static void stop_listening(struct worker *worker, unsigned owner, bool all)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < worker->served_count; i++)
        if (all || worker->served[i].owner == owner)
            listener_stop(worker->served[i].listener);
        else
            worker->served[kept++] = worker->served[i];
    worker->served_count = kept;
}

static void on_idle(void *owner)
{
    struct worker *worker = owner;

    loop_stop(worker->loop);
}

static void on_drained(void *owner)
{
    struct worker *worker = owner;

    vm_stop(worker->vm, on_idle, worker);
}

static void on_drain_over(struct loop_alarm *alarm)
{
    struct worker *worker = LIST_OWNER(alarm, struct worker, drain);

    log_event(LOG_WARN, "drain_over", "%u connections are cut after %lld ms",
              server_connections(worker->server), (long long)worker->settings.drain_ms);
    loop_stop(worker->loop);
}

static void stop(struct worker *worker)
{
    enum worker_state before = worker->state;

    if (before == WORKER_STOPPING)
        return;
    worker->state = WORKER_STOPPING;
    if (before != WORKER_SERVING) {
        loop_stop(worker->loop);
        return;
    }
    stop_listening(worker, 0, true);
    loop_alarm_start(worker->loop, &worker->drain, (double)worker->settings.drain_ms / 1000);
    server_drain(worker->server, on_drained, worker);
}

/* The master is gone: nobody would replace us, and nobody could stop us any more. */
static void end_at_once(struct worker *worker)
{
    if (worker->access_log)
        access_log_flush(worker->access_log);
    _exit(EXIT_INTERNAL);
}

/* ---- messages */

static void tell(struct worker *worker, enum ipc_kind kind, unsigned value, struct span text)
{
    if (ipc_send(WORKER_IPC_FD, kind, value, text, NULL, 0) < 0)
        end_at_once(worker);
}

static void listen_for(struct worker *worker, struct ipc_message *message, unsigned owner)
{
    unsigned count = worker->served_count + message->fd_count;

    worker->served = mem_realloc(worker->served, count * sizeof(*worker->served));
    for (unsigned i = 0; i < message->fd_count; i++) {
        worker->served[worker->served_count++] = (struct served){
            .listener = listener_start(worker->loop, message->fds[i], ACCEPT_BATCH, server_accept,
                                       worker->server),
            .owner = owner,
        };
        message->fds[i] = -1;
    }
}

static void serve(struct worker *worker, struct ipc_message *message)
{
    struct err_text text;
    uint64_t boot;

    /* Checked by the master with the same table. */
    CHECK(options_apply(&worker->settings, buf_span(&message->text), true, "", &text) == 0);
    set_up_log(worker);
    open_access_log(worker);
    on_heartbeat(&worker->heartbeat);
    if (getrandom(&boot, sizeof(boot), 0) != sizeof(boot))
        boot = (uint64_t)getpid() << 20 ^ (uint64_t)loop_now_ms(worker->loop);
    worker->server =
        server_new(worker->loop, &worker->settings, worker->slot, worker->access_log, boot);
    server_set_handler(worker->server, vm_handler(worker->vm));
    listen_for(worker, message, worker->index);
    worker->state = WORKER_SERVING;
    tell(worker, IPC_SERVING, 0, SPAN_NONE);
}

static void handle(struct worker *worker, struct ipc_message *message)
{
    switch (message->kind) {
    case IPC_LOGS:
        take_logs(worker, message);
        break;
    case IPC_SERVE:
        if (worker->state == WORKER_LOADED)
            serve(worker, message);
        break;
    case IPC_LEND:
        if (worker->state == WORKER_SERVING)
            listen_for(worker, message, message->value);
        break;
    case IPC_RETURN:
        stop_listening(worker, message->value, false);
        break;
    case IPC_STOP:
        stop(worker);
        break;
    default:
        log_event(LOG_ERROR, "ipc_unknown", "a message of kind %d", (int)message->kind);
    }
}

static void on_message(struct loop_io *io, int events)
{
    struct worker *worker = LIST_OWNER(io, struct worker, ipc);
    struct ipc_message message;
    int code;

    (void)events;
    while ((code = ipc_receive(WORKER_IPC_FD, &message)) == 0) {
        handle(worker, &message);
        ipc_message_fini(&message);
    }
    if (code != ERR_AGAIN)
        end_at_once(worker);
}

/* ---- the app */

static void on_shutdown(void *owner)
{
    tell(owner, IPC_SHUTDOWN, 0, SPAN_NONE);
}

static void on_loaded(void *owner, int code, const struct err_text *text)
{
    struct worker *worker = owner;
    struct err_text wrong;

    if (worker->state != WORKER_LOADING)
        return;
    if (code < 0) {
        tell(worker, IPC_FAILED, (unsigned)text->exit_code, span_str(text->text));
        worker->status = text->exit_code;
        worker->state = WORKER_STOPPING;
        loop_stop(worker->loop);
        return;
    }
    /* What the command line says wins over what the app has set meanwhile. */
    CHECK(options_apply(&worker->settings, buf_span(&worker->overrides), false, "", &wrong) == 0);
    worker->state = WORKER_LOADED;
    tell(worker, IPC_READY, 0, vm_server_settings(worker->vm));
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

static int read_config(struct worker *worker)
{
    struct span pairs = buf_span(&worker->config);
    struct err_text text;
    const char *key, *value;
    int code = 0;

    settings_init(&worker->settings);
    while (code == 0 && pairs_next(&pairs, &key, &value)) {
        if (strcmp(key, "slot") == 0)
            worker->index = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(key, "app") == 0)
            worker->app = value;
        else if (strcmp(key, "lua_dir") == 0)
            worker->lua_dir = value;
        else if (strcmp(key, "uid") == 0)
            worker->uid = (uid_t)strtoul(value, NULL, 10);
        else if (strcmp(key, "gid") == 0)
            worker->gid = (gid_t)strtoul(value, NULL, 10);
        else if (strncmp(key, "set:", 4) == 0)
            pairs_add(&worker->overrides, key + 4, value);
        else if (strncmp(key, "default:", 8) == 0)
            code = settings_set(&worker->settings, key + 8, value, "", &text);
    }
    if (code < 0 || worker->app == NULL || worker->lua_dir == NULL)
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
    if (ipc_receive(WORKER_IPC_FD, &message) < 0)
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
    tell(worker, IPC_FAILED, EXIT_INTERNAL, span_str(text));
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
    loop_io_start(worker->loop, &worker->ipc, WORKER_IPC_FD, LOOP_READ, on_message);
    worker->vm = vm_new(worker->loop, &worker->settings, worker->slot, worker->lua_dir);
    vm_on_shutdown(worker->vm, on_shutdown, worker);
    vm_watch_cpu(worker->vm);
    on_message(&worker->ipc, LOOP_READ); /* the log files, before the app can write to them */
    if (worker->state != WORKER_STOPPING)
        vm_load(worker->vm, worker->app, on_loaded, worker);
    if (worker->state != WORKER_STOPPING)
        loop_run(worker->loop);
}

static void clean_up(struct worker *worker)
{
    stop_listening(worker, 0, true);
    if (worker->server)
        server_abort(worker->server);
    if (worker->vm)
        vm_free(worker->vm);
    if (worker->server)
        server_free(worker->server);
    access_log_free(worker->access_log);
    if (worker->access_fd >= 0)
        close(worker->access_fd);
    if (worker->loop)
        loop_io_stop(worker->loop, &worker->ipc);
    loop_free(worker->loop);
    tally_close(worker->tally);
    mem_free(worker->served);
    settings_fini(&worker->settings);
    buf_fini(&worker->config);
    buf_fini(&worker->overrides);
}

int worker_run(void)
{
    struct worker worker = {.error_fd = STDERR_FILENO, .access_fd = -1};

    set_up_signals();
    /* Not for the programs that the app starts: one that lives on would keep the channel open. */
    fcntl(WORKER_IPC_FD, F_SETFD, FD_CLOEXEC);
    fcntl(WORKER_TALLY_FD, F_SETFD, FD_CLOEXEC);
    if (receive_config(&worker) < 0) {
        fputs("moonquay: a worker is started by moonquay serve only\n", stderr);
        settings_fini(&worker.settings);
        buf_fini(&worker.config);
        buf_fini(&worker.overrides);
        return EXIT_USAGE_ERROR;
    }
    run(&worker);
    clean_up(&worker);
    return worker.status;
}
