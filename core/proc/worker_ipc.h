/*
 * What the master and its workers say to each other (net/ipc.h). Both ends are the same executable.
 */
#ifndef PROC_WORKER_IPC_H
#define PROC_WORKER_IPC_H

#include "net/ipc.h"

enum ipc_kind {
    /* to the worker */
    IPC_CONFIG = IPC_FIRST_KIND, /* the first message: slot, apps, settings */
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
    IPC_STOP,    /* stop accepting, finish what runs, end; value: 1: a new host has this one's
                    place, and cares for what waits */
    IPC_CHANNEL, /* a descriptor: one end of a channel. In a host: value: the app; slot, process,
                    worker, uid, most, column, credentials. In an attached app: value: the app */
    /* to the master */
    IPC_LOADING,  /* value: the index of the app that is loaded now */
    IPC_READY,    /* the apps are loaded; the settings that they asked for */
    IPC_FAILED,   /* one is not; value: exit code; the text is one line, no pairs */
    IPC_SERVING,  /* the slot's sockets are served */
    IPC_APPLIED,  /* value: that of the IPC_SYNC */
    IPC_ASK,      /* value: a number for the reply; app, op, key, value, place */
    IPC_LOG_FULL, /* value: the IPC_LOG_… bit of a log that has reached its size */
    IPC_SHUTDOWN, /* an app asks for the end of the server (os.exit) */
    IPC_RENEW,    /* a host's worker wants a fresh channel; process, worker, slot */
    IPC_DEMAND,   /* of hosts: value: the app: a request waits, and nobody serves it */
    IPC_WAKE,     /* of hosts: value: slot * TALLY_APPS + app: what waits there may have its turn;
                     on to that worker: value: the app */
    /* to the registrar of a host, beside IPC_CONFIG, IPC_REPLY, IPC_RENEW and IPC_STOP; from it
       come IPC_ASK and IPC_CHANNEL */
    IPC_CONTROL,     /* the listening control socket; the text is the state of all apps */
    IPC_WORKER,      /* value: a slot in which a worker serves now */
    IPC_WORKER_GONE, /* value: one in which none will any more */
};

/*
 * The state of the apps, in IPC_SERVE whole and in IPC_CHANGE in part: keys are "server:KEY" for
 * settings of the server, "N:KEY" for those of app N, and "N:+" and "N:-" with a URL prefix that is
 * added or removed.
 */
#define IPC_SERVER_SCOPE "server:"
#define IPC_ADD_PREFIX   "+"
#define IPC_DROP_PREFIX  "-"

/* In a host apps come and go: "N:open" with a name makes one, "N:close" ends it; "N:uid" says whose
 * it is, "N:hosted" that the configuration has made its place. */
#define IPC_OPEN_APP   "open"
#define IPC_CLOSE_APP  "close"
#define IPC_APP_OWNER  "uid"
#define IPC_APP_HOSTED "hosted"

/* There prefixes may be kept for somebody: "reserved:+" and "reserved:-". */
#define IPC_RESERVED_SCOPE "reserved:"

enum { IPC_LOG_ERROR = 1, IPC_LOG_ACCESS = 2, IPC_LOG_HTTP_ERROR = 4 };

#endif
