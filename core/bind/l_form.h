/* Readers of queries, cookies and forms for Lua. */
#ifndef BIND_L_FORM_H
#define BIND_L_FORM_H

#include <lua.h>

/* Adds parse_query, parse_cookies, cookie and multipart to the core table on top of the stack. */
void l_form_open(lua_State *L);

#endif
