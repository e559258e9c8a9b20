/*
 * The successor first asks for all there is, then starts as any host does, with what it was given
 * in the places of what it would open; it is the host when the old one has said so.
 */
#include "proc/takeover_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/host.h"
#include "proc/host_apps.h"
#include "proc/master_priv.h"
#include "proc/state_file.h"

#define ANSWER_MS 20000 /* of the old host */

static int not_there(const struct sockaddr_un *address, struct err_text *text)
{
    return err_set(text, EXIT_PORT_IN_USE, ERR_NOT_FOUND,
                   "--replace: no host that could be replaced answers at %s: %s", address->sun_path,
                   strerror(errno));
}

static int dial(struct takeover *takeover, struct err_text *text)
{
    struct sockaddr_un address;
    int fd;

    if (takeover_address(takeover->master, &address) < 0)
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE, "%.200s is too long for a socket",
                       takeover->master->host.path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        not_there(&address, text);
        if (fd >= 0)
            close(fd);
        return ERR_NOT_FOUND;
    }
    ipc_open(&takeover->old_host, fd);
    ipc_send(&takeover->old_host, TAKEOVER_ASK, TAKEOVER_VERSION, SPAN_NONE, NULL, 0);
    return 0;
}

static void take_socket(struct takeover *takeover, struct ipc_message *message)
{
    struct span pairs = buf_span(&message->text);
    const char *ip = pairs_find(pairs, "ip"), *port = pairs_find(pairs, "port");
    const char *https = pairs_find(pairs, "https");
    struct taken_socket taken = {.slot = message->value};

    if (message->fd_count != 1 || ip == NULL || port == NULL || https == NULL ||
        net_addr_parse(&taken.addr, span_str(ip), (uint16_t)strtoul(port, NULL, 10)) < 0)
        return;
    taken.https = strcmp(https, "1") == 0;
    taken.fd = message->fds[0];
    message->fds[0] = -1;
    takeover->sockets =
        mem_realloc(takeover->sockets, (takeover->socket_count + 1) * sizeof(*takeover->sockets));
    takeover->sockets[takeover->socket_count++] = taken;
}

/* Reservations and certificates are those of the host that runs. 1, or the error. */
static int take_state(struct takeover *takeover, const char *path, struct err_text *text)
{
    const char *given = takeover->master->options->state;
    char real[PATH_MAX];

    if (given && (!state_file_real(given, real) || strcmp(real, path) != 0))
        return err_set(text, EXIT_OPTION, ERR_STATE,
                       "--replace: --state=%.300s: the host that runs has %.300s", given, path);
    snprintf(takeover->state_path, sizeof(takeover->state_path), "%s", path);
    return 1;
}

/* 1: that was all. */
static int take_message(struct takeover *takeover, struct ipc_message *message,
                        struct err_text *text)
{
    const char *why = pairs_find(buf_span(&message->text), "why"), *state;

    switch (message->kind) {
    case TAKEOVER_SOCKET:
        take_socket(takeover, message);
        return 0;
    case TAKEOVER_CONTROL:
        buf_append(&takeover->apps, buf_span(&message->text));
        takeover->control_fd = message->fd_count == 1 ? message->fds[0] : -1;
        message->fds[0] = -1;
        return 0;
    case TAKEOVER_TICKETS:
        buf_append(&takeover->tickets, buf_span(&message->text));
        return 0;
    case TAKEOVER_END:
        takeover->slots = message->value;
        if (takeover->control_fd < 0)
            return ERR_INVALID;
        state = pairs_find(buf_span(&message->text), "state");
        return state ? take_state(takeover, state, text) : 1;
    default:
        return err_set(text, EXIT_PORT_IN_USE, ERR_STATE,
                       "--replace: the host that runs refuses: %s", why ? why : "?");
    }
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int receive_all(struct takeover *takeover, struct err_text *text)
{
    struct pollfd wait = {.fd = takeover->old_host.fd, .events = POLLIN};
    int64_t until = now_ms() + ANSWER_MS, left;
    struct ipc_message message;
    int code = 0;

    while (code == 0) {
        int got = ipc_receive(&takeover->old_host, &message);

        if (got == ERR_AGAIN && (left = until - now_ms()) > 0) {
            poll(&wait, 1, (int)left);
            continue;
        }
        if (got < 0)
            return err_set(text, EXIT_PORT_IN_USE, got, "--replace: the host that runs %s",
                           got == ERR_INVALID ? "is of another version: stop it and start this one"
                                              : "does not answer");
        code = take_message(takeover, &message, text);
        ipc_message_fini(&message);
    }
    return code < 0 ? code : 0;
}

int takeover_take(struct master *master, struct err_text *text)
{
    struct takeover *takeover = takeover_of(master);
    int code;

    takeover->is_successor = true;
    code = dial(takeover, text);
    if (code == 0)
        code = receive_all(takeover, text);
    if (code < 0)
        return code;
    takeover_say(&takeover->old_host, TAKEOVER_TAKEN, 0, SPAN_NONE, NULL);
    if (takeover->slots > (unsigned)master->apps.settings.workers) {
        log_event(LOG_WARN, "workers_kept",
                  "%u workers, as the host before had: sockets are theirs", takeover->slots);
        master->apps.settings.workers = (int64_t)takeover->slots;
    }
    return 0;
}

static void place_socket(struct endpoints *endpoints, struct taken_socket *taken)
{
    int *place = endpoints_adopt(endpoints, &taken->addr, taken->https, taken->slot);

    if (place == NULL || *place >= 0)
        return;
    *place = taken->fd;
    taken->fd = -1;
}

/* The pairs of a state become those of an app that is brought. */
static int install_app(struct master *master, unsigned index, struct span own,
                       struct err_text *text)
{
    struct buf wish = {0}, change = {0}, reply = {0};
    const char *key, *value;
    int code;

