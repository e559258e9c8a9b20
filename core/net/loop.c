/*
 * libev behind the few words that the other rooms need. Callbacks are started by casting the
 * embedded watcher back to its owner; the wheel is driven by one alarm, for the next slot that may
 * hold something: a loop that waits for minutes sleeps, however many connections it has.
 */
#include "net/loop.h"

#include <time.h>

#include "base/err.h"
#include "base/mem.h"

#define TICK_MS     20
#define CALL_ROUNDS 8     /* then the sockets get their turn */
#define SLOTS       1024u /* a power of two; longer times go round more than once */

struct loop {
    struct loop_clock clock; /* monotonic; first, see loop_now_ms */
    struct ev_loop *ev;
    struct list wheel[SLOTS];
    uint64_t used[SLOTS / 64]; /* a bit a slot: it may hold a timer */
    struct list calls;
    struct list later; /* calls of the next turn */
    struct list woken; /* descriptors, as libev tells of them */
    struct list ready; /* the same, first come first */
    ev_timer tick;
    ev_check after_wait; /* reads the clock once a turn, before any callback */
    uint32_t now_tick;   /* the last that was looked at */
    uint32_t wake_tick;  /* the next that will be, while tick is active */
    uint64_t turns;
    bool turning; /* the wheel: now_tick is on its way */
    bool stopped;
    void (*on_turn)(void *owner);
    void *on_turn_owner;
};

static int64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint32_t tick_of(const struct loop *loop)
{
    return (uint32_t)(loop->clock.now_ms / TICK_MS);
}

static void on_woken(struct ev_loop *ev, ev_check *watcher, int events)
{
    struct loop *loop = watcher->data;

    (void)ev;
    (void)events;
    loop->clock.now_ms = clock_ms();
}

static bool is_used(const struct loop *loop, uint32_t tick)
{
    return loop->used[tick % SLOTS / 64] >> tick % 64 & 1;
}

static void use(struct loop *loop, uint32_t tick, bool used)
{
    uint64_t bit = (uint64_t)1 << tick % 64;

    if (used)
        loop->used[tick % SLOTS / 64] |= bit;
    else
        loop->used[tick % SLOTS / 64] &= ~bit;
}

static void turn_wheel(struct loop *loop, uint32_t tick)
{
    struct list due;

    list_init(&due);
    for (struct list *slot = &loop->wheel[tick % SLOTS], *node = slot->next; node != slot;) {
        struct loop_timer *timer = LIST_OWNER(node, struct loop_timer, node);

        node = node->next;
        if ((int32_t)(timer->due - tick) <= 0) {
            list_remove(&timer->node);
            list_append(&due, &timer->node);
        }
    }
    use(loop, tick, !list_empty(&loop->wheel[tick % SLOTS]));
    /* A callback may stop a timer that is due too: it then leaves this list. */
    for (struct list *node; (node = list_take(&due)) != NULL;) {
        struct loop_timer *timer = LIST_OWNER(node, struct loop_timer, node);

        timer->fired(timer);
    }
}

/* The next tick that has something to look at; false when none has. */
static bool next_tick(struct loop *loop, uint32_t *tick)
{
    for (uint32_t ahead = 1; ahead <= SLOTS;) {
        uint32_t slot = (loop->now_tick + ahead) % SLOTS;
        uint64_t rest = loop->used[slot / 64] >> slot % 64;

        if (rest == 0) {
            ahead += 64 - slot % 64;
            continue;
        }
        *tick = loop->now_tick + ahead + (uint32_t)__builtin_ctzll(rest);
        return true;
    }
    return false;
}

static void wake_at(struct loop *loop, uint32_t tick)
{
    int64_t ms = (int32_t)(tick - tick_of(loop)) * TICK_MS - loop->clock.now_ms % TICK_MS;

    loop->wake_tick = tick;
    ev_timer_stop(loop->ev, &loop->tick);
    ev_timer_set(&loop->tick, ms > 0 ? (double)ms / 1000 : 0., 0.);
    ev_timer_start(loop->ev, &loop->tick);
}

