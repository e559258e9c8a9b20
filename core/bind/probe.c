/* Entry of the test module: require "moonquay.probe" gives a table with one table a group. */
#include "bind/probe.h"

#include <lauxlib.h>

__attribute__((visibility("default"))) int luaopen_moonquay_probe(lua_State *L);

int luaopen_moonquay_probe(lua_State *L)
{
    lua_newtable(L);
    probe_http_open(L);
    lua_setfield(L, -2, "http");
    probe_h2_open(L);
    lua_setfield(L, -2, "h2");
    probe_h2_client_open(L);
    lua_setfield(L, -2, "h2_client");
    probe_share_open(L);
    lua_setfield(L, -2, "share");
    probe_guest_open(L);
    lua_setfield(L, -2, "guest");
    probe_registrar_open(L);
    lua_setfield(L, -2, "registrar");
    probe_admin_open(L);
    lua_setfield(L, -2, "admin");
    probe_form_open(L);
    lua_setfield(L, -2, "form");
    probe_proxy_open(L);
    lua_setfield(L, -2, "proxy");
    probe_route_open(L);
    lua_setfield(L, -2, "route");
    probe_server_open(L);
    lua_setfield(L, -2, "server");
    probe_tally_open(L);
    lua_setfield(L, -2, "tally");
    probe_log_open(L);
    lua_setfield(L, -2, "logs");
    probe_settings_open(L);
    lua_setfield(L, -2, "settings");
    probe_sys_open(L);
    lua_setfield(L, -2, "sys");
    probe_tls_open(L);
    lua_setfield(L, -2, "tls");
    probe_issue_open(L);
    lua_setfield(L, -2, "issue");
    return 1;
}
