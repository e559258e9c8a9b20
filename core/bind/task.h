/*
 * Tasks: coroutines that the loop resumes. A task runs until it waits or ends; between two waits
 * nothing else of its state runs. Whatever wants to wait parks its task with a continuation, and
 * whatever it waits for wakes the task: it is resumed from the loop, never from inside the call
 * that woke it.
 *
 * Waits pass through user coroutines: bind/l_coroutine hands the suspension outwards.
 */
#ifndef BIND_TASK_H
#define BIND_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/list.h"
#include "net/loop.h"

struct vm;
struct request;

enum task_state {
    TASK_FREE,
    TASK_NEW,
    TASK_READY,
    TASK_RUNNING,
    TASK_PARKED,
    TASK_SPINNING,
    TASK_ENDED
};

/* What a parked task waits for: a wake-up that is meant for another kind of wait is ignored. */
enum task_wait { WAIT_NONE, WAIT_CONTENT, WAIT_ROOM, WAIT_ALARM, WAIT_EVENT };

struct task {
    struct list node; /* in the vm's ready list, or among the free ones */
    struct list siblings, children;
    struct list waiting; /* in the list of the event that it waits for */
    struct task **slot;  /* where it is written down as the one who waits; NULL: nowhere */
    struct vm *vm;
    struct task *parent;
    struct request *request; /* whose work this is; NULL for the app's own */
    uint64_t request_number; /* its number then: the request may have ended before this task */
    lua_State *T;
    int anchor; /* registry reference of T */
    int handle; /* registry reference of the Lua handle, LUA_NOREF when there is none */
    uint64_t number;
    enum task_state state;
    enum task_wait wait;
    int woken;      /* what the wake-up said: 0 or an error */
    int late_waits; /* begun after the cancel */
    int cancel;     /* 0, or the error that each wait returns from now on */
    int arguments;  /* on T's stack for the next resume */
    bool detached, killed, unlimited, failed;
    bool background;         /* finishes its work when the app is told to stop */
    bool spoiled;            /* its thread has no hooks any more and must not be used again */
    struct loop_alarm alarm; /* sleeping, and time-outs of other waits */
    struct loop_timer grace; /* after a cancel: then it is closed */

    /*
     * Called when the coroutine returned (status LUA_OK, results on T) or failed (LUA_ERRRUN …,
     * with T's stack as it was at the error). May push a function with arguments on T and call
     * task_again. Otherwise the task is over.
     */
    void (*ended)(struct task *task, int status);
    void *owner;
};

/* A task with an empty stack; the caller pushes function and arguments on task->T and starts it. */
struct task *task_new(struct vm *vm, void (*ended)(struct task *task, int status), void *owner);

/* Makes child die with parent (unless detached) and belong to the same request. */
void task_adopt(struct task *parent, struct task *child);

/* Resumes now when no Lua of this state runs, else soon. */
void task_start(struct task *task, int arguments);

/* From ended: closes what a failed coroutine left open and empties its stack. task->T may be
 * another thread afterwards. */
void task_reset(struct task *task);

/* From ended: run another function in the same thread; after task_reset when it had failed. */
void task_again(struct task *task, int arguments);

/* The task that runs, NULL outside (load of stock Lua scripts, main chunk of an interpreter). */
struct task *task_running(lua_State *L);

/* True when a wait is possible right here. */
bool task_can_wait(lua_State *L);

/*
 * Suspends the running task until task_wake of this kind. Returns what lua_yieldk returns: use as
 * `return task_park(…)`. In the continuation, task->woken says why. Raises, naming the function,
 * where Lua cannot wait. Outside a task it turns the loop until woken and then calls k itself.
 */
int task_park(lua_State *L, enum task_wait wait, lua_KFunction k, lua_KContext context);

/* Who parks here: the running task, or the stand-in for the interpreter's main thread. */
struct task *task_waiter(lua_State *L);

/* Writes task down in slot until its next wait ends in whatever way; before task_park. slot must
 * stay valid as long. */
void task_wait_at(struct task *task, struct task **slot);

/*
 * The wait of a task that was cancelled before: it ends at once, but the others get their turn
 * first, and one that goes on asking gets its answers slower. k is called as after task_park; right
 * here where Lua cannot wait.
 */
int task_give_turn(lua_State *L, lua_KFunction k, lua_KContext context);

/* The same for the ordinary case: nil and the error of the cancel. */
int task_fail_cancelled(lua_State *L);

/* Ends a wait of this kind, if that is what the task waits for. */
void task_wake(struct task *task, enum task_wait wait, int code);

/* Ends whatever the task waits for with code, now and for each later wait; its children too. */
void task_cancel(struct task *task, int code);

/* Closes the task: its <close> variables run, then it is over (ended is called with LUA_ERRRUN and
 * no error value). */
void task_kill(struct task *task);

/*
 * lua_pcall with one result on the state's main thread, for a task that does not run: within
 * cpu_limit, without waits and without the limit of memory.
 */
int task_call(struct task *task, int arguments);

/* Raises the error for a wait where none is possible. */
int task_refuse_wait(lua_State *L);

/* The name of the C function below which Lua cannot be suspended now; on L's stack. */
const char *task_blocking_function(lua_State *L);

#endif
