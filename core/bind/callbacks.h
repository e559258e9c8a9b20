/*
 * The functions of a handler that run around its answer (reference section 8.1): res:on_starting
 * just before status and fields are fixed, res:on_completed when the answer has ended. Both lists
 * run from their end. A request that registers none pays for one comparison.
 */
#ifndef BIND_CALLBACKS_H
#define BIND_CALLBACKS_H

#include <stdbool.h>

#include <lauxlib.h>

#include "bind/request.h"

/* Whether on_starting functions have to run before the response starts; one look when there are
 * none. */
static inline bool callbacks_wait_for_start(const struct request *request)
{
    return request->start_ref != LUA_NOREF && request->exchange->phase == EXCHANGE_OPEN;
}

/*
 * Runs the on_starting functions and then k, with LUA_OK and context; use as `return
 * callbacks_before_start(…)` when callbacks_wait_for_start. May yield where Lua can. Raises what
 * they raise (those that have not run then never do), and when they run already: in another task,
 * or because one of them writes. k must not count on the status, which tells of their waits.
 */
int callbacks_before_start(lua_State *L, struct request *request, lua_KFunction k,
                           lua_KContext context);

/* An answer is made that they have no part in any more: a failure while they run in another task.
 */
void callbacks_skip_start(struct request *request);

/* Takes the function on top of L. Raises when it comes too late. */
void callbacks_add_starting(lua_State *L, struct request *request);
void callbacks_add_completed(lua_State *L, struct request *request);

/* Moves the next on_completed function to T; false, and nothing pushed, when there is none left. */
bool callbacks_push_completed(struct request *request, lua_State *T);

#endif
