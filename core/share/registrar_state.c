/*
 * What the host remembers changes one step at a time: the state as it shall be goes to the master
 * as a whole, and the next who wants to change it waits for the answer. What is in force is kept
 * beside it meanwhile, so that a refused step can be undone whatever has happened outside.
 */
#include "share/registrar_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json_out.h"
#include "base/mem.h"

/* ---- steps ---- */

static void begin_step(struct registrar *registrar)
{
    registrar->is_changing = true;
    state_copy(&registrar->before, &registrar->state);
}

static void end_step(struct registrar *registrar, bool is_done)
{
    struct state *old = is_done ? &registrar->before : &registrar->state;

    state_fini(old);
    if (!is_done)
        registrar->state = registrar->before;
    registrar->before = (struct state){0};
    registrar->is_changing = false;
}

/* A change that waits for its turn. */
struct deferred {
    struct list node;
    struct program *program;
    unsigned number;
    state_edit_fn *edit;
    struct buf pairs;
};

/* {}, or what the master warns of. */
static void add_document(struct buf *pairs, const char *warning)
{
    struct buf document = {0};
    struct json_out json;

    json_out_init(&json, &document);
    json_out_object(&json, NULL);
    if (warning)
        json_out_text(&json, "warning", warning);
    json_out_close(&json);
    buf_append(&document, SPAN("\0"));
    pairs_add(pairs, "ok", buf_span(&document).at);
    buf_fini(&document);
}

static void answer(struct program *program, unsigned number, const struct err_text *why,
                   const char *warning)
{
    struct buf pairs = {0};

    if (program == NULL)
        return;
    if (why) {
        program_refuse(program, number, why->exit_code, why->text);
        return;
    }
    add_document(&pairs, warning);
    program_tell(program, CONTROL_REPLY, number, buf_span(&pairs), NULL);
    buf_fini(&pairs);
}

static void ask_master(struct registrar *registrar, struct program *program, unsigned number)
{
    const struct question question = {.program = program, .kind = QUESTION_STATE, .asked = number};
    struct buf pairs = {0}, wished = {0};

    state_write(&registrar->state, &wished);
    buf_append(&wished, SPAN("\0"));
    pairs_add(&pairs, "op", "state");
    pairs_add(&pairs, "value", buf_span(&wished).at);
    registrar_ask(registrar, &question, buf_span(&pairs));
    buf_fini(&wished);
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
    int code;

    begin_step(registrar);
    code = edit(registrar, program, pairs, text);
    if (code == 0)
        ask_master(registrar, program, number);
    else
        end_step(registrar, false);
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
        answer(program, number, &text, NULL);
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
            answer(deferred->program, deferred->number, &text, NULL);
        }
        buf_fini(&deferred->pairs);
        mem_free(deferred);
    }
}

void state_answered(struct registrar *registrar, const struct question *question, const char *wrong,
                    struct span result)
{
    struct err_text text;

    end_step(registrar, wrong == NULL);
    if (wrong)
        err_set(&text, registrar_exit_code(result), ERR_INVALID, "%s", wrong);
    if (question->program)
        question->program->questions--;
    answer(question->program, question->asked, wrong ? &text : NULL, pairs_find(result, "warning"));
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
    begin_step(registrar);
    return 0;
}

static int finish_change(struct registrar *registrar, int code)
{
    if (code == 0)
        ask_master(registrar, NULL, 0);
    else
        end_step(registrar, false);
    return code;
}

int registrar_reserve(struct registrar *registrar, const struct reservation_wish *wish,
                      struct err_text *text)
{
    int code = begin_change(registrar, text);

    if (code < 0)
        return code;
    return finish_change(registrar, reservations_add(&registrar->state.reservations, wish, text));
}

int registrar_release(struct registrar *registrar, const char *url, struct err_text *text)
{
    int code = begin_change(registrar, text);

    if (code < 0)
        return code;
    return finish_change(registrar, reservations_remove(&registrar->state.reservations, url, text));
}

int registrar_load(struct registrar *registrar, struct span state, struct err_text *text)
{
    return state_read(&registrar->state, state, text);
}
