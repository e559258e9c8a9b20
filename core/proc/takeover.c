/*
 * Sockets that are handed over are the same sockets: what waits in them is accepted by the old
 * host's workers or the new one's, whoever comes first, so that there is no moment without a
 * server. What may change meanwhile is stopped first: the registrar. Programs that want something
 * of it wait in the control socket, and attached ones come back by themselves.
 */
#include "proc/takeover.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/listener.h"
#include "proc/host.h"
#include "proc/host_apps.h"
#include "proc/host_state.h"
#include "proc/master_priv.h"

#define SUFFIX      ".takeover"
#define VERSION     1 /* of what is said here */
#define BACKLOG     4
#define ANSWER_MS   20000 /* of the old host */
#define SUCCESSOR_S 60    /* until the new one's workers serve */

enum takeover_kind {
    TAKEOVER_ASK = IPC_FIRST_KIND, /* value: the version; the answer is one of the next */
    TAKEOVER_REFUSED,              /* why=… */
    TAKEOVER_SOCKET,               /* a descriptor: value: the slot; ip, port, https */
    TAKEOVER_CONTROL,              /* a descriptor; the text is the state of all apps */
    TAKEOVER_TICKETS,              /* keys=… */
    TAKEOVER_END,                  /* value: how many slots there are */
    TAKEOVER_DONE,                 /* from the successor: its workers serve */
};

enum takeover_state {
    TAKEOVER_NONE,
    TAKEOVER_WAITS, /* for the registrar's end */
    TAKEOVER_TOLD,  /* the successor starts */
    TAKEOVER_OVER,  /* it serves */
};

struct taken_socket {
    struct net_addr addr;
    bool https;
    unsigned slot;
    int fd; /* -1: it is in place */
};

struct takeover {
    struct master *master;
    struct listener *listener;
    struct ipc_channel ipc; /* fd -1: none */
    struct loop_alarm limit;
    enum takeover_state state;

    /* of a successor */
    bool is_successor, is_done;
    struct taken_socket *sockets;
    unsigned socket_count, slots;
    int control_fd;
    struct buf apps, tickets;
};

static int fill_address(const struct master *master, struct sockaddr_un *address)
{
    int length;

    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    length = snprintf(address->sun_path, sizeof(address->sun_path), "%s" SUFFIX, master->host.path);
    return length < (int)sizeof(address->sun_path) ? 0 : ERR_TOO_LARGE;
}

static struct takeover *takeover_of(struct master *master)
{
    if (master->takeover == NULL) {
        master->takeover = mem_zalloc(sizeof(*master->takeover));
        master->takeover->master = master;
        master->takeover->ipc.fd = master->takeover->control_fd = -1;
    }
    return master->takeover;
}

/* ---- the host that runs ---- */

static void say(struct takeover *takeover, enum takeover_kind kind, unsigned value,
                struct span text, const int *fd)
{
    if (takeover->ipc.fd >= 0)
        ipc_send(&takeover->ipc, kind, value, text, fd,
                 fd ? 1 : 0); /* its end is seen by reading */
}

static void tell_sockets(struct takeover *takeover)
{
    const struct endpoints *endpoints = &takeover->master->endpoints;

    for (unsigned i = 0; i < endpoints->count; i++) {
        const struct endpoint *endpoint = &endpoints->at[i];
        struct buf pairs = {0};
        char ip[NET_ADDR_TEXT];

        net_addr_ip(&endpoint->addr, ip);
        pairs_add(&pairs, "ip", ip);
        pairs_add_number(&pairs, "port", endpoint->addr.port);
        pairs_add_number(&pairs, "https", endpoint->https);
        for (unsigned slot = 0; endpoint->uses > 0 && slot < endpoints->slots; slot++)
            say(takeover, TAKEOVER_SOCKET, slot, buf_span(&pairs), &endpoint->sockets[slot]);
        buf_fini(&pairs);
    }
}

static void tell_all(struct takeover *takeover)
{
    struct master *master = takeover->master;
    struct buf pairs = {0};

    tell_sockets(takeover);
    apps_state(&master->apps, &pairs);
    say(takeover, TAKEOVER_CONTROL, 0, buf_span(&pairs), &master->host.control_fd);
    buf_fini(&pairs);
    if (master->certificates.is_watching) {
        ticket_keys_state(&master->certificates.tickets, &pairs);
        say(takeover, TAKEOVER_TICKETS, 0, buf_span(&pairs), NULL);
        buf_wipe(&pairs);
    }
    host_state_let_go(master);
    say(takeover, TAKEOVER_END, master->slot_count, SPAN_NONE, NULL);
    takeover->state = TAKEOVER_TOLD;
}

