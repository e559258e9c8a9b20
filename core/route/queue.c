/*
 * A list with two gauges. An entry is counted in our slot of the tally while it is in the list, so
 * that a killed worker's entries are forgotten with its slot.
 */
#include "route/queue.h"

#include <time.h>

#include "base/err.h"

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Other slots may share the places that ours wait for. */
static void publish(struct queue *queue)
{
    const struct list *first = queue->entries.next;
    bool is_empty = first == &queue->entries;

    tally_waits(queue->slot, queue->app,
                is_empty ? 0 : LIST_OWNER(queue->entries.next, struct queue_entry, node)->since_us);
}

int64_t queue_since_us(const struct queue *queue)
{
    return queue->slot->waiting[queue->app].since_us;
}

void queue_init(struct queue *queue, struct tally *tally, struct tally_slot *slot, unsigned app)
{
    list_init(&queue->entries);
    queue->tally = tally;
    queue->slot = slot;
    queue->app = app;
    queue->length = 0;
}

void queue_entry_init(struct queue_entry *entry)
{
    list_init(&entry->node);
    entry->bytes = entry->since_us = 0;
}

bool queue_has(const struct queue_entry *entry)
{
    return !list_empty(&entry->node);
}

int queue_put(struct queue *queue, struct queue_entry *entry, int64_t limit, int64_t limit_bytes)
{
    const struct tally_claim claims[] = {
        {APP_QUEUED, 1, limit},
        {APP_QUEUED_BYTES, entry->bytes, limit_bytes},
    };

    if (!tally_app_claim(queue->tally, queue->slot, queue->app, claims, 2))
        return ERR_LIMIT;
    queue->slot->app[queue->app].counter[APP_ENQUEUED]++;
    list_append(&queue->entries, &entry->node);
    queue->length++;
    entry->since_us = now_us();
    publish(queue);
    return 0;
}

void queue_put_back(struct queue *queue, struct queue_entry *entry)
{
    int64_t *gauge = queue->slot->app[queue->app].gauge;

    gauge[APP_QUEUED]++;
    gauge[APP_QUEUED_BYTES] += entry->bytes;
    list_prepend(&queue->entries, &entry->node);
    queue->length++;
    if (entry->since_us == 0) /* it did not have to wait the first time */
        entry->since_us = now_us();
    publish(queue);
}

void queue_remove(struct queue *queue, struct queue_entry *entry)
{
    int64_t *gauge = queue->slot->app[queue->app].gauge;

    list_remove(&entry->node);
    queue->length--;
    gauge[APP_QUEUED]--;
    gauge[APP_QUEUED_BYTES] -= entry->bytes;
    publish(queue);
}

struct queue_entry *queue_take(struct queue *queue)
{
    if (list_empty(&queue->entries))
        return NULL;
    struct queue_entry *entry = LIST_OWNER(queue->entries.next, struct queue_entry, node);

    queue_remove(queue, entry);
    return entry;
}
