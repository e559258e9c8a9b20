/*
 * What a host remembers (share/state.h), as the master puts it in force: reservations in its
 * workers, certificates, addresses and timeouts. The text of the state file is the only form in
 * which it travels: the registrar says how it shall be, and it is all done, or nothing of it.
 */
#ifndef PROC_HOST_STATE_H
#define PROC_HOST_STATE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

struct master;
struct host_state;

/* Reads the state file, after the settings and before certificates and addresses are opened. 0 or
 * one line that names the file. */
int host_state_open(struct master *master, struct err_text *text);

/* Puts what it says about certificates in force. */
int host_state_begin(struct master *master, struct err_text *text);
void host_state_close(struct master *master);

/* Another host is about to have the state file; and it has not got it after all. */
void host_state_let_go(struct master *master);
bool host_state_hold(struct master *master);

/* Where it is kept. */
const char *host_state_path(const struct master *master);

/* The registrar's op=sslcert (proc/host_certificates.h). */
int host_state_certificates(const struct master *master, struct span asked, struct buf *reply,
                            struct err_text *text);

/* As it is, for a registrar that begins. */
const char *host_state_text(const struct master *master);

/* Adds what a worker that begins is told. */
void host_state_describe(const struct master *master, struct buf *pairs);

/* The state as it shall be from now on; change is what the workers are told. Adds warning=TEXT to
 * reply where it is done and whoever asked should know something. Nothing has changed when it
 * fails. */
int host_state_change(struct master *master, const char *wish, struct buf *change,
                      struct buf *reply, struct err_text *text);

#endif
