/*
 * Sockets that are handed over are the same sockets: what waits in them is accepted by the old
 * host's workers or the new one's, whoever comes first, so that there is no moment without a
 * server. What may change meanwhile is stopped first: the registrar. Programs that want something
 * of it wait in the control socket, and attached ones come back by themselves. Until the old host
 * has said go, it alone is the host: it has the sockets' paths, and the successor has no registrar.
 */
#include "proc/takeover_priv.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/listener.h"
#include "proc/host.h"
#include "proc/host_apps.h"
#include "proc/host_state.h"
#include "proc/master_priv.h"
#include "proc/state_file.h"

#define SUFFIX       ".takeover"
#define BACKLOG      4
#define SUCCESSOR_S  20 /* until the new one's workers serve: there is no registrar meanwhile */
#define TAKE_S       5  /* until it has taken what it was told */
#define ASK_S        5  /* for who connects to say what it wants */
#define LOCK_TRIES   50
#define LOCK_STEP_MS 10

static const char BUSY[] = "it is busy with its start, its end or another --replace";

int takeover_address(const struct master *master, struct sockaddr_un *address)
{
    int length;

    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    length = snprintf(address->sun_path, sizeof(address->sun_path), "%s" SUFFIX, master->host.path);
    return length < (int)sizeof(address->sun_path) ? 0 : ERR_TOO_LARGE;
}

struct takeover *takeover_of(struct master *master)
{
    if (master->takeover == NULL) {
        master->takeover = mem_zalloc(sizeof(*master->takeover));
        master->takeover->master = master;
        master->takeover->ipc.fd = master->takeover->sent_away.fd = -1;
        master->takeover->old_host.fd = master->takeover->control_fd = -1;
    }
    return master->takeover;
}

int takeover_say(struct ipc_channel *channel, enum takeover_kind kind, unsigned value,
                 struct span text, const int *fd)
{
    return channel->fd >= 0 ? ipc_send(channel, kind, value, text, fd, fd ? 1 : 0) : 0;
}

static void say(struct takeover *takeover, enum takeover_kind kind, unsigned value,
                struct span text, const int *fd)
{
    if (takeover_say(&takeover->ipc, kind, value, text, fd) == ERR_LIMIT)
        takeover->is_stuck = true;
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

/* The successor has not come to serve: everything is as it was. */
static void give_up(struct takeover *takeover, const char *why)
{
    struct master *master = takeover->master;
    enum takeover_state state = takeover->state;

    loop_alarm_stop(master->loop, &takeover->limit);
    ipc_close(&takeover->ipc);
    if (state != TAKEOVER_WAITS && state != TAKEOVER_TOLD)
        return;
    takeover->state = TAKEOVER_NONE;
    if (master->state != MASTER_SERVING)
        return;
    log_event(LOG_ERROR, "takeover_failed", "the new host %s: this one goes on", why);
    for (int i = 0; i < LOCK_TRIES && !host_state_hold(master); i++)
        poll(NULL, 0, LOCK_STEP_MS); /* it is about to end */
    if (master->host.pid == 0)
        host_start(master);
}

static void tell_all(struct takeover *takeover)
{
    struct master *master = takeover->master;
    struct buf pairs = {0};
    char path[PATH_MAX];

    takeover->state = TAKEOVER_TOLD;
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
    if (state_file_real(host_state_path(master), path))
        pairs_add(&pairs, "state", path);
    say(takeover, TAKEOVER_END, master->slot_count, buf_span(&pairs), NULL);
    buf_fini(&pairs);
    loop_alarm_start(master->loop, &takeover->limit, TAKE_S);
    if (takeover->is_stuck)
        give_up(takeover, "does not read");
}

static void hand_over(struct takeover *takeover)
{
    struct master *master = takeover->master;

    loop_alarm_stop(master->loop, &takeover->limit);
    takeover->state = TAKEOVER_OVER;
    host_leave(master);
    listener_stop(takeover->listener); /* the path is the successor's by now */
    takeover->listener = NULL;
    say(takeover, TAKEOVER_GO, 0, SPAN_NONE, NULL);
    log_event(LOG_INFO, "taken_over", "a new host serves; open connections end here");
    takeover_demand_again(takeover);
    master_stop(master);
}

static void refuse(struct ipc_channel *channel, const char *why)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "why", why);
    ipc_send(channel, TAKEOVER_REFUSED, 0, buf_span(&pairs), NULL, 0);
    buf_fini(&pairs);
}

