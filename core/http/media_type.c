/*
 * Media types and their parameters. A value that is not exactly what the grammar allows has no
 * parameters at all, and a parameter given twice has no value: what two readers could take in two
 * ways decides nothing.
 */
#include "http/media_type.h"

#include "http/fields.h"

bool media_type_is(struct span value, struct span type_and_subtype)
{
    const char *end = value.len > 0 ? memchr(value.at, ';', value.len) : NULL;

    if (end)
        value.len = (size_t)(end - value.at);
    return span_eq_nocase(span_trim(value), type_and_subtype);
}

/* Takes bytes up to one of the grammar's separators off the front of *text. */
static struct span take_word(struct span *text)
{
    size_t len = 0;

    while (len < text->len && text->at[len] != ';' && text->at[len] != '=' &&
           text->at[len] != '"' && !ascii_blank(text->at[len]))
        len++;

    struct span word = span_of(text->at, len);

    *text = span_skip(*text, len);
    return word;
}

/*
 * A quoted-string (RFC 9110 section 5.6.4) that *text begins with; what is between the quotes as it
 * lies.
 */
static bool take_quoted(struct span *text, struct span *inside, bool *escaped)
{
    *escaped = false;
    for (size_t i = 1; i < text->len; i++) {
        char c = text->at[i];

        if (c == '"') {
            *inside = span_of(text->at + 1, i - 1);
            *text = span_skip(*text, i + 1);
            return true;
        }
        if (c == '\\') {
            *escaped = true;
            i++;
        }
    }
    return false;
}

static struct span unescape(struct span inside, struct arena *arena)
{
    char *out = arena_alloc(arena, inside.len);
    size_t len = 0;

    for (size_t i = 0; i < inside.len; i++) {
        if (inside.at[i] == '\\' && i + 1 < inside.len)
            i++;
        out[len++] = inside.at[i];
    }
    return span_of(out, len);
}

struct parameter {
    struct span name, value;
    bool escaped; /* value still has its backslashes */
};

/*
 * 1: a parameter was taken off the front of *text; 0: there is none left; -1: what is there is
 * none.
 */
static int take_parameter(struct span *text, struct parameter *parameter)
{
    for (;;) {
        *text = span_skip_blanks(*text);
        if (text->len == 0)
            return 0;
        if (text->at[0] != ';')
            return -1;
        *text = span_skip_blanks(span_skip(*text, 1));
        if (text->len > 0 && text->at[0] != ';')
            break; /* ";;" and a last ";" are allowed: the parameter is optional (RFC 9110
                      section 5.6.6) */
    }
    parameter->name = take_word(text);
    if (!field_name_valid(parameter->name) || text->len == 0 || text->at[0] != '=')
        return -1;
    *text = span_skip(*text, 1);
    parameter->escaped = false;
    if (text->len > 0 && text->at[0] == '"')
        return take_quoted(text, &parameter->value, &parameter->escaped) ? 1 : -1;
    parameter->value = take_word(text);
    return field_name_valid(parameter->value) ? 1 : -1;
}

struct span media_type_parameter(struct span value, struct span name, struct arena *arena)
{
    const char *start = value.len > 0 ? memchr(value.at, ';', value.len) : NULL;
    struct parameter parameter, found = {SPAN_NONE, SPAN_NONE, false};
    int taken = 0;

    if (start == NULL)
        return SPAN_NONE;
    value = span_skip(value, (size_t)(start - value.at));
    while ((taken = take_parameter(&value, &parameter)) > 0) {
        if (!span_eq_nocase(parameter.name, name))
            continue;
        if (found.name.at)
            return SPAN_NONE;
        found = parameter;
    }
    if (taken < 0)
        return SPAN_NONE;
    return found.escaped ? unescape(found.value, arena) : found.value;
}
