/*
 * One row an option. Everything that is said about an option (its default, its range, the words of
 * a refusal, the printed table) comes from its row, so that help and behaviour cannot differ.
 */
#include "server/settings.h"

#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "base/span.h"

enum setting_type {
    TYPE_TEXT,
    TYPE_CHOICE,
    TYPE_BOOL,
    TYPE_COUNT,
    TYPE_SIZE,
    TYPE_SECONDS,
};

struct row {
    const char *key;
    enum setting_type type;
    enum setting_scope scope;
    size_t at, room; /* where in struct settings; room of text */
    int64_t least, most;
    const char *word;    /* "unlimited" or "off": what lifts the limit; NULL when nothing does */
    const char *choices; /* separated by '|' */
    const char *given;   /* the default as text; NULL: by_machine times the number of CPUs */
    int by_machine;
    const char *help;
};

#define AT(field)   .at = offsetof(struct settings, field)
#define TEXT(field) .type = TYPE_TEXT, AT(field), .room = sizeof(((struct settings *)0)->field)
#define CHOICE(field, words)                                                                       \
    .type = TYPE_CHOICE, AT(field), .room = sizeof(((struct settings *)0)->field), .choices = words
#define BOOL(field)               .type = TYPE_BOOL, AT(field)
#define COUNT(field, low, high)   .type = TYPE_COUNT, AT(field), .least = low, .most = high
#define SIZE(field, low, high)    .type = TYPE_SIZE, AT(field), .least = low, .most = high
#define SECONDS(field, low, high) .type = TYPE_SECONDS, AT(field), .least = low, .most = high
#define SERVER                    .scope = SETTING_SERVER
#define APP                       .scope = SETTING_APP
#define DAY_MS                    (86400 * 1000)
#define MEBI                      ((int64_t)1 << 20)

static const struct row rows[] = {
    {"urls", SERVER, TEXT(urls), .given = "http://localhost:5000",
     .help = "addresses to serve, separated by commas"},
    {"workers", SERVER, COUNT(workers, 1, 1024), .by_machine = 1, .help = "worker processes"},
    {"drain", SERVER, SECONDS(drain_ms, 0, DAY_MS), .given = "30",
     .help = "how long running requests may go on after a stop"},
    {"watchdog", SERVER, SECONDS(watchdog_ms, 500, DAY_MS), .word = "off", .given = "10",
     .help = "a worker whose loop does not turn for so long is replaced"},
    {"access_log", SERVER, TEXT(access_log), .given = "",
     .help = "file, - for standard error, off; by default - on a terminal, else off"},
    {"access_log_format", SERVER, CHOICE(access_log_format, "combined|json"), .given = "combined",
     .help = "form of the access log"},
    {"error_log", SERVER, TEXT(error_log), .given = "-", .help = "file, or - for standard error"},
    {"error_log_format", SERVER, CHOICE(error_log_format, "text|json"), .given = "text",
     .help = "form of the error log"},
    {"log_level", SERVER, CHOICE(log_level, "error|warn|info|debug"), .given = "info",
     .help = "the least important lines that the error log keeps"},
    {"user", SERVER, TEXT(user), .given = "",
     .help = "whom the workers become when the server is started by root"},
    {"development", SERVER, BOOL(development), .given = "false",
     .help = "error pages with source lines; by default on a terminal"},

    {"max_field_length", APP, SIZE(max_field_length, 64, MEBI), .given = "16384",
     .help = "bytes of a header field line: 431"},
    {"max_request_head_bytes", APP, SIZE(max_request_head_bytes, 256, 16 * MEBI), .given = "131072",
     .help = "bytes of request line and header fields: 431"},
    {"max_target_bytes", APP, SIZE(max_target_bytes, 16, MEBI), .given = "16384",
     .help = "bytes of the request target: 414"},
    {"max_fields", APP, COUNT(max_fields, 1, 65535), .given = "1000",
     .help = "header field lines of a request: 431"},
    {"url_segment_max_length", APP, COUNT(url_segment_max_length, 0, 32766), .given = "260",
     .help = "characters of a path segment, 0 for no limit: 400"},
    {"url_segment_max_count", APP, COUNT(url_segment_max_count, 0, 16383), .given = "255",
     .help = "segments of a path, 0 for no limit: 400"},
    {"max_request_body_size", APP, SIZE(max_request_body_size, 0, SETTING_UNLIMITED),
     .word = "unlimited", .given = "30000000", .help = "bytes of a request's content: 413"},
    {"max_concurrent_requests", APP, COUNT(max_concurrent_requests, 1, 1000000), .given = "512",
     .help = "running handlers in a worker; more requests wait"},
    {"memory_limit", APP, SIZE(memory_limit, MEBI, SETTING_UNLIMITED), .word = "unlimited",
     .given = "256MiB", .help = "Lua memory of the app in a worker"},
    {"cpu_limit", APP, SECONDS(cpu_limit_ms, 10, DAY_MS), .word = "off", .given = "1",
     .help = "how long a handler may compute without a wait"},
    {"timeouts.header_wait", APP, SECONDS(timeout_header_wait_ms, 1, DAY_MS), .word = "off",
     .given = "120", .help = "for the head of a request to arrive"},
    {"timeouts.idle_connection", APP, SECONDS(timeout_idle_connection_ms, 1, DAY_MS), .word = "off",
     .given = "120", .help = "for the next request of a connection"},
    {"timeouts.entity_body", APP, SECONDS(timeout_entity_body_ms, 1, DAY_MS), .word = "off",
     .given = "120", .help = "between two pieces of a request's content"},
    {"timeouts.drain_entity_body", APP, SECONDS(timeout_drain_entity_body_ms, 1, DAY_MS),
     .word = "off", .given = "120", .help = "for content that the handler left unread"},
    {"timeouts.cancel", APP, SECONDS(timeout_cancel_ms, 1, DAY_MS), .word = "off", .given = "10",
     .help = "a cancelled handler that goes on for longer is closed"},
    {"allow_synchronous_io", APP, BOOL(allow_synchronous_io), .given = "true",
     .help = "content is read and written where a handler cannot wait, by blocking"},
    {"throw_write_errors", APP, BOOL(throw_write_errors), .given = "false",
     .help = "a failed write raises an error"},
    {"server_header", APP, TEXT(server_header), .given = "moonquay",
     .help = "value of the Server field, false for none"},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static const struct row *find(const char *key)
{
    for (size_t i = 0; i < ROWS; i++)
        if (strcmp(rows[i].key, key) == 0)
            return &rows[i];
    return NULL;
}

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

/* ---- values as text */

static void print_number(enum setting_type type, int64_t value, char *out, size_t room)
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

/* For people: 268435456 is "256MiB". */
static void print_size(int64_t value, char *out, size_t room)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    for (; value >= 1024 && value % 1024 == 0 && unit < 4; unit++)
        value /= 1024;
    snprintf(out, room, "%lld%s", (long long)value, units[unit]);
}

