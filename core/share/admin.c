/*
 * Reading a command. Words are compared without regard to case, as netsh does; what the command
 * line has taken the registrar reads again by the same tables, since anybody may speak to it.
 */
#include "share/admin.h"

#include <stdio.h>
#include <string.h>

#include "base/pairs.h"
#include "base/utf8.h"
#include "share/admin_priv.h"

#define JOINED_BYTES 400

static const char *const verb_words[ADMIN_VERBS] = {"add", "update", "delete", "show", "flush"};
static const char *const noun_words[ADMIN_NOUNS] = {
    "urlacl", "sslcert", "iplisten", "timeout", "servicestate", "logbuffer", "firewall"};

const char *admin_verb_word(enum admin_verb verb)
{
    return verb_words[verb];
}

const char *admin_noun_word(enum admin_noun noun)
{
    return noun_words[noun];
}

static int find_word(const char *const *words, int count, struct span word)
{
    for (int i = 0; i < count; i++)
        if (span_eq_nocase(word, span_str(words[i])))
            return i;
    return -1;
}

int admin_find_verb(struct span word)
{
    return find_word(verb_words, ADMIN_VERBS, word);
}

int admin_find_noun(struct span word)
{
    return find_word(noun_words, ADMIN_NOUNS, word);
}

const struct admin_command *admin_find(int verb, int noun)
{
    for (size_t i = 0; i < admin_command_count; i++)
        if ((int)admin_commands[i].verb == verb && (int)admin_commands[i].noun == noun)
            return &admin_commands[i];
    return NULL;
}

const struct admin_argument *admin_arguments_of(enum admin_noun noun, size_t *count)
{
    const struct admin_argument *first = NULL;

    *count = 0;
    for (size_t i = 0; i < admin_argument_count; i++) {
        if (admin_arguments[i].noun != noun)
            continue;
        if (first == NULL)
            first = &admin_arguments[i];
        ++*count;
    }
    CHECK(*count <= ADMIN_ARGUMENTS_MOST);
    return first;
}

static bool may(const struct admin_argument *argument, const struct admin_command *command)
{
    return argument->may & ADMIN_BIT(command->verb);
}

static bool must(const struct admin_argument *argument, const struct admin_command *command)
{
    return argument->must & ADMIN_BIT(command->verb);
}

/* ---- which command ---- */

static int usage(struct err_text *text, const char *what, struct span word, const char *joined)
{
    return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "%s%.*s: there are %s", what,
                   word.len > 80 ? 80 : (int)word.len, word.at ? word.at : "", joined);
}

/* Appends to a list "a, b"; what is too much is left out. */
static void join(char joined[JOINED_BYTES], const char *word)
{
    size_t used = strlen(joined);

    snprintf(joined + used, JOINED_BYTES - used, "%s%s", used ? ", " : "", word);
}

static int no_verb(struct span word, struct err_text *text)
{
    char joined[JOINED_BYTES] = "";

    for (int i = 0; i < ADMIN_VERBS; i++)
        join(joined, verb_words[i]);
    return word.len ? usage(text, "no such command: ", word, joined)
                    : usage(text, "a command is missing", SPAN_NONE, joined);
}

static int no_noun(enum admin_verb verb, struct span word, struct err_text *text)
{
    char joined[JOINED_BYTES] = "", what[40];

    for (size_t i = 0; i < admin_command_count; i++)
        if (admin_commands[i].verb == verb)
            join(joined, noun_words[admin_commands[i].noun]);
    snprintf(what, sizeof(what), "%s%s", verb_words[verb], word.len ? " " : " what");
    return usage(text, what, word, joined);
}

static int choose(struct admin_request *request, struct span verb, struct span noun,
                  struct err_text *text)
{
    int which = admin_find_verb(verb);

    *request = (struct admin_request){.command = NULL};
    if (which < 0)
        return no_verb(verb, text);
    request->command = admin_find(which, admin_find_noun(noun));
    return request->command ? 0 : no_noun((enum admin_verb)which, noun, text);
}

