/*
 * Messages between the master and its workers: datagrams on a SOCK_SEQPACKET pair, each with a
 * kind, a number, text and descriptors. The text is a list of pairs, key and value each ended by a
 * NUL. Both ends are the same executable; magic and version guard against an old worker of a
 * replaced one.
 */
#ifndef PROC_IPC_H
#define PROC_IPC_H

#include "base/buf.h"
#include "base/span.h"

enum ipc_kind {
    /* to the worker */
    IPC_CONFIG = 1, /* the first message: slot, generation, app, settings */
    IPC_LOGS,       /* value: IPC_LOG_… bits, a descriptor for each, in their order */
    IPC_SERVE,      /* the slot's listening sockets, and the settings in force */
    IPC_LEND,       /* value: the slot whose sockets these are; serve them until IPC_RETURN */
    IPC_RETURN,     /* value: the slot whose sockets are needed no more */
    IPC_STOP,       /* stop accepting, finish what runs, end */
    /* to the master */
    IPC_READY,    /* the app is loaded; the server-scope settings that it asked for */
    IPC_FAILED,   /* it is not; value: exit code; the text is one line, no pairs */
    IPC_SERVING,  /* the slot's sockets are served */
    IPC_SHUTDOWN, /* the app asks for the end of the server (os.exit) */
};

enum { IPC_LOG_ERROR = 1, IPC_LOG_ACCESS = 2 };

#define IPC_MAX_BYTES 65536
#define IPC_MAX_FDS   250 /* the kernel's limit is 253 (SCM_MAX_FD) */

struct ipc_message {
    enum ipc_kind kind;
    unsigned value;
    struct buf text;
    int fds[IPC_MAX_FDS]; /* the receiver's: it takes them out or ipc_message_fini closes them */
    unsigned fd_count;
};

/* Two connected ends, non-blocking and close-on-exec. 0 or an error. */
int ipc_pair(int ends[2]);

/* 0, ERR_AGAIN when the other end does not read, ERR_RESET when it is gone, ERR_TOO_LARGE. Borrows
 * the descriptors. */
int ipc_send(int fd, enum ipc_kind kind, unsigned value, struct span text, const int *fds,
             unsigned fd_count);

/* 0, ERR_AGAIN when there is none, ERR_CLOSED at the end, ERR_INVALID for what is no message of
 * this version. Fills message, which ipc_message_fini empties. */
int ipc_receive(int fd, struct ipc_message *message);
void ipc_message_fini(struct ipc_message *message);

void pairs_add(struct buf *pairs, const char *key, const char *value);

/* The first pair of *rest, which is moved behind it; borrowed. False at the end or when it is
 * malformed. */
bool pairs_next(struct span *rest, const char **key, const char **value);

#endif
