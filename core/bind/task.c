/*
 * The scheduler. All entries into Lua from the loop are here: one resume, with its account of what
 * the coroutine did then: returned, failed, waits, was interrupted, or asked for something a task
 * cannot do.
 */
#include "bind/task.h"

#include <lauxlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "bind/aux.h"
#include "bind/l_coroutine.h"
#include "bind/vm_priv.h"

#define LATE_WAITS 16 /* of a cancelled task, each within a turn of the loop */
#define LATE_WAIT_SECONDS                                                                          \
    0.01                /* what each later one takes: it does not spin until it is closed          \
                         */
#define IDLE_TASKS 512  /* finished threads kept for the next request */
#define RUN_BATCH  1024 /* resumed in one go; then the sockets get their turn */

static void task_resume(struct task *task);

/* ---- life ---- */

/* For a sleep this is what it waited for, for every other wait its time limit. */
static void on_alarm(struct loop_alarm *alarm)
{
    struct task *task = LIST_OWNER(alarm, struct task, alarm);

    task_wake(task, task->wait, task->wait == WAIT_ALARM ? 0 : ERR_TIMEOUT);
}

static void on_grace_over(struct loop_timer *timer)
{
    struct task *task = LIST_OWNER(timer, struct task, grace);
    struct log_line line;

    log_begin(&line, LOG_WARN, "task_closed", "a cancelled task went on after timeouts.cancel");
    log_int(&line, "task", (int64_t)task->number);
    log_end(&line);
    task_kill(task);
}

static struct task *task_make(struct vm *vm)
{
    struct task *task = mem_zalloc(sizeof(*task));

    task->vm = vm;
    task->handle = LUA_NOREF;
    list_init(&task->node);
    list_init(&task->siblings);
    list_init(&task->children);
    list_init(&task->waiting);
    loop_alarm_init(&task->alarm, on_alarm);
    loop_timer_init(&task->grace, on_grace_over);
    return task;
}

/* Lua code of another thread may have asked for the task: what it lacks then is not for this one to
 * report. */
static void make_thread(struct task *task)
{
    struct vm *vm = task->vm;

    vm_lift_limit(vm);
    task->T = lua_newthread(vm->L);
    l_coroutine_reserve(vm->L);
    task->anchor = luaL_ref(vm->L, LUA_REGISTRYINDEX);
    vm_set_limit(vm);
}

struct task *task_new(struct vm *vm, void (*ended)(struct task *task, int status), void *owner)
{
    struct list *node = list_take(&vm->idle_tasks);
    struct task *task;

    if (node) {
        task = LIST_OWNER(node, struct task, node);
        vm->idle_count--;
    } else {
        task = task_make(vm);
        make_thread(task);
    }
    task->number = ++vm->last_task;
    task->state = TASK_NEW;
    task->wait = WAIT_NONE;
    task->woken = task->cancel = task->late_waits = 0;
    task->detached = task->killed = task->unlimited = task->background = false;
    task->parent = NULL;
    task->request = NULL;
    task->request_number = 0;
    task->ended = ended;
    task->owner = owner;
    vm->task_count++;
    vm->slot->gauge[GAUGE_TASKS]++;
    list_append(&vm->all_roots, &task->siblings);
    return task;
}

static void task_free(struct task *task)
{
    struct vm *vm = task->vm;

    loop_alarm_stop(vm->loop, &task->alarm);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, task->anchor);
    mem_free(task);
}

/* The coroutine is over and told so: the thread goes back to the pool. */
static void task_over(struct task *task)
{
    struct vm *vm = task->vm;
    struct list *child;

    task->state = TASK_FREE;
    list_remove(&task->node);
    list_remove(&task->siblings);
    list_remove(&task->waiting);
    loop_timer_stop(&task->grace);
    /* Children that were not joined end with their scope. */
    while ((child = list_take(&task->children)) != NULL) {
        struct task *orphan = LIST_OWNER(child, struct task, siblings);

        orphan->parent = NULL;
        list_append(&vm->all_roots, &orphan->siblings);
        task_cancel(orphan, ERR_CANCELLED);
    }
    if (task->handle != LUA_NOREF) {
        luaL_unref(vm->L, LUA_REGISTRYINDEX, task->handle);
        task->handle = LUA_NOREF;
    }
    vm->task_count--;
    vm->slot->gauge[GAUGE_TASKS]--;
    if (vm->idle_count < IDLE_TASKS) {
        list_append(&vm->idle_tasks, &task->node);
        vm->idle_count++;
    } else {
        task_free(task);
    }
    tasks_check_idle(vm);
}