static void describe_range(const struct row *row, char *out, size_t room)
{
    char least[32], most[32];
    const char *unit = row->type == TYPE_SECONDS ? " seconds" : "";
    const char *or_word = row->word ? ", or " : "", *word = row->word ? row->word : "";

    if (row->type == TYPE_SIZE) {
        print_size(row->least, least, sizeof(least));
        print_size(row->most, most, sizeof(most));
    } else {
        print_number(row->type, row->least, least, sizeof(least));
        print_number(row->type, row->most, most, sizeof(most));
    }
    if (row->most == SETTING_UNLIMITED)
        snprintf(out, room, "at least %s%s%s%s", least, unit, or_word, word);
    else
        snprintf(out, room, "between %s and %s%s%s%s", least, most, unit, or_word, word);
}

/* "a, b or c" of "a|b|c". */
static void describe_choices(const char *choices, char *out, size_t room)
{
    size_t used = 0;

    for (const char *at = choices; *at && used < room;) {
        size_t length = strcspn(at, "|");
        bool last = at[length] == '\0';
        const char *joint = at == choices ? "" : last ? " or " : ", ";

        used += (size_t)snprintf(out + used, room - used, "%s%.*s", joint, (int)length, at);
        at += length + !last;
    }
}

static void describe(const struct row *row, char *out, size_t room)
{
    switch (row->type) {
    case TYPE_TEXT:
        snprintf(out, room, "printable text of at most %zu bytes", row->room - 1);
        break;
    case TYPE_CHOICE:
        describe_choices(row->choices, out, room);
        break;
    case TYPE_BOOL:
        snprintf(out, room, "true or false");
        break;
    default:
        describe_range(row, out, room);
    }
}

/* ---- setting */

