/*
 * The shared segment: a slot for each worker with its heartbeat and counters. A worker writes only
 * its own slot; who wants a sum adds up all of them. The master clears a dead worker's gauges
 * before it starts the next, so that nothing drifts.
 */
#ifndef ROUTE_TALLY_H
#define ROUTE_TALLY_H

#include <stdint.h>

/* Gauges go up and down and die with the worker; counters only grow and outlive it. */
enum tally_gauge { GAUGE_CONNECTIONS, GAUGE_REQUESTS, GAUGE_TASKS, GAUGE_LUA_BYTES, GAUGES };
enum tally_counter {
    COUNTER_CONNECTIONS,
    COUNTER_REQUESTS,
    COUNTER_REFUSED, /* malformed or above a limit */
    COUNTER_HANDLER_ERRORS,
    COUNTER_CPU_LIMIT,
    COUNTER_MEMORY_LIMIT,
    COUNTER_CANCELLED, /* clients that left before their answer */
    COUNTER_RESTARTS,  /* written by the master */
    COUNTERS
};

struct tally_slot {
    _Alignas(64) int64_t heartbeat_ms; /* CLOCK_MONOTONIC of the loop's last turn */
    uint32_t pid, generation;          /* generation: how many workers this slot has had */
    int64_t gauge[GAUGES];
    uint64_t counter[COUNTERS];
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

#endif
