/*
 * The file's own code sees string, table, math and os.getenv. What it returns is made a flat list
 * by the library's code for apps (lua/moonquay/flat_settings.lua), so that both take the same. A
 * file that loops or grows ends at a limit: the master must not hang or swell.
 */
#include "bind/config_file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "bind/l_option.h"
#include "bind/vm.h"
#include "server/settings.h"

#define CONFIG_FILE_BYTES   (8u << 20)
#define CONFIG_MEMORY_BYTES (64u << 20)
#define CONFIG_INSTRUCTIONS 50000000 /* half a second */

struct config {
    const char *path, *lua_dir;
    struct buf source; /* ends with a NUL */
    struct buf *pairs;
    struct err_text *text;
    int code; /* of a refusal that text tells already */
    size_t bytes;
};

static void *allocate(void *owner, void *old, size_t old_size, size_t size)
{
    struct config *config = owner;

    if (old == NULL)
        old_size = 0;
    if (size > old_size && config->bytes + (size - old_size) > CONFIG_MEMORY_BYTES)
        return NULL;
    config->bytes += size - old_size;
    if (size == 0) {
        mem_free(old);
        return NULL;
    }
    return mem_realloc(old, size);
}

static void too_long(lua_State *L, lua_Debug *frame)
{
    lua_getinfo(L, "Sl", frame);
    lua_pushfstring(L, "%s:%d: the file computes for too long", frame->short_src,
                    frame->currentline);
    lua_error(L);
}

/* ---- the text */

static int read_source(struct config *config)
{
    char *room = buf_reserve(&config->source, CONFIG_FILE_BYTES + 1);
    size_t length = 0;
    ssize_t got = 1;
    int fd = open(config->path, O_RDONLY | O_CLOEXEC), number = errno;

    while (fd >= 0 && got > 0 && length < CONFIG_FILE_BYTES) {
        got = read(fd, room + length, CONFIG_FILE_BYTES - length);
        number = errno;
        length += got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0)
        close(fd);
    if (fd < 0 || got < 0) {
        int code = err_from_errno(number);

        return err_set(config->text,
                       code == ERR_NOT_FOUND    ? EXIT_APP_MISSING
                       : code == ERR_PERMISSION ? EXIT_PERMISSION
                                                : EXIT_APP_BROKEN,
                       code == ERR_NOT_FOUND ? code : ERR_INVALID, "%s: %s", config->path,
                       strerror(number));
    }
    if (length == CONFIG_FILE_BYTES)
        return err_set(config->text, EXIT_APP_BROKEN, ERR_INVALID,
                       "%s: a configuration file is shorter than %u MiB", config->path,
                       CONFIG_FILE_BYTES >> 20);
    room[length] = '\0';
    buf_added(&config->source, length);
    return 0;
}

static bool in_comment(struct span source, const char *at)
{
    const char *line = at;

    while (line > source.at && line[-1] != '\n')
        line--;
    return memmem(line, (size_t)(at - line), "--", 2) != NULL;
}

static bool is_name(char c)
{
    return c == '_' || isalnum((unsigned char)c);
}

/* Where the word stands with a '=' behind it, as a whole word and not in a comment; or NULL. The
 * source ends with a NUL. */
static const char *find_assignment(struct span source, const char *from, struct span word)
{
    const char *end = source.at + source.len, *at = from;

    for (; (at = memmem(at, (size_t)(end - at), word.at, word.len)) != NULL; at++) {
        const char *behind = at + word.len;

        if ((at > source.at && is_name(at[-1])) || is_name(*behind))
            continue;
        behind += strspn(behind, "\"']"); /* ["key"] = */
        behind += strspn(behind, " \t\r\n");
        if (behind[0] == '=' && behind[1] != '=' && !in_comment(source, at))
            return at;
    }
    return NULL;
}

/* Where a key is set: as it is, as a member behind its group, or with its group; NULL. */
static const char *find_key(struct span source, const char *key)
{
    const char *whole = find_assignment(source, source.at, span_str(key));
    const char *dot = strchr(key, '.'), *group, *member;

    if (whole || dot == NULL)
        return whole;
    group = find_assignment(source, source.at, span_of(key, (size_t)(dot - key)));
    member = find_assignment(source, group ? group : source.at, span_str(dot + 1));
    return member ? member : group;
}

/* "moonquay.conf.lua:3", or the file alone. */
static void find_place(const struct config *config, const char *key, char *out, size_t room)
{
    struct span source = buf_span(&config->source);
    const char *found = find_key(source, key);
    unsigned line = 1;

    if (found == NULL) {
        snprintf(out, room, "%s", config->path);
        return;
    }
    for (const char *at = source.at; at < found; at++)
        line += *at == '\n';
    snprintf(out, room, "%s:%u", config->path, line);
}

/* ---- the table */

/* Adds the option { key =, value =, is_list = } on top of the stack. */
static int add_option(lua_State *L, struct config *config)
{
    char place[PATH_MAX + 16];
    const char *key, *value;

    lua_getfield(L, -1, "key");
    lua_getfield(L, -2, "value");
    lua_getfield(L, -3, "is_list");
    key = lua_tostring(L, -3);
    if (lua_toboolean(L, -1) && lua_rawlen(L, -2) == 0 && settings_is_group(key))
        return 0;
    find_place(config, key, place, sizeof(place));
    if (!option_push_text(L, -2, key, lua_toboolean(L, -1)))
        return settings_refuse(key, lua_tostring(L, -1), place, config->text);
    value = lua_tostring(L, -1);
    int code = settings_check(key, value, place, config->text);

    if (code < 0)
        return code;
    option_add_pair(config->pairs, key, value);
    lua_pushfstring(L, "%s" VM_SETTING_PLACE, key);
    option_add_pair(config->pairs, lua_tostring(L, -1), place);
    return 0;
}

