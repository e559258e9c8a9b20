/*
 * Opens a registrar to the specs: its programs are real sockets, of which each may belong to
 * another user, and the master is the spec, which sees what is asked and answers it.
 */
#include "bind/probe.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "net/ipc.h"
#include "share/control.h"
#include "share/registrar.h"

#define REGISTRAR_TYPE "moonquay.probe.registrar"
#define PROGRAM_TYPE   "moonquay.probe.program"
#define TURNS          4

enum { UV_ASKED = 1, UV_CHANNELS, UV_COUNT = UV_CHANNELS };

struct l_registrar {
    lua_State *L; /* of the call that runs; the registrar is at index 1 */
    struct loop *loop;
    struct registrar *registrar;
    struct sockaddr_un address;
};

struct l_program {
    struct ipc_channel ipc;
    struct l_registrar *owner;
};

static struct l_registrar *check_registrar(lua_State *L)
{
    struct l_registrar *self = luaL_checkudata(L, 1, REGISTRAR_TYPE);

    luaL_argcheck(L, self->loop, 1, "the registrar is closed");
    self->L = L;
    return self;
}

static void append(lua_State *L, int value)
{
    lua_getiuservalue(L, 1, value);
    lua_pushvalue(L, -2);
    lua_seti(L, -2, luaL_len(L, -2) + 1);
    lua_pop(L, 2);
}

/* { number =, pairs = { {key, value} … } } */
static void push_pairs(lua_State *L, struct span pairs)
{
    const char *key, *value;
    lua_Integer count = 0;

    lua_newtable(L);
    while (pairs_next(&pairs, &key, &value)) {
        lua_newtable(L);
        lua_pushstring(L, key);
        lua_seti(L, -2, 1);
        lua_pushstring(L, value);
        lua_seti(L, -2, 2);
        lua_seti(L, -2, ++count);
    }
}

static void push_message(lua_State *L, lua_Integer number, struct span pairs)
{
    lua_newtable(L);
    lua_pushinteger(L, number);
    lua_setfield(L, -2, "number");
    push_pairs(L, pairs);
    lua_setfield(L, -2, "pairs");
}

static void on_ask(void *owner, unsigned number, struct span pairs)
{
    struct l_registrar *self = owner;

    push_message(self->L, number, pairs);
    append(self->L, UV_ASKED);
}

static void on_channel(void *owner, unsigned app, struct span pairs, int fd)
{
    struct l_registrar *self = owner;

    (void)fd;
    push_message(self->L, app, pairs);
    append(self->L, UV_CHANNELS);
}

static struct span check_span(lua_State *L, int index)
{
    struct span text;

    text.at = luaL_checklstring(L, index, &text.len);
    return text;
}

/* registrar(path, uid_of_host [, state of the apps]) -> registrar */
static int l_registrar(lua_State *L)
{
    struct span path = check_span(L, 1);
    uid_t uid = (uid_t)luaL_checkinteger(L, 2);
    struct span state = lua_isnoneornil(L, 3) ? SPAN_NONE : check_span(L, 3);
    struct l_registrar *self = lua_newuserdatauv(L, sizeof(*self), UV_COUNT);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memset(self, 0, sizeof(*self));
    luaL_setmetatable(L, REGISTRAR_TYPE);
    for (int i = UV_ASKED; i <= UV_COUNT; i++) {
        lua_newtable(L);
        lua_setiuservalue(L, -2, i);
    }
    self->address.sun_family = AF_UNIX;
    /* An abstract name: no file's rights keep other users away. */
    luaL_argcheck(L, path.len + 1 < sizeof(self->address.sun_path), 1, "too long");
    memcpy(self->address.sun_path + 1, path.at, path.len);
    if (fd < 0 || bind(fd, (struct sockaddr *)&self->address, sizeof(self->address)) < 0 ||
        listen(fd, 64) < 0)
        return luaL_error(L, "%s", strerror(errno));
    self->loop = loop_new();
    self->registrar = registrar_new(&(struct registrar_parts){
        .loop = self->loop, .uid = uid, .owner = self, .ask = on_ask, .channel = on_channel});
    registrar_resume(self->registrar, state);
    registrar_listen(self->registrar, fd);
    return 1;
}

