/*
 * The shared segment: a slot for each worker with its heartbeat, gauges and counters, and in it a
 * column for each app. A worker writes only its own slot; who wants a sum adds up all of them, and
 * limits are judged on the sum. The master clears a dead worker's gauges before it starts the next,
 * so that nothing drifts.
 */
#ifndef ROUTE_TALLY_H
#define ROUTE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#define TALLY_APPS    64 /* of one server; also the bits of a connection's set of apps */
#define TALLY_REASONS 64 /* server/reason.h has fewer */

/* Gauges go up and down and die with the worker; counters only grow and outlive it. */
enum tally_gauge { GAUGE_CONNECTIONS, GAUGE_REQUESTS, GAUGE_TASKS, GAUGES };
enum tally_counter {
    COUNTER_CONNECTIONS,
    COUNTER_REQUESTS,
    COUNTER_REFUSED, /* malformed or above a limit */
    COUNTER_HANDLER_ERRORS,
    COUNTER_CPU_LIMIT,
    COUNTER_MEMORY_LIMIT,
    COUNTER_CANCELLED, /* clients that left before their answer */
    COUNTER_RESTARTS,  /* written by the master */
    COUNTER_TLS_HANDSHAKES,
    COUNTER_TLS_RESUMED, /* of these, by a ticket */
    COUNTER_TLS_FAILED,  /* that did not come to their end */
    COUNTERS
};

enum tally_app_gauge {
    APP_CONNECTIONS, /* that have had a request for it */
    APP_RUNNING,     /* requests that its handlers have */
    APP_QUEUED,      /* requests that wait for a handler */
    APP_QUEUED_BYTES,
    APP_LUA_BYTES,
    APP_GAUGES
};
enum tally_app_counter {
    APP_REQUESTS,
    APP_ENQUEUED, /* of these, those that had to wait */
    APP_REFUSED,  /* by the server, on behalf of it: limits, queue, timers */
    APP_COUNTERS
};

/* Workers of attached processes, over the whole host: each has a column for the requests that it
 * has from a worker of ours. */
#define TALLY_PEERS 512

struct tally_app {
    int64_t gauge[APP_GAUGES];
    uint64_t counter[APP_COUNTERS];
};

/* What waits in a slot for an app whose places all slots share. Written rarely, and so apart from
 * what changes with each request. */
struct tally_waiting {
    int64_t since_us; /* CLOCK_MONOTONIC: the oldest one's; 0: nothing waits */
    uint32_t takes;   /* 1: it could use a place that becomes free */
    uint32_t woken;   /* 1: it is being told that one may be; set by others */
};

struct tally_slot {
    _Alignas(64) int64_t heartbeat_ms; /* CLOCK_MONOTONIC of the loop's last turn */
    uint32_t pid, generation;          /* generation: how many workers this slot has had */
    int64_t gauge[GAUGES];
    uint64_t counter[COUNTERS];
    struct tally_app app[TALLY_APPS];
    uint64_t reason[TALLY_REASONS]; /* how often each reason for the error log occurred */
    int64_t peer[TALLY_PEERS];      /* requests that attached workers have of ours */
    _Alignas(64) struct tally_waiting waiting[TALLY_APPS];
};

struct tally;

/* Makes the segment (a memfd) for so many slots; *fd is what workers attach. NULL when the system
 * refuses. */
struct tally *tally_create(unsigned slots, int *fd);
struct tally *tally_attach(int fd);
void tally_close(struct tally *tally);

/* From now on only the first slots count and exist, for all who are attached: an app may say how
 * many workers it wants, which is after the segment was made. */
void tally_use(struct tally *tally, unsigned slots);

unsigned tally_slots(const struct tally *tally);
struct tally_slot *tally_slot(struct tally *tally, unsigned index);

/* Gauges to zero; for the master, when the worker of that slot is dead. */
void tally_clear(struct tally_slot *slot);

/* The name for people and programs: "connections", "lua_bytes", "cpu_limit" … */
const char *tally_gauge_name(enum tally_gauge gauge);
const char *tally_counter_name(enum tally_counter counter);

/* Sums over all slots. */
int64_t tally_gauge_sum(struct tally *tally, enum tally_gauge gauge);
uint64_t tally_counter_sum(struct tally *tally, enum tally_counter counter);
int64_t tally_app_gauge_sum(struct tally *tally, unsigned app, enum tally_app_gauge gauge);
uint64_t tally_app_counter_sum(struct tally *tally, unsigned app, enum tally_app_counter counter);
uint64_t tally_reason_sum(struct tally *tally, unsigned reason);

/*
 * Adds amount to a gauge of our own slot when the sum over all slots stays within limit, else
 * nothing: exact, whoever else takes at the same time. The holder of the lock may be killed at any
 * instant. Giving back needs no lock: the slot's owner just subtracts.
 */
bool tally_take(struct tally *tally, struct tally_slot *slot, enum tally_gauge gauge,
                int64_t amount, int64_t limit);
bool tally_app_take(struct tally *tally, struct tally_slot *slot, unsigned app,
                    enum tally_app_gauge gauge, int64_t amount, int64_t limit);

/* The same for a peer's column; tally_peer_sum is over all slots. */
bool tally_peer_take(struct tally *tally, struct tally_slot *slot, unsigned peer, int64_t limit);
int64_t tally_peer_sum(struct tally *tally, unsigned peer);

/*
 * The order of what waits in several slots for places that they share. A slot says since when its
 * oldest one waits (0: nothing does) and whether it could take a place; tally_next is the slot that
 * waits longest and could, but for one, or -1. tally_wake: true when that slot is to be told, which
 * it answers with tally_awake before it looks for a place.
 */
void tally_waits(struct tally_slot *slot, unsigned app, int64_t since_us);
void tally_takes(struct tally_slot *slot, unsigned app, bool takes);
int tally_next(struct tally *tally, unsigned app, unsigned but, int64_t *since_us);
bool tally_wake(struct tally *tally, unsigned slot, unsigned app);
void tally_awake(struct tally_slot *slot, unsigned app);

/* Several gauges of one app, all within their limits or none. */
struct tally_claim {
    enum tally_app_gauge gauge;
    int64_t amount, limit;
};
bool tally_app_claim(struct tally *tally, struct tally_slot *slot, unsigned app,
                     const struct tally_claim *claims, int count);

/* "connections", "lua_bytes" …: for status and logs. */
const char *tally_gauge_name(enum tally_gauge gauge);
const char *tally_counter_name(enum tally_counter counter);
const char *tally_app_gauge_name(enum tally_app_gauge gauge);
const char *tally_app_counter_name(enum tally_app_counter counter);

#endif
