/*
 * A Lua state: made with an allocator that knows a limit, given its libraries, loaded with an app,
 * stopped. And the other way round: an interpreter's own state that loads the core as a module.
 */
#include "bind/vm.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "bind/aux.h"
#include "bind/request.h"
#include "bind/vm_priv.h"

/* ---- memory ---- */

/*
 * The limit holds only while Lua code runs, which is protected: elsewhere a refusal would end the
 * worker (platform-notes section 7).
 */
static void *allocate(void *owner, void *old, size_t old_size, size_t size)
{
    struct vm *vm = owner;

    if (old == NULL)
        old_size = 0;
    if (size == 0) {
        alloc_release(&vm->alloc, old, old_size);
        vm->bytes -= old_size;
        return NULL;
    }
    if (vm->in_lua && !vm->unlimited && !vm->loading && size > old_size &&
        vm->bytes + (size - old_size) > (size_t)vm->settings->memory_limit)
        return NULL;
    void *memory = old ? NULL : alloc_quick(&vm->alloc, size);

    if (memory == NULL)
        memory = alloc_resize(&vm->alloc, old, old_size, size);

    if (memory)
        vm->bytes += size - old_size;
    return memory;
}

void vm_enter(struct vm *vm, lua_State *thread)
{
    vm->innermost = thread;
    cpu_follow(vm);
    vm->in_lua = 1;
}

void vm_leave(struct vm *vm)
{
    vm->in_lua = 0;
    vm->column->gauge[APP_LUA_BYTES] = (int64_t)vm->bytes;
}

void vm_lift_limit(struct vm *vm)
{
    vm->unlimited++;
}

void vm_set_limit(struct vm *vm)
{
    vm->unlimited--;
}

static int panicked(lua_State *L)
{
    const char *message = lua_tostring(L, -1);

    log_event(LOG_ERROR, "lua_panic", "%s", message ? message : "error without a message");
    return 0; /* Lua aborts; the master starts a new worker */
}

static void warned(void *owner, const char *message, int more)
{
    struct vm *vm = owner;

    if (!vm->warning_more && message[0] == '@')
        return; /* control messages: warnings are always on */
    vm->warning_more = more;
    buf_append(&vm->warning, span_str(message));
    if (more)
        return;
    struct span text = buf_span(&vm->warning);

    log_event(LOG_WARN, "lua_warning", "%.*s", (int)text.len, text.at);
    buf_fini(&vm->warning);
}

/* ---- set-up ---- */

bool vm_push_hook(struct vm *vm, lua_State *L, const char *name)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->hooks_ref);
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_isfunction(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

static int open_preloaded(lua_State *L)
{
    core_open(vm_of(L), L);
    return 1;
}

static void add_path(lua_State *L, const char *directory)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", directory, directory, lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

static void set_up_libraries(struct vm *vm, const char *lua_dir)
{
    lua_State *L = vm->L;

    luaL_openlibs(L);
    lua_gc(L, LUA_GCGEN, 0, 0);
    lua_atpanic(L, panicked);
    lua_setwarnf(L, warned, vm);
    vm_attach(vm, L);
    add_path(L, lua_dir);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open_preloaded);
    lua_setfield(L, -2, "moonquay.core");
    lua_pop(L, 1);
}

static struct vm *vm_make(const struct vm_parts *parts)
{
    struct vm *vm = mem_zalloc(sizeof(*vm));

    vm->loop = parts->loop;
    vm->settings = parts->settings;
    vm->tally = parts->tally;
    vm->slot_index = parts->slot;
    vm->slot = tally_slot(parts->tally, parts->slot);
    vm->column = &vm->slot->app[parts->column];
    vm->hooks_ref = LUA_NOREF;
    list_init(&vm->questions);
    return vm;
}

static void vm_idle(struct loop_call *call)
{
    struct vm *vm = LIST_OWNER(call, struct vm, idle_call);

    if (vm->idle)
        vm->idle(vm->idle_owner);
}

struct vm *vm_new(const struct vm_parts *parts)
{
    struct vm *vm = vm_make(parts);

