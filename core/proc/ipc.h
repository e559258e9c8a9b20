/*
 * Messages between the master and its workers: datagrams on a SOCK_SEQPACKET pair, each with a
 * kind, a number, text and descriptors. The text is a list of pairs, key and value each ended by a
 * NUL; one that is too long for a datagram goes in pieces. Both ends are the same executable; magic
 * and version guard against an old worker of a replaced one.
 */
#ifndef PROC_IPC_H
#define PROC_IPC_H

#include "base/buf.h"
#include "base/list.h"
#include "base/span.h"
#include "net/loop.h"

enum ipc_kind {
    IPC_PIECE = 1, /* text of the message that follows */
    /* to the worker */
    IPC_CONFIG,  /* the first message: slot, apps, settings */
    IPC_LOGS,    /* value: IPC_LOG_… bits, a descriptor for each, in their order */
    IPC_SOCKET,  /* value: the slot whose listening socket this is; id, address, scheme */
    IPC_TLS,     /* all TLS bindings, with what their files hold; before IPC_SERVE, and anew */
    IPC_TICKETS, /* keys of session tickets, in hexadecimal; likewise */
    IPC_SERVE,   /* begin; the state of all apps (see below) */
    IPC_RETURN,  /* value: the slot whose sockets are needed no more */
    IPC_CLOSE,   /* value: the id of sockets, of whichever slot, that are served no more */
    IPC_CHANGE,  /* what changes in the state of the apps */
    IPC_SYNC,    /* value: answer with IPC_APPLIED when all before it is done */
    IPC_REPLY,   /* value: the number of an IPC_ASK; ok = …, or wrong = … */
    IPC_STOP,    /* stop accepting, finish what runs, end */
    /* to the master */
    IPC_LOADING,  /* value: the index of the app that is loaded now */
    IPC_READY,    /* the apps are loaded; the settings that they asked for */
    IPC_FAILED,   /* one is not; value: exit code; the text is one line, no pairs */
    IPC_SERVING,  /* the slot's sockets are served */
    IPC_APPLIED,  /* value: that of the IPC_SYNC */
    IPC_ASK,      /* value: a number for the reply; app, op, key, value, place */
    IPC_LOG_FULL, /* value: the IPC_LOG_… bit of a log that has reached its size */
    IPC_SHUTDOWN, /* an app asks for the end of the server (os.exit) */
};

/*
 * The state of the apps, in IPC_SERVE whole and in IPC_CHANGE in part: keys are "server:KEY" for
 * settings of the server, "N:KEY" for those of app N, and "N:+" and "N:-" with a URL prefix that is
 * added or removed.
 */
#define IPC_SERVER_SCOPE "server:"
#define IPC_ADD_PREFIX   "+"
#define IPC_DROP_PREFIX  "-"

enum { IPC_LOG_ERROR = 1, IPC_LOG_ACCESS = 2, IPC_LOG_HTTP_ERROR = 4 };

#define IPC_DATAGRAM_BYTES 32768
#define IPC_TEXT_BYTES     (16 << 20)
#define IPC_WAITING_BYTES  (64 << 20) /* that an end does not take; then it counts as stuck */
#define IPC_MAX_FDS        4
#define IPC_RESERVE        16 /* descriptors: the sockets of other slots may come in a row */

struct ipc_message {
    enum ipc_kind kind;
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
    bool reserves; /* see ipc_reserve */
    int reserve[IPC_RESERVE];
    unsigned reserve_count;
};

/* Two connected ends, non-blocking and close-on-exec. 0 or an error. */
int ipc_pair(int ends[2]);

/* Takes fd. */
void ipc_open(struct ipc_channel *channel, int fd);

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
int ipc_send(struct ipc_channel *channel, enum ipc_kind kind, unsigned value, struct span text,
             const int *fds, unsigned fd_count);

/* 0, ERR_AGAIN when there is none, ERR_CLOSED at the end, ERR_INVALID for what is no message of
 * this version. Fills message, which ipc_message_fini empties. */
int ipc_receive(struct ipc_channel *channel, struct ipc_message *message);
void ipc_message_fini(struct ipc_message *message);

void pairs_add(struct buf *pairs, const char *key, const char *value);
void pairs_add_number(struct buf *pairs, const char *key, unsigned value);

/* Adds all pairs of from with prefix in front of their keys. */
void pairs_add_prefixed(struct buf *pairs, const char *prefix, struct span from);

/* The first pair of *rest, which is moved behind it; borrowed. False at the end or when it is
 * malformed. */
bool pairs_next(struct span *rest, const char **key, const char **value);

/* The value of the last pair with this key; NULL when there is none. */
const char *pairs_find(struct span pairs, const char *key);

#endif
