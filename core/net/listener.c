/*
 * Accepting. An IPv6 socket never takes IPv4 connections: who wants both opens two, and an address
 * is then always of the family it looks like.
 *
 * When descriptors run out, the pending connection cannot be taken off the queue, so the socket
 * stays readable and a level-triggered loop would spin; the listener sleeps for a moment instead.
 */
#include "net/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define PAUSE_SECONDS 0.1

struct listener {
    struct loop_io io; /* first: its callback casts back */
    struct loop_alarm pause;
    struct loop *loop;
    int fd;
    unsigned batch;
    bool complained; /* one line for a run of failures, not ten a second */
    listener_accept_fn *accepted;
    void *owner;
};

static int fail(const struct net_addr *addr, int number, struct err_text *text)
{
    char where[NET_ADDR_TEXT];

    net_addr_text(addr, where);
    switch (number) {
    case EADDRINUSE:
        return err_set(text, EXIT_PORT_IN_USE, ERR_IN_USE, "the port %u is in use (%s)", addr->port,
                       where);
    case EACCES:
    case EPERM:
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "no permission to listen on port %u (%s)", addr->port, where);
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return err_set(text, EXIT_DESCRIPTORS, ERR_LIMIT, "cannot open a socket for %s: %s", where,
                       strerror(number));
    case EAFNOSUPPORT:
    case EADDRNOTAVAIL:
        return err_set(text, EXIT_OPTION, ERR_UNSUPPORTED,
                       "this machine does not have the address %s", where);
    default:
        return err_set(text, EXIT_OPTION, ERR_IO, "cannot listen on %s: %s", where,
                       strerror(number));
    }
}

static int set_flag(int fd, int level, int option)
{
    const int on = 1;

    return setsockopt(fd, level, option, &on, sizeof(on));
}

static int set_early(int fd, const struct net_addr *addr)
{
    return addr->family == NET_IPV6 ? set_flag(fd, IPPROTO_IPV6, IPV6_FREEBIND)
                                    : set_flag(fd, IPPROTO_IP, IP_FREEBIND);
}

/*
 * The exclusive socket listens before SO_REUSEPORT is set: the kernel looks for a conflict again in
 * listen(), so that of two servers that start at the same moment one is refused.
 */
static int prepare(int fd, const struct net_addr *addr, unsigned how)
{
    bool exclusive = how & LISTENER_EXCLUSIVE;
    struct sockaddr_storage address;
    socklen_t len = net_addr_to(addr, &address);

    if (set_flag(fd, SOL_SOCKET, SO_REUSEADDR) < 0)
        return -1;
    if (addr->family == NET_IPV6 && set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY) < 0)
        return -1;
    if (how & LISTENER_EARLY && set_early(fd, addr) < 0)
        return -1;
    if (!exclusive && set_flag(fd, SOL_SOCKET, SO_REUSEPORT) < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, LISTENER_BACKLOG) < 0)
        return -1;
    return exclusive ? set_flag(fd, SOL_SOCKET, SO_REUSEPORT) : 0;
}

int listener_bind(struct net_addr *addr, unsigned how, struct err_text *text)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    int family = addr->family == NET_IPV6 ? AF_INET6 : AF_INET;

    CHECK(addr->family == NET_IPV4 || addr->family == NET_IPV6);

    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fail(addr, errno, text);
    if (prepare(fd, addr, how) < 0 || getsockname(fd, (struct sockaddr *)&bound, &len) < 0) {
        int number = errno;

        close(fd);
        return fail(addr, number, text);
    }
    addr->port = net_addr_from((struct sockaddr *)&bound, len).port;
    return fd;
}

static void on_pause_over(struct loop_alarm *alarm);
static void on_readable(struct loop_io *io, int events);

static void pause_accepting(struct listener *listener, int number)
{
    if (!listener->complained)
        log_event(LOG_ERROR, "accept_failed", "connections wait: %s", strerror(number));
    listener->complained = true;
    loop_io_stop(listener->loop, &listener->io);
    loop_alarm_start(listener->loop, &listener->pause, PAUSE_SECONDS);
}

/* These concern the one connection that was to be accepted (accept(2)); the next may be well. */
static bool harms_one_connection(int number)
{
    switch (number) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

/* 0, EAGAIN when the queue is empty, or the errno value that ends accepting for now. */
static int accept_one(struct listener *listener)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    int fd = accept4(listener->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return harms_one_connection(errno) ? 0 : errno;
    struct net_addr peer = net_addr_from((struct sockaddr *)&address, len);

    listener->complained = false;
    listener->accepted(listener->owner, fd, &peer);
    return 0;
}

static void on_readable(struct loop_io *io, int events)
{
    struct listener *listener = (struct listener *)(void *)io;
    int number = 0;

    (void)events;
    for (unsigned i = 0; i < listener->batch && number == 0; i++)
        number = accept_one(listener);
    if (number != 0 && number != EAGAIN)
        pause_accepting(listener, number);
}

static void on_pause_over(struct loop_alarm *alarm)
{
    struct listener *listener = LIST_OWNER(alarm, struct listener, pause);

    loop_io_start(listener->loop, &listener->io, listener->fd, LOOP_READ, on_readable);
}

struct listener *listener_start(struct loop *loop, int fd, unsigned batch,
                                listener_accept_fn *accepted, void *owner)
{
    struct listener *listener = mem_zalloc(sizeof(*listener));

    listener->loop = loop;
    listener->fd = fd;
    listener->batch = batch;
    listener->accepted = accepted;
    listener->owner = owner;
    /* Accepted connections inherit it: one call here saves one for each of them. */
    set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
    loop_alarm_init(&listener->pause, on_pause_over);
    loop_io_start(loop, &listener->io, fd, LOOP_READ, on_readable);
    return listener;
}

void listener_stop(struct listener *listener)
{
    loop_io_stop(listener->loop, &listener->io);
    loop_alarm_stop(listener->loop, &listener->pause);
    while (accept_one(listener) == 0)
        ;
    close(listener->fd);
    mem_free(listener);
}
