/*
 * The book-keeper of a host: reads what programs say over the control socket (share/control.h),
 * decides by kernel credentials, reservations and the rules of queues, and asks the master to do
 * what was decided. Reservations, certificate records and other lasting things are the state, which
 * the master keeps in a file; who is attached lives here and, as far as a successor needs it, in
 * the notes of the apps.
 */
#ifndef SHARE_REGISTRAR_H
#define SHARE_REGISTRAR_H

#include <sys/types.h>

#include "base/err.h"
#include "base/span.h"
#include "net/loop.h"
#include "route/tally.h"

struct registrar;

/* What the registrar asks of the process around it; all borrowed until registrar_free. */
struct registrar_parts {
    struct loop *loop;
    struct tally *tally;
    uid_t uid;      /* of the host: it and root may write */
    unsigned slots; /* workers of the host */
    void *owner;

    /* IPC_ASK: registrar_replied comes once for each, in order. */
    void (*ask)(void *owner, unsigned number, struct span pairs);

    /* IPC_STATE: the whole text, to be written; likewise answered. */
    void (*save)(void *owner, unsigned number, struct span text);

    /* IPC_CHANNEL: one end for a worker of the host; pairs as share/control.h's architecture has
     * them. Borrows fd. */
    void (*channel)(void *owner, unsigned app, struct span pairs, int fd);
};
struct registrar *registrar_new(const struct registrar_parts *parts);
void registrar_free(struct registrar *registrar);

/*
 * The text of the state file: "" for none. ERR_INVALID and one line that names the line in it and
 * what is wrong. Then the snapshot of what is in force ("" at the first start), which makes it ask
 * for what is missing of the state.
 */
int registrar_load(struct registrar *registrar, struct span state, struct err_text *text);
void registrar_resume(struct registrar *registrar, struct span snapshot);

/* Takes the listening control socket: programs are heard from now on. */
void registrar_listen(struct registrar *registrar, int fd);

/* What the master says: the answer to an ask or a save (wrong NULL: done, with result, maybe NULL);
 * a worker that serves in a slot, anew; a channel that is worn; a request that waits for an app
 * without a process; a configured app whose process has ended. */
void registrar_replied(struct registrar *registrar, unsigned number, const char *wrong,
                       const char *result);
void registrar_worker(struct registrar *registrar, unsigned slot);
void registrar_renew(struct registrar *registrar, unsigned app, uint64_t process, unsigned worker);
void registrar_wanted(struct registrar *registrar, unsigned app);
void registrar_ended(struct registrar *registrar, unsigned configured, const char *how);

/* An app that the configuration names and the host itself runs (pairs: name, file, user, uid,
 * prefixes, start=always|demand, idle=SECONDS). */
int registrar_configure(struct registrar *registrar, unsigned configured, struct span pairs,
                        struct err_text *text);

#endif
