/* The coroutine library of a state with tasks: the standard one, through which waits pass. */
#ifndef BIND_L_COROUTINE_H
#define BIND_L_COROUTINE_H

#include <lua.h>

/* Replaces resume, wrap, yield and close in the global table coroutine. */
void l_coroutine_install(lua_State *L);

/* Closes the coroutines in which T was suspended by the scheduler, the innermost first. */
void l_coroutine_close_waiting(lua_State *T);

/* The thread on top of L is a task's: what Lua code can do to coroutines is refused for it. */
void l_coroutine_reserve(lua_State *L);

#endif
