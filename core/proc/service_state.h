/* What moonquay http show servicestate is answered: of a host, from its master's point of view. */
#ifndef PROC_SERVICE_STATE_H
#define PROC_SERVICE_STATE_H

#include "proc/master_priv.h"

/*
 * Performs op=servicestate of the registrar: view=session|requestq, verbose=0|1, and for each app
 * of an attached process process="SESSION PID UID APP", those of a session in a row, and url= for
 * each that it has brought. Adds ok=DOCUMENT to reply; ERR_TOO_LARGE when it would be more than a
 * program is told.
 */
int service_state_answer(struct master *master, struct span asked, struct buf *reply,
                         struct err_text *text);

#endif
