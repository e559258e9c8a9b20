/*
 * The registrar's life, what it asks the master and what that answers. What is done is answered in
 * the order of the questions; what is refused is answered at once, and so before others that wait
 * until all workers have confirmed them.
 */
#include "share/registrar_priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "server/settings.h"

#define ACCEPT_BATCH 16

/* ---- questions ---- */

void registrar_ask(struct registrar *registrar, const struct question *like, struct span pairs)
{
    struct question *question = mem_alloc(sizeof(*question));

    *question = *like;
    question->number = ++registrar->last_question;
    list_init(&question->node);
    list_append(&registrar->questions, &question->node);
    registrar->parts.ask(registrar->parts.owner, question->number, pairs);
}

static void question_free(struct question *question)
{
    queue_terms_fini(&question->terms);
    mem_free(question);
}

static void ask_alone(struct registrar *registrar, const char *op, unsigned place,
                      const char *prefix)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "op", op);
    pairs_add_number(&pairs, "app", place);
    if (prefix) {
        pairs_add(&pairs, "key", "");
        pairs_add(&pairs, "value", prefix);
        pairs_add(&pairs, "place", "");
    }
    registrar_ask(registrar, &(struct question){.program = NULL}, buf_span(&pairs));
    buf_fini(&pairs);
}

void registrar_ask_close(struct registrar *registrar, unsigned place)
{
    ask_alone(registrar, "close", place, NULL);
}

void registrar_ask_drop(struct registrar *registrar, unsigned place, const char *prefix)
{
    ask_alone(registrar, "unlisten", place, prefix);
}

/* ---- what the master answers ---- */

int registrar_exit_code(struct span result)
{
    const char *code = pairs_find(result, "code");

    return code ? atoi(code) : EXIT_OPTION;
}

static void note_change(struct registrar *registrar, const struct question *question,
                        const char *prefix)
{
    struct host_queue *queue = &registrar->queues[question->place];
    struct program *program = question->program;
    struct member *member = program ? &program->members[question->member] : NULL;

    if (!queue->is_open || queue->generation != question->generation || prefix == NULL)
        return;
    if (question->kind == QUESTION_LISTEN)
        host_queue_add_prefix(queue, member && member->queue == queue ? member : NULL, prefix);
    else if (question->kind == QUESTION_UNLISTEN)
        host_queue_drop_prefix(queue, prefix);
}

/* The program may have left meanwhile; what was done for it holds. */
static void changed(struct registrar *registrar, const struct question *question, const char *wrong,
                    struct span result)
{
    struct buf pairs = {0};
    const char *ok = pairs_find(result, "ok");

    if (wrong == NULL)
        note_change(registrar, question, ok);
    if (question->program == NULL)
        return;
    question->program->questions--;
    if (wrong) {
        program_refuse(question->program, question->asked, registrar_exit_code(result), wrong);
        return;
    }
    pairs_add(&pairs, "ok", ok ? ok : "");
    program_tell(question->program, CONTROL_REPLY, question->asked, buf_span(&pairs), NULL);
    buf_fini(&pairs);
}

void registrar_replied(struct registrar *registrar, unsigned number, const char *wrong,
                       struct span result)
{
    struct list *node = registrar->questions.next;
    struct question *question;

    while (node != &registrar->questions &&
           LIST_OWNER(node, struct question, node)->number != number)
        node = node->next;
    CHECK(node != &registrar->questions);
    question = LIST_OWNER(node, struct question, node);
    list_remove(node);
    if (question->kind == QUESTION_OPEN)
        attach_opened(registrar, question, wrong, result);
    else if (question->kind == QUESTION_STATE)
        state_answered(registrar, question, wrong, result);
    else if (question->kind == QUESTION_COMMAND)
        command_answered(question, wrong, result);
    else if (question->kind != QUESTION_OTHER)
        changed(registrar, question, wrong, result);
    question_free(question);
}

/* ---- life ---- */

struct registrar *registrar_new(const struct registrar_parts *parts)
{
    struct registrar *registrar = mem_zalloc(sizeof(*registrar));
    uint32_t from = 0;

    registrar->parts = *parts;
    list_init(&registrar->programs);
    list_init(&registrar->deferred);
    list_init(&registrar->questions);
    if (getrandom(&from, sizeof(from), 0) != sizeof(from))
        from = (uint32_t)getpid();
    registrar->last_process = (uint64_t)(from & 0x7fffffff) << 20; /* not those of one before us */
    for (unsigned i = 0; i < TALLY_APPS; i++)
        host_queue_init(&registrar->queues[i], registrar);
    return registrar;
}

void registrar_free(struct registrar *registrar)
{
    struct list *node;

    if (registrar == NULL)
        return;
    if (registrar->listener)
        listener_stop(registrar->listener);
    while (!list_empty(&registrar->programs))
        program_end(LIST_OWNER(registrar->programs.next, struct program, node));
    for (unsigned i = 0; i < TALLY_APPS; i++)
        host_queue_fini(&registrar->queues[i]);
    while ((node = list_take(&registrar->questions)) != NULL)
        question_free(LIST_OWNER(node, struct question, node));
    state_forget(registrar, NULL);
    state_fini(&registrar->state);
    state_fini(&registrar->before);
    mem_free(registrar);
}

static void set_text(char **text, const char *value)
{
    mem_free(*text);
    *text = value[0] ? mem_strdup(value) : NULL;
}

/* What the master's state of an app says of its queue. */
static void resume_pair(struct host_queue *queue, const char *key, const char *value)
{
    struct err_text text;

    if (strcmp(key, "open") == 0)
        queue->is_open = queue->is_there = true;
    else if (strcmp(key, "hosted") == 0)
        queue->is_hosted = true;
    else if (strcmp(key, "uid") == 0)
        queue->uid = (uid_t)strtoul(value, NULL, 10);
    else if (strcmp(key, "+") == 0)
        host_queue_add_prefix(queue, NULL, value);
    else if (strcmp(key, "registration_grace") == 0)
        settings_number(key, value, "", &queue->terms.grace_ms, &text);
    else if (strcmp(key, "request_queue_name") == 0)
        set_text(&queue->terms.name, value);
    else if (strcmp(key, "request_queue_acl") == 0)
        set_text(&queue->terms.acl, value);
    else if (strcmp(key, "authentication.schemes") == 0)
        set_text(&queue->terms.schemes, value);
}

void registrar_resume(struct registrar *registrar, struct span apps)
{
    const char *key, *value;

    while (pairs_next(&apps, &key, &value)) {
        char *rest;
        unsigned index = (unsigned)strtoul(key, &rest, 10);

        if (rest > key && index < TALLY_APPS && *rest == ':')
            resume_pair(&registrar->queues[index], rest + 1, value);
    }
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (registrar->queues[i].is_open)
            host_queue_wait(&registrar->queues[i]);
}

void registrar_listen(struct registrar *registrar, int fd)
{
    registrar->listener =
        listener_start(registrar->parts.loop, fd, ACCEPT_BATCH, program_accept, registrar);
}
