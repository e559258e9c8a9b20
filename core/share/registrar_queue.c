/*
 * Queues and who serves them. A queue outlives its members by its grace, and so does a prefix whose
 * member has gone while others stay: what comes for it is served by these meanwhile.
 */
#include "share/registrar_priv.h"

#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/settings.h"

/* ---- what its owner says ---- */

void queue_terms_fini(struct queue_terms *terms)
{
    mem_free(terms->name);
    mem_free(terms->acl);
    mem_free(terms->schemes);
    *terms = (struct queue_terms){0};
}

static char *copy_of(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

void queue_terms_copy(struct queue_terms *terms, const struct queue_terms *from)
{
    *terms = (struct queue_terms){
        .name = copy_of(from->name),
        .acl = copy_of(from->acl),
        .schemes = copy_of(from->schemes),
        .grace_ms = from->grace_ms,
    };
}

/* ---- prefixes ---- */

bool prefixes_have(const struct buf *prefixes, struct span prefix)
{
    struct span rest = buf_span(prefixes);

    while (rest.len > 0) {
        size_t length = strlen(rest.at);

        if (span_eq_nocase(span_of(rest.at, length), prefix))
            return true;
        rest = span_skip(rest, length + 1);
    }
    return false;
}

static void add_to(struct buf *prefixes, const char *prefix)
{
    if (!prefixes_have(prefixes, span_str(prefix)))
        buf_append(prefixes, span_of(prefix, strlen(prefix) + 1));
}

static void drop_from(struct buf *prefixes, const char *prefix)
{
    struct span rest = buf_span(prefixes);
    struct buf kept = {0};

    for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1))
        if (!span_eq_nocase(span_str(rest.at), span_str(prefix)))
            buf_append(&kept, span_of(rest.at, strlen(rest.at) + 1));
    buf_fini(prefixes);
    *prefixes = kept;
}

void host_queue_add_prefix(struct host_queue *queue, struct member *member, const char *prefix)
{
    add_to(&queue->prefixes, prefix);
    if (member)
        add_to(&member->prefixes, prefix);
}

void host_queue_drop_prefix(struct host_queue *queue, const char *prefix)
{
    drop_from(&queue->prefixes, prefix);
    for (struct list *node = queue->members.next; node != &queue->members; node = node->next)
        drop_from(&LIST_OWNER(node, struct member, node)->prefixes, prefix);
}

static bool is_brought(const struct host_queue *queue, const char *prefix)
{
    for (struct list *node = queue->members.next; node != &queue->members; node = node->next)
        if (prefixes_have(&LIST_OWNER(node, struct member, node)->prefixes, span_str(prefix)))
            return true;
    return false;
}

/* The first that no member has brought; NULL. */
static const char *left_behind(const struct host_queue *queue)
{
    struct span rest = buf_span(&queue->prefixes);

    for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1))
        if (!is_brought(queue, rest.at))
            return rest.at;
    return NULL;
}

static void drop_left_behind(struct host_queue *queue)
{
    const char *left;

    while ((left = left_behind(queue)) != NULL) {
        char *prefix = mem_strdup(left); /* it goes with the list */

        registrar_ask_drop(queue->registrar, host_queue_place(queue), prefix);
        drop_from(&queue->prefixes, prefix);
        mem_free(prefix);
    }
}

/* ---- the end of a queue ---- */

static void empty(struct host_queue *queue)
{
    queue_terms_fini(&queue->terms);
    buf_fini(&queue->prefixes);
    queue->is_open = queue->is_there = queue->is_hosted = false;
    queue->generation++;
}

static void close_queue(struct host_queue *queue)
{
    bool was_there = queue->is_there;

    loop_alarm_stop(queue->registrar->parts.loop, &queue->grace);
    empty(queue);
    if (was_there)
        registrar_ask_close(queue->registrar, host_queue_place(queue));
}

static void on_grace_over(struct loop_alarm *alarm)
{
    struct host_queue *queue = LIST_OWNER(alarm, struct host_queue, grace);

    if (!list_empty(&queue->members)) {
        drop_left_behind(queue);
        return;
    }
    log_event(LOG_INFO, "app_forgotten", "nobody has come back for it in registration_grace");
    close_queue(queue);
}

