/*
 * The reader is strict: a key that it does not know is a fault, since who wrote it meant something
 * by it that would be lost with the next write.
 */
#include "share/state.h"

#include <jansson.h>
#include <string.h>

#define VERSION 1

/* ---- writing ---- */

static void add_text(struct buf *out, const char *text)
{
    json_t *value = json_string(text);
    char *json = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;

    buf_append(out, json ? span_str(json) : SPAN("null"));
    free(json);
    json_decref(value);
}

static void add_reservation(struct buf *out, const struct reservation *reservation)
{
    const char *name = strchr(reservation->holder, ':') + 1;

    buf_printf(out, "    {\"url\": ");
    add_text(out, reservation->prefix.text);
    buf_printf(out, ", \"%s\": ", reservation->is_group ? "group" : "user");
    add_text(out, name);
    buf_printf(out, ", \"listen\": %s, \"delegate\": %s}", reservation->listens ? "true" : "false",
               reservation->delegates ? "true" : "false");
}

void state_write(const struct reservations *reservations, struct buf *out)
{
    buf_printf(out, "{\n  \"version\": %d,\n  \"urlacl\": [", VERSION);
    for (size_t i = 0; i < reservations->count; i++) {
        buf_printf(out, "%s\n", i ? "," : "");
        add_reservation(out, &reservations->at[i]);
    }
    buf_printf(out, "%s]\n}\n", reservations->count ? "\n  " : "");
}

/* ---- where ---- */

/* The line on which this record begins to say its url; 0 for one that has none. */
static unsigned line_of(struct span text, size_t record)
{
    const struct span key = SPAN("\"url\"");
    unsigned line = 1;

    for (size_t i = 0; i + key.len < text.len; i++) {
        struct span rest = span_skip(text, i);

        line += text.at[i] == '\n';
        if (memcmp(rest.at, key.at, key.len) != 0)
            continue;
        rest = span_skip_blanks(span_skip(rest, key.len));
        if (rest.len > 0 && rest.at[0] == ':' && record-- == 0)
            return line;
    }
    return 0;
}

static int wrong_record(struct span text, size_t record, const char *what, struct err_text *why)
{
    unsigned line = line_of(text, record);

    if (line == 0)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "urlacl: record %zu: %s", record + 1, what);
    return err_set(why, EXIT_OPTION, ERR_INVALID, "line %u: %s", line, what);
}

/* ---- reading ---- */

static int read_record(struct reservations *reservations, const json_t *record, struct span text,
                       size_t number, struct err_text *why)
{
    const char *url = NULL, *user = NULL, *group = NULL;
    int listens = 1, delegates = 0;
    json_error_t error;
    struct err_text reason;

    if (json_unpack_ex((json_t *)(uintptr_t)record, &error, JSON_STRICT,
                       "{s:s, s?s, s?s, s?b, s?b}", "url", &url, "user", &user, "group", &group,
                       "listen", &listens, "delegate", &delegates) < 0)
        return wrong_record(text, number, error.text, why);

    const struct reservation_wish wish = {url, user, group, listens != 0, delegates != 0};

    if (reservations_add(reservations, &wish, &reason) < 0)
        return wrong_record(text, number, reason.text, why);
    return 0;
}

static int read_records(struct reservations *reservations, const json_t *records, struct span text,
                        struct err_text *why)
{
    int code = 0;

    for (size_t i = 0; i < json_array_size(records) && code == 0; i++)
        code = read_record(reservations, json_array_get(records, i), text, i, why);
    return code;
}

static int read_root(struct reservations *reservations, json_t *root, struct span text,
                     struct err_text *why)
{
    json_t *records = NULL;
    json_error_t error;
    int version;

    if (json_unpack_ex(root, &error, JSON_STRICT, "{s:i, s?o}", "version", &version, "urlacl",
                       &records) < 0)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "line 1: %s", error.text);
    if (version != VERSION)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "version %d: this program knows version %d",
                       version, VERSION);
    if (records && !json_is_array(records))
        return err_set(why, EXIT_OPTION, ERR_INVALID, "urlacl must be a list");
    return records ? read_records(reservations, records, text, why) : 0;
}

int state_read(struct reservations *reservations, struct span text, struct err_text *why)
{
    json_error_t error;
    json_t *root;
    int code;

    if (text.len == 0)
        return 0;
    if (text.len > STATE_BYTES)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "longer than %u bytes", STATE_BYTES);
    root = json_loadb(text.at, text.len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "line %d: %s", error.line, error.text);
    code = read_root(reservations, root, text, why);
    json_decref(root);
    if (code < 0)
        reservations_fini(reservations);
    return code;
}
