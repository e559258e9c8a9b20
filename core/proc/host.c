/*
 * The registrar is a process like a worker: started with one message, replaced when it dies, told
 * what is in force. The socket that it listens on is ours, so that programs that connect while
 * there is none only wait.
 */
#include "proc/host.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/host_state.h"
#include "proc/runtime_dir.h"
#include "proc/service_state.h"
#include "proc/takeover.h"
#include "share/control.h"

#define BACKLOG       128
#define PAUSE_SECONDS 0.1 /* before the next registrar when one has died young */
#define EARLY_MS      1000
#define STOP_MOST_MS  2000 /* for the registrar to end when it is told to */
#define STOP_STEP_MS  5

/* ---- the socket ---- */

static bool is_served(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    bool served = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;

    if (fd >= 0)
        close(fd);
    return served;
}

/* Everybody may connect; who may do what is decided by the kernel's credentials. */
static int listen_at(struct host *host, struct err_text *text)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat info;
    mode_t before;
    int code = 0;

    if (strlen(host->path) >= sizeof(address.sun_path))
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE, "%.200s is too long for a socket",
                       host->path);
    memcpy(address.sun_path, host->path, strlen(host->path));
    if (lstat(host->path, &info) == 0 && !S_ISSOCK(info.st_mode))
        return err_set(text, EXIT_OPTION, ERR_EXISTS, "%s is there and is no socket", host->path);
    if (is_served(&address))
        return err_set(text, EXIT_PORT_IN_USE, ERR_IN_USE,
                       "%s: another host listens there (--replace takes its place)", host->path);
    unlink(host->path);
    host->control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    before = umask(0111);
    if (host->control_fd < 0 ||
        bind(host->control_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(host->control_fd, BACKLOG) < 0)
        code = err_set(text, EXIT_OPTION, err_from_errno(errno), "cannot listen at %s: %s",
                       host->path, strerror(errno));
    umask(before);
    return code;
}

int host_find_path(struct master *master, struct err_text *text)
{
    struct host *host = &master->host;
    const char *given = master->options->socket;

    if (given == NULL)
        return runtime_dir_host(host->path, sizeof(host->path), text);
    if (strlen(given) >= sizeof(host->path))
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE, "%.200s is too long for a socket", given);
    snprintf(host->path, sizeof(host->path), "%s", given);
    return 0;
}

int host_open(struct master *master, struct err_text *text)
{
    if (master->host.control_fd >= 0)
        return 0;
    if (listen_at(&master->host, text) < 0)
        return ERR_IN_USE;
    host_take_path(master);
    return 0;
}

void host_take_path(struct master *master)
{
    master->host.owns_path = true;
}

void host_leave(struct master *master)
{
    close(master->host.control_fd);
    master->host.control_fd = -1;
    master->host.owns_path = false;
}

void host_close(struct master *master)
{
    struct host *host = &master->host;

    if (host->control_fd < 0)
        return;
    close(host->control_fd);
    if (host->owns_path)
        unlink(host->path);
    host->control_fd = -1;
}

/* ---- messages ---- */

void host_post(struct master *master, enum ipc_kind kind, unsigned value, struct span text)
{
    struct host *host = &master->host;
    int code = host->pid ? ipc_send(&host->ipc, kind, value, text, NULL, 0) : 0;

    if (code == ERR_LIMIT) {
        log_event(LOG_ERROR, "ipc_failed", "the registrar takes no messages");
        kill(host->pid, SIGKILL);
    }
}

uint32_t host_generation(const struct master *master)
{
    return master->host.generation;
}

void host_worker_serves(struct master *master, unsigned slot)
{
    host_post(master, IPC_WORKER, slot, SPAN_NONE);
}

void host_worker_gone(struct master *master, unsigned slot)
{
    host_post(master, IPC_WORKER_GONE, slot, SPAN_NONE);
}

