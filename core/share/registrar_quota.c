/*
 * How many prefixes and ports a user of the machine may have: what all share is bounded (socket
 * addresses, the table of prefixes), and who looks a prefix up goes through lists. Root and the
 * host's own user are trusted with the ports, not with lists that nobody could search.
 */
#include "share/registrar_priv.h"

#include <string.h>

#include "base/err.h"
#include "route/url_prefix.h"

static void count(struct quota *quota, unsigned port)
{
    uint8_t *byte = &quota->ports_seen[port / 8];
    uint8_t bit = (uint8_t)(1u << port % 8);

    quota->prefixes++;
    if (port == 0 || !(*byte & bit)) /* port 0 becomes one of its own */
        quota->ports++;
    *byte |= bit;
}

static void count_queue(struct quota *quota, const struct host_queue *queue)
{
    struct span rest = buf_span(&queue->prefixes);

    for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1)) {
        struct url_prefix prefix;

        if (url_prefix_parse(&prefix, span_str(rest.at), NULL) < 0)
            continue;
        count(quota, prefix.port);
        url_prefix_fini(&prefix);
    }
}

/* What is asked of the master and not answered yet: whole attaches, and prefixes of running apps.
 */
static void count_asked(struct quota *quota, const struct registrar *registrar)
{
    for (struct list *node = registrar->programs.next; node != &registrar->programs;
         node = node->next) {
        const struct program *program = LIST_OWNER(node, struct program, node);

        if (program->caller.uid != quota->uid || program->is_attached || program->app_count == 0)
            continue;
        quota->prefixes += program->wished_prefixes;
        quota->ports += program->wished_ports;
    }
    for (struct list *node = registrar->questions.next; node != &registrar->questions;
         node = node->next) {
        const struct question *question = LIST_OWNER(node, struct question, node);
        bool is_theirs = question->program && question->program->caller.uid == quota->uid;

        quota->prefixes += is_theirs && question->kind == QUESTION_LISTEN;
        quota->ports += is_theirs && question->kind == QUESTION_LISTEN;
    }
}

void quota_begin(struct quota *quota, const struct program *program)
{
    const struct registrar *registrar = program->registrar;
    uid_t uid = program->caller.uid;

    memset(quota, 0, sizeof(*quota));
    quota->uid = uid;
    quota->is_trusted = uid == 0 || uid == registrar->parts.uid;
    for (unsigned i = 0; i < TALLY_APPS && !quota->is_trusted; i++)
        if (registrar->queues[i].is_open && registrar->queues[i].uid == uid)
            count_queue(quota, &registrar->queues[i]);
    if (!quota->is_trusted)
        count_asked(quota, registrar);
}

int quota_take(struct quota *quota, const struct url_prefix *prefix, struct err_text *text)
{
    count(quota, prefix->port);
    if (quota->prefixes > CONTROL_PREFIXES)
        return err_set(text, EXIT_PORT_IN_USE, ERR_LIMIT, "%.300s: more than %u prefixes",
                       prefix->text, CONTROL_PREFIXES);
    if (quota->is_trusted)
        return 0;
    if (quota->prefixes > CONTROL_USER_PREFIXES)
        return err_set(text, EXIT_PORT_IN_USE, ERR_LIMIT, "%.300s: user %u has %u prefixes already",
                       prefix->text, (unsigned)quota->uid, CONTROL_USER_PREFIXES);
    if (quota->ports > CONTROL_USER_PORTS)
        return err_set(text, EXIT_PORT_IN_USE, ERR_LIMIT, "%.300s: user %u has %u ports already",
                       prefix->text, (unsigned)quota->uid, CONTROL_USER_PORTS);
    return 0;
}
