/*
 * Values as text: numbers with units, words, lists; what a row takes and how that is said. Nothing
 * here knows a key.
 */
#include <string.h>

#include "server/settings_priv.h"
#include "server/word_row.h"

/* ---- numbers */

/*
 * Reads "12", "1.5" and the like in units of 1/scale; what follows the digits is left in *rest.
 * Digits behind the smallest unit are cut off.
 */
static int parse_decimal(const char *text, int64_t scale, int64_t *value, const char **rest)
{
    int64_t whole = 0, part = 0, unit = scale;
    const char *at = text;

    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, *at - '0', &whole))
            return ERR_INVALID;
    if (at == text)
        return ERR_INVALID;
    if (*at == '.') {
        const char *first = ++at;

        for (; *at >= '0' && *at <= '9'; at++, unit /= 10)
            part += (*at - '0') * unit / 10;
        if (at == first)
            return ERR_INVALID;
    }
    if (__builtin_mul_overflow(whole, scale, &whole) || __builtin_add_overflow(whole, part, value))
        return ERR_INVALID;
    *rest = at;
    return 0;
}

static int64_t unit_bytes(const char *unit)
{
    static const struct {
        const char *name;
        int64_t bytes;
    } units[] = {
        {"", 1},
        {"B", 1},
        {"KB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", 1000000000000},
        {"KiB", (int64_t)1 << 10},
        {"MiB", (int64_t)1 << 20},
        {"GiB", (int64_t)1 << 30},
        {"TiB", (int64_t)1 << 40},
    };

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (span_eq_nocase(span_str(unit), span_str(units[i].name)))
            return units[i].bytes;
    return 0;
}

int settings_parse_size(const char *text, int64_t *bytes)
{
    const char *number_end = text + strspn(text, "0123456789."), *rest;
    int64_t unit = unit_bytes(number_end + (*number_end == ' '));

    /* A half byte is a mistake, half a mebibyte is not. */
    if (unit == 0 || (unit == 1 && strchr(text, '.')))
        return ERR_INVALID;
    return parse_decimal(text, unit, bytes, &rest) < 0 || rest != number_end ? ERR_INVALID : 0;
}

int settings_parse_seconds(const char *text, int64_t *ms)
{
    const char *rest;

    return parse_decimal(text, 1000, ms, &rest) < 0 || *rest != '\0' ? ERR_INVALID : 0;
}

static int parse_count(const char *text, int64_t *count)
{
    const char *rest;

    return strchr(text, '.') || parse_decimal(text, 1, count, &rest) < 0 || *rest != '\0'
               ? ERR_INVALID
               : 0;
}

/* HTTP.sys writes -1 for a count without a limit. */
static bool is_no_limit(const struct setting_row *row, const char *text)
{
    bool is_count = row->type == TYPE_COUNT && row->word && strcmp(row->word, "unlimited") == 0;

    return (row->word && strcmp(text, row->word) == 0) || (is_count && strcmp(text, "-1") == 0);
}

static int read_number(const struct setting_row *row, const char *text, int64_t *number)
{
    int code;

    *number = SETTING_UNLIMITED;
    if (is_no_limit(row, text))
        return 0;
    *number = SETTING_NONE;
    if (row->can_be_none && strcmp(text, "none") == 0)
        return 0;
    if (row->type == TYPE_SIZE)
        code = settings_parse_size(text, number);
    else if (row->type == TYPE_SECONDS)
        code = settings_parse_seconds(text, number);
    else
        code = parse_count(text, number);
    return code < 0 || *number < row->least || *number > row->most ? ERR_INVALID : 0;
}

/* ---- texts and lists */

bool setting_is_choice(const char *choices, struct span word)
{
    for (const char *at = choices; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (word.len > 0 && strcspn(at, "|") == word.len && memcmp(at, word.at, word.len) == 0)
            return true;
    }
    return false;
}

bool setting_is_list(const struct setting_row *row)
{
    return row->type == TYPE_WORDS || row->type == TYPE_LIST || row->type == TYPE_ROWS;
}

/* Text goes into file names, fields and logs: controls have no place in any. */
static bool is_printable(const char *value)
{
    for (; *value; value++)
        if ((unsigned char)*value < 0x20 || *value == 0x7F)
            return false;
    return true;
}

bool settings_item(const char **rest, struct span *item)
{
    while (**rest) {
        size_t length = strcspn(*rest, ",");

        *item = span_trim(span_of(*rest, length));
        *rest += length + ((*rest)[length] == ',');
        if (item->len > 0)
            return true;
    }
    return false;
}

static int read_items(const struct setting_row *row, const char *text, struct setting_why *why)
{
    char allowed[160];
    struct span item;

    while (settings_item(&text, &item)) {
        bool is_right = row->type == TYPE_WORDS ? setting_is_choice(row->choices, item)
                                                : !row->is_right || row->is_right(item);

        if (is_right)
            continue;
        setting_describe(row, allowed, sizeof(allowed));
        snprintf(why->text, sizeof(why->text), "%.*s: must be %s",
                 item.len > 80 ? 80 : (int)item.len, item.at, allowed);
        return ERR_INVALID;
    }
    return 0;
}

static int read_text(const struct setting_row *row, struct setting_value *value,
                     struct setting_why *why)
{
    const char *text = value->text;