static void forward_channel(struct master *master, struct ipc_message *message)
{
    const char *slot = pairs_find(buf_span(&message->text), "slot");
    unsigned index = slot ? (unsigned)strtoul(slot, NULL, 10) : MAX_WORKERS;

    if (index >= master->slot_count)
        takeover_channel(master, index, message->value, message);
    else if (message->fd_count == 1)
        slot_post_fd(master->slots[index], IPC_CHANNEL, message->value, buf_span(&message->text),
                     message->fds[0]);
}

static void on_message(struct ipc_channel *channel)
{
    struct host *host = LIST_OWNER(channel, struct host, ipc);
    struct ipc_message message;
    int code;

    while ((code = ipc_receive(&host->ipc, &message)) == 0) {
        if (message.kind == IPC_ASK)
            changes_asked(host->master, NULL, &message);
        else if (message.kind == IPC_CHANNEL)
            forward_channel(host->master, &message);
        ipc_message_fini(&message);
    }
    if (code != ERR_AGAIN && host->ipc.fd >= 0)
        ipc_unwatch(&host->ipc); /* its death is told by SIGCHLD */
}

/* ---- what the registrar asks ---- */

static int malformed(struct err_text *text)
{
    return err_set(text, EXIT_INTERNAL, ERR_INVALID, "a malformed question");
}

static int perform_state(struct master *master, struct span asked, struct buf *change,
                         struct buf *reply, struct err_text *text)
{
    const char *value = pairs_find(asked, "value");

    return value ? host_state_change(master, value, change, reply, text) : malformed(text);
}

/* Workers write what waits before they confirm. */
static int perform_flush(struct master *master, struct span asked, struct buf *change,
                         struct buf *reply, struct err_text *text)
{
    (void)master, (void)asked, (void)change, (void)reply, (void)text;
    return 0;
}

static int perform_service_state(struct master *master, struct span asked, struct buf *change,
                                 struct buf *reply, struct err_text *text)
{
    (void)change;
    return service_state_answer(master, asked, reply, text);
}

static int perform_sslcert(struct master *master, struct span asked, struct buf *change,
                           struct buf *reply, struct err_text *text)
{
    (void)change;
    return host_state_certificates(master, asked, reply, text);
}

/* TALLY_APPS: it names none. */
static unsigned place_of(struct span asked)
{
    const char *index = pairs_find(asked, "app");
    unsigned long place = index ? strtoul(index, NULL, 10) : TALLY_APPS;

    return place < TALLY_APPS ? (unsigned)place : TALLY_APPS;
}

static int perform_open(struct master *master, struct span asked, struct buf *change,
                        struct buf *reply, struct err_text *text)
{
    unsigned place = place_of(asked);

    return place < TALLY_APPS
               ? apps_attach(&master->apps, place, asked, &master->endpoints, change, reply, text)
               : malformed(text);
}

static int perform_close(struct master *master, struct span asked, struct buf *change,
                         struct buf *reply, struct err_text *text)
{
    unsigned place = place_of(asked);

    (void)reply;
    if (place == TALLY_APPS)
        return malformed(text);
    if (!master->apps.at[place].is_open)
        return err_set(text, EXIT_INTERNAL, ERR_INVALID, "there is no such app");
    apps_detach(&master->apps, place, &master->endpoints, change);
    takeover_app_closed(master, place);
    return 0;
}

host_perform_fn *host_performer(struct span asked)
{
    static const struct {
        const char *op;
        host_perform_fn *perform;
    } all[] = {
        {"state", perform_state},
        {"flush", perform_flush},
        {"servicestate", perform_service_state},
        {"sslcert", perform_sslcert},
        {"open", perform_open},
        {"close", perform_close},
    };
    const char *op = pairs_find(asked, "op");

    for (size_t i = 0; op && i < sizeof(all) / sizeof(all[0]); i++)
        if (strcmp(op, all[i].op) == 0)
            return all[i].perform;
    return NULL;
}

/* ---- the process ---- */

