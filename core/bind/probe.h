/* The probe: opens the rooms below Lua to the specs. Built for tests only; one file a group of
 * readers. */
#ifndef BIND_PROBE_H
#define BIND_PROBE_H

#include <lua.h>

/* Each pushes one table of functions. */
int probe_http_open(lua_State *L);   /* fields, target, h1 reader and writer, dates */
int probe_form_open(lua_State *L);   /* query, cookie, multipart, media type */
int probe_route_open(lua_State *L);  /* URL prefixes and their table */
int probe_server_open(lua_State *L); /* log, addresses, settings, tally, access log */
int probe_sys_open(lua_State *L);    /* processes and descriptors for the specs' servers */

#endif