/* ---- arguments ---- */

static int no_argument(const struct admin_request *request, struct span name, struct err_text *text)
{
    const struct admin_command *command = request->command;
    char joined[JOINED_BYTES] = "", what[80];
    size_t count;
    const struct admin_argument *at = admin_arguments_of(command->noun, &count);

    for (; count > 0; count--, at++)
        if (may(at, command) && at->form)
            join(joined, at->name);
    snprintf(what, sizeof(what), "%s %s has no argument ", verb_words[command->verb],
             noun_words[command->noun]);
    if (joined[0])
        return usage(text, what, name, joined);
    return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "%s %s takes no arguments: %.*s",
                   verb_words[command->verb], noun_words[command->noun],
                   name.len > 80 ? 80 : (int)name.len, name.at);
}

static size_t place_of(const struct admin_argument *argument)
{
    size_t count;

    return (size_t)(argument - admin_arguments_of(argument->noun, &count));
}

/* Another of its group that was given; NULL. */
static const struct admin_argument *rival_of(const struct admin_request *request,
                                             const struct admin_argument *argument)
{
    size_t count;
    const struct admin_argument *at = admin_arguments_of(argument->noun, &count);

    for (size_t i = 0; argument->group && i < count; i++)
        if (&at[i] != argument && at[i].group == argument->group && request->values[i])
            return &at[i];
    return NULL;
}

bool admin_is_taken(const struct admin_request *request, const struct admin_argument *argument)
{
    return request->values[place_of(argument)] || rival_of(request, argument);
}

static int choose_value(const struct admin_argument *argument, const char **value,
                        struct err_text *text)
{
    char joined[JOINED_BYTES] = "";

    for (const char *const *choice = argument->choices; *choice; choice++) {
        if (span_eq_nocase(span_str(*value), span_str(*choice))) {
            *value = *choice;
            return 0;
        }
        join(joined, *choice);
    }
    return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "%s=%.200s: must be one of %s",
                   argument->name, *value, joined);
}

static int give(struct admin_request *request, const struct admin_argument *argument,
                const char *value, struct err_text *text)
{
    const struct admin_argument *rival = rival_of(request, argument);
    const char **place = &request->values[place_of(argument)];
    int code = 0;

    if (*place)
        return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "%s= is given twice", argument->name);
    if (rival)
        return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "%s= or %s=, not both", rival->name,
                       argument->name);
    if (strlen(value) >= ADMIN_VALUE_BYTES)
        return err_set(text, EXIT_USAGE_ERROR, ERR_TOO_LARGE, "%s=: must be below %d bytes",
                       argument->name, ADMIN_VALUE_BYTES);
    if (!utf8_is_printable(span_str(value))) /* the state is JSON, and people read errors */
        return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID,
                       "%s=: must be UTF-8 without control characters", argument->name);
    if (argument->choices)
        code = choose_value(argument, &value, text);
    else if (argument->judge)
        code = argument->judge(argument->name, value, text);
    if (code == 0)
        *place = value;
    return code;
}

static int give_by_name(struct admin_request *request, struct span name, const char *value,
                        struct err_text *text)
{
    size_t count;
    const struct admin_argument *at = admin_arguments_of(request->command->noun, &count);

    for (; count > 0; count--, at++)
        if (span_eq_nocase(name, span_str(at->name)) && may(at, request->command))
            return give(request, at, value, text);
    return no_argument(request, name, text);
}

static int give_by_place(struct admin_request *request, const char *value, struct err_text *text)
{
    size_t count;
    const struct admin_argument *at = admin_arguments_of(request->command->noun, &count);

    for (; count > 0; count--, at++)
        if (may(at, request->command) && at->form && !admin_is_taken(request, at))
            return give(request, at, value, text);
    return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "one word too many: %.200s", value);
}