static int send_first(struct master *master)
{
    struct host *host = &master->host;
    struct buf pairs = {0}, state = {0};
    int code;

    pairs_add_number(&pairs, "uid", master->uid);
    pairs_add_number(&pairs, "gid", master->gid);
    pairs_add_number(&pairs, "host_uid", geteuid());
    pairs_add(&pairs, "log_level", master->apps.settings.log_level);
    pairs_add(&pairs, "state", host_state_text(master));
    apps_state(&master->apps, &state);
    code = ipc_send(&host->ipc, IPC_CONFIG, 0, buf_span(&pairs), NULL, 0);
    if (code == 0)
        code = ipc_send(&host->ipc, IPC_CONTROL, 0, buf_span(&state), &host->control_fd, 1);
    for (unsigned i = 0; i < master->slot_count + MAX_WORKERS && code == 0; i++)
        if (i < master->slot_count ? master->slots[i]->state == SLOT_SERVING
                                   : takeover_has_slot(master, i))
            code = ipc_send(&host->ipc, IPC_WORKER, i, SPAN_NONE, NULL, 0);
    buf_fini(&pairs);
    buf_fini(&state);
    return code;
}

static void try_again(struct host *host)
{
    loop_alarm_start(host->master->loop, &host->respawn, PAUSE_SECONDS);
}

void host_start(struct master *master)
{
    struct host *host = &master->host;
    int ends[2];

    if (ipc_pair(ends) < 0) {
        try_again(host);
        return;
    }
    ipc_open(&host->ipc, ends[0]);
    ipc_watch(&host->ipc, master->loop, on_message);
    host->generation++;
    host->started_ms = loop_now_ms(master->loop);
    if (send_first(master) == 0)
        host->pid = slot_fork("registrar", ends[1], master->tally_fd);
    close(ends[1]);
    if (host->pid > 0)
        return;
    host->pid = 0;
    ipc_close(&host->ipc);
    log_event(LOG_ERROR, "spawn_failed", "cannot start the registrar: %s", strerror(errno));
    try_again(host);
}

static void on_respawn(struct loop_alarm *alarm)
{
    host_start(LIST_OWNER(alarm, struct host, respawn)->master);
}

void host_init(struct master *master)
{
    master->host = (struct host){.master = master, .control_fd = -1, .ipc = {.fd = -1}};
    loop_alarm_init(&master->host.respawn, on_respawn);
}

void host_stop(struct master *master)
{
    struct host *host = &master->host;

    if (master->loop) /* a start that failed early has none */
        loop_alarm_stop(master->loop, &host->respawn);
    if (host->pid)
        kill(host->pid, SIGTERM);
}

static pid_t waitpid_now(pid_t pid, int *status)
{
    pid_t ended;

    while ((ended = waitpid(pid, status, WNOHANG)) < 0 && errno == EINTR)
        ;
    return ended;
}

void host_reap(struct master *master, bool wait)
{
    struct host *host = &master->host;
    int status = 0;
    pid_t pid;

    if (host->pid == 0)
        return;
    for (int ms = 0; wait && waitpid_now(host->pid, &status) == 0; ms += STOP_STEP_MS) {
        if (ms >= STOP_MOST_MS)
            kill(host->pid, SIGKILL);
        poll(NULL, 0, STOP_STEP_MS);
    }
    pid = wait ? host->pid : waitpid_now(host->pid, &status);
    if (pid != host->pid)
        return;
    host->pid = 0;
    host->generation++; /* nobody waits for what it has asked */
    ipc_close(&host->ipc);
    if (master->state == MASTER_STOPPING)
        return;
    if (takeover_is_on(master)) {
        takeover_registrar_gone(master);
        return;
    }
    log_event(LOG_ERROR, "registrar_died", "it is started again");
    if (loop_now_ms(master->loop) - host->started_ms < EARLY_MS)
        try_again(host);
    else
        host_start(master);
}
