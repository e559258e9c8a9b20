/* Tasks, sleeping and events for Lua. */
#ifndef BIND_L_TASK_H
#define BIND_L_TASK_H

#include <lua.h>

/* Adds sleep, spawn, spawn_detached, event, running and yieldable to the core table on top of the
 * stack. */
void l_task_open(lua_State *L);

#endif
