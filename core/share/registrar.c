/*
 * The registrar's life, what it asks the master and what that answers. Questions are answered in
 * their order, so that a list is all that has to be remembered of them.
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

void registrar_ask_close(struct registrar *registrar, unsigned app)
{
    struct shared *shared = &registrar->apps[app];
    struct buf pairs = {0};

    loop_alarm_stop(registrar->parts.loop, &shared->grace);
    shared->is_open = false;
    shared->holder = NULL;
    buf_fini(&shared->prefixes);
    pairs_add(&pairs, "op", "close");
    pairs_add_number(&pairs, "app", app);
    registrar_ask(registrar, &(struct question){.program = NULL}, buf_span(&pairs));
    buf_fini(&pairs);
}

/* ---- what the master answers ---- */

static void note_change(struct registrar *registrar, const struct question *question,
                        const char *prefix)
{
    struct shared *shared = &registrar->apps[question->place];

    if (!shared->is_open || prefix == NULL)
        return;
    if (question->kind == QUESTION_LISTEN)
        attach_add_prefix(shared, prefix);
    else if (question->kind == QUESTION_UNLISTEN)
        attach_drop_prefix(shared, prefix);
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
    if (wrong)
        pairs_add(&pairs, "wrong", wrong);
    else
        pairs_add(&pairs, "ok", ok ? ok : "");
    program_tell(question->program, CONTROL_REPLY, question->asked, buf_span(&pairs), NULL);
    buf_fini(&pairs);
}

void registrar_replied(struct registrar *registrar, unsigned number, const char *wrong,
                       struct span result)
{
    struct list *node = list_take(&registrar->questions);
    struct question *question = node ? LIST_OWNER(node, struct question, node) : NULL;

    CHECK(question && question->number == number);
    if (question->kind == QUESTION_OPEN)
        attach_opened(registrar, question, wrong, result);
    else if (question->kind == QUESTION_STATE)
        state_answered(registrar, question, wrong, result);
    else if (question->kind == QUESTION_COMMAND)
        command_answered(question, wrong, result);
    else if (question->kind != QUESTION_OTHER)
        changed(registrar, question, wrong, result);
    mem_free(question);
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
    for (unsigned i = 0; i < TALLY_APPS; i++) {
        registrar->apps[i].registrar = registrar;
        attach_init(&registrar->apps[i]);
    }
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
    for (unsigned i = 0; i < TALLY_APPS; i++) {
        loop_alarm_stop(registrar->parts.loop, &registrar->apps[i].grace);
        buf_fini(&registrar->apps[i].prefixes);
    }
    while ((node = list_take(&registrar->questions)) != NULL)
        mem_free(LIST_OWNER(node, struct question, node));
    state_forget(registrar, NULL);
    state_fini(&registrar->state);
    buf_fini(&registrar->good);
    buf_fini(&registrar->wished);
    mem_free(registrar);
}

void registrar_resume(struct registrar *registrar, struct span apps)
{
    const char *key, *value;

    while (pairs_next(&apps, &key, &value)) {
        char *rest;
        unsigned index = (unsigned)strtoul(key, &rest, 10);
        struct shared *shared = index < TALLY_APPS ? &registrar->apps[index] : NULL;

        if (shared == NULL || *rest != ':')
            continue;
        if (strcmp(rest, ":open") == 0) {
            shared->is_open = true;
            shared->grace_ms = 120000;
        } else if (strcmp(rest, ":uid") == 0) {
            shared->uid = (uid_t)strtoul(value, NULL, 10);
        } else if (strcmp(rest, ":+") == 0) {
            buf_append(&shared->prefixes, span_of(value, strlen(value) + 1));
        } else if (strcmp(rest, ":registration_grace") == 0) {
            struct err_text text;

            settings_number("registration_grace", value, "", &shared->grace_ms, &text);
        }
    }
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (registrar->apps[i].is_open)
            attach_orphan(&registrar->apps[i]);
}

void registrar_listen(struct registrar *registrar, int fd)
{
    registrar->listener =
        listener_start(registrar->parts.loop, fd, ACCEPT_BATCH, program_accept, registrar);
}
