/* What master.c (start, signals, stop) and slot.c (the life of the workers) share. */
#ifndef PROC_MASTER_PRIV_H
#define PROC_MASTER_PRIV_H

#include <sys/types.h>

#include "net/loop.h"
#include "proc/apps.h"
#include "proc/certificates.h"
#include "proc/changes.h"
#include "proc/control.h"
#include "proc/endpoints.h"
#include "proc/logs.h"
#include "proc/master.h"
#include "proc/worker_ipc.h"
#include "route/tally.h"

struct attachment;
struct host_apps;
struct takeover;
struct host_state;

#define MAX_WORKERS 1024 /* the range of the setting */

enum slot_state {
    SLOT_EMPTY,   /* no worker; perhaps one is due */
    SLOT_LOADING, /* it loads the apps */
    SLOT_LOADED,  /* it has its sockets, or will */
    SLOT_SERVING,
};

/* A worker's place: the sockets stay, the processes come and go. */
struct slot {
    struct master *master;
    unsigned index;
    enum slot_state state;
    pid_t pid; /* 0: none */
    struct ipc_channel ipc;
    unsigned loading_app; /* the index of the app that it has begun to load */
    unsigned applied;     /* the last version of the state that it has confirmed */
    bool told;            /* it has been sent the state, and is sent each change */
    struct loop_alarm respawn;
    int64_t spawned_ms;
    unsigned early_deaths; /* in a row, soon after their start */
    int lent_to;           /* the slot that serves our sockets, -1: none */
    bool stuck;            /* killed by the watchdog */
};

/* Of a host: its registrar and the socket that one listens on. */
struct host {
    struct master *master;
    pid_t pid; /* 0: none */
    struct ipc_channel ipc;
    struct loop_alarm respawn;
    uint32_t generation; /* tells the questions of one registrar from the next one's */
    int64_t started_ms;
    int control_fd; /* -1: this is no host */
    char path[108];
    struct host_apps *apps;   /* NULL: none is configured */
    struct host_state *state; /* NULL before host_state_open */
};

enum master_state { MASTER_STARTING, MASTER_SERVING, MASTER_STOPPING };

struct master {
    const struct options *options;
    struct apps apps;
    struct certificates certificates;
    struct changes changes;
    struct host host;
    struct takeover *takeover;     /* NULL: none was ever thought of */
    struct attachment *attachment; /* NULL: nothing is attached to a host */
    struct buf wish;               /* what it says there first */
    struct list asked_host;        /* changes that the host has to agree to */
    unsigned share_questions, last_share_question;
    enum master_state state;
    struct loop *loop;
    struct loop_signal on_int, on_term, on_child, on_usr1, on_hup;
    struct loop_alarm watchdog, drain;
    int64_t watched_ms;        /* when the watchdog looked last */
    int64_t watchdog_ms;       /* the setting that it goes by; 0 before the start */
    int64_t watchdog_since_ms; /* when that began to hold */
    int64_t started_ms;
    struct control *control; /* NULL: none */
    struct tally *tally;
    int tally_fd;
    uid_t uid; /* of the workers; 0: ours */
    gid_t gid;
    struct logs logs;
    struct endpoints endpoints;
    struct slot **slots;
    unsigned slot_count;
    int status;
};

/* master.c */

/* Ends a start that cannot succeed: one line on standard error, and the exit code. */
void master_fail(struct master *master, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Begins to stop, as by a signal: workers finish what runs. */
void master_stop(struct master *master);

/* The first worker has loaded the apps and says what they asked for. */
void master_apps_loaded(struct master *master, struct span asked);

/* A host has taken the apps: the workers begin. */
void master_shared(struct master *master);

/* The HTTP error log has reached its size. */
void master_rotate_log(struct master *master);

/* What the master itself does by a setting of the server. */
void master_settings_changed(struct master *master);
void master_slot_serving(struct master *master);
void master_slot_gone(struct master *master);

/* host.c */
void host_init(struct master *master);

/* slot.c */
struct slot *slot_new(struct master *master, unsigned index);
void slot_free(struct slot *slot); /* its worker must be gone */

/* Starts a worker; when that fails, tries again later, or fails the start. */
void slot_spawn(struct slot *slot);

/* Gives a loaded worker the state of the apps and the slot's sockets. */
void slot_serve(struct slot *slot);

/* Tells the worker of sockets that were opened behind last_id, and of those without a use. */
void slot_tell_sockets(struct slot *slot, unsigned last_id);

/* Sends a message; a worker that takes none is as good as stuck, and killed. */
void slot_post(struct slot *slot, enum ipc_kind kind, unsigned value, struct span text);

/* How many workers the slot has had: tells one from the next. */
uint32_t slot_generation(const struct slot *slot);

/* Tells its worker of the certificates, or of the ticket keys; nothing where there is no TLS. */
void slot_send_certificates(struct slot *slot);
void slot_send_tickets(struct slot *slot);

/* Likewise with a descriptor, which is borrowed. */
void slot_post_fd(struct slot *slot, enum ipc_kind kind, unsigned value, struct span text, int fd);

/* Starts this executable with a command word of its own, and its end of a channel. The process, or
 * -1 (errno). */
pid_t slot_fork(const char *command, int ipc_end, int tally_fd);

/* Sends the log files to its worker. */
void slot_send_logs(struct slot *slot);

/* Asks its worker to end, or forgets that one was due. */
void slot_stop(struct slot *slot);
void slot_kill(struct slot *slot);

/* Notices that the worker has ended, if it has; wait says whether to wait for that. */
void slot_reap(struct slot *slot, bool wait);

/* Kills the worker when its loop has not turned for too long. */
void slot_watch(struct slot *slot, int64_t now_ms);

#endif
