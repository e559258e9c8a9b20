/*
 * Messages between two processes of ours: datagrams on a SOCK_SEQPACKET socket, each with a kind, a
 * number, text and descriptors. The text is a list of pairs (base/pairs.h); one that is too long
 * for a datagram goes in pieces. Magic and version guard against another protocol, or an old one.
 */
#ifndef NET_IPC_H
#define NET_IPC_H

#include "base/buf.h"
#include "base/list.h"
#include "base/pairs.h"
#include "base/span.h"
#include "net/loop.h"

#define IPC_DATAGRAM_BYTES 32768
#define IPC_TEXT_BYTES     (16 << 20)
#define IPC_WAITING_BYTES  (64 << 20) /* that an end does not take; then it counts as stuck */
#define IPC_MAX_FDS        4
#define IPC_RESERVE        16 /* descriptors: the sockets of other slots may come in a row */

/* What a descriptor that waits to be sent counts among the bytes that do. */
#define IPC_FD_BYTES 4096

/* Kinds are the users' own, from this one on; the one below it is a piece of text. */
#define IPC_FIRST_KIND 2

struct ipc_message {
    unsigned kind;
    unsigned value;
    struct buf text;
    int fds[IPC_MAX_FDS]; /* the receiver's: it takes them out or ipc_message_fini closes them;
                             fewer than were sent when the receiver has no descriptor left */
    unsigned fd_count;
};

/* One end. Without a loop, sending waits until the other end takes the message. */
struct ipc_channel {
    int fd; /* -1: closed */
    struct loop *loop;
    struct loop_io io;
    void (*ready)(struct ipc_channel *channel); /* there is something to receive, or the end */
    struct buf pieces;                          /* of a message that is not complete */
    struct list waiting;                        /* to be sent */
    size_t waiting_bytes;
    size_t text_most, waiting_most; /* see ipc_bound */
    bool reserves;                  /* see ipc_reserve */
    int reserve[IPC_RESERVE];
    unsigned reserve_count;
};

/* Two connected ends, non-blocking and close-on-exec. 0 or an error. */
int ipc_pair(int ends[2]);

/* Takes fd. */
void ipc_open(struct ipc_channel *channel, int fd);

/* Other bounds than IPC_TEXT_BYTES and IPC_WAITING_BYTES: for an end whose other end is a stranger.
 */
void ipc_bound(struct ipc_channel *channel, size_t text_most, size_t waiting_most);

/* From now on the loop sends what waits and calls ready. */
void ipc_watch(struct ipc_channel *channel, struct loop *loop,
               void (*ready)(struct ipc_channel *channel));

/*
 * Holds descriptors for those that come with messages, so that an end whose others are all taken,
 * by connections say, can receive some all the same.
 */
void ipc_reserve(struct ipc_channel *channel);

/* No call of ready any more; what waits is dropped. */
void ipc_unwatch(struct ipc_channel *channel);
void ipc_close(struct ipc_channel *channel);

/* 0, ERR_LIMIT when too much waits, ERR_RESET when the other end is gone, ERR_TOO_LARGE. Borrows
 * the descriptors. */
int ipc_send(struct ipc_channel *channel, unsigned kind, unsigned value, struct span text,
             const int *fds, unsigned fd_count);

/* What was sent and the other end has not read, as the kernel counts it, and what waits to be sent.
 */
size_t ipc_unread(const struct ipc_channel *channel);

/* 0, ERR_AGAIN when there is none, ERR_CLOSED at the end, ERR_INVALID for what is no message of
 * this version. Fills message, which ipc_message_fini empties. */
int ipc_receive(struct ipc_channel *channel, struct ipc_message *message);
void ipc_message_fini(struct ipc_message *message);

#endif
