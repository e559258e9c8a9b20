/*
 * Between the master and the registrar: messages become calls, and calls messages. It has no rights
 * but those of a worker, since it is what reads what strangers say.
 */
#include "proc/registrar_process.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "proc/worker.h"
#include "proc/worker_ipc.h"
#include "share/registrar.h"

struct process {
    struct loop *loop;
    struct ipc_channel ipc;
    struct registrar *registrar;
    struct loop_signal on_term;
    uid_t uid, host_uid;
    gid_t gid;
};

static void tell(struct process *process, enum ipc_kind kind, unsigned value, struct span text,
                 const int *fd)
{
    if (ipc_send(&process->ipc, kind, value, text, fd, fd ? 1 : 0) < 0)
        _exit(EXIT_INTERNAL); /* the master is gone, or will start another */
}

static void on_ask(void *owner, unsigned number, struct span pairs)
{
    tell(owner, IPC_ASK, number, pairs, NULL);
}

/* Too many descriptors of ours on their way (unix(7), ETOOMANYREFS) are no reason to end. */
static void on_channel(void *owner, unsigned app, struct span pairs, int fd)
{
    struct process *process = owner;
    int code = ipc_send(&process->ipc, IPC_CHANNEL, app, pairs, &fd, 1);

    if (code == ERR_RESET)
        _exit(EXIT_INTERNAL);
    if (code < 0)
        log_event(LOG_ERROR, "channel_failed", "%s", err_message(code));
}

static unsigned number_of(struct span pairs, const char *key)
{
    const char *text = pairs_find(pairs, key);

    return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

static int drop_rights(const struct process *process)
{
    if (process->uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(process->gid, process->gid, process->gid) < 0 ||
         setresuid(process->uid, process->uid, process->uid) < 0 || setuid(0) == 0))
        return -1;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void configure(struct process *process, struct span pairs)
{
    const char *level = pairs_find(pairs, "log_level"), *state = pairs_find(pairs, "state");
    struct err_text text;

    process->uid = number_of(pairs, "uid");
    process->gid = number_of(pairs, "gid");
    process->host_uid = number_of(pairs, "host_uid");
    log_setup(STDERR_FILENO, (enum log_level)log_level_parse(span_str(level ? level : "info")),
              LOG_TEXT, "registrar");
    if (drop_rights(process) < 0)
        _exit(EXIT_PERMISSION);
    process->registrar = registrar_new(&(struct registrar_parts){.loop = process->loop,
                                                                 .uid = process->host_uid,
                                                                 .owner = process,
                                                                 .ask = on_ask,
                                                                 .channel = on_channel});
    if (state && registrar_load(process->registrar, span_str(state), &text) < 0) {
        /* The master has read it before. One that knows nothing would have nothing saved. */
        log_event(LOG_ERROR, "state_lost", "%s", text.text);
        _exit(EXIT_INTERNAL);
    }
}

static void renew(struct process *process, const struct ipc_message *message)
{
    struct span pairs = buf_span(&message->text);
    const char *number = pairs_find(pairs, "process");

    registrar_renew(process->registrar, number ? strtoull(number, NULL, 10) : 0,
                    number_of(pairs, "worker"), message->value);
}

static void take(struct process *process, struct ipc_message *message)
{
    struct span pairs = buf_span(&message->text);

    if (process->registrar == NULL) {
        if (message->kind == IPC_CONFIG)
            configure(process, pairs);
        return;
    }
    switch (message->kind) {
    case IPC_CONTROL:
        registrar_resume(process->registrar, pairs);
        if (message->fd_count == 1)
            registrar_listen(process->registrar, message->fds[0]);
        message->fds[0] = -1;
        break;
    case IPC_WORKER:
        registrar_worker(process->registrar, message->value);
        break;
    case IPC_WORKER_GONE:
        registrar_worker_gone(process->registrar, message->value);
        break;
    case IPC_RENEW:
        renew(process, message);
        break;
    case IPC_REPLY:
        registrar_replied(process->registrar, message->value, pairs_find(pairs, "wrong"), pairs);
        break;
    default:
        break;
    }
}

static void complain(void)
{
    fputs("moonquay: a registrar is started by moonquay host only\n", stderr);
}

static void on_message(struct ipc_channel *channel)
{
    struct process *process = LIST_OWNER(channel, struct process, ipc);
    struct ipc_message message;
    int code;

    while ((code = ipc_receive(&process->ipc, &message)) == 0) {
        take(process, &message);
        ipc_message_fini(&message);
    }
    if (code == ERR_AGAIN)
        return;
    if (process->registrar == NULL)
        complain();
    _exit(process->registrar ? 0 : EXIT_USAGE_ERROR);
}

static void on_term(struct loop_signal *signal, int number)
{
    (void)number;
    loop_stop(LIST_OWNER(signal, struct process, on_term)->loop);
}

int registrar_process_run(void)
{
    struct process process = {.registrar = NULL};
    socklen_t len = sizeof(int);
    int type;

    if (getsockopt(WORKER_IPC_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0) {
        complain();
        return EXIT_USAGE_ERROR;
    }
    fcntl(WORKER_IPC_FD, F_SETFD, FD_CLOEXEC);
    process.loop = loop_new();
    if (process.loop == NULL)
        return EXIT_DESCRIPTORS;
    close(WORKER_TALLY_FD);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    loop_signal_start(process.loop, &process.on_term, SIGTERM, on_term);
    ipc_open(&process.ipc, WORKER_IPC_FD);
    ipc_watch(&process.ipc, process.loop, on_message);
    loop_run(process.loop);
    registrar_free(process.registrar);
    ipc_close(&process.ipc);
    loop_free(process.loop);
    return 0;
}
