/*
 * The requests of one app that wait in this worker for a handler, oldest first. Its limits, in
 * requests and in bytes, are judged over all workers by the tally.
 */
#ifndef ROUTE_QUEUE_H
#define ROUTE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "route/tally.h"

/* Embedded in what waits. */
struct queue_entry {
    struct list node;
    int64_t bytes;    /* of memory that it holds while it waits */
    int64_t since_us; /* CLOCK_MONOTONIC, of the first time that it was put */
};

struct queue {
    struct list entries;
    struct tally *tally;
    struct tally_slot *slot;
    unsigned app; /* column of the tally */
    size_t length;
};

/* Borrows tally and slot for as long as the queue is used. */
void queue_init(struct queue *queue, struct tally *tally, struct tally_slot *slot, unsigned app);

void queue_entry_init(struct queue_entry *entry);
bool queue_has(const struct queue_entry *entry);

/* 0, or ERR_LIMIT when all workers' queues together would hold more entries or bytes. */
int queue_put(struct queue *queue, struct queue_entry *entry, int64_t limit, int64_t limit_bytes);

/* Puts one in front that was taken out before: no limit holds it back. */
void queue_put_back(struct queue *queue, struct queue_entry *entry);

/* The oldest, taken out; NULL when there is none. */
struct queue_entry *queue_take(struct queue *queue);

/* Since when its oldest entry waits; 0: it is empty. */
int64_t queue_since_us(const struct queue *queue);

/* Takes out one that waits no more. */
void queue_remove(struct queue *queue, struct queue_entry *entry);

#endif