static void take_ask(struct takeover *takeover, const struct ipc_message *message)
{
    struct master *master = takeover->master;

    if (message->value != TAKEOVER_VERSION) {
        refuse(&takeover->ipc, "it is of another version: stop it and start the new one");
        return;
    }
    if (master->state != MASTER_SERVING || takeover->state != TAKEOVER_NONE) {
        refuse(&takeover->ipc, BUSY);
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

static void take_channel(struct master *master, const struct ipc_message *message)
{
    unsigned slot = message->value / TALLY_APPS;

    if (slot >= master->slot_count)
        takeover_channel(master, slot, message->value % TALLY_APPS, message);
    else if (message->fd_count == 1)
        slot_post_fd(master->slots[slot], IPC_CHANNEL, message->value % TALLY_APPS,
                     buf_span(&message->text), message->fds[0]);
}

static void on_message(struct ipc_channel *channel)
{
    struct takeover *takeover = LIST_OWNER(channel, struct takeover, ipc);
    struct ipc_message message;
    int code = ERR_CLOSED;

    while (takeover->ipc.fd >= 0 && (code = ipc_receive(&takeover->ipc, &message)) == 0) {
        if (message.kind == TAKEOVER_ASK)
            take_ask(takeover, &message);
        else if (message.kind == TAKEOVER_TAKEN && takeover->state == TAKEOVER_TOLD)
            loop_alarm_start(takeover->master->loop, &takeover->limit, SUCCESSOR_S);
        else if (message.kind == TAKEOVER_DONE && takeover->state == TAKEOVER_TOLD)
            hand_over(takeover);
        else if (message.kind == TAKEOVER_CHANNEL && takeover->state == TAKEOVER_OVER)
            take_channel(takeover->master, &message);
        ipc_message_fini(&message);
    }
    if (code != ERR_AGAIN && takeover->ipc.fd >= 0)
        give_up(takeover, "has ended");
}

static void on_limit(struct loop_alarm *alarm)
{
    give_up(LIST_OWNER(alarm, struct takeover, limit), "is silent");
}

static bool is_allowed(int fd)
{
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof(who);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
        (who.uid == 0 || who.uid == geteuid()))
        return true;
    log_event(LOG_WARN, "takeover_refused", "user %u may not replace this host", (unsigned)who.uid);
    return false;
}

/* It is closed with the next one's: a close before it has been heard would take the reason away. */
static void send_away(struct takeover *takeover, int fd)
{
    ipc_close(&takeover->sent_away);
    ipc_open(&takeover->sent_away, fd);
    refuse(&takeover->sent_away, BUSY);
}

/* Who has not asked makes way for the next one. */
static void on_accepted(void *owner, int fd, const struct net_addr *peer)
{
    struct takeover *takeover = owner;

    (void)peer;
    if (!is_allowed(fd)) {
        close(fd);
        return;
    }
    if (takeover->state != TAKEOVER_NONE) {
        send_away(takeover, fd);
        return;
    }
    ipc_close(&takeover->ipc);
    ipc_open(&takeover->ipc, fd);
    ipc_watch(&takeover->ipc, takeover->master->loop, on_message);
    loop_alarm_start(takeover->master->loop, &takeover->limit, ASK_S);
}

static int open_socket(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t before = umask(0177);
    struct stat info;
    bool is_open;

    if (lstat(address->sun_path, &info) == 0 && S_ISSOCK(info.st_mode))
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
    int fd = takeover_address(master, &address) == 0 ? open_socket(&address) : -1;

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
    const struct takeover *takeover = master->takeover;

    return takeover && (takeover->state == TAKEOVER_WAITS || takeover->state == TAKEOVER_TOLD ||
                        (takeover->is_successor && !takeover->is_host));
}

bool takeover_is_over(const struct master *master)
{
    return master->takeover && master->takeover->state == TAKEOVER_OVER;
}

void takeover_demand(struct master *master, unsigned slot, unsigned app)
{
    if (takeover_is_over(master))
        say(master->takeover, TAKEOVER_DEMAND, slot * TALLY_APPS + app, SPAN_NONE, NULL);
    else
        host_apps_demand(master, app);
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
        if (takeover_address(master, &address) == 0)
            unlink(address.sun_path);
    }
    if (master->loop)
        loop_alarm_stop(master->loop, &takeover->limit);
    ipc_close(&takeover->ipc);
    ipc_close(&takeover->sent_away);
    ipc_close(&takeover->old_host);
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
