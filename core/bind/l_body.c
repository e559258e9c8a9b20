/*
 * req.body: the request's content as it arrives. A read takes what is there and waits only when
 * there is nothing; bytes that nobody reads stay with the client.
 */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "bind/aux.h"
#include "bind/request.h"
#include "bind/vm_priv.h"
#include "server/exchange.h"

#define READ_BYTES 65536 /* a piece handed to Lua is never larger */

static void begin_read(lua_State *L, struct request *request)
{
    request_check_io(L, request);
    if (request->reading_at == NULL)
        request->reading_at = request_here(L, request);
}

/* A continuation runs after a wait: 0, or the error that ended it. */
static int waited(lua_State *L, struct request *request, int status)
{
    int code = status == LUA_YIELD ? task_waiter(L)->woken : 0;

    /* No time limit of the connection runs for content that nobody waits for. */
    if (code < 0 && request->content_waiter == NULL)
        request->exchange->wants_content = false;
    return code;
}

static int read_failed_k(lua_State *L, int status, lua_KContext code)
{
    (void)status;
    return request_fail(L, check_request(L, 1, BOX_BODY), (int)code);
}

/* When the client is gone, who goes on reading lets others run. */
static int read_failed(lua_State *L, struct request *request, int code)
{
    if (request->cancel)
        return task_give_turn(L, read_failed_k, code);
    return request_fail(L, request, code);
}

/* ---- read ---- */

static int read_some_k(lua_State *L, int status, lua_KContext most)
{
    struct request *request = check_request(L, 1, BOX_BODY);
    struct span run;
    int code = waited(L, request, status);

    if (code == 0)
        code = request_content(L, request, &run);
    if (code == ERR_AGAIN)
        return request_wait_content(L, request, read_some_k, most);
    if (code < 0)
        return read_failed(L, request, code);
    if (code == 0) {
        lua_pushnil(L);
        return 1;
    }
    size_t take = run.len < (size_t)most ? run.len : (size_t)most;

    lua_pushlstring(L, run.at, take);
    exchange_unread(request->exchange, run.len - take);
    return 1;
}

/* Bytes that are gathered over waits; owned by Lua, so that an error cannot lose them. */
static int gathered_gc(lua_State *L)
{
    buf_fini(lua_touserdata(L, 1));
    return 0;
}

static struct buf *push_gathered(lua_State *L)
{
    struct buf *bytes = lua_newuserdatauv(L, sizeof(*bytes), 0);

    *bytes = (struct buf){0};
    if (luaL_newmetatable(L, "moonquay.bytes")) {
        lua_pushcfunction(L, gathered_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return bytes;
}

static int read_all_k(lua_State *L, int status, lua_KContext most)
{
    struct request *request = check_request(L, 1, BOX_BODY);
    struct buf *bytes = lua_touserdata(L, 2);
    struct span run;
    int code = waited(L, request, status);

    while (code == 0 && (code = request_content(L, request, &run)) > 0) {
        if (buf_len(bytes) + run.len > (size_t)most)
            return l_fail(L, ERR_TOO_LARGE,
                          "the body is larger than the size that was allowed here");
        buf_append(bytes, run);
        code = 0;
        if (run.len == 0)
            break;
        continue;
    }
    if (code == ERR_AGAIN)
        return request_wait_content(L, request, read_all_k, most);
    if (code < 0)
        return read_failed(L, request, code);
    l_push_span(L, buf_span(bytes));
    buf_fini(bytes);
    return 1;
}

/*
 * body:read([n]) -> 1 to n bytes (64 KiB), nil at the end, nil, err
 * body:read("a" [, most]) -> all that is left; more than most bytes: nil, err "too_large"
 */
static int body_read(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_BODY);
    lua_Integer most = READ_BYTES;

    begin_read(L, request);
    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "a") == 0) {
        most = luaL_optinteger(L, 3, 1 << 29);
        luaL_argcheck(L, most >= 0 && most <= 1 << 29, 3, "0 to 512 MiB");
        lua_settop(L, 1);
        push_gathered(L);
        return read_all_k(L, LUA_OK, most);
    }
    if (!lua_isnoneornil(L, 2))
        most = luaL_checkinteger(L, 2);
    luaL_argcheck(L, most > 0, 2, "a number of bytes above 0, or \"a\"");
    lua_settop(L, 1);
    return read_some_k(L, LUA_OK, most > READ_BYTES ? READ_BYTES : most);
}