/* From now on each wait ends with code, and the task itself when it goes on for too long. */
static void mark_cancelled(struct task *task, int code)
{
    int64_t grace_ms = task->vm->settings->timeout_cancel_ms;

    task->cancel = code;
    if (grace_ms != SETTING_OFF)
        loop_timer_start(task->vm->loop, &task->grace, grace_ms);
}

void task_adopt(struct task *parent, struct task *child)
{
    if (parent == NULL)
        return;
    list_remove(&child->siblings);
    list_append(&parent->children, &child->siblings);
    child->parent = parent;
    child->request = parent->request;
    child->request_number = parent->request_number;
    if (parent->cancel)
        mark_cancelled(child, parent->cancel);
}

/* ---- running ---- */

static void enqueue(struct task *task)
{
    struct vm *vm = task->vm;

    task->state = TASK_READY;
    list_append(&vm->ready, &task->node);
    loop_defer(vm->loop, &vm->run_call);
}

void task_start(struct task *task, int arguments)
{
    task->arguments = arguments;
    if (task->vm->running || task->vm->spinning)
        enqueue(task);
    else
        task_resume(task);
}

void task_again(struct task *task, int arguments)
{
    if (task->cancel) /* the next function gets its own time to end */
        mark_cancelled(task, task->cancel);
    task->arguments = arguments;
    enqueue(task);
}

/* Closes what the coroutine left open; <close> handlers run now and cannot wait. */
static void close_thread(struct task *task)
{
    struct vm *vm = task->vm;
    struct task *before = vm->running;

    vm->running = task;
    vm->blocked++;
    vm->ticks = 0; /* what cleans up has a time of its own */
    vm_enter(vm, task->T);
    l_coroutine_close_waiting(task->T);
    int status = lua_resetthread(task->T);
    vm_leave(vm);
    vm->blocked--;
    vm->running = before;
    if (status != LUA_OK && lua_gettop(task->T) > 0 && task->killed)
        log_event(LOG_ERROR, "close_failed", "%s",
                  lua_isstring(task->T, -1) ? lua_tostring(task->T, -1) : "error in __close");
    lua_settop(task->T, 0);
}

int task_call(struct task *task, int arguments)
{
    struct vm *vm = task->vm;
    struct task *before = vm->running;

    vm->running = task;
    vm->blocked++;
    vm->ticks = 0;
    vm_lift_limit(vm);
    vm_enter(vm, vm->L);
    int status = lua_pcall(vm->L, arguments, 1, 0);
    vm_leave(vm);
    vm_set_limit(vm);
    vm->blocked--;
    vm->running = before;
    return status;
}

static void task_ended(struct task *task, int status)
{
    task->state = TASK_ENDED;
    task->failed = status != LUA_OK;
    task->ended(task, status);
    if (task->state != TASK_ENDED)
        return; /* it goes on with another function */
    task_reset(task);
    task_over(task);
}

void task_reset(struct task *task)
{
    if (task->failed)
        close_thread(task);
    task->failed = false;
    if (task->spoiled) {
        luaL_unref(task->vm->L, LUA_REGISTRYINDEX, task->anchor);
        make_thread(task);
        task->spoiled = false;
    }
    lua_settop(task->T, 0);
}

static void after_yield(struct task *task, int results)
{
    struct vm *vm = task->vm;

    lua_pop(task->T, results);
    switch (vm->yielding) {
    case YIELD_WAIT:
        return; /* parked, or woken already */
    case YIELD_PREEMPT:
        task->state = TASK_SPINNING;
        vm->spinning = task;
        loop_alarm_start(vm->loop, &vm->spin_alarm, 0);
        return;
    case YIELD_KILL:
        vm->slot->counter[COUNTER_CPU_LIMIT]++;
        lua_pushfstring(task->T, "ran %d ms without waiting (cpu_limit)",
                        (int)vm->settings->cpu_limit_ms);
        task->killed = true;
        task_ended(task, LUA_ERRRUN);
        return;
    default:
        lua_pushliteral(task->T, "attempt to yield outside a coroutine: a task is resumed by the "
                                 "scheduler, wait with moonquay.sleep or an event");
        task_ended(task, LUA_ERRRUN);
    }
}