static void on_tick(struct ev_loop *ev, ev_timer *watcher, int events)
{
    struct loop *loop = watcher->data;
    uint32_t now = tick_of(loop), next;

    (void)ev;
    (void)events;
    /* After a long stall each slot is looked at once: a round is enough to find all that is due. */
    if (now - loop->now_tick > SLOTS)
        loop->now_tick = now - SLOTS;
    loop->turning = true;
    while (loop->now_tick != now) {
        loop->now_tick++;
        if (is_used(loop, loop->now_tick))
            turn_wheel(loop, loop->now_tick);
    }
    loop->turning = false;
    if (next_tick(loop, &next))
        wake_at(loop, next);
}

struct loop *loop_new(void)
{
    struct ev_loop *ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);

    if (ev == NULL)
        return NULL;
    struct loop *loop = mem_zalloc(sizeof(*loop));

    loop->ev = ev;
    for (unsigned i = 0; i < SLOTS; i++)
        list_init(&loop->wheel[i]);
    list_init(&loop->calls);
    list_init(&loop->later);
    list_init(&loop->woken);
    list_init(&loop->ready);
    ev_timer_init(&loop->tick, on_tick, 0., 0.);
    loop->tick.data = loop;
    ev_check_init(&loop->after_wait, on_woken);
    ev_set_priority(&loop->after_wait, EV_MAXPRI);
    loop->after_wait.data = loop;
    ev_check_start(ev, &loop->after_wait);
    ev_unref(ev);
    loop->clock.now_ms = clock_ms();
    return loop;
}

/* Calls asked for by these calls run too, a few rounds, so that an answer made by one leaves in the
 * same turn. */
static void run_calls(struct loop *loop)
{
    struct list now, *node;

    while ((node = list_take(&loop->later)) != NULL)
        list_append(&loop->calls, node);
    for (int round = 0; round < CALL_ROUNDS && !list_empty(&loop->calls); round++) {
        now = loop->calls;
        now.next->prev = now.prev->next = &now;
        list_init(&loop->calls);
        while ((node = list_take(&now)) != NULL) {
            struct loop_call *call = LIST_OWNER(node, struct loop_call, node);

            call->run(call);
        }
    }
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    run_calls(loop);
    ev_loop_destroy(loop->ev);
    mem_free(loop);
}

/* The system tells who became ready first; libev calls the last of them first. Who has waited
 * longest goes first here: a worker that was busy for a while has a queue there, too. */
static void on_io(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct loop_io *io = (struct loop_io *)(void *)watcher;
    struct loop *loop = watcher->data;

    (void)ev;
    if (!list_empty(&io->node)) {
        io->events |= events;
        return;
    }
    io->events = events;
    list_append(loop->woken.next, &io->node); /* in front */
}

static void run_ready(struct loop *loop)
{
    struct list *node;

    while ((node = list_take(&loop->woken)) != NULL)
        list_append(&loop->ready, node);
    while ((node = list_take(&loop->ready)) != NULL) {
        struct loop_io *io = LIST_OWNER(node, struct loop_io, node);

        io->ready(io, io->events);
    }
}

uint64_t loop_turns(const struct loop *loop)
{
    return loop->turns;
}

void loop_turn(struct loop *loop, bool wait)
{
    loop->turns++;
    if (loop->on_turn)
        loop->on_turn(loop->on_turn_owner);
    run_calls(loop);
    if (loop->stopped)
        return;
    ev_run(loop->ev, wait && list_empty(&loop->calls) && list_empty(&loop->later) ? EVRUN_ONCE
                                                                                  : EVRUN_NOWAIT);
    run_ready(loop);
}