static bool is_choice(const char *choices, const char *value)
{
    size_t length = strcspn(value, "|");

    if (length == 0 || value[length] != '\0')
        return false;
    for (const char *at = choices; at; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, value, length) == 0 && (at[length] == '|' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* Text goes into file names, fields and logs: controls have no place in any. */
static bool is_printable(const char *value)
{
    for (; *value; value++)
        if ((unsigned char)*value < 0x20 || *value == 0x7F)
            return false;
    return true;
}

static int set_text(const struct row *row, char *field, const char *value)
{
    bool is_none = row->at == offsetof(struct settings, server_header) &&
                   (strcmp(value, "false") == 0 || strcmp(value, "off") == 0);

    if (is_none)
        value = "";
    if (row->type == TYPE_CHOICE && !is_choice(row->choices, value))
        return ERR_INVALID;
    if (strlen(value) >= row->room || !is_printable(value))
        return ERR_INVALID;
    memcpy(field, value, strlen(value) + 1);
    return 0;
}

static int set_bool(bool *field, const char *value)
{
    bool is_true = strcmp(value, "true") == 0;

    if (!is_true && strcmp(value, "false") != 0)
        return ERR_INVALID;
    *field = is_true;
    return 0;
}

static int set_number(const struct row *row, int64_t *field, const char *value)
{
    int64_t number;
    int code;

    if (row->word && strcmp(value, row->word) == 0) {
        *field = SETTING_UNLIMITED;
        return 0;
    }
    if (row->type == TYPE_SIZE)
        code = settings_parse_size(value, &number);
    else if (row->type == TYPE_SECONDS)
        code = settings_parse_seconds(value, &number);
    else
        code = parse_count(value, &number);
    if (code < 0 || number < row->least || number > row->most)
        return ERR_INVALID;
    *field = number;
    return 0;
}

static int set_row(struct settings *settings, const struct row *row, const char *value)
{
    void *field = (char *)settings + row->at;

    switch (row->type) {
    case TYPE_TEXT:
    case TYPE_CHOICE:
        return set_text(row, field, value);
    case TYPE_BOOL:
        return set_bool(field, value);
    default:
        return set_number(row, field, value);
    }
}

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

/* A key that was perhaps meant; NULL when none is near. A group's name may be left out. */
static const char *nearest(const char *key)
{
    const char *best = NULL;
    size_t least = 1 + (strlen(key) + 2) / 4;

    for (size_t i = 0; i < ROWS; i++) {
        const char *dot = strchr(rows[i].key, '.');
        size_t whole = distance(key, rows[i].key);
        size_t tail = dot ? distance(key, dot + 1) : SIZE_MAX;
        size_t cost = whole < tail ? whole : tail;

        if (cost < least) {
            least = cost;
            best = rows[i].key;
        }
    }
    return best;
}

/* What came from outside, for a message of one line. */
static void quote_value(const char *value, char *out, size_t room)
{
    snprintf(out, room, "%s", value);
    for (; *out; out++)
        if ((unsigned char)*out < 0x20 || *out == 0x7F)
            *out = '?';
}

int settings_refuse(const char *key, const char *shown, const char *where, struct err_text *text)
{
    const struct row *row = find(key);
    bool has_key = where[0] && where[strlen(where) - 1] == '=';
    const char *joint = where[0] == '\0' || has_key ? "" : strchr(where, ':') ? ": " : " ";
    char shown_key[80], shown_value[120], allowed[160];

    quote_value(key, shown_key, sizeof(shown_key));
    quote_value(shown, shown_value, sizeof(shown_value));
    if (row == NULL) {
        const char *near = nearest(key);

        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%s%s%s: no such option%s%s%s", where,
                       joint, shown_key, near ? ", did you mean " : "; moonquay options lists all",
                       near ? near : "", near ? "?" : "");
    }
    describe(row, allowed, sizeof(allowed));
    return err_set(text, EXIT_OPTION, ERR_INVALID, "%s%s%s%s%s: must be %s", where, joint,
                   has_key ? "" : shown_key, has_key ? "" : "=", shown_value, allowed);
}

int settings_set(struct settings *settings, const char *key, const char *value, const char *where,
                 struct err_text *text)
{
    const struct row *row = find(key);

    if (row && set_row(settings, row, value) == 0)
        return 0;
    return settings_refuse(key, value, where, text);
}

static int64_t cpu_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return CPU_COUNT(&set);
}

void settings_init(struct settings *settings)
{
    memset(settings, 0, sizeof(*settings));
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].given)
            CHECK(set_row(settings, &rows[i], rows[i].given) == 0);
        else
            *(int64_t *)(void *)((char *)settings + rows[i].at) = rows[i].by_machine * cpu_count();
    }
}

int settings_get(const struct settings *settings, const char *key, char *out, size_t room)
{
    const struct row *row = find(key);

    if (row == NULL)
        return ERR_NOT_FOUND;
    const void *field = (const char *)settings + row->at;

    if (row->type == TYPE_TEXT || row->type == TYPE_CHOICE)
        snprintf(out, room, "%s", (const char *)field);
    else if (row->type == TYPE_BOOL)
        snprintf(out, room, "%s", *(const bool *)field ? "true" : "false");
    else if (row->word && *(const int64_t *)field == SETTING_UNLIMITED)
        snprintf(out, room, "%s", row->word);
    else
        print_number(row->type, *(const int64_t *)field, out, room);
    return 0;
}

int settings_scope(const char *key)
{
    const struct row *row = find(key);

    return row ? (int)row->scope : ERR_NOT_FOUND;
}

void settings_print(FILE *out)
{
    char allowed[160], machine[32];

    for (size_t i = 0; i < ROWS; i++) {
        const struct row *row = &rows[i];
        const char *given = row->given;

        describe(row, allowed, sizeof(allowed));
        if (given == NULL) {
            snprintf(machine, sizeof(machine), "%d x CPUs", row->by_machine);
            given = row->by_machine == 1 ? "CPUs" : machine;
        }
        fprintf(out, "%-27s %-22s %s; %s\n", row->key, *given ? given : "-", row->help, allowed);
    }
}

void settings_each(void (*each)(void *arg, const char *key), void *arg)
{
    for (size_t i = 0; i < ROWS; i++)
        each(arg, rows[i].key);
}
