/* The table of settings for people, for the handler's reference, for editors and for programs. */
#include <string.h>

#include "server/settings_priv.h"
#include "server/word_row.h"

#define LUA_COLUMNS 100

static const char *const type_names[] = {
    [TYPE_TEXT] = "text",    [TYPE_CHOICE] = "word", [TYPE_BOOL] = "boolean",
    [TYPE_COUNT] = "number", [TYPE_SIZE] = "bytes",  [TYPE_SECONDS] = "seconds",
    [TYPE_WORDS] = "words",  [TYPE_LIST] = "list",   [TYPE_ROWS] = "tables",
};

static const char *scope_name(const struct setting_row *row)
{
    return row->scope == SETTING_SERVER ? "server" : "app";
}

static const char *when_name(const struct setting_row *row)
{
    return row->per_request ? "request" : row->when == SETTING_AT_START ? "start" : "any time";
}

/* "CPUs", "5 x CPUs", or the default as it is; "" for none. */
static const char *given_text(const struct setting_row *row, char out[32])
{
    if (row->given)
        return row->given;
    if (row->by_machine == 1)
        return "CPUs";
    snprintf(out, 32, "%d x CPUs", row->by_machine);
    return out;
}

/* ---- text and markdown */

static void print_text_row(FILE *out, const struct setting_row *row)
{
    char allowed[160], number[32];
    const char *given = given_text(row, number);

    setting_describe(row, allowed, sizeof(allowed));
    fprintf(out, "%-34s %-22s %-8s %-6s %-8s %s; %s\n", row->key, *given ? given : "-",
            type_names[row->type], scope_name(row), when_name(row), row->help, allowed);
}

static void print_text(FILE *out)
{
    fprintf(out, "%-34s %-22s %-8s %-6s %-8s %s\n", "KEY", "DEFAULT", "TYPE", "SCOPE", "CHANGES",
            "MEANING; VALUES");
    for (size_t i = 0; i < setting_row_count; i++)
        print_text_row(out, &setting_rows[i]);
}

static void print_markdown(FILE *out)
{
    char allowed[160], number[32];

    fputs("| Key | Default | Type | Values | Scope | Changes | Meaning |\n"
          "|---|---|---|---|---|---|---|\n",
          out);
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting_row *row = &setting_rows[i];
        const char *given = given_text(row, number), *tick = *given ? "`" : "";

        setting_describe(row, allowed, sizeof(allowed));
        fprintf(out, "| `%s` | %s%s%s | %s | %s | %s | %s | %s |\n", row->key, tick, given, tick,
                type_names[row->type], allowed, scope_name(row), when_name(row), row->help);
    }
}

/* ---- json */

static void print_json_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void print_json_member(FILE *out, const char *name, const char *value)
{
    fprintf(out, ", \"%s\": ", name);
    print_json_text(out, value);
}

static void print_json(FILE *out)
{
    char allowed[160], number[32];

    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting_row *row = &setting_rows[i];

        setting_describe(row, allowed, sizeof(allowed));
        fprintf(out, "%s{\"key\": ", i == 0 ? "[\n" : ",\n");
        print_json_text(out, row->key);
        print_json_member(out, "default", given_text(row, number));
        print_json_member(out, "type", type_names[row->type]);
        print_json_member(out, "values", allowed);
        print_json_member(out, "scope", scope_name(row));
        print_json_member(out, "changes", when_name(row));
        print_json_member(out, "help", row->help);
        fputc('}', out);
    }
    fputs("\n]\n", out);
}

/* ---- types for editors (LuaLS) */

/* A comment of so many lines as it takes, each within the columns of a Lua file. */
static void print_comment(FILE *out, const char *text)
{
    size_t column = (size_t)fprintf(out, "---");

    while (*text) {
        size_t length = strcspn(text, " ");

        if (column + 1 + length > LUA_COLUMNS)
            column = (size_t)fprintf(out, "\n---") - 1;
        column += (size_t)fprintf(out, " %.*s", (int)length, text);
        text += length + (text[length] == ' ');
    }
    fputc('\n', out);
}

/* "a"|"b" of a|b. */
static void print_words_type(FILE *out, const char *choices)
{
    for (const char *at = choices; *at;) {
        size_t length = strcspn(at, "|");

        fprintf(out, "%s\"%.*s\"", at == choices ? "" : "|", (int)length, at);
        at += length + (at[length] == '|');
    }
}

