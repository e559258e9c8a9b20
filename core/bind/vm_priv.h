/* What the files of one Lua state share. */
#ifndef BIND_VM_PRIV_H
#define BIND_VM_PRIV_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "base/list.h"
#include "bind/alloc.h"
#include "bind/task.h"
#include "bind/vm.h"
#include "net/loop.h"
#include "route/tally.h"
#include "server/handler.h"
#include "server/settings.h"

struct lua_app;

/* Why a coroutine was suspended: by user code, or by us on behalf of the scheduler. */
enum vm_yield { YIELD_USER, YIELD_WAIT, YIELD_PREEMPT, YIELD_KILL };

struct vm {
    lua_State *L;
    struct loop *loop;
    struct settings *settings;
    struct tally *tally;
    unsigned slot_index;
    struct tally_slot *slot;
    struct tally_app *column;           /* ours in the slot */
    struct local_server *local_servers; /* in-process, of tests; as long as the state */
    bool owned;                         /* the state is ours, with our allocator */
    bool loading, stopping;
    bool closed; /* finalizers may still run, but no task starts */

    /* tasks */
    struct task *running;
    struct task *spinning; /* set aside: only it may run Lua */
    bool main_waiting;
    struct task main; /* stands for an interpreter's main thread when that waits */
    struct list ready, idle_tasks, all_roots;
    unsigned idle_count, task_count, app_tasks;
    uint64_t last_task, last_request;
    struct loop_call run_call;
    struct loop_alarm spin_alarm;
    enum vm_yield yielding;
    int blocked; /* levels of coroutine.resume below which no wait can pass */

    /* requests */
    struct list idle_requests;
    struct lua_app *app; /* of a worker; tests make their own */
    int hooks_ref;
    int box_metatables[6]; /* registry, by enum box_type */

    /* memory */
    struct alloc alloc;
    size_t bytes;
    volatile sig_atomic_t in_lua;
    int unlimited; /* levels of vm_lift_limit */

    struct buf warning; /* pieces of a Lua warning */
    bool warning_more;

    /* time */
    lua_State *volatile innermost; /* the thread whose code runs now */
    volatile sig_atomic_t ticks;   /* of CPU time, in this slice */
    bool watched;

    /* loading */
    void (*loaded)(void *owner, int code, const struct err_text *text);
    void *loaded_owner;
    int load_stage;
    char app_path[1024];
    struct buf asked_settings; /* key\0value\0 … */
    struct buf wrong_option;   /* what set_option raised last, while the app was loaded */

    void (*shutdown)(void *owner);
    void *shutdown_owner;
    void (*ask)(void *owner, unsigned number, const struct vm_question *question);
    void *ask_owner;
    struct list questions; /* without an answer yet */
    unsigned question_count;
    unsigned last_question;
    struct span addresses; /* of the app, each ended by a NUL; no pointer before the start */
    void (*idle)(void *owner);
    void *idle_owner;
    struct loop_call idle_call;
};

/* vm.c */
void vm_attach(struct vm *vm, lua_State *L);

/* Around each entry into Lua code: the memory limit and the CPU clock count inside only. */
void vm_enter(struct vm *vm, lua_State *thread);
void vm_leave(struct vm *vm);

/*
 * Between the two the memory limit does not hold: for steps that must not fail half-way, and for
 * those on another thread of the state than the one that runs, whose errors nobody would catch.
 */
void vm_lift_limit(struct vm *vm);
void vm_set_limit(struct vm *vm);

/* Pushes a field of the hooks table; false (nothing pushed) when it is no function. */
bool vm_push_hook(struct vm *vm, lua_State *L, const char *name);

/* cpu.c */
void cpu_watch(struct vm *vm);
void cpu_unwatch(struct vm *vm);

/* Lua code of this state runs from now on. */
void cpu_follow(struct vm *vm);

/* L goes on after an error in a coroutine of it; if that was the end of the task's time, L's next
 * instruction fails too, or a loop around such coroutines would never end. */
void cpu_insist(struct vm *vm, lua_State *L);

/* task.c */
void tasks_init(struct vm *vm);
void tasks_fini(struct vm *vm);
void tasks_check_idle(struct vm *vm);

/* traceback.c */

/*
 * Pushes a string on L: message and stack of T, and of the coroutines that it came through. May run
 * the error value's __tostring, and raise what that raises.
 */
void push_failure(lua_State *L, lua_State *T, int index);

/*
 * The same from outside of Lua: pushes a string on the state's main thread whatever happens. Code
 * of the error value runs within the limits of a task and cannot wait.
 */
void push_task_failure(struct task *task);

/* l_core.c: makes the module's table, pushes it, remembers its hooks. */
void core_open(struct vm *vm, lua_State *L);

/* request.c */
void requests_init(struct vm *vm);
void requests_fini(struct vm *vm);

#endif
