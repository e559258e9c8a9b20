/*
 * Changes at run time: what an app asks for in one worker is done in the master and told to all
 * workers; the asker gets its reply when it holds in every one of them.
 */
#ifndef PROC_CHANGES_H
#define PROC_CHANGES_H

#include <stdint.h>

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

/* Who has asked: a slot's worker, NULL: a host's registrar; which of them, and by what number. */
struct changes_asker {
    struct slot *slot;
    uint32_t generation; /* a later process of the slot did not ask */
    unsigned number;
};

/* Of an attached process: what the host was asked for is done there (wrong NULL), with what result;
 * it is done here now. */
void changes_confirmed(struct master *master, const struct changes_asker *asker, struct span asked,
                       const char *wrong, struct span result);

/* A worker has applied something, has ended, or serves now. */
void changes_settle(struct master *master);

#endif
