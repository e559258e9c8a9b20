/* What running code may ask of the server around it. */
#ifndef BIND_L_SERVER_H
#define BIND_L_SERVER_H

#include <lua.h>

/* core.ask, judge, option, addresses, loading and check_prefix, into the table on top of the stack.
 */
void l_server_open(lua_State *L);

#endif