    if (row->can_be_false && (strcmp(text, "false") == 0 || strcmp(text, "off") == 0))
        value->text = text = "";
    if (strlen(text) >= row->room || !is_printable(text))
        return ERR_INVALID;
    if (row->type == TYPE_CHOICE)
        return setting_is_choice(row->choices, span_str(text)) ? 0 : ERR_INVALID;
    if (row->type == TYPE_ROWS)
        return word_rows_check(row->rows, text, why->text, sizeof(why->text));
    if (setting_is_list(row)) {
        struct err_text wrong;

        if (row->judge == NULL || row->judge(text, &wrong) == 0)
            return read_items(row, text, why);
        snprintf(why->text, sizeof(why->text), "%.*s", (int)sizeof(why->text) - 1, wrong.text);
        return ERR_INVALID;
    }
    return !row->is_right || row->is_right(span_str(text)) ? 0 : ERR_INVALID;
}

int setting_read(const struct setting_row *row, const char *text, struct setting_value *value,
                 struct setting_why *why)
{
    *value = (struct setting_value){.text = text};
    why->text[0] = '\0';
    switch (row->type) {
    case TYPE_BOOL:
        value->number = value->truth = strcmp(text, "true") == 0;
        return value->truth || strcmp(text, "false") == 0 ? 0 : ERR_INVALID;
    case TYPE_COUNT:
    case TYPE_SIZE:
    case TYPE_SECONDS:
        return read_number(row, text, &value->number);
    default:
        return read_text(row, value, why);
    }
}

/* ---- in words */

static void print_plain(enum setting_type type, int64_t value, char *out, size_t room)
{
    long long number = value;

    if (type == TYPE_SECONDS && value % 1000 != 0) {
        int length = snprintf(out, room, "%lld.%03lld", number / 1000, number % 1000);

        while (length > 0 && (size_t)length < room && out[length - 1] == '0')
            out[--length] = '\0';
    } else {
        snprintf(out, room, "%lld", type == TYPE_SECONDS ? number / 1000 : number);
    }
}

void setting_print_number(const struct setting_row *row, int64_t number, char *out, size_t room)
{
    if (row->type == TYPE_BOOL)
        snprintf(out, room, "%s", number ? "true" : "false");
    else if (row->word && number == SETTING_UNLIMITED)
        snprintf(out, room, "%s", row->word);
    else if (row->can_be_none && number == SETTING_NONE)
        snprintf(out, room, "none");
    else
        print_plain(row->type, number, out, room);
}

/* For people: 268435456 is "256MiB". */
static void print_size(int64_t value, char *out, size_t room)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    for (; value >= 1024 && value % 1024 == 0 && unit < 4; unit++)
        value /= 1024;
    snprintf(out, room, "%lld%s", (long long)value, units[unit]);
}

static void print_bound(const struct setting_row *row, int64_t value, char *out, size_t room)
{
    if (row->type == TYPE_SIZE)
        print_size(value, out, room);
    else
        print_plain(row->type, value, out, room);
}

static void describe_range(const struct setting_row *row, char *out, size_t room)
{
    char least[32], most[32], range[96];
    const char *unit = row->type == TYPE_SECONDS ? " seconds" : "";
    const char *word = row->word ? row->word : "";

    print_bound(row, row->least, least, sizeof(least));
    print_bound(row, row->most, most, sizeof(most));
    if (row->most == SETTING_UNLIMITED)
        snprintf(range, sizeof(range), "at least %s%s", least, unit);
    else
        snprintf(range, sizeof(range), "between %s and %s%s", least, most, unit);
    if (row->can_be_none)
        snprintf(out, room, "%s, %s or none", range, word);
    else
        snprintf(out, room, "%s%s%s", range, row->word ? ", or " : "", word);
}

void setting_describe_choices(const char *choices, const char *last_joint, char *out, size_t room)
{
    size_t used = 0;

    for (const char *at = choices; *at && used < room;) {
        size_t length = strcspn(at, "|");
        bool last = at[length] == '\0';
        const char *joint = at == choices ? "" : last ? last_joint : ", ";

        used += (size_t)snprintf(out + used, room - used, "%s%.*s", joint, (int)length, at);
        at += length + !last;
    }
}

void setting_describe(const struct setting_row *row, char *out, size_t room)
{
    char bytes[32];
    size_t most = row->room - 1;

    if (row->form) {
        snprintf(out, room, "%s", row->form);
        return;
    }
    switch (row->type) {
    case TYPE_TEXT:
        snprintf(out, room, "printable text of at most %zu bytes", most);
        break;
    case TYPE_CHOICE:
        setting_describe_choices(row->choices, " or ", out, room);
        break;
    case TYPE_BOOL:
        snprintf(out, room, "true or false");
        break;
    case TYPE_WORDS:
        snprintf(out, room, "one or more of ");
        setting_describe_choices(row->choices, " and ", out + strlen(out), room - strlen(out));
        break;
    case TYPE_LIST:
        print_size((int64_t)row->room, bytes, sizeof(bytes));
        snprintf(out, room, "printable texts separated by commas, below %s", bytes);
        break;
    case TYPE_ROWS:
        print_size((int64_t)row->room, bytes, sizeof(bytes));
        snprintf(out, room, "%ss separated by semicolons, below %s", row->rows->noun, bytes);
        break;
    default:
        describe_range(row, out, room);
    }
}
