/* The help, and the words that a shell offers. */
#include <string.h>

#include "share/admin_priv.h"

#define NAME_WIDTH 33 /* of the left column */

/* ---- help ---- */

static bool is_meant(const struct admin_command *command, const char *const *words, size_t count)
{
    if (count > 0 && (int)command->verb != admin_find_verb(span_str(words[0])))
        return false;
    return count < 2 || (int)command->noun == admin_find_noun(span_str(words[1]));
}

static void add_argument(struct buf *out, const struct admin_argument *argument, unsigned verb)
{
    bool is_needed = argument->with || argument->must & verb;
    size_t width = strlen(argument->name) + 1 + strlen(argument->form) + (is_needed ? 0 : 2);

    buf_printf(out, "    %s%s=%s%s", is_needed ? "" : "[", argument->name, argument->form,
               is_needed ? "" : "]");
    if (width + 1 < NAME_WIDTH)
        buf_printf(out, "%*s", (int)(NAME_WIDTH - width), "");
    else
        buf_printf(out, "\n%*s", NAME_WIDTH + 4, "");
    buf_printf(out, "%s\n", argument->help);
}

static const char *const who_lines[] = {
    [ADMIN_EVERYBODY] = "",
    [ADMIN_OWNERS] = "    for root and the host's own user\n",
    [ADMIN_DELEGATES] =
        "    for root, the host's own user, and below a URL who holds it with delegate=yes\n",
};

/* Whether one of its group stands before it. */
static bool is_other_choice(const struct admin_argument *first,
                            const struct admin_argument *argument, unsigned verb)
{
    for (; argument->group && first < argument; first++)
        if (first->group == argument->group && first->may & verb)
            return true;
    return false;
}

static void add_command(struct buf *out, const struct admin_command *command)
{
    unsigned verb = ADMIN_BIT(command->verb);
    size_t count;
    const struct admin_argument *first = admin_arguments_of(command->noun, &count), *at = first;

    buf_printf(out, "moonquay http %s %s\n    %s\n%s", admin_verb_word(command->verb),
               admin_noun_word(command->noun), command->help, who_lines[command->who]);
    for (; count > 0; count--, at++) {
        if (!(at->may & verb) || at->form == NULL)
            continue;
        if (is_other_choice(first, at, verb))
            buf_printf(out, "    or\n");
        add_argument(out, at, verb);
    }
}

void admin_help(const char *const *words, size_t count, struct buf *out)
{
    size_t before = buf_len(out);

    for (size_t i = 0; i < admin_command_count; i++)
        if (is_meant(&admin_commands[i], words, count))
            add_command(out, &admin_commands[i]);
    if (buf_len(out) == before) {
        if (count > 0)
            admin_help(NULL, 0, out);
        return;
    }
    buf_printf(out, "everywhere\n"
                    "    --json                           the answer as one JSON document\n"
                    "    --socket PATH                    of the host; also MOONQUAY_HOST\n"
                    "Arguments may be given without their names, in this order. Words are taken\n"
                    "in any case. Exit status: 0; 64 what was asked is wrong; 69 no host answers;\n"
                    "77 you may not; 78 it cannot be done.\n");
}

/* ---- completion ---- */

static void offer(struct buf *out, const char *word)
{
    buf_printf(out, "%s\n", word);
}

static void offer_verbs(struct buf *out)
{
    for (int verb = 0; verb < ADMIN_VERBS; verb++)
        offer(out, admin_verb_word((enum admin_verb)verb));
}

static void offer_nouns(struct buf *out, int verb)
{
    for (size_t i = 0; i < admin_command_count; i++)
        if ((int)admin_commands[i].verb == verb)
            offer(out, admin_noun_word(admin_commands[i].noun));
}

/* NAME= of what may still be given, NAME=CHOICE of the one that is being written. */
static void offer_argument(struct buf *out, const struct admin_argument *argument, const char *word)
{
    size_t length = admin_name_length(word);
    bool is_begun = length > 0 && span_eq_nocase(span_of(word, length), span_str(argument->name));

    if (!is_begun)
        buf_printf(out, "%s=\n", argument->name);
    for (const char *const *choice = argument->choices; is_begun && choice && *choice; choice++)
        buf_printf(out, "%s=%s\n", argument->name, *choice);
}

/* Notes an argument as given, whatever its value. */
static void note(struct admin_request *request, const char *word)
{
    size_t count, length = admin_name_length(word);
    const struct admin_argument *at = admin_arguments_of(request->command->noun, &count);

    for (size_t i = 0; i < count; i++)
        if (span_eq_nocase(span_of(word, length), span_str(at[i].name)))
            request->values[i] = word;
}

static void offer_arguments(struct buf *out, const struct admin_command *command,
                            const char *const *words, size_t count)
{
    struct admin_request request = {.command = command};
    const char *word = words[count - 1];
    size_t arguments;
    const struct admin_argument *at = admin_arguments_of(command->noun, &arguments);

    for (size_t i = 0; i + 1 < count; i++)
        note(&request, words[i]);
    for (; arguments > 0; arguments--, at++)
        if (at->may & ADMIN_BIT(command->verb) && at->form && !admin_is_taken(&request, at))
            offer_argument(out, at, word);
}

void admin_complete(const char *const *words, size_t count, struct buf *out)
{
    int verb = count > 1 ? admin_find_verb(span_str(words[0])) : -1;
    int noun = count > 2 ? admin_find_noun(span_str(words[1])) : -1;
    const struct admin_command *command = admin_find(verb, noun);

    if (count < 2)
        offer_verbs(out);
    else if (count == 2)
        offer_nouns(out, verb);
    else if (command)
        offer_arguments(out, command, words + 2, count - 2);
}