void host_queue_not_made(struct host_queue *queue)
{
    queue->is_there = false;
    if (list_empty(&queue->members))
        close_queue(queue);
}

void host_queue_wait(struct host_queue *queue)
{
    if (!queue->is_hosted && queue->terms.grace_ms != SETTING_OFF)
        loop_alarm_start(queue->registrar->parts.loop, &queue->grace,
                         (double)queue->terms.grace_ms / 1000);
}

/* ---- who serves it ---- */

void host_queue_join(struct host_queue *queue, struct member *member)
{
    member->queue = queue;
    list_init(&member->node);
    list_append(&queue->members, &member->node);
    loop_alarm_stop(queue->registrar->parts.loop, &queue->grace);
    if (left_behind(queue) && queue->is_there)
        host_queue_wait(queue); /* for the rest of them, unless this one brings them too */
}

void host_queue_is_whole(struct host_queue *queue)
{
    if (!list_empty(&queue->members) && left_behind(queue) == NULL)
        loop_alarm_stop(queue->registrar->parts.loop, &queue->grace);
}

void host_queue_leave(struct member *member, bool keep)
{
    struct host_queue *queue = member->queue;

    if (queue == NULL)
        return;
    keep |= queue->is_hosted;
    list_remove(&member->node);
    member->queue = NULL;
    buf_fini(&member->prefixes);
    if (list_empty(&queue->members) && (!keep || !queue->is_there))
        close_queue(queue);
    else if (!keep)
        drop_left_behind(queue);
    else if (list_empty(&queue->members) || left_behind(queue))
        host_queue_wait(queue);
}

bool host_queue_lets_in(const struct host_queue *queue, const struct caller *caller)
{
    return host_queue_obeys(queue, caller) ||
           (queue->terms.acl && principals_allow(queue->terms.acl, caller));
}

bool host_queue_obeys(const struct host_queue *queue, const struct caller *caller)
{
    return caller->uid == queue->uid || caller->uid == 0;
}

/* ---- finding one ---- */

struct host_queue *host_queue_find(struct registrar *registrar, const char *name)
{
    for (unsigned i = 0; i < TALLY_APPS; i++) {
        struct host_queue *queue = &registrar->queues[i];

        if (queue->is_open && queue->terms.name && strcmp(queue->terms.name, name) == 0)
            return queue;
    }
    return NULL;
}

struct host_queue *host_queue_of_prefix(struct registrar *registrar, struct span prefix)
{
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (registrar->queues[i].is_open && prefixes_have(&registrar->queues[i].prefixes, prefix))
            return &registrar->queues[i];
    return NULL;
}

/* A user of the machine leaves places for others. */
static bool has_too_many(const struct registrar *registrar, uid_t uid)
{
    unsigned count = 0;

    for (unsigned i = 0; i < TALLY_APPS; i++)
        count += registrar->queues[i].is_open && registrar->queues[i].uid == uid;
    return uid != 0 && uid != registrar->parts.uid && count >= CONTROL_USER_APPS;
}

struct host_queue *host_queue_free_place(struct registrar *registrar, const struct caller *caller,
                                         struct err_text *text)
{
    if (has_too_many(registrar, caller->uid)) {
        err_set(text, EXIT_PORT_IN_USE, ERR_LIMIT, "user %u has %u apps already",
                (unsigned)caller->uid, CONTROL_USER_APPS);
        return NULL;
    }
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (!registrar->queues[i].is_open)
            return &registrar->queues[i];
    err_set(text, EXIT_PORT_IN_USE, ERR_LIMIT, "the host has %d apps already", TALLY_APPS);
    return NULL;
}

/* ---- life ---- */

unsigned host_queue_place(const struct host_queue *queue)
{
    return (unsigned)(queue - queue->registrar->queues);
}

void host_queue_init(struct host_queue *queue, struct registrar *registrar)
{
    queue->registrar = registrar;
    list_init(&queue->members);
    loop_alarm_init(&queue->grace, on_grace_over);
}

void host_queue_fini(struct host_queue *queue)
{
    loop_alarm_stop(queue->registrar->parts.loop, &queue->grace);
    empty(queue);
}
