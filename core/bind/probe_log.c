/*
 * The HTTP error log, its reasons and the files below logs for the specs. All of it works on files
 * that a spec names, and reads afterwards.
 */
#include "bind/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "server/error_log.h"
#include "server/log_file.h"
#include "server/reason.h"

/* ---- reasons */

/* reasons() -> the names of all but REASON_NONE */
static int probe_reasons(lua_State *L)
{
    lua_newtable(L);
    for (int reason = REASON_NONE + 1; reason < REASONS; reason++) {
        lua_pushstring(L, reason_name((enum reason)reason));
        lua_rawseti(L, -2, reason);
    }
    return 1;
}

/* reason_find(name) -> its place in the list of reasons(), 0 for none, and its name */
static int probe_reason_find(lua_State *L)
{
    enum reason reason = reason_find(luaL_checkstring(L, 1));

    lua_pushinteger(L, (lua_Integer)reason);
    lua_pushstring(L, reason_name(reason));
    return 2;
}

/* ---- the error log */

static struct span entry_span(lua_State *L, const char *name)
{
    struct span text = SPAN_NONE;

    if (lua_getfield(L, 4, name) == LUA_TSTRING)
        text.at = lua_tolstring(L, -1, &text.len);
    lua_pop(L, 1); /* the table keeps it alive */
    return text;
}

static int64_t entry_int(lua_State *L, const char *name)
{
    lua_getfield(L, 4, name);
    int64_t value = lua_tointeger(L, -1);

    lua_pop(L, 1);
    return value;
}

/* An address from the fields NAME and NAME_port; NULL when there is none. "none" and "unix" are
 * families. */
static const struct net_addr *entry_addr(lua_State *L, const char *name, struct net_addr *addr)
{
    struct span ip = entry_span(L, name);

    if (ip.len == 0)
        return NULL;
    if (span_eq(ip, SPAN("unix")) || span_eq(ip, SPAN("none"))) {
        *addr = (struct net_addr){.family = ip.at[0] == 'u' ? NET_UNIX : NET_NONE};
        return addr;
    }
    lua_pushfstring(L, "%s_port", name);
    if (net_addr_parse(addr, ip, (uint16_t)entry_int(L, lua_tostring(L, -1))) < 0)
        luaL_error(L, "%s", name);
    lua_pop(L, 1);
    return addr;
}

static enum error_version entry_version(lua_State *L)
{
    static const char *const names[] = {"none", "unknown", "1.0", "1.1", "2", NULL};

    lua_getfield(L, 4, "version");
    int version = luaL_checkoption(L, -1, "none", names);

    lua_pop(L, 1);
    return (enum error_version)version;
}

/* A log with the file that it writes and what it said of it. */
struct watched {
    const char *path;
    struct error_log *log;
    lua_Integer full;
    bool rotates; /* as master and worker do together */
};

static void reopen(struct watched *watched)
{
    int fd = log_file_open(watched->path, NULL);

    CHECK(fd >= 0);
    error_log_reopen(watched->log, fd);
}

static void on_full(void *owner)
{
    struct watched *watched = owner;

    watched->full++;
    if (!watched->rotates)
        return;
    CHECK(log_file_rotate(watched->path, 1, NULL) == 0);
    reopen(watched);
}

static void take_step(lua_State *L, struct watched *watched, char step)
{
    struct net_addr client, server;
    struct error_entry entry = {
        .client = entry_addr(L, "client", &client),
        .server = entry_addr(L, "server", &server),
        .method = entry_span(L, "method"),
        .target = entry_span(L, "target"),
        .queue = entry_span(L, "queue"),
        .unix_ms = entry_int(L, "unix_ms"),
        .stream = (uint32_t)entry_int(L, "stream"),
        .status = (int)entry_int(L, "status"),
        .version = entry_version(L),
        .reason = REASON_NONE,
    };
    struct span reason = entry_span(L, "reason");

    if (reason.at)
        entry.reason = reason_find(reason.at);
    if (step == 'a')
        error_log_add(watched->log, &entry);
    else if (step == 'f')
        error_log_flush(watched->log);
    else
        reopen(watched);
}

static off_t size_of(const char *path)
{
    struct stat state;

    return stat(path, &state) == 0 ? state.st_size : 0;
}

