/*
 * The life of the workers. A slot's sockets are opened once and kept by the master, so that the
 * connections that wait in them outlive a worker; while a slot has none that serves, another
 * slot's worker is lent the sockets. A worker that dies soon after its start is started again with
 * growing pauses: an app that kills every worker must not keep the machine busy with starting.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/child.h"
#include "proc/host.h"
#include "proc/host_apps.h"
#include "proc/host_state.h"
#include "proc/master_priv.h"
#include "proc/share.h"
#include "proc/takeover.h"
#include "proc/worker.h"
#include "proc/worker_ipc.h"

#define EARLY_MS       10000 /* a death sooner than this counts as one of a row */
#define PAUSE_FIRST_MS 100
#define PAUSE_MOST_MS  5000

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void on_respawn(struct loop_alarm *alarm)
{
    slot_spawn(LIST_OWNER(alarm, struct slot, respawn));
}

struct slot *slot_new(struct master *master, unsigned index)
{
    struct slot *slot = mem_zalloc(sizeof(*slot));

    slot->master = master;
    slot->index = index;
    slot->ipc.fd = -1;
    slot->lent_to = -1;
    loop_alarm_init(&slot->respawn, on_respawn);
    return slot;
}

void slot_free(struct slot *slot)
{
    CHECK(slot->pid == 0);
    ipc_close(&slot->ipc);
    loop_alarm_stop(slot->master->loop, &slot->respawn);
    mem_free(slot);
}

uint32_t slot_generation(const struct slot *slot)
{
    return tally_slot(slot->master->tally, slot->index)->generation;
}

static void post(struct slot *slot, enum ipc_kind kind, unsigned value, struct span text,
                 const int *fds, unsigned fd_count)
{
    int code =
        slot->ipc.fd < 0 ? ERR_RESET : ipc_send(&slot->ipc, kind, value, text, fds, fd_count);

    if (code < 0 && code != ERR_RESET) {
        log_event(LOG_ERROR, "ipc_failed", "worker %u takes no messages: %s", slot->index,
                  err_message(code));
        slot_kill(slot);
    }
}

void slot_post(struct slot *slot, enum ipc_kind kind, unsigned value, struct span text)
{
    post(slot, kind, value, text, NULL, 0);
}

void slot_post_fd(struct slot *slot, enum ipc_kind kind, unsigned value, struct span text, int fd)
{
    post(slot, kind, value, text, &fd, 1);
}

/* ---- sockets */

/* Sends to slot the socket that owner has at this endpoint. */
static void send_socket(struct slot *slot, const struct slot *owner,
                        const struct endpoint *endpoint)
{
    struct buf pairs = {0};
    char ip[NET_ADDR_TEXT];

    net_addr_ip(&endpoint->addr, ip);
    pairs_add_number(&pairs, "id", endpoint->id);
    pairs_add(&pairs, "ip", ip);
    pairs_add_number(&pairs, "port", endpoint->addr.port);
    pairs_add_number(&pairs, "https", endpoint->https);
    post(slot, IPC_SOCKET, owner->index, buf_span(&pairs), &endpoint->sockets[owner->index], 1);
    buf_fini(&pairs);
}

static void send_sockets(struct slot *slot, const struct slot *owner, unsigned last_id)
{
    const struct endpoints *endpoints = &slot->master->endpoints;

    for (unsigned i = 0; i < endpoints->count; i++)
        if (endpoints->at[i].uses > 0 && endpoints->at[i].id > last_id)
            send_socket(slot, owner, &endpoints->at[i]);
}

void slot_tell_sockets(struct slot *slot, unsigned last_id)
{
    const struct master *master = slot->master;

    send_sockets(slot, slot, last_id);
    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->lent_to == (int)slot->index)
            send_sockets(slot, master->slots[i], last_id);
    for (unsigned i = 0; i < master->endpoints.count; i++)
        if (master->endpoints.at[i].uses == 0)
            slot_post(slot, IPC_CLOSE, master->endpoints.at[i].id, SPAN_NONE);
}

