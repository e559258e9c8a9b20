/*
 * What programs say to a host over its control socket: messages of net/ipc.h on SOCK_SEQPACKET, as
 * datagrams of pairs. The registrar alone reads what strangers send; kernel credentials of the
 * connection say who they are.
 */
#ifndef SHARE_CONTROL_H
#define SHARE_CONTROL_H

#include "net/ipc.h"

#define CONTROL_VERSION      1
#define CONTROL_TEXT_BYTES   (4 << 20)  /* of one message of a program */
#define CONTROL_ANSWER_BYTES (16 << 20) /* of one message of the registrar */
#define CONTROL_APPS         64         /* of one attached process */
#define CONTROL_WORKERS      256        /* likewise */

enum control_kind {
    /* ---- from a program */

    /*
     * The first message of an attached process, and of one that comes back (the host or its
     * registrar were replaced, or the connection broke): it says all anew. Value: a number for the
     * reply. Pairs, in this order:
     *   version=1
     *   session=TOKEN        from the last reply; "" the first time. Another process of the same
     * uid whose session is gone is taken over without it. name=…               for people
     *   N:name=FILE          app N of the process, from 0
     *   N:KEY=VALUE          each setting of scope app, of which request_queue_name,
     *                        request_queue_mode and max_concurrent_requests speak for the queue
     *   N:acl=user:NAME,…    who else may attach to the queue or delegate to it; may be missing
     *   N:+=PREFIX           in the order in which it wants them; port 0 allowed
     * Nothing is registered when one of it is refused.
     */
    CONTROL_ATTACH = IPC_FIRST_KIND,

    /* Value: a worker of the process, from 0. Pairs: serves=1, channels to it may be made; 0: no
     * more. A worker that was replaced says serves=1 anew. */
    CONTROL_WORKER,

    /* A change of app N: value: a number for the reply; app=N, op=set|listen|unlisten, key, value,
     * place as IPC_ASK has them. */
    CONTROL_ASK,

    /* The process will end. keep=1: its registrations and its queue stay for registration_grace;
     * 0: unregister, they go at once. No new requests are sent to it. A connection that closes
     * without it is keep=1. */
    CONTROL_DETACH,

    /* A command of moonquay http, moonquay host …: value: a number for the reply. verb=add,
     * noun=urlacl, then the arguments in their order. Writing ones are for root and the host's own
     * user. */
    CONTROL_COMMAND,

    /* ---- from the registrar */

    /*
     * value: that of the request.
     * ok=…      for CONTROL_ATTACH then session=TOKEN, and N:+=PREFIX with real ports; for
     *           CONTROL_ASK the result; for CONTROL_COMMAND JSON text
     * wrong=…   one line; code=EXIT_… for a program's exit
     */
    CONTROL_REPLY,

    /* Value: the worker of the process whom the descriptor is for: one end of a channel
     * (server_accept_channel). app=N, slot=S: the host's worker at the other end. */
    CONTROL_CHANNEL,

    /* The process shall end (its idle time is over, an operator said so); why=… */
    CONTROL_STOP,
};

/* Where a host listens: --socket, MOONQUAY_HOST, $XDG_RUNTIME_DIR/moonquay/host.sock, for root
 * /run/moonquay/host.sock. A program without a name for it tries its own user's first, then root's.
 */
#define CONTROL_SOCKET_NAME "host.sock"

#endif
