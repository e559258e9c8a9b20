/* What a running server says of itself; core/README.md ("Operating") has its shape. */
#ifndef PROC_STATUS_ANSWER_H
#define PROC_STATUS_ANSWER_H

#include "base/buf.h"

/* The control socket's answers (control_answer_fn): to "status" one line of JSON. owner is the
 * struct master. */
void status_answer(void *owner, struct span command, struct buf *out);

#endif