/* ---- lending */

static void take_back(struct slot *slot)
{
    struct slot **slots = slot->master->slots;

    if (slot->lent_to >= 0 && slots[slot->lent_to]->state == SLOT_SERVING)
        slot_post(slots[slot->lent_to], IPC_RETURN, slot->index, SPAN_NONE);
    slot->lent_to = -1;
}

static void lend(struct slot *slot)
{
    struct master *master = slot->master;

    slot->lent_to = -1;
    for (unsigned i = 1; i < master->slot_count; i++) {
        unsigned index = (slot->index + i) % master->slot_count;

        if (master->slots[index]->state != SLOT_SERVING)
            continue;
        slot->lent_to = (int)index;
        send_sockets(master->slots[index], slot, 0);
        return;
    }
}

/* After each change: who does not serve must be lent to one who does. */
static void settle_loans(struct master *master)
{
    for (unsigned i = 0; i < master->slot_count; i++) {
        struct slot *slot = master->slots[i];
        bool lost = slot->lent_to < 0 || master->slots[slot->lent_to]->state != SLOT_SERVING;

        if (slot->state != SLOT_SERVING && lost)
            lend(slot);
    }
}

/* ---- TLS */

static void send_secret(struct slot *slot, enum ipc_kind kind,
                        void (*add)(const struct certificates *certificates, struct buf *pairs))
{
    const struct certificates *certificates = &slot->master->certificates;
    struct buf pairs = {0};

    add(certificates, &pairs);
    slot_post(slot, kind, 0, buf_span(&pairs));
    buf_wipe(&pairs);
}

static void add_tickets(const struct certificates *certificates, struct buf *pairs)
{
    ticket_keys_state(&certificates->tickets, pairs);
}

void slot_send_certificates(struct slot *slot)
{
    if (slot->master->certificates.is_told)
        send_secret(slot, IPC_TLS, certificates_state);
}

void slot_send_tickets(struct slot *slot)
{
    if (slot->master->certificates.is_watching)
        send_secret(slot, IPC_TICKETS, add_tickets);
}

/* ---- messages from the worker */

void slot_serve(struct slot *slot)
{
    struct buf state = {0};

    apps_state(&slot->master->apps, &state);
    host_state_describe(slot->master, &state);
    slot_send_logs(slot);
    slot_send_certificates(slot);
    slot_send_tickets(slot);
    slot_post(slot, IPC_SERVE, 0, buf_span(&state));
    slot->told = true;
    slot->applied = slot->master->changes.version;
    send_sockets(slot, slot, 0);
    slot_post(slot, IPC_SYNC, slot->applied, SPAN_NONE);
    buf_fini(&state);
}

static void on_ready(struct slot *slot, struct span pairs)
{
    slot->state = SLOT_LOADED;
    if (slot->master->apps.prefixes)
        slot_serve(slot);
    else
        master_apps_loaded(slot->master, pairs);
}

static void on_failed(struct slot *slot, const struct ipc_message *message)
{
    struct span text = buf_span(&message->text);
    struct log_line line;

    if (slot->master->state == MASTER_STARTING) {
        master_fail(slot->master, (int)message->value, "%.*s", (int)text.len, text.at);
        return;
    }
    log_begin(&line, LOG_ERROR, "worker_failed", "an app could not be loaded");
    log_int(&line, "slot", slot->index);
    log_span(&line, "reason", text);
    log_end(&line);
}

static void on_serving(struct slot *slot)
{
    slot->state = SLOT_SERVING;
    take_back(slot);
    if (slot->master->state == MASTER_SERVING)
        settle_loans(slot->master);
    host_worker_serves(slot->master, slot->index);
    share_worker(slot->master, slot->index, true);
    master_slot_serving(slot->master);
}

static void on_applied(struct slot *slot, unsigned version)
{
    slot->applied = version;
    changes_settle(slot->master);
}

