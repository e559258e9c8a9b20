/* A server inside the process, without a port: how apps are tested. */
#ifndef BIND_L_LOCAL_H
#define BIND_L_LOCAL_H

#include <lua.h>

struct vm;

/* Adds server to the core table on top of the stack. */
void l_local_open(lua_State *L);

/* The state's settings have changed: its servers take that up. */
void local_servers_apply(struct vm *vm);

#endif