static void task_resume(struct task *task)
{
    struct vm *vm = task->vm;
    int results = 0, arguments = task->arguments;

    if (vm->spinning == task)
        vm->spinning = NULL; /* the same slice goes on */
    else
        vm->ticks = 0;
    task->state = TASK_RUNNING;
    task->arguments = 0;
    vm->running = task;
    vm->yielding = YIELD_USER;
    vm_enter(vm, task->T);
    int status = lua_resume(task->T, vm->L, arguments, &results);
    vm_leave(vm);
    vm->running = NULL;
    if (status == LUA_YIELD)
        after_yield(task, results);
    else if (status == LUA_OK)
        task_ended(task, LUA_OK);
    else
        task_ended(task, status);
}

static void run_ready(struct loop_call *call)
{
    struct vm *vm = LIST_OWNER(call, struct vm, run_call);
    struct list *node;

    for (int n = 0; n < RUN_BATCH && !vm->spinning && !vm->running; n++) {
        if ((node = list_take(&vm->ready)) == NULL)
            return;
        task_resume(LIST_OWNER(node, struct task, node));
    }
    if (!vm->spinning && !list_empty(&vm->ready))
        loop_defer(vm->loop, &vm->run_call);
}

/* The loop has turned once: the task that was set aside goes on. */
static void on_spin(struct loop_alarm *alarm)
{
    struct vm *vm = LIST_OWNER(alarm, struct vm, spin_alarm);

    if (vm->spinning == NULL)
        return;
    task_resume(vm->spinning);
    if (!vm->spinning && !list_empty(&vm->ready))
        loop_defer(vm->loop, &vm->run_call);
}

/* ---- waiting ---- */

struct task *task_running(lua_State *L)
{
    return vm_of(L)->running;
}

bool task_can_wait(lua_State *L)
{
    struct vm *vm = vm_of(L);

    if (vm->running)
        return vm->blocked == 0 && lua_isyieldable(L);
    /* The main thread of a script may turn the loop; what the loop itself calls may not. */
    return !vm->owned && !vm->closed && !vm->main_waiting;
}

struct task *task_waiter(lua_State *L)
{
    struct vm *vm = vm_of(L);

    return vm->running ? vm->running : &vm->main;
}

/* The C function below which Lua cannot be suspended, for the message. */
const char *task_blocking_function(lua_State *L)
{
    lua_Debug frame;

    for (int level = 1; lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "S", &frame);
        if (frame.what[0] != 'C')
            continue;
        /* A traceback names library functions by their module, which no other call does. */
        luaL_traceback(L, L, NULL, level);
        const char *line = strstr(lua_tostring(L, -1), "in function '");
        const char *start = line ? strchr(line, '\'') + 1 : NULL;
        const char *end = start ? strchr(start, '\'') : NULL;

        if (end && strncmp(start, "pcall'", 6) != 0 && strncmp(start, "xpcall'", 7) != 0)
            return lua_pushlstring(L, start, (size_t)(end - start));
    }
    return "a C function";
}

int task_refuse_wait(lua_State *L)
{
    const char *name = task_blocking_function(L), *dot = strrchr(name, '.');
    bool has_twin = strcmp(name, "string.gsub") == 0 || strcmp(name, "table.sort") == 0;

    return luaL_error(L, "cannot wait inside %s: collect first and wait afterwards%s%s", name,
                      has_twin ? ", or use moonquay.util" : "", has_twin ? dot : "");
}

static int wait_in_main(lua_State *L, enum task_wait wait, lua_KFunction k, lua_KContext context)
{
    struct vm *vm = vm_of(L);
    struct task *task = &vm->main;

    task->wait = wait;
    task->state = TASK_PARKED;
    vm->main_waiting = true;
    while (task->state == TASK_PARKED)
        loop_turn(vm->loop, true);
    vm->main_waiting = false;
    return k(L, LUA_YIELD, context);
}