static void handle(struct slot *slot, const struct ipc_message *message)
{
    struct master *master = slot->master;
    bool stopping = master->state == MASTER_STOPPING;

    if (message->kind == IPC_READY && slot->state == SLOT_LOADING && !stopping)
        on_ready(slot, buf_span(&message->text));
    else if (message->kind == IPC_LOADING && message->value < master->apps.count)
        slot->loading_app = message->value;
    else if (message->kind == IPC_FAILED)
        on_failed(slot, message);
    else if (message->kind == IPC_SERVING && slot->state == SLOT_LOADED)
        on_serving(slot);
    else if (message->kind == IPC_APPLIED)
        on_applied(slot, message->value);
    else if (message->kind == IPC_ASK)
        changes_asked(master, slot, message);
    else if (message->kind == IPC_RENEW)
        host_post(master, IPC_RENEW, slot->index, buf_span(&message->text));
    else if (message->kind == IPC_DEMAND)
        takeover_demand(master, slot->index, message->value);
    else if (message->kind == IPC_WAKE && message->value / TALLY_APPS < master->slot_count)
        slot_post(master->slots[message->value / TALLY_APPS], IPC_WAKE, message->value % TALLY_APPS,
                  SPAN_NONE);
    else if (message->kind == IPC_LOG_FULL)
        master_rotate_log(master);
    else if (message->kind == IPC_SHUTDOWN && !stopping)
        master_stop(master);
}

static void read_messages(struct slot *slot)
{
    struct ipc_message message;
    int code = ERR_CLOSED;

    /* The channel may be closed while a message is handled. */
    while (slot->ipc.fd >= 0 && (code = ipc_receive(&slot->ipc, &message)) == 0) {
        handle(slot, &message);
        ipc_message_fini(&message);
    }
    if (code != ERR_AGAIN && slot->ipc.fd >= 0)
        ipc_unwatch(&slot->ipc); /* its death is told by SIGCHLD */
    if (code == ERR_INVALID) {
        log_event(LOG_ERROR, "ipc_failed", "worker %u sent what is no message", slot->index);
        slot_kill(slot);
    }
}

static void on_message(struct ipc_channel *channel)
{
    read_messages(LIST_OWNER(channel, struct slot, ipc));
}

/* ---- birth */

/* The first words wait in the channel before the worker exists. */
static int send_config(struct slot *slot)
{
    struct master *master = slot->master;
    const struct options *options = master->options;
    struct buf pairs = {0};

    pairs_add_number(&pairs, "slot", slot->index);
    if (master->uid != 0) {
        pairs_add_number(&pairs, "uid", master->uid);
        pairs_add_number(&pairs, "gid", master->gid);
    }
    for (unsigned i = 0; i < options->app_count; i++)
        pairs_add(&pairs, "app", options->apps[i]);
    pairs_add(&pairs, "lua_dir", options->lua_dir);
    pairs_add_number(&pairs, "host", options->command == COMMAND_HOST);
    pairs_add_prefixed(&pairs, "default:", buf_span(&options->defaults));
    pairs_add_prefixed(&pairs, "set:", buf_span(&options->overrides));

    int code = ipc_send(&slot->ipc, IPC_CONFIG, 0, buf_span(&pairs), NULL, 0);

    buf_fini(&pairs);
    return code;
}

void slot_send_logs(struct slot *slot)
{
    unsigned which, count;
    int fds[LOGS_MAX];

    count = logs_files(&slot->master->logs, fds, &which);
    if (which != 0)
        post(slot, IPC_LOGS, which, SPAN_NONE, fds, count);
}

/* What a child needs of us. */
struct birth {
    const char *word;
    int ipc_fd, tally_fd;
};

/*
 * Between fork and exec. Whatever else the master has open, also what its own parent left open by
 * mistake, ends here.
 */