/* ---- save ---- */

struct l_file {
    int fd; /* -1 when closed */
};

static int file_gc(lua_State *L)
{
    struct l_file *file = lua_touserdata(L, 1);

    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
    return 0;
}

static struct l_file *push_file(lua_State *L)
{
    struct l_file *file = lua_newuserdatauv(L, sizeof(*file), 0);

    file->fd = -1;
    if (luaL_newmetatable(L, "moonquay.file")) {
        lua_pushcfunction(L, file_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return file;
}

static int save_failed(lua_State *L, struct l_file *file, const char *path, int number)
{
    lua_pushfstring(L, "%s: %s", path, strerror(number));
    if (file->fd >= 0)
        unlink(path);
    file->fd >= 0 ? close(file->fd) : 0;
    file->fd = -1;
    return l_fail(L, err_from_errno(number), lua_tostring(L, -1));
}

static int write_whole(int fd, struct span data)
{
    while (data.len > 0) {
        ssize_t done = write(fd, data.at, data.len);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        data.at += done;
        data.len -= (size_t)done;
    }
    return 0;
}

static int save_k(lua_State *L, int status, lua_KContext saved)
{
    struct request *request = check_request(L, 1, BOX_BODY);
    const char *path = lua_tostring(L, 2);
    struct l_file *file = lua_touserdata(L, 3);
    struct span run;
    int code = waited(L, request, status), number;

    while (code == 0 && (code = request_content(L, request, &run)) > 0) {
        if ((number = write_whole(file->fd, run)) != 0)
            return save_failed(L, file, path, number);
        saved += (lua_KContext)run.len;
        code = 0;
    }
    if (code == ERR_AGAIN)
        return request_wait_content(L, request, save_k, saved);
    if (code < 0) {
        unlink(path);
        close(file->fd);
        file->fd = -1;
        return read_failed(L, request, code);
    }
    number = close(file->fd) < 0 ? errno : 0;
    file->fd = -1;
    if (number)
        return save_failed(L, file, path, number);
    lua_pushinteger(L, saved);
    return 1;
}

/* body:save(path) -> bytes | nil, err: the rest of the body as a new file (an existing one is
 * replaced); none is left after an error */
static int body_save(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_BODY);
    const char *path = luaL_checkstring(L, 2);

    begin_read(L, request);
    lua_settop(L, 2);
    struct l_file *file = push_file(L);

    file->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file->fd < 0)
        return save_failed(L, file, path, errno);
    return save_k(L, LUA_OK, 0);
}

/* body:trailers() -> table of the fields after the content, or nil before its end */
static int body_trailers(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_BODY);
    struct exchange *exchange = request->exchange;

    if (exchange->content_phase != CONTENT_ENDED)
        return 0;
    lua_newtable(L);
    for (uint32_t i = 0; i < exchange->trailers.count; i++) {
        struct span name = exchange->trailers.at[i].name;
        luaL_Buffer lower;
        char *at = luaL_buffinitsize(L, &lower, name.len);

        for (size_t j = 0; j < name.len; j++)
            at[j] = ascii_lower(name.at[j]);
        luaL_pushresultsize(&lower, name.len);
        l_push_span(L, fields_combined(&exchange->trailers, name));
        lua_rawset(L, -3);
    }
    return 1;
}

/* Upvalues: methods in C, methods of the Lua library. */
static int body_index(lua_State *L)
{
    struct request *request = check_request(L, 1, BOX_BODY);
    const char *name = lua_tostring(L, 2);

    for (int i = 1; i <= 2; i++) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, lua_upvalueindex(i)) != LUA_TNIL)
            return 1;
    }
    if (name && strcmp(name, "done") == 0) {
        lua_pushboolean(L, !exchange_has_content(request->exchange));
        return 1;
    }
    return 0;
}

static const luaL_Reg methods[] = {
    {"read", body_read},
    {"save", body_save},
    {"trailers", body_trailers},
    {NULL, NULL},
};

void l_body_open(lua_State *L)
{
    int core = lua_gettop(L);

    new_box_metatable(L, BOX_BODY, "moonquay.body");
    luaL_newlib(L, methods);
    lua_newtable(L);
    lua_createtable(L, 0, 1); /* core.body = { methods = } */
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "methods");
    lua_setfield(L, core, "body");
    lua_pushcclosure(L, body_index, 2);
    lua_setfield(L, -2, "__index");
    lua_settop(L, core);
}