/* The names of a group, "user= or group=". */
static void name_group(const struct admin_request *request, const struct admin_argument *first,
                       char joined[JOINED_BYTES])
{
    size_t count, used = 0;
    const struct admin_argument *at = admin_arguments_of(first->noun, &count);

    for (; count > 0; count--, at++)
        if (at == first || (first->group && at->group == first->group))
            if (must(at, request->command))
                used += (size_t)snprintf(joined + used, JOINED_BYTES - used,
                                         "%s%s=", used ? " or " : "", at->name);
}

static int missing(const struct admin_request *request, const struct admin_argument *argument,
                   struct err_text *text)
{
    char joined[JOINED_BYTES] = "";

    name_group(request, argument, joined);
    return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "%s %s: %s is missing",
                   verb_words[request->command->verb], noun_words[request->command->noun], joined);
}

/* key= beside cert=, and only there. */
static int judge_pair(const struct admin_request *request, const struct admin_argument *argument,
                      struct err_text *text)
{
    bool given = request->values[place_of(argument)] != NULL;

    if (argument->with == NULL || given == (admin_value(request, argument->with) != NULL))
        return 0;
    return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID,
                   "%s= is missing beside %s=", given ? argument->with : argument->name,
                   given ? argument->name : argument->with);
}

static int judge_whole(const struct admin_request *request, struct err_text *text)
{
    size_t count;
    const struct admin_argument *at = admin_arguments_of(request->command->noun, &count);
    int code = 0;

    for (size_t i = 0; i < count && code == 0; i++)
        if (must(&at[i], request->command) && !admin_is_taken(request, &at[i]))
            code = missing(request, &at[i], text);
        else if (may(&at[i], request->command))
            code = judge_pair(request, &at[i], text);
    return code;
}

/* ---- as words, as pairs ---- */

size_t admin_name_length(const char *word)
{
    size_t length = 0;

    while ((ascii_lower(word[length]) >= 'a' && ascii_lower(word[length]) <= 'z') ||
           word[length] == '_')
        length++;
    return word[length] == '=' ? length : 0;
}

int admin_read_words(struct admin_request *request, const char *const *words, size_t count,
                     struct err_text *text)
{
    int code = choose(request, span_str(count > 0 ? words[0] : NULL),
                      span_str(count > 1 ? words[1] : NULL), text);

    for (size_t i = 2; i < count && code == 0; i++) {
        size_t length = admin_name_length(words[i]);

        if (length > 0)
            code = give_by_name(request, span_of(words[i], length), words[i] + length + 1, text);
        else
            code = give_by_place(request, words[i], text);
    }
    return code < 0 ? code : judge_whole(request, text);
}

int admin_read_pairs(struct admin_request *request, struct span pairs, struct err_text *text)
{
    const char *key, *value;
    int code = choose(request, span_str(pairs_find(pairs, "verb")),
                      span_str(pairs_find(pairs, "noun")), text);

    while (code == 0 && pairs_next(&pairs, &key, &value))
        if (strcmp(key, "verb") != 0 && strcmp(key, "noun") != 0)
            code = give_by_name(request, span_str(key), value, text);
    return code < 0 ? code : judge_whole(request, text);
}

void admin_write_pairs(const struct admin_request *request, struct buf *pairs)
{
    size_t count;
    const struct admin_argument *at = admin_arguments_of(request->command->noun, &count);

    pairs_add(pairs, "verb", verb_words[request->command->verb]);
    pairs_add(pairs, "noun", noun_words[request->command->noun]);
    for (size_t i = 0; i < count; i++)
        if (request->values[i])
            pairs_add(pairs, at[i].name, request->values[i]);
}

const char *admin_value(const struct admin_request *request, const char *name)
{
    size_t count;
    const struct admin_argument *at = admin_arguments_of(request->command->noun, &count);

    for (size_t i = 0; i < count; i++)
        if (strcmp(at[i].name, name) == 0)
            return request->values[i];
    return NULL;
}

bool admin_truth(const struct admin_request *request, const char *name, bool otherwise)
{
    const char *value = admin_value(request, name);

    return value ? strcmp(value, "yes") == 0 : otherwise;
}
