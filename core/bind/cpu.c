/*
 * The clock of Lua's work: a timer on the CPU time of the loop's thread, always running, so that a
 * request costs no system call. It counts ticks while Lua runs; from the second tick of one slice
 * on it asks the innermost thread for an interruption at its next instruction, by a hook, which is
 * the one thing of Lua that a signal may set.
 *
 * What the interruption does: a task that can be suspended is set aside, so that the loop turns for
 * work that needs no Lua of this state; at cpu_limit it is suspended for good, which no pcall can
 * catch. Where Lua cannot be suspended (a sort's comparator, a <close> handler) each instruction
 * gets an error instead, so that code which catches it ends as well.
 */
#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "bind/aux.h"
#include "bind/vm_priv.h"

#define TICK_MS     10
#define CPU_SIGNAL  SIGVTALRM
#define SLICE_TICKS 2

static struct vm *volatile watched; /* the state whose code ran last: one thread, one at a time */
static timer_t timer;
static unsigned watchers; /* states that share the timer */

static bool is_over(const struct vm *vm)
{
    const struct task *task = vm->running;

    return task && !task->unlimited && (int64_t)vm->ticks * TICK_MS > vm->settings->cpu_limit_ms;
}

static void interrupted(lua_State *L, lua_Debug *frame)
{
    struct vm *vm = watched;

    (void)frame;
    lua_sethook(L, NULL, 0, 0);
    if (vm == NULL || L != vm->innermost || vm->ticks < SLICE_TICKS)
        return; /* left over from an earlier slice */
    struct task *task = vm->running;
    bool over = is_over(vm);

    if (task && vm->blocked == 0 && lua_isyieldable(L)) {
        if (over) {
            vm_lift_limit(vm);
            luaL_traceback(L, L, NULL, 0);
            lua_setfield(L, LUA_REGISTRYINDEX, "moonquay.spin");
            vm_set_limit(vm);
        }
        vm->yielding = over ? YIELD_KILL : YIELD_PREEMPT;
        lua_yield(L, 0);
        return;
    }
    if (over) {
        /* Lua forbids hooks within a hook, and an error that leaves this one and no pcall catches
         * leaves it at that. */
        task->spoiled |= L == task->T;
        lua_sethook(L, interrupted, LUA_MASKCOUNT, 1);
        luaL_error(L, "ran %d ms without waiting (cpu_limit)", vm->ticks * TICK_MS);
    }
}

void cpu_insist(struct vm *vm, lua_State *L)
{
    if (vm->watched && is_over(vm))
        lua_sethook(L, interrupted, LUA_MASKCOUNT, 1);
}

static void on_tick(int number)
{
    struct vm *vm = watched;

    (void)number;
    if (vm == NULL || !vm->in_lua)
        return;
    if (++vm->ticks >= SLICE_TICKS)
        lua_sethook(vm->innermost, interrupted, LUA_MASKCOUNT, 1);
}

void cpu_follow(struct vm *vm)
{
    if (vm->watched)
        watched = vm;
}

void cpu_watch(struct vm *vm)
{
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = CPU_SIGNAL};
    struct itimerspec every = {.it_interval = {0, TICK_MS * 1000000},
                               .it_value = {0, TICK_MS * 1000000}};

    event._sigev_un._tid = gettid();
    sigaction(CPU_SIGNAL, &action, NULL);
    if (watchers == 0 && (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) < 0 ||
                          timer_settime(timer, 0, &every, NULL) < 0)) {
        log_event(LOG_WARN, "cpu_limit_off", "no CPU timer: %s", strerror(errno));
        return;
    }
    watchers++;
    vm->watched = true;
}

void cpu_unwatch(struct vm *vm)
{
    if (!vm->watched)
        return;
    if (--watchers == 0)
        timer_delete(timer);
    if (watched == vm)
        watched = NULL;
    vm->watched = false;
}
