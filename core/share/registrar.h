/*
 * The book-keeper of a host: reads what programs say over the control socket (share/control.h),
 * decides by the kernel's credentials who may register what, and asks the master to do what was
 * decided. What a successor needs lies with the master: the apps, and whose they are.
 */
#ifndef SHARE_REGISTRAR_H
#define SHARE_REGISTRAR_H

#include <sys/types.h>

#include "base/err.h"
#include "base/span.h"
#include "net/loop.h"
#include "share/reservation.h"

struct registrar;

/* What the registrar asks of the process around it; all borrowed until registrar_free. */
struct registrar_parts {
    struct loop *loop;
    uid_t uid; /* of the host: it and root may register everything */
    void *owner;

    /*
     * One answer by registrar_replied comes for each; refusals may overtake others. op=open (app=N,
     * value=NAME, uid=U, set:KEY=VALUE …, and +=PREFIX for each) makes or changes an app as a
     * whole, with guest=1 its prefixes alone; op=close (app=N); op=set, listen, unlisten (app=N,
     * key, value, place) as a running app asks. op=state (value=TEXT): all that the host remembers
     * (share/state.h) shall be as in this text; the answer may have warning=TEXT, for who asked.
     * op=flush: what waits for the logs is written. op=servicestate (view, verbose, and
     * process="SESSION PID UID APP" for each app of an attached process, and url= for each that it
     * has brought): ok=DOCUMENT. op=sslcert (ipport or hostnameport, or neither for all): likewise.
     */
    void (*ask)(void *owner, unsigned number, struct span pairs);

    /* One end of a channel, for a worker of the host; pairs of IPC_CHANNEL. Borrows fd. */
    void (*channel)(void *owner, unsigned app, struct span pairs, int fd);
};
struct registrar *registrar_new(const struct registrar_parts *parts);
void registrar_free(struct registrar *registrar);

/* The state that is in force; before anything else. ERR_INVALID and what is wrong in it. */
int registrar_load(struct registrar *registrar, struct span state, struct err_text *text);

/* The apps that are in force ("N:open" and "N:uid" and "N:+" pairs): nobody is attached to them
 * yet.
 */
void registrar_resume(struct registrar *registrar, struct span apps);

/* Takes the listening control socket: programs are heard from now on. */
void registrar_listen(struct registrar *registrar, int fd);

/* Reserves a URL, or ends that; the errors of reservations_add and reservations_remove, ERR_STATE
 * while the master is asked for another change. Apps that are registered already stay. */
int registrar_reserve(struct registrar *registrar, const struct reservation_wish *wish,
                      struct err_text *text);
int registrar_release(struct registrar *registrar, const char *url, struct err_text *text);

/* The answer to an ask: wrong NULL: done, with result, pairs. */
void registrar_replied(struct registrar *registrar, unsigned number, const char *wrong,
                       struct span result);

/* A worker serves in this slot of the host, anew. */
void registrar_worker(struct registrar *registrar, unsigned slot);
void registrar_worker_gone(struct registrar *registrar, unsigned slot);

/* A channel is worn or broken: a fresh one is wanted. */
void registrar_renew(struct registrar *registrar, uint64_t process, unsigned worker, unsigned slot);

#endif
