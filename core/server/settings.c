/*
 * Setting and reading by key, and the words of a refusal. What a key takes is in its row
 * (settings_table), how a value is read in setting_value.
 */
#include "server/settings.h"

#include <sched.h>
#include <string.h>

#include "base/mem.h"
#include "server/settings_priv.h"

#define LONGEST_KEY 64 /* that may be a mistyped one */

static const void *field_of(const struct settings *settings, const struct setting_row *row)
{
    return (const char *)settings + row->at;
}

/* ---- life */

static int64_t cpu_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return CPU_COUNT(&set);
}

static void store(struct settings *settings, const struct setting_row *row,
                  const struct setting_value *value)
{
    void *field = (char *)settings + row->at;

    if (setting_is_list(row)) {
        char *old = *(char **)field;

        *(char **)field = mem_strdup(value->text); /* which may be the old one */
        mem_free(old);
    } else if (row->type == TYPE_TEXT || row->type == TYPE_CHOICE) {
        memmove(field, value->text, strlen(value->text) + 1);
    } else if (row->type == TYPE_BOOL) {
        *(bool *)field = value->truth;
    } else {
        *(int64_t *)field = value->number;
    }
}

void settings_init(struct settings *settings)
{
    struct setting_value value;
    struct setting_why why;

    memset(settings, 0, sizeof(*settings));
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting_row *row = &setting_rows[i];

        if (row->given)
            CHECK(setting_read(row, row->given, &value, &why) == 0);
        else
            value.number = row->by_machine * cpu_count();
        store(settings, row, &value);
    }
}

void settings_fini(struct settings *settings)
{
    for (size_t i = 0; i < setting_row_count; i++) {
        char **list = (char **)(void *)((char *)settings + setting_rows[i].at);

        if (!setting_is_list(&setting_rows[i]))
            continue;
        mem_free(*list);
        *list = NULL;
    }
}

void settings_copy(struct settings *to, const struct settings *from)
{
    *to = *from;
    for (size_t i = 0; i < setting_row_count; i++) {
        char **list = (char **)(void *)((char *)to + setting_rows[i].at);

        if (setting_is_list(&setting_rows[i]))
            *list = mem_strdup(*list);
    }
}

/* ---- refusals */

/* How many letters must be changed, added or taken away (Levenshtein). */
static size_t distance(const char *from, const char *to)
{
    size_t width = strlen(to), costs[64];

    if (width >= sizeof(costs) / sizeof(costs[0]))
        return SIZE_MAX;
    for (size_t i = 0; i <= width; i++)
        costs[i] = i;
    for (size_t row = 1; *from; from++, row++) {
        size_t diagonal = costs[0];

        costs[0] = row;
        for (size_t i = 1; i <= width; i++) {
            size_t changed = diagonal + (*from != to[i - 1]);
            size_t best = costs[i] < costs[i - 1] ? costs[i] + 1 : costs[i - 1] + 1;

            diagonal = costs[i];
            costs[i] = changed < best ? changed : best;
        }
    }
    return costs[width];
}

/* A key that was perhaps meant; NULL when none is near. A group's name may be left out. A text far
 * longer than any key is not compared: that would take its length times theirs. */
static const char *nearest(const char *key)
{
    const char *best = NULL;
    size_t length = strlen(key), least = 1 + (length + 2) / 4;

    if (length > LONGEST_KEY)
        return NULL;
    for (size_t i = 0; i < setting_row_count; i++) {
        const char *known = setting_rows[i].key, *dot = strchr(known, '.');
        size_t whole = distance(key, known);
        size_t tail = dot ? distance(key, dot + 1) : SIZE_MAX;
        size_t cost = whole < tail ? whole : tail;

        if (cost < least) {
            least = cost;
            best = known;
        }
    }
    return best;
}

/* What came from outside, for a message of one line; cut between two characters of UTF-8. */
static void quote_value(const char *value, char *out, size_t room)
{
    size_t length = strlen(value);

    for (length = length < room ? length : room - 1; length > 0; length--)
        if (((unsigned char)value[length] & 0xC0) != 0x80)
            break;
    snprintf(out, room, "%.*s", (int)length, value);
    for (; *out; out++)
        if ((unsigned char)*out < 0x20 || *out == 0x7F)
            *out = '?';
}

static bool names_key(const char *where)
{
    return where[0] && where[strlen(where) - 1] == '=';
}

static const char *joint_behind(const char *where)
{
    return where[0] == '\0' || names_key(where) ? "" : strchr(where, ':') ? ": " : " ";
}

static int refuse_key(const char *key, const char *where, struct err_text *text)
{
    const char *near = nearest(key);
    char shown_key[80];

    quote_value(key, shown_key, sizeof(shown_key));
    return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%s%s%s: no such option%s%s%s", where,
                   joint_behind(where), shown_key,
                   near ? ", did you mean " : "; moonquay options lists all", near ? near : "",
                   near ? "?" : "");
}

