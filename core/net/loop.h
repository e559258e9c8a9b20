/*
 * The event loop, over libev with epoll forced (platform-notes section 8). A turn: deferred calls,
 * then one wait for events, then their callbacks. Time is read once a turn. Three kinds of
 * time-outs: alarms are exact and for what a program asked for; timers lie in a coarse wheel (one
 * tick is 20 ms, they fire up to two ticks late, never early) and cost nothing until they fire;
 * calls run at the end of this turn.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <ev.h>

#include "base/list.h"

struct loop;

/* A loop of its own; NULL when the system has no epoll or no descriptors left. */
struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* Turns until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* One turn; wait says whether it may sleep for events. */
void loop_turn(struct loop *loop, bool wait);

/* How many turns there have been: what is allowed once a turn compares it. */
uint64_t loop_turns(const struct loop *loop);

/* Monotonic milliseconds as of this turn. Every loop begins with its clock, which is read several
 * times in a request. */
struct loop_clock {
    int64_t now_ms;
};
static inline int64_t loop_now_ms(const struct loop *loop)
{
    return ((const struct loop_clock *)(const void *)loop)->now_ms;
}

/* Wall-clock seconds as of this turn. */
double loop_wall_seconds(const struct loop *loop);

/* Reads the clocks again, after work that took long. */
void loop_update_time(struct loop *loop);

/* Called at the start of each turn with owner (heartbeat, cached dates); one observer. */
void loop_on_turn(struct loop *loop, void (*on_turn)(void *owner), void *owner);

/* Descriptors. Events: LOOP_READ, LOOP_WRITE. The watcher is embedded in its owner. */
enum { LOOP_READ = EV_READ, LOOP_WRITE = EV_WRITE };
struct loop_io {
    ev_io watcher;
    struct list node; /* of those that are ready in this turn */
    int events;
    void (*ready)(struct loop_io *io, int events);
};
void loop_io_start(struct loop *loop, struct loop_io *io, int fd, int events,
                   void (*ready)(struct loop_io *io, int events));
void loop_io_stop(struct loop *loop, struct loop_io *io);

/* Signals, delivered in the loop. */
struct loop_signal {
    ev_signal watcher;
    void (*caught)(struct loop_signal *signal, int number);
};
void loop_signal_start(struct loop *loop, struct loop_signal *signal, int number,
                       void (*caught)(struct loop_signal *signal, int number));
void loop_signal_stop(struct loop *loop, struct loop_signal *signal);

/* Exact. Starting a running alarm moves it. */
struct loop_alarm {
    ev_timer watcher;
    void (*fired)(struct loop_alarm *alarm);
};
void loop_alarm_init(struct loop_alarm *alarm, void (*fired)(struct loop_alarm *alarm));
void loop_alarm_start(struct loop *loop, struct loop_alarm *alarm, double seconds);
void loop_alarm_stop(struct loop *loop, struct loop_alarm *alarm);

/* Coarse. */
struct loop_timer {
    struct list node;
    void (*fired)(struct loop_timer *timer);
    uint32_t due; /* tick */
};
void loop_timer_init(struct loop_timer *timer, void (*fired)(struct loop_timer *timer));
void loop_timer_start(struct loop *loop, struct loop_timer *timer, int64_t ms);
void loop_timer_stop(struct loop_timer *timer);

/* Runs once at the end of this turn, in order of being asked for; asking twice is asking once. */
struct loop_call {
    struct list node;
    void (*run)(struct loop_call *call);
};
void loop_call_init(struct loop_call *call, void (*run)(struct loop_call *call));
void loop_defer(struct loop *loop, struct loop_call *call);

/* As loop_defer, but when the sockets have had a turn; for work that is cut into pieces. */
void loop_defer_turn(struct loop *loop, struct loop_call *call);
void loop_call_cancel(struct loop_call *call);

#endif
