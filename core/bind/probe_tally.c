/*
 * Opens the shared counting of core/route to the specs: several processes that take places below a
 * limit at the same time, one of them killed while it holds the lock; and queues of several slots.
 */
#include "bind/probe.h"

#include <lauxlib.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "route/queue.h"
#include "route/tally.h"

#define QUEUES_TYPE      "moonquay.probe.queues"
#define APP              3  /* any column but the first */
#define BYTES            10 /* that come with each place of an app */
#define MOST_PROCESSES   16
#define GIVE_UP_SECONDS  60 /* who waits so long for a lock waits for ever */
#define MOST_QUEUE_SLOTS 8

/* ---- several processes */

/* What the processes of a race see of each other, beside the tally. */
struct race {
    struct tally *tally;
    unsigned processes;
    int64_t limit, limit_bytes; /* limit_bytes below 0: places of the server, not of an app */
    int64_t rounds;
    unsigned arrived; /* at the barrier */
    unsigned trapped; /* 1: the victim holds the lock */
    int64_t holders;  /* places that somebody believes to have */
    int64_t kept;     /* in the end */
    int64_t excess;   /* how often there were more holders than places */
};

static bool take(const struct race *race, struct tally *tally, struct tally_slot *slot)
{
    const struct tally_claim claims[] = {
        {APP_QUEUED, 1, race->limit},
        {APP_QUEUED_BYTES, BYTES, race->limit_bytes},
    };

    if (race->limit_bytes < 0)
        return tally_take(tally, slot, GAUGE_CONNECTIONS, 1, race->limit);
    return tally_app_claim(tally, slot, APP, claims, 2);
}

static void give_back(const struct race *race, struct tally_slot *slot)
{
    if (race->limit_bytes < 0) {
        slot->gauge[GAUGE_CONNECTIONS]--;
        return;
    }
    slot->app[APP].gauge[APP_QUEUED]--;
    slot->app[APP].gauge[APP_QUEUED_BYTES] -= BYTES;
}

static int64_t sum(const struct race *race, enum tally_app_gauge gauge)
{
    if (race->limit_bytes < 0)
        return tally_gauge_sum(race->tally, GAUGE_CONNECTIONS);
    return tally_app_gauge_sum(race->tally, APP, gauge);
}

static int64_t places(const struct race *race)
{
    int64_t by_bytes = race->limit_bytes / BYTES;

    return race->limit_bytes >= 0 && by_bytes < race->limit ? by_bytes : race->limit;
}

/* Who has taken a place is a holder only as long as the tally counts it: more holders than places
 * are a proof, whatever the others do meanwhile. */
static void churn(struct race *race, struct tally *tally, struct tally_slot *slot)
{
    for (int64_t i = 0; i < race->rounds; i++) {
        if (!take(race, tally, slot))
            continue;
        if (__atomic_add_fetch(&race->holders, 1, __ATOMIC_SEQ_CST) > places(race))
            __atomic_add_fetch(&race->excess, 1, __ATOMIC_SEQ_CST);
        if (i % 16 == 0)
            sched_yield(); /* with the place in hand */
        __atomic_sub_fetch(&race->holders, 1, __ATOMIC_SEQ_CST);
        give_back(race, slot);
    }
}

/* Each process attaches for itself, as workers do. */
static void compete(struct race *race, int fd, unsigned index)
{
    struct tally *tally = tally_attach(fd);

    if (tally == NULL)
        _exit(1);
    alarm(GIVE_UP_SECONDS);
    churn(race, tally, tally_slot(tally, index));
    __atomic_add_fetch(&race->arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&race->arrived, __ATOMIC_SEQ_CST) < race->processes)
        sched_yield();
    while (take(race, tally, tally_slot(tally, index)))
        __atomic_add_fetch(&race->kept, 1, __ATOMIC_SEQ_CST);
    _exit(0);
}

static struct race *trap;