    vm->owned = true;
    vm->L = lua_newstate(allocate, vm);
    CHECK(vm->L != NULL);
    tasks_init(vm);
    requests_init(vm);
    loop_call_init(&vm->idle_call, vm_idle);
    vm->app = mem_zalloc(sizeof(*vm->app));
    lua_app_init(vm->app, vm);
    set_up_libraries(vm, parts->lua_dir);
    return vm;
}

void vm_free(struct vm *vm)
{
    if (vm == NULL)
        return;
    cpu_unwatch(vm);
    vm->stopping = false; /* nobody is told any more */
    tasks_fini(vm);
    vm->closed = true;
    loop_call_cancel(&vm->idle_call);
    lua_close(vm->L);
    alloc_fini(&vm->alloc);
    requests_fini(vm);
    buf_fini(&vm->asked_settings);
    buf_fini(&vm->wrong_option);
    buf_fini(&vm->warning);
    mem_free(vm->app);
    mem_free(vm);
}

const struct handler *vm_handler(struct vm *vm)
{
    return &vm->app->handler;
}

struct span vm_asked_settings(struct vm *vm)
{
    return buf_span(&vm->asked_settings);
}

void vm_on_shutdown(struct vm *vm, void (*shutdown)(void *owner), void *owner)
{
    vm->shutdown = shutdown;
    vm->shutdown_owner = owner;
}

void vm_watch_cpu(struct vm *vm)
{
    cpu_watch(vm);
}

/* ---- loading ---- */

enum load_stage { LOAD_LIBRARY, LOAD_APP, LOAD_HOOK };

static void load_done(struct vm *vm, int code, const struct err_text *text)
{
    vm->loading = false;
    vm->loaded(vm->loaded_owner, code, text);
}

static void load_failed(struct vm *vm, int exit_code, int code, const char *message)
{
    struct err_text text;

    err_set(&text, exit_code, code, "%s", message);
    for (char *at = text.text; *at; at++)
        if (*at == '\n')
            *at = '\0'; /* one line; the log has the rest */
    load_done(vm, code, &text);
}

/* By its text: an app may catch the refusal of an option and break later, of something else. */
static bool is_wrong_option(const struct vm *vm, const char *message)
{
    struct span wrong = buf_span(&vm->wrong_option);

    return wrong.len > 0 && strncmp(message, wrong.at, wrong.len) == 0;
}

static void load_raised(struct vm *vm, struct task *task)
{
    lua_State *L = vm->L;
    const char *message;

    push_task_failure(task);
    message = lua_tostring(L, -1);
    log_event(LOG_DEBUG, "app_broken", "%s", message);
    load_failed(vm, is_wrong_option(vm, message) ? EXIT_OPTION : EXIT_APP_BROKEN, ERR_INVALID,
                message);
    lua_pop(L, 1);
}

/* What the app file returned lies on T; the library says which function serves it. */
static void load_ask_library(struct vm *vm, struct task *task)
{
    lua_State *T = task->T;

    vm->load_stage = LOAD_HOOK;
    lua_settop(T, 1);
    if (!vm_push_hook(vm, T, "loaded")) {
        load_failed(vm, EXIT_INTERNAL, ERR_INVALID, "the Lua library moonquay did not load");
        return;
    }
    lua_insert(T, 1);
    task_again(task, 1);
}

static void load_take_handler(struct vm *vm, struct task *task)
{
    lua_State *T = task->T;

    if (!lua_isfunction(T, 1)) {
        const char *why = lua_tostring(T, 2);

        lua_pushfstring(vm->L, "%s: %s", vm->app_path,
                        why ? why : "must return a function(req, res) or an app");
        load_failed(vm, EXIT_APP_BROKEN, ERR_INVALID, lua_tostring(vm->L, -1));
        lua_pop(vm->L, 1);
        return;
    }
    lua_settop(T, 2);
    lua_app_take(vm->app, T);
    load_done(vm, 0, NULL);
}

