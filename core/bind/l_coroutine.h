/* The coroutine library of a state with tasks: the standard one, through which waits pass. */
#ifndef BIND_L_COROUTINE_H
#define BIND_L_COROUTINE_H

#include <lua.h>

/* Replaces resume, wrap, yield, close and status in the global table coroutine. */
void l_coroutine_install(lua_State *L);

#endif