static void on_trap(int number)
{
    (void)number;
    __atomic_store_n(&trap->trapped, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause(); /* with the lock, until SIGKILL */
}

/*
 * Takes a place, and another one when its own slot has become read-only: the store that would count
 * it lies between locking and unlocking, and never returns.
 */
static void fall_into_trap(struct race *race, int fd, unsigned index)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct tally *tally = tally_attach(fd);
    struct tally_slot *slot = tally ? tally_slot(tally, index) : NULL;
    struct sigaction action = {.sa_handler = on_trap};
    uintptr_t first = (uintptr_t)slot / page * page, end = (uintptr_t)(slot + 1);

    trap = race;
    if (slot == NULL || !take(race, tally, slot) || sigaction(SIGSEGV, &action, NULL) < 0 ||
        mprotect((char *)first, end - first, PROT_READ) < 0)
        _exit(1);
    __atomic_add_fetch(&race->holders, 1, __ATOMIC_SEQ_CST);
    alarm(GIVE_UP_SECONDS);
    take(race, tally, slot);
    _exit(1);
}

/* How a process ended: the signal's number, or 1000 more than its status. */
static int end_of(pid_t pid)
{
    int status = 0;

    if (waitpid(pid, &status, 0) < 0)
        return -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 1000 + WEXITSTATUS(status);
}

static pid_t start(void (*run)(struct race *race, int fd, unsigned index), struct race *race,
                   int fd, unsigned index)
{
    pid_t pid = fork();

    if (pid == 0)
        run(race, fd, index);
    return pid;
}

/* The victim has the lock when this returns, unless it has ended. */
static pid_t start_victim(struct race *race, int fd)
{
    pid_t pid = start(fall_into_trap, race, fd, race->processes);

    while (pid > 0 && !__atomic_load_n(&race->trapped, __ATOMIC_SEQ_CST) &&
           waitpid(pid, NULL, WNOHANG) == 0)
        sched_yield();
    return pid;
}

static void set_int(lua_State *L, const char *name, int64_t value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static int64_t option(lua_State *L, const char *name, int64_t otherwise)
{
    lua_getfield(L, 1, name);

    int64_t value = luaL_optinteger(L, -1, otherwise);

    lua_pop(L, 1);
    return value;
}

static struct race *new_race(lua_State *L)
{
    struct race *race =
        mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (race == MAP_FAILED)
        luaL_error(L, "no memory to share");
    race->processes = (unsigned)option(L, "processes", 4);
    race->limit = option(L, "limit", 1);
    race->limit_bytes = option(L, "limit_bytes", -1);
    race->rounds = option(L, "rounds", 0);
    return race;
}

/* Whether all ended well; then the lock can be had. */
static bool run_race(lua_State *L, struct race *race, int fd, bool with_victim)
{
    pid_t pids[MOST_PROCESSES], victim = with_victim ? start_victim(race, fd) : 0;
    unsigned well = 0;

    for (unsigned i = 0; i < race->processes; i++)
        pids[i] = start(compete, race, fd, i);
    if (victim > 0) {
        kill(victim, SIGKILL);
        set_int(L, "victim", end_of(victim));
    }
    for (unsigned i = 0; i < race->processes; i++)
        well += end_of(pids[i]) == 1000;
    set_int(L, "well", well);
    return well == race->processes;
}

/*
 * race { processes =, limit =, limit_bytes =, rounds =, victim = } -> { well, kept, excess, sum,
 * bytes, victim, cleared, after }: processes take and give back a place that many times, then keep
 * what they get. Without limit_bytes the places are the server's, else an app's, with 10 bytes
 * each. With a victim one process more has taken a place and holds the lock while the others begin;
 * then it gets SIGKILL (victim: 9); cleared is the sum without its slot, after what can be taken.
 */
static int probe_race(lua_State *L)
{
    struct race *race;
    bool with_victim, well;
    int fd;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "victim");
    with_victim = lua_toboolean(L, -1);
    race = new_race(L);
    luaL_argcheck(L, race->processes <= MOST_PROCESSES, 1, "too many processes");
    race->tally = tally_create(race->processes + 1, &fd);
    if (race->tally == NULL)
        return luaL_error(L, "no segment");
    lua_newtable(L);
    well = run_race(L, race, fd, with_victim);
    set_int(L, "kept", race->kept);
    set_int(L, "excess", race->excess);
    set_int(L, "sum", sum(race, APP_QUEUED));
    set_int(L, "bytes", sum(race, APP_QUEUED_BYTES));
    tally_clear(tally_slot(race->tally, race->processes));
    set_int(L, "cleared", sum(race, APP_QUEUED));
    race->kept = 0;
    while (well && take(race, race->tally, tally_slot(race->tally, race->processes)))
        race->kept++;
    set_int(L, "after", race->kept);
    tally_close(race->tally);
    close(fd);
    munmap(race, sizeof(*race));
    return 1;
}

