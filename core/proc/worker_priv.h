/* What worker.c (the life of a worker) and worker_apps.c (the apps in it) share. */
#ifndef PROC_WORKER_PRIV_H
#define PROC_WORKER_PRIV_H

#include <sys/types.h>

#include "bind/vm.h"
#include "net/listener.h"
#include "net/loop.h"
#include "proc/worker_ipc.h"
#include "server/app.h"
#include "server/server.h"

enum worker_state { WORKER_LOADING, WORKER_LOADED, WORKER_SERVING, WORKER_STOPPING };

struct served {
    struct listener *listener;
    struct server_entry *entry;
    unsigned owner; /* the slot whose socket it is: ours, or one that was lent */
    unsigned id;    /* of the endpoint */
};

struct worker_app {
    struct worker *worker;
    unsigned index;
    const char *path;
    struct settings settings;
    struct vm *vm;
    struct app *app;      /* in the server */
    struct buf addresses; /* its prefixes, each ended by a NUL */
};

struct worker {
    enum worker_state state;
    unsigned index;           /* of our slot */
    struct settings settings; /* of the server */
    struct buf config;        /* the pairs of the first message, for as long as we live */
    struct buf defaults, overrides;
    struct buf asked; /* what the apps asked for */
    struct worker_app apps[TALLY_APPS];
    unsigned app_count;
    bool is_host;                           /* apps are those of other processes */
    struct host_app *host_apps[TALLY_APPS]; /* then these; NULL: no app */
    const char *lua_dir;
    uid_t uid; /* 0: stay what we are */
    gid_t gid;
    struct loop *loop;
    struct ipc_channel ipc;
    struct loop_alarm heartbeat, drain;
    bool is_replaced; /* of a host, while it stops: a new host cares for what waits */
    struct tally *tally;
    struct tally_slot *slot;
    unsigned running_vms; /* that have not come to rest, while we stop */
    struct server *server;
    struct tls *tls; /* NULL where the server has no binding */
    struct access_log *access_log;
    struct error_log *error_log;
    int http_error_fd;       /* -1 once error_log has it */
    int error_fd, access_fd; /* as the master sent them; access_fd is -1 once access_log has it */
    struct served *served;
    unsigned served_count;
    bool confirmed; /* that we serve */
    int status;
};

/* worker.c */
void worker_tell(struct worker *worker, enum ipc_kind kind, unsigned value, struct span text);

/* worker_tls.c: what the master says of certificates and ticket keys. */
void worker_tls_use(struct worker *worker, struct span pairs);
void worker_tls_use_tickets(struct worker *worker, struct span pairs);

/* worker_host.c: the apps of a host, which come and go as the master says. */
void worker_host_change(struct worker *worker, struct span pairs);

/* One end of a link to a worker of an attached app. Takes fd. */
void worker_host_connect(struct worker *worker, unsigned app, struct span pairs, int fd);
void worker_host_wake(struct worker *worker, unsigned app);
void worker_host_demand_again(struct worker *worker);
void worker_host_free(struct worker *worker);

/* worker_apps.c */

/* A setting of the server, which is also each app's. */
void worker_change_server(struct worker *worker, const char *key, const char *value);

/* Gives each app its state; load then loads one after the other and tells the master at the end. */
void worker_apps_prepare(struct worker *worker);
void worker_apps_load(struct worker *worker);

/* What the master says of the apps (proc/worker_ipc.h): all of it, or the settings of the server
 * alone. */
void worker_apps_change(struct worker *worker, struct span pairs);
void worker_apps_change_server(struct worker *worker, struct span pairs);

/* The answer to what an app has asked. */
void worker_apps_reply(struct worker *worker, const struct ipc_message *message);
void worker_apps_free(struct worker *worker);

#endif
