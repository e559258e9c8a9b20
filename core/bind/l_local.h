/* A server inside the process, without a port: how apps are tested. */
#ifndef BIND_L_LOCAL_H
#define BIND_L_LOCAL_H

#include <lua.h>

/* Adds server to the core table on top of the stack. */
void l_local_open(lua_State *L);

#endif