    while (pairs_next(&own, &key, &value)) {
        char name[200];

        if (strcmp(key, IPC_OPEN_APP) == 0)
            pairs_add(&wish, "value", value);
        else if (strcmp(key, IPC_APP_OWNER) == 0 || strcmp(key, IPC_APP_HOSTED) == 0 ||
                 strcmp(key, IPC_ADD_PREFIX) == 0)
            pairs_add(&wish, key, value);
        else if (snprintf(name, sizeof(name), "set:%s", key) < (int)sizeof(name))
            pairs_add(&wish, name, value);
    }
    code = apps_attach(&master->apps, index, buf_span(&wish), &master->endpoints, &change, &reply,
                       text);
    master->takeover->is_same[index] = code == 0;
    buf_fini(&wish);
    buf_fini(&change);
    buf_fini(&reply);
    return code;
}

int takeover_install(struct master *master, struct err_text *text)
{
    struct takeover *takeover = master->takeover;
    int code = 0;

    if (takeover == NULL || !takeover->is_successor)
        return 0;
    for (unsigned i = 0; i < takeover->socket_count; i++)
        place_socket(&master->endpoints, &takeover->sockets[i]);
    code = endpoints_complete(&master->endpoints, text);
    for (unsigned i = 0; i < TALLY_APPS && code == 0; i++) {
        struct buf own = {0};

        apps_pairs_of(buf_span(&takeover->apps), i, &own);
        if (pairs_find(buf_span(&own), IPC_OPEN_APP))
            code = install_app(master, i, buf_span(&own), text);
        buf_fini(&own);
    }
    endpoints_close_unused(&master->endpoints, master->changes.version);
    if (code == 0 && buf_len(&takeover->tickets) > 0)
        ticket_keys_take(&master->certificates.tickets, buf_span(&takeover->tickets));
    buf_wipe(&takeover->tickets);
    if (code == 0) {
        master->host.control_fd = takeover->control_fd;
        takeover->control_fd = -1;
    }
    return code;
}

/* We are the host: programs are heard, and the paths are ours. */
static void become_host(struct takeover *takeover)
{
    takeover->is_host = true;
    host_take_path(takeover->master);
    takeover_listen(takeover->master);
    host_start(takeover->master);
}

static void old_host_ended(struct takeover *takeover)
{
    struct master *master = takeover->master;

    log_event(LOG_INFO, "old_host_ended", NULL);
    for (unsigned i = 0; i < MAX_WORKERS; i++)
        if (takeover->waits[i])
            host_worker_gone(master, master->slot_count + i);
    if (master->state == MASTER_STOPPING)
        master_slot_gone(master);
    else
        host_apps_start(master);
}

static void on_old_host(struct ipc_channel *channel)
{
    struct takeover *takeover = LIST_OWNER(channel, struct takeover, old_host);
    struct master *master = takeover->master;
    struct ipc_message message;
    int code;

    while ((code = ipc_receive(&takeover->old_host, &message)) == 0) {
        if (message.kind == TAKEOVER_GO && !takeover->is_host)
            become_host(takeover);
        else if (message.kind == TAKEOVER_DEMAND)
            takeover_take_demand(takeover, message.value / TALLY_APPS, message.value % TALLY_APPS);
        ipc_message_fini(&message);
    }
    if (code == ERR_AGAIN)
        return;
    ipc_close(&takeover->old_host);
    if (takeover->is_host) {
        old_host_ended(takeover);
    } else {
        master_fail(master, EXIT_PORT_IN_USE,
                    "--replace: the host that runs has ended, or would not wait any longer");
    }
}

void takeover_done(struct master *master)
{
    struct takeover *takeover = master->takeover;

    if (takeover == NULL || !takeover->is_successor || takeover->is_done)
        return;
    takeover->is_done = true;
    ipc_watch(&takeover->old_host, master->loop, on_old_host);
    takeover_say(&takeover->old_host, TAKEOVER_DONE, 0, SPAN_NONE, NULL);
}

const char *takeover_state_path(const struct master *master)
{
    const struct takeover *takeover = master->takeover;

    return takeover && takeover->state_path[0] ? takeover->state_path : NULL;
}

bool takeover_is_shared(const struct master *master)
{
    return master->takeover && master->takeover->is_successor && master->takeover->old_host.fd >= 0;
}