/* The successor has ended before it could serve: everything is as it was. */
static void give_up(struct takeover *takeover)
{
    struct master *master = takeover->master;

    loop_alarm_stop(master->loop, &takeover->limit);
    ipc_close(&takeover->ipc);
    if (takeover->state == TAKEOVER_TOLD)
        host_state_hold(master);
    if (takeover->state != TAKEOVER_OVER && master->state == MASTER_SERVING) {
        log_event(LOG_ERROR, "takeover_failed", "the new host has ended: this one goes on");
        takeover->state = TAKEOVER_NONE;
        takeover_listen(master); /* it may have taken the path */
        if (master->host.pid == 0)
            host_start(master);
    }
}

static void hand_over(struct takeover *takeover)
{
    struct master *master = takeover->master;

    loop_alarm_stop(master->loop, &takeover->limit);
    takeover->state = TAKEOVER_OVER;
    listener_stop(takeover->listener); /* the path is the successor's by now */
    takeover->listener = NULL;
    log_event(LOG_INFO, "taken_over", "a new host serves; open connections end here");
    host_leave(master);
    master_stop(master);
}

static void take_ask(struct takeover *takeover, const struct ipc_message *message)
{
    struct master *master = takeover->master;
    struct buf pairs = {0};

    if (message->value != VERSION || master->state != MASTER_SERVING ||
        takeover->state != TAKEOVER_NONE) {
        pairs_add(&pairs, "why",
                  message->value != VERSION
                      ? "it is of another version: stop it and start the new one"
                      : "it is busy with its start, its end or another one");
        say(takeover, TAKEOVER_REFUSED, 0, buf_span(&pairs), NULL);
        buf_fini(&pairs);
        return;
    }
    log_event(LOG_INFO, "takeover_asked", "a new host is about to take this one's place");
    takeover->state = TAKEOVER_WAITS;
    loop_alarm_start(master->loop, &takeover->limit, SUCCESSOR_S);
    if (master->host.pid)
        host_stop(master);
    else
        takeover_registrar_gone(master);
}

static void on_message(struct ipc_channel *channel)
{
    struct takeover *takeover = LIST_OWNER(channel, struct takeover, ipc);
    struct ipc_message message;
    int code = ERR_CLOSED;

    while (takeover->ipc.fd >= 0 && (code = ipc_receive(&takeover->ipc, &message)) == 0) {
        if (message.kind == TAKEOVER_ASK)
            take_ask(takeover, &message);
        else if (message.kind == TAKEOVER_DONE && takeover->state == TAKEOVER_TOLD)
            hand_over(takeover);
        ipc_message_fini(&message);
    }
    if (code != ERR_AGAIN && takeover->ipc.fd >= 0)
        give_up(takeover);
}

static void on_limit(struct loop_alarm *alarm)
{
    give_up(LIST_OWNER(alarm, struct takeover, limit));
}

static void on_accepted(void *owner, int fd, const struct net_addr *peer)
{
    struct takeover *takeover = owner;
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof(who);

    (void)peer;
    if (takeover->ipc.fd >= 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
        (who.uid != 0 && who.uid != geteuid())) {
        log_event(LOG_WARN, "takeover_refused", "user %u, or one at a time", (unsigned)who.uid);
        close(fd);
        return;
    }
    ipc_open(&takeover->ipc, fd);
    ipc_watch(&takeover->ipc, takeover->master->loop, on_message);
}