/* tally_cleared() -> { gauges before, gauges after, counters after }: sums over all gauges and
 * counters of all apps of a slot that is cleared, and of its neighbour */
static int probe_cleared(lua_State *L)
{
    int fd;
    int64_t before = 0, after = 0, counters = 0;
    struct tally *tally = tally_create(2, &fd);

    if (tally == NULL)
        return luaL_error(L, "no segment");
    for (unsigned slot = 0; slot < 2; slot++)
        for (unsigned app = 0; app < TALLY_APPS; app++) {
            for (int i = 0; i < APP_GAUGES; i++)
                tally_slot(tally, slot)->app[app].gauge[i] = slot ? 1 : 1000;
            tally_slot(tally, slot)->app[app].counter[APP_REQUESTS] = slot ? 1 : 1000;
        }
    for (unsigned app = 0; app < TALLY_APPS; app++)
        for (int i = 0; i < APP_GAUGES; i++)
            before += tally_app_gauge_sum(tally, app, (enum tally_app_gauge)i);
    tally_clear(tally_slot(tally, 0));
    for (unsigned app = 0; app < TALLY_APPS; app++) {
        for (int i = 0; i < APP_GAUGES; i++)
            after += tally_app_gauge_sum(tally, app, (enum tally_app_gauge)i);
        counters += (int64_t)tally_app_counter_sum(tally, app, APP_REQUESTS);
    }
    tally_close(tally);
    close(fd);
    lua_newtable(L);
    set_int(L, "before", before);
    set_int(L, "after", after);
    set_int(L, "counters", counters);
    set_int(L, "columns", (int64_t)TALLY_APPS * APP_GAUGES);
    set_int(L, "apps", TALLY_APPS);
    return 1;
}

/* ---- queues */

struct waiting {
    struct queue_entry entry;
    lua_Integer name;
    unsigned slot;
    struct list node; /* of all that were put and not taken */
};

struct queues {
    struct tally *tally;
    unsigned slots;
    struct queue queue[MOST_QUEUE_SLOTS];
    struct list all;
};

static struct queues *check_queues(lua_State *L)
{
    return luaL_checkudata(L, 1, QUEUES_TYPE);
}

static unsigned check_slot(lua_State *L, const struct queues *queues)
{
    lua_Integer slot = luaL_checkinteger(L, 2);

    luaL_argcheck(L, slot >= 0 && slot < queues->slots, 2, "no such slot");
    return (unsigned)slot;
}

/* queues(slots) -> a queue of the same app in each */
static int probe_queues(lua_State *L)
{
    unsigned slots = (unsigned)luaL_checkinteger(L, 1);
    struct queues *queues = lua_newuserdatauv(L, sizeof(*queues), 0);
    int fd;

    luaL_argcheck(L, slots <= MOST_QUEUE_SLOTS, 1, "too many");
    *queues = (struct queues){.slots = slots};
    list_init(&queues->all);
    queues->tally = tally_create(slots, &fd);
    if (queues->tally == NULL)
        return luaL_error(L, "no segment");
    close(fd);
    for (unsigned i = 0; i < slots; i++)
        queue_init(&queues->queue[i], queues->tally, tally_slot(queues->tally, i), APP);
    luaL_setmetatable(L, QUEUES_TYPE);
    return 1;
}

static void waiting_free(struct waiting *waiting)
{
    list_remove(&waiting->node);
    mem_free(waiting);
}

