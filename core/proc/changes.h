/*
 * Changes at run time: what an app asks for in one worker is done in the master and told to all
 * workers; the asker gets its reply when it holds in every one of them.
 */
#ifndef PROC_CHANGES_H
#define PROC_CHANGES_H

#include "base/list.h"
#include "proc/worker_ipc.h"

struct master;
struct slot;

struct changes {
    struct list pending; /* whose replies wait */
    unsigned count;
    unsigned version; /* of the last change that was told */
};

void changes_init(struct changes *changes);
void changes_fini(struct changes *changes);

/* An IPC_ASK of a worker; asker NULL: of a host's registrar. */
void changes_asked(struct master *master, struct slot *asker, const struct ipc_message *message);

/* A worker has applied something, has ended, or serves now. */
void changes_settle(struct master *master);

#endif
