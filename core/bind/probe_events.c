#include "bind/probe_events.h"

#include <lauxlib.h>

/* Opens an event on top: { name, id }. */
void probe_event_open(struct probe_events *log, const char *name, lua_Integer id)
{
    lua_State *L = log->L;

    luaL_checkstack(L, 20, NULL);
    lua_newtable(L);
    lua_pushstring(L, name);
    lua_seti(L, -2, 1);
    lua_pushinteger(L, id);
    lua_seti(L, -2, 2);
}

void probe_event_string(struct probe_events *log, const char *key, struct span text)
{
    if (text.at == NULL)
        return;
    lua_pushlstring(log->L, text.at, text.len);
    lua_setfield(log->L, -2, key);
}

void probe_event_integer(struct probe_events *log, const char *key, lua_Integer number)
{
    lua_pushinteger(log->L, number);
    lua_setfield(log->L, -2, key);
}

void probe_event_bool(struct probe_events *log, const char *key, bool truth)
{
    lua_pushboolean(log->L, truth);
    lua_setfield(log->L, -2, key);
}

void probe_event_fields(struct probe_events *log, const char *key, const struct fields *fields)
{
    lua_State *L = log->L;

    lua_newtable(L);
    for (uint32_t i = 0; i < fields->count; i++) {
        lua_newtable(L);
        lua_pushlstring(L, fields->at[i].name.at, fields->at[i].name.len);
        lua_seti(L, -2, 1);
        lua_pushlstring(L, fields->at[i].value.at, fields->at[i].value.len);
        lua_seti(L, -2, 2);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, key);
}

/* Keeps the event on top, and tells the script of it. */
void probe_event_close(struct probe_events *log)
{
    lua_State *L = log->L;

    lua_getiuservalue(L, log->self, PROBE_UV_EVENTS);
    lua_pushvalue(L, -2);
    lua_seti(L, -2, luaL_len(L, -2) + 1);
    lua_pop(L, 1);
    if (lua_getiuservalue(L, log->self, PROBE_UV_CALLBACK) == LUA_TFUNCTION) {
        lua_pushvalue(L, log->self);
        lua_pushvalue(L, -3);
        if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
            probe_event_open(log, "error", 0);
            lua_pushvalue(L, -2);
            lua_setfield(L, -2, "message");
            lua_getiuservalue(L, log->self, PROBE_UV_EVENTS);
            lua_pushvalue(L, -2);
            lua_seti(L, -2, luaL_len(L, -2) + 1);
            lua_pop(L, 3);
        }
    } else {
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}