static int open_socket(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t before = umask(0177);
    bool is_open;

    unlink(address->sun_path);
    is_open = fd >= 0 && bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 &&
              listen(fd, BACKLOG) == 0;
    umask(before);
    if (is_open)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

void takeover_listen(struct master *master)
{
    struct takeover *takeover = takeover_of(master);
    struct sockaddr_un address;
    int fd = fill_address(master, &address) == 0 ? open_socket(&address) : -1;

    loop_alarm_init(&takeover->limit, on_limit);
    if (takeover->listener)
        listener_stop(takeover->listener);
    takeover->listener = NULL;
    if (fd < 0) {
        log_event(LOG_WARN, "takeover_off", "this host cannot be replaced while it runs: %s",
                  address.sun_path);
        return;
    }
    takeover->listener = listener_start(master->loop, fd, 1, on_accepted, takeover);
}

bool takeover_is_on(const struct master *master)
{
    return master->takeover &&
           (master->takeover->state == TAKEOVER_WAITS || master->takeover->state == TAKEOVER_TOLD);
}

void takeover_registrar_gone(struct master *master)
{
    if (master->takeover->state == TAKEOVER_WAITS)
        tell_all(master->takeover);
}

void takeover_close(struct master *master)
{
    struct takeover *takeover = master->takeover;
    struct sockaddr_un address;

    if (takeover == NULL)
        return;
    if (takeover->listener) {
        listener_stop(takeover->listener);
        if (fill_address(master, &address) == 0)
            unlink(address.sun_path);
    }
    if (master->loop)
        loop_alarm_stop(master->loop, &takeover->limit);
    ipc_close(&takeover->ipc);
    for (unsigned i = 0; i < takeover->socket_count; i++)
        if (takeover->sockets[i].fd >= 0)
            close(takeover->sockets[i].fd);
    if (takeover->control_fd >= 0)
        close(takeover->control_fd);
    mem_free(takeover->sockets);
    buf_fini(&takeover->apps);
    buf_wipe(&takeover->tickets);
    mem_free(takeover);
    master->takeover = NULL;
}

/* ---- the successor ---- */

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

    if (fill_address(takeover->master, &address) < 0)
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE, "%.200s is too long for a socket",
                       takeover->master->host.path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        not_there(&address, text);
        if (fd >= 0)
            close(fd);
        return ERR_NOT_FOUND;
    }
    ipc_open(&takeover->ipc, fd);
    ipc_send(&takeover->ipc, TAKEOVER_ASK, VERSION, SPAN_NONE, NULL, 0);
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

/* 1: that was all. */
static int take_message(struct takeover *takeover, struct ipc_message *message,
                        struct err_text *text)
{
    const char *why = pairs_find(buf_span(&message->text), "why");

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
        return takeover->control_fd >= 0 ? 1 : ERR_INVALID;
    default:
        return err_set(text, EXIT_PORT_IN_USE, ERR_STATE,
                       "--replace: the host that runs refuses: %s", why ? why : "?");
    }
}

static int receive_all(struct takeover *takeover, struct err_text *text)
{
    struct pollfd wait = {.fd = takeover->ipc.fd, .events = POLLIN};
    struct ipc_message message;
    int code = 0;

    err_set(text, EXIT_PORT_IN_USE, ERR_TIMEOUT, "--replace: the host that runs does not answer");
    while (code == 0) {
        int got = ipc_receive(&takeover->ipc, &message);

        if (got == ERR_AGAIN) {
            if (poll(&wait, 1, ANSWER_MS) <= 0 && errno != EINTR)
                return ERR_TIMEOUT;
            continue;
        }
        if (got < 0)
            return got;
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
        else if (strcmp(key, IPC_APP_OWNER) == 0 || strcmp(key, IPC_ADD_PREFIX) == 0)
            pairs_add(&wish, key, value);
        else if (snprintf(name, sizeof(name), "set:%s", key) < (int)sizeof(name))
            pairs_add(&wish, name, value);
    }
    code = apps_attach(&master->apps, index, buf_span(&wish), &master->endpoints, &change, &reply,
                       text);
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

static void on_old_host(struct ipc_channel *channel)
{
    struct takeover *takeover = LIST_OWNER(channel, struct takeover, ipc);
    struct master *master = takeover->master;
    struct ipc_message message;
    int code;

    while ((code = ipc_receive(&takeover->ipc, &message)) == 0)
        ipc_message_fini(&message);
    if (code == ERR_AGAIN)
        return;
    ipc_close(&takeover->ipc);
    log_event(LOG_INFO, "old_host_ended", NULL);
    host_apps_start(master);
}

void takeover_done(struct master *master)
{
    struct takeover *takeover = master->takeover;

    if (takeover == NULL || !takeover->is_successor || takeover->is_done)
        return;
    takeover->is_done = true;
    ipc_watch(&takeover->ipc, master->loop, on_old_host);
    say(takeover, TAKEOVER_DONE, 0, SPAN_NONE, NULL);
}

bool takeover_is_shared(const struct master *master)
{
    return master->takeover && master->takeover->is_successor && master->takeover->ipc.fd >= 0;
}
