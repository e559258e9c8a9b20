/*
 * What the host remembers changes one step at a time: the state as it shall be goes to the master
 * as a whole, and the next who wants to change it waits for the answer. A refused step is undone by
 * reading again what is in force.
 */
#include "share/registrar_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

/* A change that waits for its turn. */
struct deferred {
    struct list node;
    struct program *program;
    unsigned number;
    state_edit_fn *edit;
    struct buf pairs;
};

static void answer(struct program *program, unsigned number, const struct err_text *why)
{
    struct buf pairs = {0};

    if (program == NULL)
        return;
    if (why) {
        program_refuse(program, number, why->exit_code, why->text);
        return;
    }
    pairs_add(&pairs, "ok", "{}");
    program_tell(program, CONTROL_REPLY, number, buf_span(&pairs), NULL);
    buf_fini(&pairs);
}

static void ask_master(struct registrar *registrar, struct program *program, unsigned number)
{
    const struct question question = {.program = program, .kind = QUESTION_STATE, .asked = number};
    struct buf pairs = {0};

    buf_fini(&registrar->wished);
    state_write(&registrar->state, &registrar->wished);
    buf_append(&registrar->wished, SPAN("\0"));
    registrar->is_changing = true;
    pairs_add(&pairs, "op", "state");
    pairs_add(&pairs, "value", buf_span(&registrar->wished).at);
    registrar_ask(registrar, &question, buf_span(&pairs));
    buf_fini(&pairs);
}

static void defer(struct registrar *registrar, struct program *program, unsigned number,
                  state_edit_fn *edit, struct span pairs)
{
    struct deferred *deferred = mem_zalloc(sizeof(*deferred));

    deferred->program = program;
    deferred->number = number;
    deferred->edit = edit;
    buf_append(&deferred->pairs, pairs);
    list_init(&deferred->node);
    list_append(&registrar->deferred, &deferred->node);
}

static int edit_now(struct registrar *registrar, struct program *program, unsigned number,
                    state_edit_fn *edit, struct span pairs, struct err_text *text)
{
    int code = edit(registrar, program, pairs, text);

    if (code == 0)
        ask_master(registrar, program, number);
    return code;
}

void registrar_edit(struct registrar *registrar, struct program *program, unsigned number,
                    state_edit_fn *edit, struct span pairs)
{
    struct err_text text;

    program->questions++;
    if (registrar->is_changing) {
        defer(registrar, program, number, edit, pairs);
    } else if (edit_now(registrar, program, number, edit, pairs, &text) < 0) {
        program->questions--;
        answer(program, number, &text);
    }
}

static void edit_deferred(struct registrar *registrar)
{
    struct list *node;

    while (!registrar->is_changing && (node = list_take(&registrar->deferred)) != NULL) {
        struct deferred *deferred = LIST_OWNER(node, struct deferred, node);
        struct err_text text;

        if (edit_now(registrar, deferred->program, deferred->number, deferred->edit,
                     buf_span(&deferred->pairs), &text) < 0) {
            deferred->program->questions--;
            answer(deferred->program, deferred->number, &text);
        }
        buf_fini(&deferred->pairs);
        mem_free(deferred);
    }
}

/* As it was before the step. */
static void undo(struct registrar *registrar)
{
    struct err_text text;

    state_fini(&registrar->state);
    if (state_read(&registrar->state, buf_span(&registrar->good), &text) < 0)
        log_event(LOG_ERROR, "state_lost", "%s", text.text); /* a user's name has gone meanwhile */
}

void state_answered(struct registrar *registrar, const struct question *question, const char *wrong,
                    struct span result)
{
    struct err_text text;

    registrar->is_changing = false;
    if (wrong) {
        undo(registrar);
        err_set(&text, registrar_exit_code(result), ERR_INVALID, "%s", wrong);
    } else {
        buf_fini(&registrar->good);
        buf_append(&registrar->good, span_str(buf_span(&registrar->wished).at));
    }
    if (question->program)
        question->program->questions--;
    answer(question->program, question->asked, wrong ? &text : NULL);
    edit_deferred(registrar);
}

void state_forget(struct registrar *registrar, const struct program *program)
{
    struct list *node = registrar->deferred.next;

    while (node != &registrar->deferred) {
        struct deferred *deferred = LIST_OWNER(node, struct deferred, node);

        node = node->next;
        if (program && deferred->program != program)
            continue;
        list_remove(&deferred->node);
        buf_fini(&deferred->pairs);
        mem_free(deferred);
    }
}

static int begin_change(struct registrar *registrar, struct err_text *text)
{
    if (registrar->is_changing)
        return err_set(text, EXIT_INTERNAL, ERR_STATE, "another change is not in force yet");
    return 0;
}

int registrar_reserve(struct registrar *registrar, const struct reservation_wish *wish,
                      struct err_text *text)
{
    int code = begin_change(registrar, text);

    if (code == 0)
        code = reservations_add(&registrar->state.reservations, wish, text);
    if (code == 0)
        ask_master(registrar, NULL, 0);
    return code;
}

int registrar_release(struct registrar *registrar, const char *url, struct err_text *text)
{
    int code = begin_change(registrar, text);

    if (code == 0)
        code = reservations_remove(&registrar->state.reservations, url, text);
    if (code == 0)
        ask_master(registrar, NULL, 0);
    return code;
}

int registrar_load(struct registrar *registrar, struct span state, struct err_text *text)
{
    buf_append(&registrar->good, state);
    return state_read(&registrar->state, state, text);
}
