/* The probe: opens the rooms below Lua to the specs. Built for tests only; one file a group of
 * readers. */
#ifndef BIND_PROBE_H
#define BIND_PROBE_H

#include <lua.h>

/* Each pushes one table of functions. */
int probe_http_open(lua_State *L);      /* fields, target, h1 reader and writer, dates */
int probe_h2_open(lua_State *L);        /* HTTP/2 sessions, HPACK */
int probe_h2_client_open(lua_State *L); /* the other side: of a host to its apps */
int probe_share_open(lua_State *L);     /* the dispatch of a host */
int probe_guest_open(lua_State *L);     /* an app behind a host */
int probe_registrar_open(lua_State *L); /* who may attach to a host */
int probe_admin_open(lua_State *L);     /* the commands that administer a host */
int probe_form_open(lua_State *L);      /* query, cookie, multipart, media type */
int probe_proxy_open(lua_State *L);     /* address sets, PROXY headers, Forwarded fields */
int probe_route_open(lua_State *L);     /* URL prefixes and their table */
int probe_server_open(lua_State *L);    /* log, addresses, tally, access log */
int probe_tally_open(lua_State *L);     /* races for places below a limit, queues */
int probe_log_open(lua_State *L);       /* reasons, HTTP error log, log files */
int probe_settings_open(lua_State *L);  /* settings, tls bindings, hosting, configuration files */
int probe_sys_open(lua_State *L);       /* processes and descriptors for the specs' servers */
int probe_tls_open(lua_State *L);       /* certificates */
int probe_issue_open(lua_State *L);     /* certificates that are made, described and verified */

#endif
