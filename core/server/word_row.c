#include "server/word_row.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/span.h"
#include "server/settings_priv.h"

/* What is read, and where the reason goes. */
struct reader {
    const char *at;
    const struct word_table *table;
    void *record;
    char *why;
    size_t room;
};

static int wrong(struct reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int wrong(struct reader *reader, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(reader->why, reader->room, format, args);
    va_end(args);
    return ERR_INVALID;
}

static const struct word_key *find(const struct word_table *table, struct span name)
{
    for (size_t i = 0; i < table->count; i++)
        if (span_eq(name, span_str(table->keys[i].name)))
            return &table->keys[i];
    return NULL;
}

static const char *field_of(const void *record, const struct word_key *key)
{
    return (const char *)record + key->at;
}

static unsigned count_of(const void *record, const struct word_key *key)
{
    unsigned count = 0;

    while (count < key->most && field_of(record, key)[count * key->room])
        count++;
    return count;
}

static int unknown_key(struct reader *reader, struct span name)
{
    char names[192] = "";
    size_t used = 0;

    for (size_t i = 0; i < reader->table->count; i++)
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
                                 reader->table->keys[i].name);
    return wrong(reader, "%.*s: no such key, there are %s", name.len > 40 ? 40 : (int)name.len,
                 name.at, names);
}

/* Copies a value, without its quotes; ERR_TOO_LARGE, or ERR_INVALID when a quote is not closed. */
static int take_value(struct reader *reader, char *out, size_t room)
{
    bool is_quoted = *reader->at == '"';
    size_t length = 0;

    reader->at += is_quoted;
    for (; *reader->at; reader->at++) {
        char c = *reader->at;

        if (is_quoted ? c == '"' : c == ' ' || c == ';')
            break;
        if (is_quoted && c == '\\' && (reader->at[1] == '"' || reader->at[1] == '\\'))
            c = *++reader->at;
        if (length + 1 >= room)
            return ERR_TOO_LARGE;
        out[length++] = c;
    }
    out[length] = '\0';
    if (!is_quoted)
        return 0;
    if (*reader->at != '"')
        return ERR_INVALID;
    reader->at++;
    return *reader->at == '\0' || *reader->at == ' ' || *reader->at == ';' ? 0 : ERR_INVALID;
}

static int judge_value(struct reader *reader, const struct word_key *key, const char *value)
{
    char allowed[96];
    bool is_right;

    if (key->choices) {
        setting_describe_choices(key->choices, " or ", allowed, sizeof(allowed));
        is_right = setting_is_choice(key->choices, span_str(value));
    } else {
        snprintf(allowed, sizeof(allowed), "%s", key->form);
        is_right = value[0] && (key->is_right == NULL || key->is_right(value));
    }
    return is_right ? 0 : wrong(reader, "%s=%.60s: must be %s", key->name, value, allowed);
}

static int read_word(struct reader *reader)
{
    struct span name = span_of(reader->at, strcspn(reader->at, "=; "));
    const struct word_key *key = find(reader->table, name);
    int code;

    if (key == NULL)
        return unknown_key(reader, name);
    if (name.at[name.len] != '=')
        return wrong(reader, "%s: a value is missing behind it: %s=VALUE", key->name, key->name);
    unsigned count = count_of(reader->record, key);
    char *field = (char *)reader->record + key->at + count * key->room;

    if (count == key->most && count == 1)
        return wrong(reader, "%s: is given twice", key->name);
    if (count == key->most)
        return wrong(reader, "%s: is given more than %u times", key->name, count);
    reader->at += name.len + 1;
    code = take_value(reader, field, key->room);
    if (code == ERR_TOO_LARGE)
        return wrong(reader, "%s: must be at most %zu bytes long", key->name, key->room - 1);
    if (code < 0)
        return wrong(reader, "%s: the quotes around its value do not close it", key->name);
    return judge_value(reader, key, field);
}

static int judge_whole(struct reader *reader)
{
    const struct word_table *table = reader->table;

    for (size_t i = 0; i < table->count; i++)
        if (table->keys[i].required && field_of(reader->record, &table->keys[i])[0] == '\0')
            return wrong(reader, "%s: is missing", table->keys[i].name);
    return table->judge ? table->judge(reader->record, reader->why, reader->room) : 0;
}

int word_row_next(const struct word_table *table, const char **rest, void *record, char *why,
                  size_t room)
{
    struct reader reader = {
        .at = *rest, .table = table, .record = record, .why = why, .room = room};
    int code = 0;

    memset(record, 0, table->bytes);
    if (reader.at[strspn(reader.at, " ")] == '\0')
        return 0;
    while (code == 0) {
        reader.at += strspn(reader.at, " ");
        if (*reader.at == '\0' || *reader.at == ';')
            break;
        code = read_word(&reader);
    }
    if (code == 0)
        code = judge_whole(&reader);
    *rest = reader.at + (*reader.at == ';');
    return code < 0 ? code : 1;
}

unsigned word_row_count(const struct word_table *table, const void *record, const char *key)
{
    return count_of(record, find(table, span_str(key)));
}

int word_rows_check(const struct word_table *table, const char *text, char *why, size_t room)
{
    void *record = mem_alloc(table->bytes);
    char reason[200];
    int code = 1;

    for (int number = 1; code > 0; number++) {
        code = word_row_next(table, &text, record, reason, sizeof(reason));
        if (code < 0)
            snprintf(why, room, "%s %d: %s", table->noun, number, reason);
    }
    mem_free(record);
    return code;
}
