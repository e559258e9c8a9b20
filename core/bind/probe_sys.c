/*
 * Processes and descriptors for the specs' servers: what stock Lua and luasocket lack. A process
 * that was spawned here dies with the interpreter that spawned it, whatever becomes of the spec.
 */
#include "bind/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ARGS   128
#define PIPE_BYTES (1 << 20) /* what a process writes while nobody reads must not stop it */

static int fail(lua_State *L, const char *what)
{
    int number = errno;

    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", what, strerror(number));
    return 2;
}

/* What the child needs, copied out of Lua before the fork. */
struct launch {
    char *argv[MAX_ARGS + 1];
    char *env[2 * MAX_ARGS]; /* name, value (NULL: unset), … */
    int args, env_words;
    const char *cwd;
    int in[2], out[2], err[2];
};

static void read_argv(lua_State *L, struct launch *launch)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    launch->args = (int)lua_rawlen(L, 1);
    luaL_argcheck(L, launch->args > 0 && launch->args <= MAX_ARGS, 1, "1 to 128 words");
    for (int i = 0; i < launch->args; i++) {
        lua_rawgeti(L, 1, i + 1); /* the table keeps the string alive */
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 1, "strings only");
        launch->argv[i] = (char *)(uintptr_t)lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    launch->argv[launch->args] = NULL;
}

static void read_env(lua_State *L, struct launch *launch)
{
    if (lua_getfield(L, 2, "env") != LUA_TTABLE)
        return;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        bool is_value = lua_type(L, -1) == LUA_TSTRING;

        luaL_argcheck(L, launch->env_words < 2 * MAX_ARGS, 2, "too large an environment");
        luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING, 2, "names must be strings");
        launch->env[launch->env_words++] = (char *)(uintptr_t)lua_tostring(L, -2);
        launch->env[launch->env_words++] = is_value ? (char *)(uintptr_t)lua_tostring(L, -1) : NULL;
        lua_pop(L, 1);
    }
}

static void child(struct launch *launch)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (dup2(launch->in[0], 0) < 0 || dup2(launch->out[1], 1) < 0 || dup2(launch->err[1], 2) < 0)
        _exit(127);
    if (launch->cwd && chdir(launch->cwd) < 0)
        _exit(127);
    for (int i = 0; i < launch->env_words; i += 2)
        if (launch->env[i + 1])
            setenv(launch->env[i], launch->env[i + 1], 1);
        else
            unsetenv(launch->env[i]);
    execvp(launch->argv[0], launch->argv);
    fprintf(stderr, "%s: %s\n", launch->argv[0], strerror(errno));
    _exit(127);
}

static void close_pair(int pair[2])
{
    if (pair[0] >= 0)
        close(pair[0]);
    if (pair[1] >= 0)
        close(pair[1]);
}

/*
 * spawn(argv, { env = { NAME = value or false }, cwd = }) -> pid, stdout, stderr, stdin | nil, err
 * The descriptors are pipes; the process leads a group of its own.
 */
static int sys_spawn(lua_State *L)
{
    struct launch launch = {.in = {-1, -1}, .out = {-1, -1}, .err = {-1, -1}};

    read_argv(L, &launch);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "cwd");
        launch.cwd = lua_tostring(L, -1);
        read_env(L, &launch);
    }
    if (pipe2(launch.in, O_CLOEXEC) < 0 || pipe2(launch.out, O_CLOEXEC) < 0 ||
        pipe2(launch.err, O_CLOEXEC) < 0) {
        close_pair(launch.in);
        close_pair(launch.out);
        close_pair(launch.err);
        return fail(L, "pipe");
    }
    fcntl(launch.out[1], F_SETPIPE_SZ, PIPE_BYTES);
    fcntl(launch.err[1], F_SETPIPE_SZ, PIPE_BYTES);

    pid_t pid = fork();

    if (pid == 0)
        child(&launch);
    if (pid < 0) {
        close_pair(launch.in);
        close_pair(launch.out);
        close_pair(launch.err);
        return fail(L, "fork");
    }
    close(launch.in[0]);
    close(launch.out[1]);
    close(launch.err[1]);
    lua_pushinteger(L, pid);
    lua_pushinteger(L, launch.out[0]);
    lua_pushinteger(L, launch.err[0]);
    lua_pushinteger(L, launch.in[1]);
    return 4;
}

