/*
 * What makes a master a host: the registrar, which it starts and replaces, and what that asks of
 * it.
 */
#ifndef PROC_HOST_H
#define PROC_HOST_H

#include "proc/master_priv.h"

/* Opens the control socket. 0 or an error. */
int host_open(struct master *master, struct err_text *text);
void host_close(struct master *master);

/* Finds where the socket is to be: host->path. 0 or an error. */
int host_find_path(struct master *master, struct err_text *text);

/* Another host has the socket; or had it, and now we do. */
void host_leave(struct master *master);
void host_take_path(struct master *master);

/* Starts the registrar; the apps' table exists. */
void host_start(struct master *master);

/* Notices that it has ended, if it has, and starts the next. */
void host_reap(struct master *master, bool wait);
void host_stop(struct master *master);

/* What the registrar is told; nothing where there is none. */
void host_post(struct master *master, enum ipc_kind kind, unsigned value, struct span text);
uint32_t host_generation(const struct master *master);

/* What answers a question that only the registrar has, as perform in changes.c; NULL: it is
 * another.
 */
typedef int host_perform_fn(struct master *master, struct span asked, struct buf *change,
                            struct buf *reply, struct err_text *text);
host_perform_fn *host_performer(struct span asked);

/* A worker serves; none will any more in this slot. */
void host_worker_serves(struct master *master, unsigned slot);
void host_worker_gone(struct master *master, unsigned slot);

#endif