/* The list of options on top of the stack. */
static void add_options(lua_State *L, struct config *config)
{
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    int list = lua_gettop(L);

    for (lua_Integer i = 1; i <= count && config->code == 0; i++) {
        lua_rawgeti(L, list, i);
        config->code = add_option(L, config);
        lua_settop(L, list);
    }
}

/* Pushes what the file may use. */
static void push_environment(lua_State *L)
{
    static const char *const libraries[] = {LUA_STRLIBNAME, LUA_TABLIBNAME, LUA_MATHLIBNAME};

    lua_newtable(L);
    for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
        lua_getglobal(L, libraries[i]);
        lua_setfield(L, -2, libraries[i]);
    }
    lua_newtable(L);
    lua_getglobal(L, LUA_OSLIBNAME);
    lua_getfield(L, -1, "getenv");
    lua_setfield(L, -3, "getenv");
    lua_pop(L, 1);
    lua_setfield(L, -2, LUA_OSLIBNAME);
}

static void open_libraries(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {LUA_GNAME, luaopen_base},       {LUA_STRLIBNAME, luaopen_string},
        {LUA_TABLIBNAME, luaopen_table}, {LUA_MATHLIBNAME, luaopen_math},
        {LUA_OSLIBNAME, luaopen_os},
    };

    for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].func, 1);
        lua_pop(L, 1);
    }
}

/* Pushes the library's function that makes the list of a table. */
static void push_flatten(lua_State *L, const struct config *config)
{
    lua_pushfstring(L, "%s/moonquay/flat_settings.lua", config->lua_dir);
    if (luaL_loadfilex(L, lua_tostring(L, -1), "t") != LUA_OK)
        lua_error(L);
    lua_call(L, 0, 1); /* no wait: nothing here has a loop */
}

/* Runs the file and pushes what it returns. */
static void run_file(lua_State *L, const struct config *config)
{
    struct span source = buf_span(&config->source);

    if (source.len > 0 && source.at[0] == LUA_SIGNATURE[0])
        luaL_error(L, "%s: is compiled, only text is read", config->path);
    lua_pushfstring(L, "@%s", config->path);
    if (luaL_loadbufferx(L, source.at, source.len, lua_tostring(L, -1), "t") != LUA_OK)
        lua_error(L);
    push_environment(L);
    lua_setupvalue(L, -2, 1);
    lua_call(L, 0, 1); /* no wait: nothing here has a loop */
    if (!lua_istable(L, -1))
        luaL_error(L, "%s: must return a table of settings, not a %s", config->path,
                   luaL_typename(L, -1));
}

/* Protected: adds all options, or raises what is wrong with the file. */
static int read_options(lua_State *L)
{
    struct config *config = lua_touserdata(L, 1);

    open_libraries(L);
    lua_sethook(L, too_long, LUA_MASKCOUNT, CONFIG_INSTRUCTIONS);
    push_flatten(L, config);
    run_file(L, config);
    lua_remove(L, -2); /* its name */
    lua_call(L, 1, 2); /* no wait: nothing here has a loop */
    if (lua_isnil(L, -2)) {
        config->code = err_set(config->text, EXIT_OPTION, ERR_INVALID, "%s: %s", config->path,
                               lua_tostring(L, -1));
        return 0;
    }
    lua_pop(L, 1);
    add_options(L, config);
    return 0;
}

static int broken(struct config *config, lua_State *L, int status)
{
    const char *message = lua_tostring(L, -1);

    if (status == LUA_ERRMEM)
        return err_set(config->text, EXIT_APP_BROKEN, ERR_INVALID,
                       "%s: the file needs more memory than %u MiB", config->path,
                       CONFIG_MEMORY_BYTES >> 20);
    err_set(config->text, EXIT_APP_BROKEN, ERR_INVALID, "%s%s", message ? "" : config->path,
            message ? message : ": it raised an error that is no text");
    config->text->text[strcspn(config->text->text, "\n")] = '\0'; /* one line */
    return ERR_INVALID;
}

static int read_table(struct config *config)
{
    lua_State *L = lua_newstate(allocate, config);
    int code, status;

    if (L == NULL)
        return err_set(config->text, EXIT_INTERNAL, ERR_NO_MEMORY, "%s: no memory", config->path);
    lua_pushcfunction(L, read_options);
    lua_pushlightuserdata(L, config);
    status = lua_pcall(L, 1, 0, 0);
    code = status == LUA_OK ? config->code : broken(config, L, status);
    lua_close(L);
    return code;
}

int config_file_read(const char *path, const char *lua_dir, struct buf *pairs,
                     struct err_text *text)
{
    struct config config = {.path = path, .lua_dir = lua_dir, .pairs = pairs, .text = text};
    int code = read_source(&config);

    if (code == 0)
        code = read_table(&config);
    buf_fini(&config.source);
    return code;
}