static int l_registrar_gc(lua_State *L)
{
    struct l_registrar *self = luaL_checkudata(L, 1, REGISTRAR_TYPE);

    if (self->loop == NULL)
        return 0;
    self->L = L;
    registrar_free(self->registrar);
    loop_free(self->loop);
    self->loop = NULL;
    return 0;
}

/* registrar:turn() */
static int l_registrar_turn(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);

    for (int i = 0; i < TURNS; i++)
        loop_turn(self->loop, false);
    return 0;
}

/* registrar:wait(): a turn that sleeps until something happens */
static int l_registrar_wait(lua_State *L)
{
    loop_turn(check_registrar(L)->loop, true);
    return 0;
}

static int take_list(lua_State *L, int value)
{
    check_registrar(L);
    lua_getiuservalue(L, 1, value);
    lua_newtable(L);
    lua_setiuservalue(L, 1, value);
    return 1;
}

/* registrar:asked() -> { { number=, pairs= } … } since the last call */
static int l_registrar_asked(lua_State *L)
{
    return take_list(L, UV_ASKED);
}

/* registrar:channels() -> likewise; number: the app */
static int l_registrar_channels(lua_State *L)
{
    return take_list(L, UV_CHANNELS);
}

/* registrar:reply(number, wrong or nil, result: "key\0value\0" text) */
static int l_registrar_reply(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);
    struct span result = lua_isnoneornil(L, 4) ? SPAN_NONE : check_span(L, 4);

    registrar_replied(self->registrar, (unsigned)luaL_checkinteger(L, 2),
                      luaL_optstring(L, 3, NULL), result);
    return 0;
}

static const char *text_field(lua_State *L, const char *key)
{
    const char *text = lua_getfield(L, 2, key) == LUA_TNIL ? NULL : luaL_checkstring(L, -1);

    lua_pop(L, 1); /* the table keeps it */
    return text;
}

static bool bool_field(lua_State *L, const char *key, bool otherwise)
{
    bool truth = lua_getfield(L, 2, key) == LUA_TNIL ? otherwise : lua_toboolean(L, -1);

    lua_pop(L, 1);
    return truth;
}

static int push_outcome(lua_State *L, int code, const struct err_text *why)
{
    if (code == 0) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, why->text);
    lua_pushstring(L, err_name(code));
    return 3;
}

/* registrar:reserve({ url=, user=, group=, listen = true, delegate = false }) -> true
 * | nil, why, error */
static int l_registrar_reserve(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);
    struct err_text why;

    luaL_checktype(L, 2, LUA_TTABLE);

    struct reservation_wish wish = {
        .url = text_field(L, "url"),
        .user = text_field(L, "user"),
        .group = text_field(L, "group"),
        .listens = bool_field(L, "listen", true),
        .delegates = bool_field(L, "delegate", false),
    };

    return push_outcome(L, registrar_reserve(self->registrar, &wish, &why), &why);
}

/* registrar:load(text of the state file) -> true | nil, why, error */
static int l_registrar_load(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);
    struct err_text why;

    return push_outcome(L, registrar_load(self->registrar, check_span(L, 2), &why), &why);
}

/* registrar:release(url) -> likewise */
static int l_registrar_release(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);
    struct err_text why;

    return push_outcome(L, registrar_release(self->registrar, luaL_checkstring(L, 2), &why), &why);
}

/* registrar:worker(slot) */
static int l_registrar_worker(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);

    registrar_worker(self->registrar, (unsigned)luaL_checkinteger(L, 2));
    return 0;
}

/* registrar:worker_gone(slot) */
static int l_registrar_worker_gone(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);

    registrar_worker_gone(self->registrar, (unsigned)luaL_checkinteger(L, 2));
    return 0;
}