static void become_worker(const void *arg)
{
    const struct birth *birth = arg;
    int ipc_fd, tally_fd;
    char name[] = "moonquay", command[16];
    char *argv[] = {name, command, NULL};

    snprintf(command, sizeof(command), "%s", birth->word);
    /* Both out of the way first: each may lie where the other belongs. */
    ipc_fd = fcntl(birth->ipc_fd, F_DUPFD, WORKER_FIRST_FREE_FD);
    tally_fd = fcntl(birth->tally_fd, F_DUPFD, WORKER_FIRST_FREE_FD);
    if (dup2(ipc_fd, WORKER_IPC_FD) < 0 || dup2(tally_fd, WORKER_TALLY_FD) < 0)
        _exit(EXIT_DESCRIPTORS);
    close_range(WORKER_FIRST_FREE_FD, ~0U, 0);
    child_unblock();
    execv("/proc/self/exe", argv);
    fprintf(stderr, "moonquay: cannot start a worker: %s\n", strerror(errno));
    _exit(EXIT_INTERNAL);
}

static void begin_heartbeat(struct slot *slot)
{
    struct tally_slot *tally = tally_slot(slot->master->tally, slot->index);

    slot->spawned_ms = now_ms();
    tally->pid = (uint32_t)slot->pid;
    tally->generation++;
    __atomic_store_n(&tally->heartbeat_ms, slot->spawned_ms, __ATOMIC_RELAXED);
}

pid_t slot_fork(const char *command, int ipc_end, int tally_fd)
{
    const struct birth birth = {command, ipc_end, tally_fd};

    return child_fork(become_worker, &birth);
}

static int64_t pause_ms(const struct slot *slot)
{
    int64_t pause = PAUSE_FIRST_MS;

    if (slot->early_deaths < 2)
        return 0;
    for (unsigned i = 2; i < slot->early_deaths && pause < PAUSE_MOST_MS; i++)
        pause *= 2;
    return pause < PAUSE_MOST_MS ? pause : PAUSE_MOST_MS;
}

static void spawn_failed(struct slot *slot, const char *why)
{
    slot->pid = 0;
    if (slot->master->state == MASTER_STARTING) {
        master_fail(slot->master, EXIT_DESCRIPTORS, "cannot start a worker: %s", why);
        return;
    }
    slot->early_deaths++;
    log_event(LOG_ERROR, "spawn_failed", "cannot start a worker: %s", why);
    loop_alarm_start(slot->master->loop, &slot->respawn,
                     (double)(pause_ms(slot) + PAUSE_FIRST_MS) / 1000);
}

void slot_spawn(struct slot *slot)
{
    int ends[2], code = ipc_pair(ends);

    if (code < 0) {
        spawn_failed(slot, err_message(code));
        return;
    }
    ipc_open(&slot->ipc, ends[0]);
    ipc_watch(&slot->ipc, slot->master->loop, on_message);
    slot->stuck = slot->told = false;
    code = send_config(slot);
    if (code == 0) {
        slot_send_logs(slot);
        slot->pid = slot_fork("worker", ends[1], slot->master->tally_fd);
    }
    const char *why = code < 0 ? err_message(code) : strerror(errno);

    close(ends[1]);
    if (slot->pid <= 0) {
        ipc_close(&slot->ipc);
        spawn_failed(slot, why);
        return;
    }
    slot->state = SLOT_LOADING;
    begin_heartbeat(slot);
}

/* ---- death */

/* "SIGSEGV", or "status 3". */
static void describe_end(int status, char *out, size_t room)
{
    const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;

    if (name)
        snprintf(out, room, "SIG%s", name);
    else if (WIFSIGNALED(status))
        snprintf(out, room, "signal %d", WTERMSIG(status));
    else
        snprintf(out, room, "status %d", WEXITSTATUS(status));
}

/* Which app the worker was loading when it ended: it says so before each. */
static const char *loaded_app(const struct slot *slot)
{
    unsigned index = slot->loading_app;

    return slot->master->options->apps[index];
}

static void fail_start(struct slot *slot, enum slot_state state, int status)
{
    struct master *master = slot->master;
    char end[32], seconds[32];

    describe_end(status, end, sizeof(end));
    settings_get(&master->apps.settings, "watchdog", seconds, sizeof(seconds));
    if (slot->stuck)
        master_fail(master, EXIT_APP_BROKEN,
                    "%s: it computed without a pause while it was loaded, for longer than watchdog "
                    "allows (%s s)",
                    loaded_app(slot), seconds);
    else if (state == SLOT_LOADING)
        master_fail(master, EXIT_APP_BROKEN, "%s: the worker ended with %s while it loaded the app",
                    loaded_app(slot), end);
    else
        master_fail(master, EXIT_INTERNAL, "worker %u ended with %s", slot->index, end);
}

