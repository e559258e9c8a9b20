#include "bind/probe.h"

#include <lauxlib.h>

static const luaL_Reg functions[] = {
    {NULL, NULL},
};

int probe_form_open(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