/* why: of an item of the value, or NULL when it is wrong as a whole. */
static int refuse_value(const struct setting_row *row, const char *shown, const char *where,
                        const char *why, struct err_text *text)
{
    bool has_key = names_key(where);
    char shown_value[120], allowed[160], shown_why[256];
    int where_len = (int)strlen(where);

    if (why && why[0]) {
        quote_value(why, shown_why, sizeof(shown_why));
        return err_set(text, EXIT_OPTION, ERR_INVALID, "%.*s%s%s: %s", where_len - has_key, where,
                       joint_behind(where), has_key ? "" : row->key, shown_why);
    }
    quote_value(shown, shown_value, sizeof(shown_value));
    setting_describe(row, allowed, sizeof(allowed));
    return err_set(text, EXIT_OPTION, ERR_INVALID, "%s%s%s%s%s: must be %s", where,
                   joint_behind(where), has_key ? "" : row->key, has_key ? "" : "=", shown_value,
                   allowed);
}

int settings_refuse(const char *key, const char *shown, const char *where, struct err_text *text)
{
    const struct setting_row *row = setting_find(key);

    return row ? refuse_value(row, shown, where, NULL, text) : refuse_key(key, where, text);
}

bool settings_takes(const char *key, enum setting_form form)
{
    const struct setting_row *row = setting_find(key);

    if (row == NULL || form == SETTING_FROM_TEXT)
        return true;
    if (form == SETTING_FROM_LIST)
        return setting_is_list(row);
    if (form == SETTING_FROM_NIL)
        return row->can_be_none;
    if (form == SETTING_FROM_TRUE || form == SETTING_FROM_FALSE)
        return row->type == TYPE_BOOL || (form == SETTING_FROM_FALSE && row->can_be_false);
    return row->type == TYPE_COUNT || row->type == TYPE_SIZE || row->type == TYPE_SECONDS;
}

/* ---- setting and reading */

/* Finds the row and reads the value, or refuses; the row is NULL then. */
static const struct setting_row *judge(const char *key, const char *text,
                                       struct setting_value *value, const char *where, int *code,
                                       struct err_text *wrong)
{
    const struct setting_row *row = setting_find(key);
    struct setting_why why;

    *code = 0;
    if (row == NULL) {
        *code = refuse_key(key, where, wrong);
        return NULL;
    }
    if (setting_read(row, text, value, &why) == 0)
        return row;
    *code = refuse_value(row, text, where, why.text, wrong);
    return NULL;
}

int settings_set(struct settings *settings, const char *key, const char *value, const char *where,
                 struct err_text *text)
{
    struct setting_value read;
    int code;
    const struct setting_row *row = judge(key, value, &read, where, &code, text);

    if (row)
        store(settings, row, &read);
    return code;
}

int settings_check(const char *key, const char *value, const char *where, struct err_text *text)
{
    struct setting_value read;
    int code;

    judge(key, value, &read, where, &code, text);
    return code;
}

int settings_check_change(const char *key, const char *value, const char *where,
                          struct err_text *text)
{
    int code = settings_check(key, value, where, text);

    if (code < 0 || settings_when(key) == SETTING_ANY_TIME)
        return code;
    return err_set(text, EXIT_OPTION, ERR_STATE, "%s%s%s can only be set before the start", where,
                   where[0] ? ": " : "", key);
}

static bool is_number(const struct setting_row *row)
{
    return row->type == TYPE_BOOL || row->type == TYPE_COUNT || row->type == TYPE_SIZE ||
           row->type == TYPE_SECONDS;
}

int settings_number(const char *key, const char *value, const char *where, int64_t *number,
                    struct err_text *text)
{
    struct setting_value read;
    int code;
    const struct setting_row *row = judge(key, value, &read, where, &code, text);

    if (row && !is_number(row))
        return settings_refuse(key, value, where, text);
    *number = row ? read.number : 0;
    return code;
}

int settings_number_text(const char *key, int64_t number, char *out, size_t room)
{
    const struct setting_row *row = setting_find(key);

    if (row == NULL || !is_number(row))
        return ERR_NOT_FOUND;
    setting_print_number(row, number, out, room);
    return 0;
}

const char *settings_text(const struct settings *settings, const char *key)
{
    const struct setting_row *row = setting_find(key);

    if (row == NULL || is_number(row))
        return NULL;
    const void *field = field_of(settings, row);

    return setting_is_list(row) ? *(char *const *)field : field;
}

int settings_get(const struct settings *settings, const char *key, char *out, size_t room)
{
    const struct setting_row *row = setting_find(key);
    const char *text = settings_text(settings, key);

    if (row == NULL)
        return ERR_NOT_FOUND;
    const void *field = field_of(settings, row);

    if (text)
        snprintf(out, room, "%s", text);
    else if (row->type == TYPE_BOOL)
        setting_print_number(row, *(const bool *)field, out, room);
    else
        setting_print_number(row, *(const int64_t *)field, out, room);
    return 0;
}
