/* From the results of a request's task to its answer. */
#ifndef BIND_ANSWER_H
#define BIND_ANSWER_H

#include "bind/task.h"

/* task->ended of a request's task: the next stage, or the end of the request. */
void answer_stage_ended(struct task *task, int status);

#endif