static void load_file(struct vm *vm, struct task *task)
{
    lua_State *T = task->T;

    vm->load_stage = LOAD_APP;
    if (access(vm->app_path, R_OK) < 0) {
        int code = errno == EACCES ? ERR_PERMISSION : ERR_NOT_FOUND;

        lua_pushfstring(vm->L, "%s: %s", vm->app_path, strerror(errno));
        load_failed(vm, EXIT_APP_MISSING, code, lua_tostring(vm->L, -1));
        lua_pop(vm->L, 1);
        return;
    }
    task_reset(task);
    if (luaL_loadfilex(T, vm->app_path, "t") != LUA_OK) {
        load_failed(vm, EXIT_APP_BROKEN, ERR_INVALID, lua_tostring(T, -1));
        return;
    }
    task_again(task, 0);
}

static void load_ended(struct task *task, int status)
{
    struct vm *vm = task->vm;

    if (!vm->loading)
        return; /* the state is being closed */
    if (status != LUA_OK)
        load_raised(vm, task);
    else if (vm->load_stage == LOAD_LIBRARY)
        load_file(vm, task);
    else if (vm->load_stage == LOAD_APP)
        load_ask_library(vm, task);
    else
        load_take_handler(vm, task);
}

/* The directory of the app is searched for its modules too. */
static void add_app_directory(struct vm *vm)
{
    char directory[sizeof(vm->app_path)];
    char *slash;

    snprintf(directory, sizeof(directory), "%s", vm->app_path);
    slash = strrchr(directory, '/');
    if (slash)
        *slash = '\0';
    else
        snprintf(directory, sizeof(directory), ".");
    add_path(vm->L, directory);
}

void vm_load(struct vm *vm, const char *path,
             void (*loaded)(void *owner, int code, const struct err_text *text), void *owner)
{
    struct task *task = task_new(vm, load_ended, NULL);

    vm->loaded = loaded;
    vm->loaded_owner = owner;
    vm->loading = true;
    vm->load_stage = LOAD_LIBRARY;
    snprintf(vm->app_path, sizeof(vm->app_path), "%s", path);
    add_app_directory(vm);
    task->unlimited = true; /* of CPU time: loading may compute */
    lua_getglobal(task->T, "require");
    lua_pushliteral(task->T, "moonquay");
    task_start(task, 1);
}

/* ---- stopping ---- */

void tasks_check_idle(struct vm *vm)
{
    if (vm->stopping && vm->task_count == 0)
        loop_defer(vm->loop, &vm->idle_call);
}

void vm_stop(struct vm *vm, void (*idle)(void *owner), void *owner)
{
    vm->stopping = true;
    vm->idle = idle;
    vm->idle_owner = owner;
    for (struct list *node = vm->all_roots.next; node != &vm->all_roots; node = node->next) {
        struct task *task = LIST_OWNER(node, struct task, siblings);

        if (task->request == NULL && !task->background)
            task_cancel(task, ERR_CANCELLED);
    }
    tasks_check_idle(vm);
}

/* ---- a stock interpreter ---- */

/* Closes with the interpreter's state. */
static int module_gc(lua_State *L)
{
    struct vm *vm = *(struct vm **)lua_touserdata(L, 1);

    tasks_fini(vm);
    vm->closed = true;
    return 0;
}

__attribute__((visibility("default"))) int luaopen_moonquay_core(lua_State *L);

int luaopen_moonquay_core(lua_State *L)
{
    struct settings *settings = mem_zalloc(sizeof(*settings));
    struct vm_parts parts = {.loop = loop_new(), .settings = settings};
    int fd;

    parts.tally = tally_create(1, &fd);
    if (parts.loop == NULL || parts.tally == NULL)
        return luaL_error(L, "no event loop or no memory for it: %s", strerror(errno));
    close(fd); /* the mapping stays */
    settings_init(settings);
    log_setup(2, LOG_WARN, LOG_TEXT, "lua");
    struct vm *vm = vm_make(&parts);

    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    vm->L = lua_tothread(L, -1);
    lua_pop(L, 1);
    vm_attach(vm, vm->L);
    if (L != vm->L)
        vm_attach(vm, L);
    tasks_init(vm);
    requests_init(vm);
    loop_call_init(&vm->idle_call, vm_idle);
    /* Lives as long as the state, and ends its tasks with it. */
    *(struct vm **)lua_newuserdatauv(L, sizeof(vm), 0) = vm;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, module_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    luaL_ref(L, LUA_REGISTRYINDEX);
    core_open(vm, L);
    return 1;
}