/* registrar:renew(process, worker, slot) */
static int l_registrar_renew(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);

    registrar_renew(self->registrar, (uint64_t)luaL_checkinteger(L, 2),
                    (unsigned)luaL_checkinteger(L, 3), (unsigned)luaL_checkinteger(L, 4));
    return 0;
}

/* ---- programs ---- */

/* registrar:program([uid]) -> program; another uid takes root */
static int l_registrar_program(lua_State *L)
{
    struct l_registrar *self = check_registrar(L);
    uid_t uid = (uid_t)luaL_optinteger(L, 2, geteuid());
    uid_t before = geteuid();
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), code, number;

    if (uid != before && seteuid(uid) < 0) {
        close(fd);
        return luaL_error(L, "seteuid: %s", strerror(errno));
    }
    code = connect(fd, (struct sockaddr *)&self->address, sizeof(self->address));
    number = errno;
    if (uid != before && seteuid(before) < 0)
        return luaL_error(L, "seteuid: %s", strerror(errno));
    if (code < 0) {
        close(fd);
        return luaL_error(L, "connect: %s", strerror(number));
    }

    struct l_program *program = lua_newuserdatauv(L, sizeof(*program), 0);

    ipc_open(&program->ipc, fd);
    program->owner = self;
    luaL_setmetatable(L, PROGRAM_TYPE);
    return 1;
}

static struct l_program *check_program(lua_State *L)
{
    return luaL_checkudata(L, 1, PROGRAM_TYPE);
}

/* program:say(kind, value, text) */
static int l_program_say(lua_State *L)
{
    struct l_program *self = check_program(L);

    lua_pushinteger(L, ipc_send(&self->ipc, (unsigned)luaL_checkinteger(L, 2),
                                (unsigned)luaL_checkinteger(L, 3), check_span(L, 4), NULL, 0));
    return 1;
}

/* program:raw(bytes): one datagram */
static int l_program_raw(lua_State *L)
{
    struct span bytes = check_span(L, 2);

    lua_pushinteger(L, send(check_program(L)->ipc.fd, bytes.at, bytes.len, MSG_NOSIGNAL));
    return 1;
}

/* program:heard() -> { kind=, number=, pairs=, fds= } | nil: nothing | false: the end */
static int l_program_heard(lua_State *L)
{
    struct l_program *self = check_program(L);
    struct ipc_message message;
    int code = ipc_receive(&self->ipc, &message);

    if (code < 0) {
        if (code == ERR_AGAIN)
            lua_pushnil(L);
        else
            lua_pushboolean(L, false);
        return 1;
    }
    push_message(L, message.value, buf_span(&message.text));
    lua_pushinteger(L, message.kind);
    lua_setfield(L, -2, "kind");
    lua_pushinteger(L, message.fd_count);
    lua_setfield(L, -2, "fds");
    ipc_message_fini(&message);
    return 1;
}

/* program:leave() */
static int l_program_leave(lua_State *L)
{
    ipc_close(&check_program(L)->ipc);
    return 0;
}

static const luaL_Reg registrar_methods[] = {
    {"reserve", l_registrar_reserve},   {"load", l_registrar_load},
    {"release", l_registrar_release},   {"turn", l_registrar_turn},
    {"wait", l_registrar_wait},         {"asked", l_registrar_asked},
    {"channels", l_registrar_channels}, {"reply", l_registrar_reply},
    {"worker", l_registrar_worker},     {"worker_gone", l_registrar_worker_gone},
    {"renew", l_registrar_renew},       {"program", l_registrar_program},
    {"__gc", l_registrar_gc},           {NULL, NULL},
};

static const luaL_Reg program_methods[] = {
    {"say", l_program_say},     {"raw", l_program_raw},    {"heard", l_program_heard},
    {"leave", l_program_leave}, {"__gc", l_program_leave}, {NULL, NULL},
};

static void new_type(lua_State *L, const char *name, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int probe_registrar_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"registrar", l_registrar}, {NULL, NULL}};

    new_type(L, REGISTRAR_TYPE, registrar_methods);
    new_type(L, PROGRAM_TYPE, program_methods);
    luaL_newlib(L, functions);
    return 1;
}