/*
 * error_log(path, max_bytes, steps, entry, { rotates=, own_log= }) -> sizes of the file, numbers of
 * calls of full, each after each step. Steps are letters: a(dd entry), f(lush), r(eopen). The log
 * is freed at the end. With rotates, full moves the file away and reopens. What the server's own
 * log would say is appended to the file own_log.
 */
static int probe_error_log(lua_State *L)
{
    struct watched watched = {.path = luaL_checkstring(L, 1)};
    lua_Integer max_bytes = luaL_checkinteger(L, 2);
    const char *steps = luaL_checkstring(L, 3), *own_log;
    int fd;

    luaL_checktype(L, 4, LUA_TTABLE);
    luaL_checktype(L, 5, LUA_TTABLE);
    lua_getfield(L, 5, "rotates");
    watched.rotates = lua_toboolean(L, -1);
    lua_getfield(L, 5, "own_log");
    own_log = lua_tostring(L, -1);
    lua_newtable(L);
    lua_newtable(L);
    if (own_log)
        log_setup(log_file_open(own_log, NULL), LOG_INFO, LOG_TEXT, "");
    fd = log_file_open(watched.path, NULL);
    luaL_argcheck(L, fd >= 0, 1, "cannot be opened");
    watched.log = error_log_new(fd, max_bytes, on_full, &watched);
    for (int i = 0; steps[i]; i++) {
        take_step(L, &watched, steps[i]);
        lua_pushinteger(L, (lua_Integer)size_of(watched.path));
        lua_rawseti(L, -3, i + 1);
        lua_pushinteger(L, watched.full);
        lua_rawseti(L, -2, i + 1);
    }
    error_log_free(watched.log);
    log_setup(STDERR_FILENO, LOG_INFO, LOG_TEXT, "");
    return 2;
}

/* error_log_header(path) -> true | nil, err, errno's text; opens for appending */
static int probe_error_log_header(lua_State *L)
{
    int fd = log_file_open(luaL_checkstring(L, 1), NULL);
    int code = error_log_header(fd), number = errno;

    log_file_close(fd);
    if (code < 0) {
        lua_pushnil(L);
        lua_pushstring(L, err_name(code));
        lua_pushstring(L, strerror(number));
        return 3;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- log files */

static int push_err_text(lua_State *L, const struct err_text *text)
{
    lua_pushnil(L);
    lua_pushstring(L, text->text);
    lua_pushinteger(L, text->exit_code);
    return 3;
}

/* log_open(path) -> fd, -1 for none | nil, message, exit code */
static int probe_log_file_open(lua_State *L)
{
    struct err_text text = {0};
    int fd = log_file_open(luaL_checkstring(L, 1), &text);

    if (fd < -1)
        return push_err_text(L, &text);
    lua_pushinteger(L, fd);
    return 1;
}

/* log_close(fd) -> is fd still open? */
static int probe_log_file_close(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);

    log_file_close(fd);
    lua_pushboolean(L, fcntl(fd, F_GETFD) >= 0);
    return 1;
}

/* log_flags(fd) -> does it append? is it closed on exec? */
static int probe_log_flags(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);

    lua_pushboolean(L, (fcntl(fd, F_GETFL) & O_APPEND) != 0);
    lua_pushboolean(L, (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    return 2;
}

/* log_full(path, max_bytes) -> boolean */
static int probe_log_file_full(lua_State *L)
{
    int fd = log_file_open(luaL_checkstring(L, 1), NULL);

    lua_pushboolean(L, log_file_full(fd, luaL_checkinteger(L, 2)));
    log_file_close(fd);
    return 1;
}

/* log_rotate(path, keep) -> true | nil, message, exit code */
static int probe_log_file_rotate(lua_State *L)
{
    struct err_text text = {0};

    if (log_file_rotate(luaL_checkstring(L, 1), (unsigned)luaL_checkinteger(L, 2), &text) < 0)
        return push_err_text(L, &text);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    {"error_log", probe_error_log},
    {"error_log_header", probe_error_log_header},
    {"log_close", probe_log_file_close},
    {"log_flags", probe_log_flags},
    {"log_full", probe_log_file_full},
    {"log_open", probe_log_file_open},
    {"log_rotate", probe_log_file_rotate},
    {"reason_find", probe_reason_find},
    {"reasons", probe_reasons},
    {NULL, NULL},
};

int probe_log_open(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