/* poll({ fd, … }, ms) -> { fd that is readable or at its end, … } */
static int sys_poll(lua_State *L)
{
    struct pollfd fds[MAX_ARGS];
    int count, found = 0;

    luaL_checktype(L, 1, LUA_TTABLE);
    count = (int)lua_rawlen(L, 1);
    luaL_argcheck(L, count <= MAX_ARGS, 1, "at most 128 descriptors");
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 1, i + 1);
        fds[i] = (struct pollfd){.fd = (int)luaL_checkinteger(L, -1), .events = POLLIN};
        lua_pop(L, 1);
    }
    while (poll(fds, (nfds_t)count, (int)luaL_checkinteger(L, 2)) < 0 && errno == EINTR)
        ;
    lua_newtable(L);
    for (int i = 0; i < count; i++)
        if (fds[i].revents) {
            lua_pushinteger(L, fds[i].fd);
            lua_rawseti(L, -2, ++found);
        }
    return 1;
}

/* read(fd, bytes, ms) -> what is there, "" at the end | nil, "timeout" | nil, err */
static int sys_read(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    size_t room = (size_t)luaL_checkinteger(L, 2);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    luaL_Buffer buffer;
    int ready;

    while ((ready = poll(&wait, 1, (int)luaL_checkinteger(L, 3))) < 0 && errno == EINTR)
        ;
    if (ready == 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "timeout");
        return 2;
    }
    char *into = luaL_buffinitsize(L, &buffer, room);
    ssize_t got = read(fd, into, room);

    if (got < 0)
        return fail(L, "read");
    luaL_pushresultsize(&buffer, (size_t)got);
    return 1;
}

/* write(fd, text) -> bytes | nil, err */
static int sys_write(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    ssize_t written = write((int)luaL_checkinteger(L, 1), text, len);

    if (written < 0)
        return fail(L, "write");
    lua_pushinteger(L, written);
    return 1;
}

static int sys_close(lua_State *L)
{
    lua_pushboolean(L, close((int)luaL_checkinteger(L, 1)) == 0);
    return 1;
}

static void push_signal(lua_State *L, int number)
{
    const char *name = sigabbrev_np(number);

    if (name)
        lua_pushfstring(L, "SIG%s", name);
    else
        lua_pushfstring(L, "signal %d", number);
}

/* waitpid(pid, ms) -> { exit = n } | { signal = "SIGKILL" } | nil, "timeout" | nil, err */
static int sys_waitpid(lua_State *L)
{
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    int ms = (int)luaL_checkinteger(L, 2), status = 0;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (pidfd >= 0) {
        struct pollfd wait = {.fd = pidfd, .events = POLLIN};

        while (poll(&wait, 1, ms) < 0 && errno == EINTR)
            ;
        close(pidfd);
    }
    pid_t ended = waitpid(pid, &status, WNOHANG);

    if (ended < 0)
        return fail(L, "waitpid");
    if (ended == 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "timeout");
        return 2;
    }
    lua_newtable(L);
    if (WIFSIGNALED(status)) {
        push_signal(L, WTERMSIG(status));
        lua_setfield(L, -2, "signal");
    } else {
        lua_pushinteger(L, WEXITSTATUS(status));
        lua_setfield(L, -2, "exit");
    }
    return 1;
}

static int signal_number(lua_State *L, int index)
{
    const char *name = luaL_checkstring(L, index);

    for (int number = 1; number < NSIG; number++) {
        const char *known = sigabbrev_np(number);

        if (known && strcmp(known, name) == 0)
            return number;
    }
    return luaL_argerror(L, index, "no such signal");
}

/* kill(pid or -group, "TERM") -> true | nil, err */
static int sys_kill(lua_State *L)
{
    if (kill((pid_t)luaL_checkinteger(L, 1), signal_number(L, 2)) < 0)
        return fail(L, "kill");
    lua_pushboolean(L, true);
    return 1;
}

/* Parent and state of a process, from /proc/PID/stat; the name in it may hold anything but ends at
 * the last ')'. */
