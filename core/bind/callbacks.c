/* See callbacks.h. */
#include "bind/callbacks.h"

#include "bind/vm_priv.h"

#define GUARD_TYPE "moonquay.starting"

/* ---- on_starting ---- */

/* Lies above the functions while they run: however that ends, they have had their turn. */
struct guard {
    struct request *request;
    uint64_t number;
};

void callbacks_skip_start(struct request *request)
{
    if (request->start_ref == LUA_NOREF)
        return;
    luaL_unref(request->vm->L, LUA_REGISTRYINDEX, request->start_ref);
    request->start_ref = LUA_NOREF;
    request->starting = STARTING_DONE;
}

static int guard_close(lua_State *L)
{
    struct guard *guard = lua_touserdata(L, 1);

    if (guard->request->number == guard->number)
        callbacks_skip_start(guard->request);
    return 0;
}

static void push_guard(lua_State *L, struct request *request)
{
    struct guard *guard = lua_newuserdatauv(L, sizeof(*guard), 0);

    *guard = (struct guard){.request = request, .number = request->number};
    if (luaL_newmetatable(L, GUARD_TYPE)) {
        lua_pushcfunction(L, guard_close);
        lua_setfield(L, -2, "__close");
    }
    lua_setmetatable(L, -2);
}

enum { RUN_RESPONSE = 1, RUN_REQUEST, RUN_LIST, RUN_GUARD };

static int run_k(lua_State *L, int status, lua_KContext left)
{
    (void)status;
    while (left > 0) {
        lua_rawgeti(L, RUN_LIST, left--);
        lua_pushvalue(L, RUN_REQUEST);
        lua_pushvalue(L, RUN_RESPONSE);
        lua_callk(L, 2, 0, left, run_k);
    }
    return 0; /* closes the guard */
}

/* run(res): a Lua function of its own, so that what it calls may wait below any caller. */
static int run(lua_State *L)
{
    struct request *request = check_request(L, RUN_RESPONSE, BOX_RESPONSE);

    push_box(L, request, BOX_REQUEST, 2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, request->start_ref);
    push_guard(L, request);
    lua_toclose(L, RUN_GUARD);
    return run_k(L, LUA_OK, (lua_KContext)lua_rawlen(L, RUN_LIST));
}

int callbacks_before_start(lua_State *L, struct request *request, lua_KFunction k,
                           lua_KContext context)
{
    if (request->starting == STARTING_NOW)
        return luaL_error(L, "on_starting functions still run: they can set status and headers, "
                             "and nothing is written before they have returned");
    request->starting = STARTING_NOW; /* first: when memory ends here, nobody tries again */
    lua_pushcfunction(L, run);
    push_box(L, request, BOX_RESPONSE, 1);
    lua_callk(L, 1, 0, context, k);
    return k(L, LUA_OK, context);
}

void callbacks_add_starting(lua_State *L, struct request *request)
{
    if (request->exchange->phase >= EXCHANGE_STARTED)
        luaL_error(L, "the response started at %s: on_starting comes too late",
                   request->started_at ? request->started_at : "the end of the handler");
    if (request->starting != STARTING_LATER)
        luaL_error(L, "the on_starting functions were run at %s: another one comes too late",
                   request->started_at ? request->started_at : "the end of the handler");
    request_add_function(L, &request->start_ref);
}

/* ---- on_completed ---- */

void callbacks_add_completed(lua_State *L, struct request *request)
{
    if (request->ending)
        luaL_error(L, "the response has ended: on_completed comes too late");
    request_add_function(L, &request->end_ref);
}

bool callbacks_push_completed(struct request *request, lua_State *T)
{
    if (request->end_ref == LUA_NOREF)
        return false;
    lua_rawgeti(T, LUA_REGISTRYINDEX, request->end_ref);
    lua_Integer last = (lua_Integer)lua_rawlen(T, -1);

    if (last == 0) {
        lua_pop(T, 1);
        return false;
    }
    lua_rawgeti(T, -1, last);
    lua_pushnil(T);
    lua_rawseti(T, -3, last);
    lua_remove(T, -2);
    return true;
}