static void print_type(FILE *out, const struct setting_row *row)
{
    static const char *const types[] = {
        [TYPE_TEXT] = "string",
        [TYPE_CHOICE] = "",
        [TYPE_BOOL] = "boolean",
        [TYPE_COUNT] = "integer",
        [TYPE_SIZE] = "integer|string",
        [TYPE_SECONDS] = "number",
        [TYPE_WORDS] = "string[]|string|function",
        [TYPE_LIST] = "string[]|string",
        [TYPE_ROWS] = "",
    };

    fputs(types[row->type], out);
    if (row->type == TYPE_CHOICE)
        print_words_type(out, row->choices);
    if (row->type == TYPE_ROWS)
        fprintf(out, "%s[]|string", row->rows->type);
    if (row->word && row->type != TYPE_SIZE)
        fprintf(out, "|\"%s\"", row->word);
    if (row->can_be_none)
        fputs("|\"none\"", out);
    if (row->can_be_false)
        fputs("|false", out);
}

static void print_field(FILE *out, const struct setting_row *row, const char *name)
{
    char comment[512], allowed[160], number[32];
    const char *given = given_text(row, number);

    setting_describe(row, allowed, sizeof(allowed));
    snprintf(comment, sizeof(comment), "%s; %s%s%s", row->help, allowed, *given ? "; default " : "",
             given);
    print_comment(out, comment);
    fprintf(out, "---@field %s? ", name);
    print_type(out, row);
    fputc('\n', out);
}

static bool is_first_of_group(size_t index, size_t length)
{
    for (size_t i = 0; i < index; i++)
        if (strncmp(setting_rows[i].key, setting_rows[index].key, length + 1) == 0)
            return false;
    return true;
}

/* "SettingsTimeouts" of the key's group, which is so many bytes long. */
static void print_group_class(FILE *out, const char *key, size_t length)
{
    fputs("moonquay.Settings", out);
    for (size_t i = 0; i < length; i++)
        if (i == 0 || key[i - 1] == '_')
            fputc(key[i] - 'a' + 'A', out);
        else if (key[i] != '_')
            fputc(key[i], out);
}

static void print_group(FILE *out, const char *key, size_t length)
{
    fputs("\n---@class ", out);
    print_group_class(out, key, length);
    fputc('\n', out);
    for (size_t i = 0; i < setting_row_count; i++)
        if (strncmp(setting_rows[i].key, key, length + 1) == 0)
            print_field(out, &setting_rows[i], setting_rows[i].key + length + 1);
}

static void print_group_field(FILE *out, const char *key, size_t length)
{
    bool is_authentication = strncmp(key, "authentication", length) == 0;

    if (is_authentication)
        print_comment(out, "a scheme or a list of schemes: these, and no anonymity");
    fprintf(out, "---@field %.*s? ", (int)length, key);
    print_group_class(out, key, length);
    fputs(is_authentication ? "|string|string[]|function\n" : "\n", out);
}

static void print_rows(FILE *out, const struct word_table *table)
{
    fprintf(out, "\n---@class %s\n", table->type);
    for (size_t i = 0; i < table->count; i++) {
        const struct word_key *key = &table->keys[i];

        print_comment(out, key->help);
        fprintf(out, "---@field %s%s ", key->name, key->required ? "" : "?");
        if (key->choices)
            print_words_type(out, key->choices);
        else if (key->most > 1)
            fputs("string|string[]", out);
        else
            fputs(key->is_number ? "integer|string" : "string", out);
        fputc('\n', out);
    }
}

static void print_luals(FILE *out)
{
    fputs("---@meta\n"
          "--- What moonquay.app { … } and moonquay.conf.lua take, for editors. Never loaded.\n"
          "--- Written by scripts/gen-options from the server's own table.\n\n"
          "---@class moonquay.Settings\n",
          out);
    for (size_t i = 0; i < setting_row_count; i++) {
        const char *key = setting_rows[i].key;
        size_t length = strcspn(key, ".");

        if (key[length] == '\0')
            print_field(out, &setting_rows[i], key);
        else if (is_first_of_group(i, length))
            print_group_field(out, key, length);
    }
    for (size_t i = 0; i < setting_row_count; i++) {
        const char *key = setting_rows[i].key;
        size_t length = strcspn(key, ".");

        if (key[length] == '.' && is_first_of_group(i, length))
            print_group(out, key, length);
    }
    for (size_t i = 0; i < setting_row_count; i++)
        if (setting_rows[i].type == TYPE_ROWS)
            print_rows(out, setting_rows[i].rows);
}

/* ---- all */

int settings_print_as(FILE *out, const char *form)
{
    static const struct {
        const char *name;
        void (*print)(FILE *out);
    } forms[] = {
        {"text", print_text},
        {"markdown", print_markdown},
        {"luals", print_luals},
        {"json", print_json},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (strcmp(forms[i].name, form) != 0)
            continue;
        forms[i].print(out);
        return 0;
    }
    return ERR_NOT_FOUND;
}