static bool read_stat(const char *pid, char *state, int *parent)
{
    char path[64], text[512];
    const char *end;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t got = fread(text, 1, sizeof(text) - 1, file);

    fclose(file);
    text[got] = '\0';
    end = strrchr(text, ')');
    return end && sscanf(end + 1, " %c %d", state, parent) == 2;
}

/* children(pid) -> { pid, … } in ascending order, without those that are dead and not yet waited
 * for */
static int sys_children(lua_State *L)
{
    int wanted = (int)luaL_checkinteger(L, 1), found = 0;
    struct dirent **names;
    int count = scandir("/proc", &names, NULL, versionsort);

    if (count < 0)
        return fail(L, "/proc");
    lua_newtable(L);
    for (int i = 0; i < count; i++) {
        char state;
        int parent;

        if (names[i]->d_name[0] >= '1' && names[i]->d_name[0] <= '9' &&
            read_stat(names[i]->d_name, &state, &parent) && parent == wanted && state != 'Z') {
            lua_pushinteger(L, atoi(names[i]->d_name));
            lua_rawseti(L, -2, ++found);
        }
        free(names[i]);
    }
    free(names);
    return 1;
}

/* alive(pid) -> true unless there is no such process, or a dead one that nobody waited for */
static int sys_alive(lua_State *L)
{
    char pid[24], state = 'Z';
    int parent;

    snprintf(pid, sizeof(pid), "%d", (int)luaL_checkinteger(L, 1));
    lua_pushboolean(L, read_stat(pid, &state, &parent) && state != 'Z');
    return 1;
}

/* list(directory) -> { name, … } sorted | nil, err */
static int sys_list(lua_State *L)
{
    struct dirent **names;
    int count = scandir(luaL_checkstring(L, 1), &names, NULL, alphasort), found = 0;

    if (count < 0)
        return fail(L, lua_tostring(L, 1));
    lua_newtable(L);
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0) {
            lua_pushstring(L, names[i]->d_name);
            lua_rawseti(L, -2, ++found);
        }
        free(names[i]);
    }
    free(names);
    return 1;
}

/* tmpdir() -> path of a new directory | nil, err */
static int sys_tmpdir(lua_State *L)
{
    char path[] = "/tmp/moonquay-spec-XXXXXX";

    if (mkdtemp(path) == NULL)
        return fail(L, "mkdtemp");
    lua_pushstring(L, path);
    return 1;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info;
    (void)type;
    (void)place;
    return remove(path);
}

/* rmtree(path) -> true | nil, err; only below /tmp/ */
static int sys_rmtree(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    luaL_argcheck(L, strncmp(path, "/tmp/", 5) == 0 && path[5], 1, "not below /tmp/");
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0)
        return fail(L, path);
    lua_pushboolean(L, true);
    return 1;
}

/* chmod(path, "0644") -> true | nil, err */
static int sys_chmod(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    if (chmod(path, (mode_t)strtoul(luaL_checkstring(L, 2), NULL, 8)) < 0)
        return fail(L, path);
    lua_pushboolean(L, true);
    return 1;
}

/* getegid() -> gid */
static int sys_getegid(lua_State *L)
{
    lua_pushinteger(L, getegid());
    return 1;
}

/* monotonic() -> seconds */
static int sys_monotonic(lua_State *L)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

static int sys_getpid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

static int sys_geteuid(lua_State *L)
{
    lua_pushinteger(L, geteuid());
    return 1;
}

static const luaL_Reg functions[] = {
    {"alive", sys_alive},         {"children", sys_children}, {"chmod", sys_chmod},
    {"close", sys_close},         {"geteuid", sys_geteuid},   {"getegid", sys_getegid},
    {"getpid", sys_getpid},       {"kill", sys_kill},         {"list", sys_list},
    {"monotonic", sys_monotonic}, {"poll", sys_poll},         {"read", sys_read},
    {"rmtree", sys_rmtree},       {"spawn", sys_spawn},       {"tmpdir", sys_tmpdir},
    {"waitpid", sys_waitpid},     {"write", sys_write},       {NULL, NULL},
};

int probe_sys_open(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
