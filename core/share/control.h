/*
 * What programs say to a host over its control socket: messages of net/ipc.h on a SOCK_SEQPACKET
 * socket, texts of pairs. The registrar alone reads what strangers send; the kernel's credentials
 * of the connection say who they are.
 */
#ifndef SHARE_CONTROL_H
#define SHARE_CONTROL_H

#include "net/ipc.h"

#define CONTROL_VERSION        "1"
#define CONTROL_TEXT_BYTES     (4u << 20) /* of one message of a program */
#define CONTROL_UNREAD_BYTES   (4u << 20) /* that a program does not read; then it is cut off */
#define CONTROL_APPS           64u        /* of one attached process */
#define CONTROL_WORKERS        256u       /* likewise */
#define CONTROL_NAME_BYTES     512u       /* of an app's name */
#define CONTROL_QUESTIONS      64u /* changes and commands of a program that are not answered yet */
#define CONTROL_USER_APPS      32u /* of one user, but for root and the host's own */
#define CONTROL_PREFIXES       4096u      /* of one attached process */
#define CONTROL_USER_PREFIXES  1024u      /* of one user, but for root and the host's own */
#define CONTROL_USER_PORTS     64u        /* likewise: an address or two each, of 512 */
#define CONTROL_SEATS          1024u      /* workers times apps of one attached process */
#define CONTROL_DOCUMENT_BYTES (3u << 20) /* of a command's document */
#define CONTROL_SOCKET_NAME    "host.sock"

enum control_kind {
    /* ---- from a program */

    /*
     * First of an attached process, and again when it comes back: value: a number for the reply.
     *   version=1
     *   N:name=FILE      app N of the process, from 0 on; its other pairs follow
     *   N:set:KEY=VALUE  each of its settings
     *   N:+=PREFIX       each prefix that it wants; port 0 is allowed
     * Nothing is registered when one of it is refused. Prefixes that an app of the same user has
     * left behind are taken over.
     */
    CONTROL_ATTACH = IPC_FIRST_KIND,

    /* Value: a worker of the process, from 0 on. serves=1: channels to it may be made; 0: no more.
     * One that was replaced says serves=1 anew. */
    CONTROL_WORKER,

    /* A change of one app: value: a number for the reply; app=N, op=set (a setting of an app),
     * listen or unlisten (judged as in CONTROL_ATTACH), key, value, place. */
    CONTROL_ASK,

    /* The process ends. keep=1: its registrations stay for registration_grace, as if the connection
     * had closed; 0: they go at once. */
    CONTROL_DETACH,

    /* ---- from the registrar */

    /* Value: that of the request. ok=… (CONTROL_ATTACH: then N:+=PREFIX with real ports), or
     * wrong=… and code=EXIT_…. */
    CONTROL_REPLY,

    /* Value: the worker of the process whom the descriptor is for, one end of a channel; app=N. */
    CONTROL_CHANNEL,

    /* ---- from a program again: numbers are the same in all versions */

    /*
     * A command of moonquay http, of any connection: value: a number for the reply.
     *   verb=add|update|delete|show|flush, noun=urlacl|…, and its arguments by name (share/admin.h)
     * The reply is ok=DOCUMENT (JSON), or wrong=… and code=EXIT_….
     */
    CONTROL_COMMAND,
};

/* Connects to a host's socket: a descriptor, non-blocking, or an error; ERR_AGAIN when others have
 * so many connections on their way that it is not taken in wait_ms. */
#define CONTROL_DIAL_MS 5000
int control_dial(const char *path, unsigned wait_ms);

#endif