static void log_death(const struct slot *slot, pid_t pid, int status, int64_t lived_ms)
{
    struct log_line line;
    char end[32];

    describe_end(status, end, sizeof(end));
    log_begin(&line, LOG_ERROR, "worker_died", NULL);
    log_int(&line, "slot", slot->index);
    log_int(&line, "pid", pid);
    if (WIFSIGNALED(status))
        log_str(&line, "signal", end);
    else
        log_int(&line, "status", WEXITSTATUS(status));
    log_int(&line, "lived_ms", lived_ms);
    log_int(&line, "restart_in_ms", pause_ms(slot));
    log_end(&line);
}

static void replace(struct slot *slot, pid_t pid, int status)
{
    int64_t lived_ms = now_ms() - slot->spawned_ms;

    slot->early_deaths = lived_ms < EARLY_MS ? slot->early_deaths + 1 : 0;
    log_death(slot, pid, status, lived_ms);
    tally_slot(slot->master->tally, slot->index)->counter[COUNTER_RESTARTS]++;
    settle_loans(slot->master);
    if (pause_ms(slot) == 0)
        slot_spawn(slot);
    else
        loop_alarm_start(slot->master->loop, &slot->respawn, (double)pause_ms(slot) / 1000);
}

void slot_reap(struct slot *slot, bool wait)
{
    struct master *master = slot->master;
    enum slot_state state;
    int status = 0;
    pid_t pid;

    if (slot->pid == 0)
        return;
    while ((pid = waitpid(slot->pid, &status, wait ? 0 : WNOHANG)) < 0 && errno == EINTR)
        ;
    if (pid != slot->pid)
        return;
    /* Its last words explain its end. */
    read_messages(slot);
    state = slot->state;
    slot->state = SLOT_EMPTY;
    slot->pid = 0;
    slot->told = false;
    share_worker(master, slot->index, false);
    ipc_close(&slot->ipc);
    tally_clear(tally_slot(master->tally, slot->index));
    changes_settle(master);
    if (master->state == MASTER_SERVING)
        replace(slot, pid, status);
    else if (master->state == MASTER_STARTING)
        fail_start(slot, state, status);
    else
        master_slot_gone(master);
}

void slot_stop(struct slot *slot)
{
    loop_alarm_stop(slot->master->loop, &slot->respawn);
    if (slot->pid != 0)
        slot_post(slot, IPC_STOP, takeover_is_over(slot->master), SPAN_NONE);
}

void slot_kill(struct slot *slot)
{
    if (slot->pid != 0)
        kill(slot->pid, SIGKILL);
}

void slot_watch(struct slot *slot, int64_t now)
{
    struct tally_slot *tally = tally_slot(slot->master->tally, slot->index);
    int64_t heard_ms = __atomic_load_n(&tally->heartbeat_ms, __ATOMIC_RELAXED), silent_ms;
    struct log_line line;

    if (heard_ms < slot->master->watchdog_since_ms)
        heard_ms = slot->master->watchdog_since_ms;
    silent_ms = now - heard_ms;
    if (slot->pid == 0 || slot->stuck || silent_ms < slot->master->apps.settings.watchdog_ms)
        return;
    slot->stuck = true;
    if (slot->master->state != MASTER_STARTING) {
        log_begin(&line, LOG_ERROR, "worker_stuck", "its loop does not turn; it is killed");
        log_int(&line, "slot", slot->index);
        log_int(&line, "pid", slot->pid);
        log_int(&line, "silent_ms", silent_ms);
        log_int(&line, "requests", tally->gauge[GAUGE_REQUESTS]);
        log_end(&line);
    }
    slot_kill(slot);
}