void loop_run(struct loop *loop)
{
    loop->stopped = false;
    while (!loop->stopped)
        loop_turn(loop, true);
    run_calls(loop);
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

double loop_wall_seconds(const struct loop *loop)
{
    return ev_now(loop->ev);
}

void loop_update_time(struct loop *loop)
{
    ev_now_update(loop->ev);
    loop->clock.now_ms = clock_ms();
}

void loop_on_turn(struct loop *loop, void (*on_turn)(void *owner), void *owner)
{
    loop->on_turn = on_turn;
    loop->on_turn_owner = owner;
}

void loop_io_start(struct loop *loop, struct loop_io *io, int fd, int events,
                   void (*ready)(struct loop_io *io, int events))
{
    io->ready = ready;
    list_init(&io->node);
    ev_io_init(&io->watcher, on_io, fd, events);
    io->watcher.data = loop;
    ev_io_start(loop->ev, &io->watcher);
}

void loop_io_stop(struct loop *loop, struct loop_io *io)
{
    ev_io_stop(loop->ev, &io->watcher);
    if (io->node.next) /* it has been started once */
        list_remove(&io->node);
}

static void on_signal(struct ev_loop *ev, ev_signal *watcher, int events)
{
    struct loop_signal *signal = (struct loop_signal *)(void *)watcher;

    (void)ev;
    (void)events;
    signal->caught(signal, watcher->signum);
}

void loop_signal_start(struct loop *loop, struct loop_signal *signal, int number,
                       void (*caught)(struct loop_signal *signal, int number))
{
    signal->caught = caught;
    ev_signal_init(&signal->watcher, on_signal, number);
    ev_signal_start(loop->ev, &signal->watcher);
}

void loop_signal_stop(struct loop *loop, struct loop_signal *signal)
{
    ev_signal_stop(loop->ev, &signal->watcher);
}

static void on_alarm(struct ev_loop *ev, ev_timer *watcher, int events)
{
    struct loop_alarm *alarm = (struct loop_alarm *)(void *)watcher;

    (void)ev;
    (void)events;
    alarm->fired(alarm);
}

void loop_alarm_init(struct loop_alarm *alarm, void (*fired)(struct loop_alarm *alarm))
{
    alarm->fired = fired;
    ev_timer_init(&alarm->watcher, on_alarm, 0, 0);
}

void loop_alarm_start(struct loop *loop, struct loop_alarm *alarm, double seconds)
{
    ev_timer_stop(loop->ev, &alarm->watcher);
    /* libev counts from the time of the turn; work since then must not shorten the wait. */
    ev_now_update(loop->ev);
    ev_timer_set(&alarm->watcher, seconds, 0.);
    ev_timer_start(loop->ev, &alarm->watcher);
}

void loop_alarm_stop(struct loop *loop, struct loop_alarm *alarm)
{
    ev_timer_stop(loop->ev, &alarm->watcher);
}

void loop_timer_init(struct loop_timer *timer, void (*fired)(struct loop_timer *timer))
{
    list_init(&timer->node);
    timer->fired = fired;
    timer->due = 0;
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, int64_t ms)
{
    list_remove(&timer->node);
    if (!ev_is_active(&loop->tick) && !loop->turning)
        loop->now_tick = tick_of(loop);
    /* One tick more than the division says: part of the current one has passed. */
    timer->due = tick_of(loop) + (uint32_t)(ms / TICK_MS) + 1;
    if ((int32_t)(timer->due - loop->now_tick) <= 0)
        timer->due = loop->now_tick + 1;
    list_append(&loop->wheel[timer->due % SLOTS], &timer->node);
    use(loop, timer->due, true);
    if (!ev_is_active(&loop->tick) || (int32_t)(timer->due - loop->wake_tick) < 0)
        wake_at(loop, timer->due);
}

void loop_timer_stop(struct loop_timer *timer)
{
    list_remove(&timer->node);
}

void loop_call_init(struct loop_call *call, void (*run)(struct loop_call *call))
{
    list_init(&call->node);
    call->run = run;
}

void loop_defer(struct loop *loop, struct loop_call *call)
{
    if (list_empty(&call->node))
        list_append(&loop->calls, &call->node);
}

void loop_defer_turn(struct loop *loop, struct loop_call *call)
{
    if (list_empty(&call->node))
        list_append(&loop->later, &call->node);
}

void loop_call_cancel(struct loop_call *call)
{
    list_remove(&call->node);
}