int task_park(lua_State *L, enum task_wait wait, lua_KFunction k, lua_KContext context)
{
    struct vm *vm = vm_of(L);
    struct task *task = vm->running;

    if (!task_can_wait(L))
        return task_refuse_wait(L);
    if (task == NULL)
        return wait_in_main(L, wait, k, context);
    task->wait = wait;
    task->woken = 0;
    task->state = TASK_PARKED;
    vm->yielding = YIELD_WAIT;
    return lua_yieldk(L, 0, context, k);
}

int task_give_turn(lua_State *L, lua_KFunction k, lua_KContext context)
{
    struct vm *vm = vm_of(L);
    struct task *task = vm->running;

    if (task == NULL || !task_can_wait(L))
        return k(L, LUA_OK, context);
    task->late_waits++;
    loop_alarm_start(vm->loop, &task->alarm, task->late_waits > LATE_WAITS ? LATE_WAIT_SECONDS : 0);
    return task_park(L, WAIT_ALARM, k, context);
}

static int push_cancelled(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return l_fail(L, task_waiter(L)->cancel, NULL);
}

int task_fail_cancelled(lua_State *L)
{
    return task_give_turn(L, push_cancelled, 0);
}

/* Nobody finds the task any more where it was written down as waiting. */
static void leave_slot(struct task *task)
{
    if (task->slot && *task->slot == task)
        *task->slot = NULL;
    task->slot = NULL;
}

void task_wait_at(struct task *task, struct task **slot)
{
    *slot = task;
    task->slot = slot;
}

void task_wake(struct task *task, enum task_wait wait, int code)
{
    if (task->state != TASK_PARKED || task->wait != wait)
        return;
    task->woken = code;
    task->wait = WAIT_NONE;
    list_remove(&task->waiting);
    leave_slot(task);
    loop_alarm_stop(task->vm->loop, &task->alarm);
    if (task == &task->vm->main)
        task->state = TASK_RUNNING;
    else
        enqueue(task);
}

void task_cancel(struct task *task, int code)
{
    if (task->cancel || task->state == TASK_FREE || task->state == TASK_ENDED)
        return;
    mark_cancelled(task, code);
    for (struct list *node = task->children.next; node != &task->children; node = node->next)
        task_cancel(LIST_OWNER(node, struct task, siblings), code);
    if (task->state == TASK_PARKED)
        task_wake(task, task->wait, code);
}

void task_kill(struct task *task)
{
    struct vm *vm = task->vm;

    switch (task->state) {
    case TASK_FREE:
    case TASK_ENDED:
        return;
    case TASK_RUNNING: /* asked for by its own code: it ends at its next wait */
        task->cancel = task->cancel ? task->cancel : ERR_CANCELLED;
        return;
    case TASK_SPINNING:
        vm->spinning = NULL;
        loop_defer(vm->loop, &vm->run_call); /* the others were waiting for it */
        break;
    default:
        list_remove(&task->node);
    }
    task->killed = true;
    leave_slot(task);
    loop_alarm_stop(vm->loop, &task->alarm);
    lua_pushliteral(task->T, "the task was closed");
    task_ended(task, LUA_ERRRUN);
}

/* ---- the whole ---- */

void tasks_init(struct vm *vm)
{
    list_init(&vm->ready);
    list_init(&vm->idle_tasks);
    list_init(&vm->all_roots);
    loop_call_init(&vm->run_call, run_ready);
    loop_alarm_init(&vm->spin_alarm, on_spin);
    vm->main.vm = vm;
    vm->main.handle = LUA_NOREF;
    vm->main.T = vm->L;
    list_init(&vm->main.node);
    list_init(&vm->main.siblings);
    list_init(&vm->main.children);
    list_init(&vm->main.waiting);
    loop_alarm_init(&vm->main.alarm, on_alarm);
    loop_timer_init(&vm->main.grace, on_grace_over);
}

void tasks_fini(struct vm *vm)
{
    struct list *node;

    while (!list_empty(&vm->all_roots))
        task_kill(LIST_OWNER(vm->all_roots.next, struct task, siblings));
    loop_call_cancel(&vm->run_call);
    loop_alarm_stop(vm->loop, &vm->spin_alarm);
    loop_alarm_stop(vm->loop, &vm->main.alarm);
    while ((node = list_take(&vm->idle_tasks)) != NULL)
        task_free(LIST_OWNER(node, struct task, node));
}