static int queues_gc(lua_State *L)
{
    struct queues *queues = check_queues(L);

    while (!list_empty(&queues->all))
        waiting_free(LIST_OWNER(queues->all.next, struct waiting, node));
    tally_close(queues->tally);
    queues->tally = NULL;
    return 0;
}

/* queues:put(slot, name, bytes, limit, limit_bytes) -> true | nil, error's name */
static int queues_put(lua_State *L)
{
    struct queues *queues = check_queues(L);
    unsigned slot = check_slot(L, queues);
    lua_Integer name = luaL_checkinteger(L, 3), bytes = luaL_checkinteger(L, 4);
    lua_Integer limit = luaL_checkinteger(L, 5), limit_bytes = luaL_checkinteger(L, 6);
    struct waiting *waiting = mem_zalloc(sizeof(*waiting));
    int code;

    queue_entry_init(&waiting->entry);
    waiting->entry.bytes = bytes;
    waiting->name = name;
    waiting->slot = slot;
    list_init(&waiting->node);
    code = queue_put(&queues->queue[slot], &waiting->entry, limit, limit_bytes);
    if (queue_has(&waiting->entry) != (code == 0))
        return luaL_error(L, "queue_has differs from what queue_put returned");
    if (code < 0) {
        mem_free(waiting);
        lua_pushnil(L);
        lua_pushstring(L, err_name(code));
        return 2;
    }
    list_append(&queues->all, &waiting->node);
    lua_pushboolean(L, true);
    return 1;
}

/* queues:take(slot) -> name | nil */
static int queues_take(lua_State *L)
{
    struct queues *queues = check_queues(L);
    struct queue_entry *entry = queue_take(&queues->queue[check_slot(L, queues)]);

    if (entry == NULL)
        return 0;
    struct waiting *waiting = LIST_OWNER(entry, struct waiting, entry);

    lua_pushinteger(L, waiting->name);
    if (queue_has(entry))
        return luaL_error(L, "what was taken is still in the queue");
    waiting_free(waiting);
    return 1;
}

/* queues:remove(slot, name) -> whether it waited there */
static int queues_remove(lua_State *L)
{
    struct queues *queues = check_queues(L);
    unsigned slot = check_slot(L, queues);
    lua_Integer name = luaL_checkinteger(L, 3);

    for (struct list *node = queues->all.next; node != &queues->all; node = node->next) {
        struct waiting *waiting = LIST_OWNER(node, struct waiting, node);

        if (waiting->slot != slot || waiting->name != name)
            continue;
        queue_remove(&queues->queue[slot], &waiting->entry);
        waiting_free(waiting);
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushboolean(L, false);
    return 1;
}

/* queues:clear(slot): as the master does for a dead worker */
static int queues_clear(lua_State *L)
{
    struct queues *queues = check_queues(L);

    tally_clear(tally_slot(queues->tally, check_slot(L, queues)));
    return 0;
}

/* queues:seen(slot) -> { length, queued, bytes, enqueued }: in this queue, and in all of them */
static int queues_seen(lua_State *L)
{
    struct queues *queues = check_queues(L);
    unsigned slot = check_slot(L, queues);

    lua_newtable(L);
    set_int(L, "length", (int64_t)queues->queue[slot].length);
    set_int(L, "queued", tally_app_gauge_sum(queues->tally, APP, APP_QUEUED));
    set_int(L, "bytes", tally_app_gauge_sum(queues->tally, APP, APP_QUEUED_BYTES));
    set_int(L, "enqueued", (int64_t)tally_app_counter_sum(queues->tally, APP, APP_ENQUEUED));
    return 1;
}

static const luaL_Reg queues_methods[] = {
    {"put", queues_put},
    {"take", queues_take},
    {"remove", queues_remove},
    {"clear", queues_clear},
    {"seen", queues_seen},
    {"__gc", queues_gc},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"cleared", probe_cleared},
    {"queues", probe_queues},
    {"race", probe_race},
    {NULL, NULL},
};

int probe_tally_open(lua_State *L)
{
    luaL_newmetatable(L, QUEUES_TYPE);
    luaL_setfuncs(L, queues_methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
