/*
 * The reader is strict: a key that it does not know is a fault, since who wrote it meant something
 * by it that would be lost with the next write.
 */
#include "share/state.h"

#include <jansson.h>
#include <string.h>

#define VERSION        1
#define TIMEOUT_MOST_S 65535

void state_fini(struct state *state)
{
    reservations_fini(&state->reservations);
    sslcerts_fini(&state->sslcerts);
    *state = (struct state){0};
}

void state_copy(struct state *copy, const struct state *state)
{
    *copy = *state;
    reservations_copy(&copy->reservations, &state->reservations);
    sslcerts_copy(&copy->sslcerts, &state->sslcerts);
}

/* ---- where we listen ---- */

static int parse_listen(const char *address, struct net_addr *addr, struct err_text *text)
{
    if (net_addr_parse(addr, span_str(address), 0) == 0)
        return 0;
    return err_set(text, EXIT_OPTION, ERR_INVALID, "ipaddress=%.100s: must be an IP address",
                   address);
}

/* Its place in the list, or the count. */
static unsigned find_listen(const struct state *state, const struct net_addr *addr)
{
    unsigned i = 0;

    while (i < state->listen_count && (state->listen[i].family != addr->family ||
                                       memcmp(state->listen[i].ip, addr->ip, sizeof(addr->ip))))
        i++;
    return i;
}

int state_add_listen(struct state *state, const char *address, struct err_text *text)
{
    struct net_addr addr;
    int code = parse_listen(address, &addr, text);

    if (code < 0)
        return code;
    if (find_listen(state, &addr) < state->listen_count)
        return err_set(text, EXIT_OPTION, ERR_EXISTS, "%.100s is in the list already", address);
    if (state->listen_count == STATE_LISTEN_MOST)
        return err_set(text, EXIT_OPTION, ERR_LIMIT, "there are %d addresses already",
                       STATE_LISTEN_MOST);
    state->listen[state->listen_count++] = addr;
    return 0;
}

int state_remove_listen(struct state *state, const char *address, struct err_text *text)
{
    struct net_addr addr;
    int code = parse_listen(address, &addr, text);
    unsigned i;

    if (code < 0)
        return code;
    i = find_listen(state, &addr);
    if (i == state->listen_count)
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%.100s is not in the list", address);
    memmove(&state->listen[i], &state->listen[i + 1],
            (--state->listen_count - i) * sizeof(state->listen[0]));
    return 0;
}

/* ---- writing ---- */

static void add_text(struct buf *out, const char *text)
{
    json_t *value = json_string(text);
    char *json = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;

    buf_append(out, json ? span_str(json) : SPAN("null"));
    free(json);
    json_decref(value);
}

/* An object that is left open. */
static void begin_urlacl(const struct reservation *reservation, struct buf *out)
{
    const char *name = strchr(reservation->holder, ':') + 1;

    buf_printf(out, "{\"url\": ");
    add_text(out, reservation->prefix.text);
    buf_printf(out, ", \"%s\": ", reservation->who.is_group ? "group" : "user");
    add_text(out, name);
    buf_printf(out, ", \"listen\": %s, \"delegate\": %s", reservation->listens ? "true" : "false",
               reservation->delegates ? "true" : "false");
}

static void write_urlacl(const struct reservation *reservation, struct buf *out)
{
    begin_urlacl(reservation, out);
    buf_append(out, SPAN("}"));
}

void state_write_urlacl(const struct reservation *reservation, struct buf *out)
{
    begin_urlacl(reservation, out);
    buf_printf(out, "%s}", reservation->who.is_unknown ? ", \"unknown\": true" : "");
}

void state_write_sslcert(const struct sslcert *record, const char *unusable, struct buf *out)
{
    const char *comma = "";

    buf_append(out, SPAN("{"));
    for (unsigned i = 0; i < SSLCERT_KEYS; i++) {
        if (record->text[i] == NULL)
            continue;
        buf_printf(out, "%s\"%s\": ", comma, sslcert_names[i]);
        add_text(out, record->text[i]);
        comma = ", ";
    }
    if (unusable) {
        buf_append(out, SPAN(", \"unusable\": "));
        add_text(out, unusable);
    }
    buf_append(out, SPAN("}"));
}

static void open_list(struct buf *out, const char *name, size_t count)
{
    buf_printf(out, ",\n  \"%s\": [%s", name, count ? "\n" : "");
}

static void close_list(struct buf *out, size_t count)
{
    buf_printf(out, "%s]", count ? "  " : "");
}

static void write_urlacls(const struct reservations *list, struct buf *out)
{
    open_list(out, "urlacl", list->count);
    for (size_t i = 0; i < list->count; i++) {
        buf_append(out, SPAN("    "));
        write_urlacl(&list->at[i], out);
        buf_printf(out, "%s\n", i + 1 < list->count ? "," : "");
    }
    close_list(out, list->count);
}

static void write_sslcerts(const struct sslcerts *list, struct buf *out)
{
    open_list(out, "sslcert", list->count);
    for (size_t i = 0; i < list->count; i++) {
        buf_append(out, SPAN("    "));
        state_write_sslcert(&list->at[i], NULL, out);
        buf_printf(out, "%s\n", i + 1 < list->count ? "," : "");
    }
    close_list(out, list->count);
}

static void write_listen(const struct state *state, struct buf *out)
{
    open_list(out, "iplisten", 0);
    for (unsigned i = 0; i < state->listen_count; i++) {
        char ip[NET_ADDR_TEXT];

        net_addr_ip(&state->listen[i], ip);
        buf_printf(out, "%s\"%s\"", i ? ", " : "", ip);
    }
    close_list(out, 0);
}

static void write_timeouts(const struct state *state, struct buf *out)
{
    const char *comma = "";

    buf_append(out, SPAN(",\n  \"timeout\": {"));
    if (state->header_wait_s) {
        buf_printf(out, "\"headerwaittimeout\": %u", state->header_wait_s);
        comma = ", ";
    }
    if (state->idle_connection_s)
        buf_printf(out, "%s\"idleconnectiontimeout\": %u", comma, state->idle_connection_s);
    buf_append(out, SPAN("}"));
}

void state_write(const struct state *state, struct buf *out)
{
    buf_printf(out, "{\n  \"version\": %d", VERSION);
    write_urlacls(&state->reservations, out);
    write_sslcerts(&state->sslcerts, out);
    write_listen(state, out);
    write_timeouts(state, out);
    buf_append(out, SPAN("\n}\n"));
}

/* ---- where ---- */

/* A walk over a text that is known to be JSON. */
struct walk {
    struct span rest;
    unsigned line, depth;
};

/* The next character that is neither blank nor within a text; a text counts as its first quote,
 * which is then in *text. 0 at the end. */
static char walk_next(struct walk *walk, struct span *text)
{
    while (walk->rest.len > 0) {
        char c = walk->rest.at[0];
        size_t length = 1;

        walk->line += c == '\n';
        if (c == '"')
            while (walk->rest.at[length] != '"')
                length += walk->rest.at[length] == '\\' ? 2 : 1;
        *text = span_of(walk->rest.at + 1, length - 1);
        walk->rest = span_skip(walk->rest, c == '"' ? length + 1 : 1);
        walk->depth += c == '{' || c == '[';
        walk->depth -= c == '}' || c == ']';
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            return c;
    }
    return 0;
}

/* The line on which this record of the list begins. */
static unsigned line_of(struct span json, const char *list, size_t record)
{
    struct walk walk = {.rest = json, .line = 1};
    struct span text;
    bool is_in = false;
    char c;

    while ((c = walk_next(&walk, &text)) != 0) {
        bool opens = c == '[' && walk.depth == 2;

        if (is_in && walk.depth >= 2 && record == 0 && !opens)
            return walk.line;
        if (is_in && walk.depth == 2 && c == ',')
            record--;
        if (walk.depth == 1 && c == '"')
            is_in = span_eq(text, span_str(list));
    }
    return walk.line;
}

/* The list whose records are read, and how one is. */
struct reading {
    const char *name;
    struct span text;
    int (*read)(struct state *state, const json_t *record, struct err_text *why);
};

static int wrong(const struct reading *reading, size_t record, const char *what,
                 struct err_text *why)
{
    return err_set(why, EXIT_OPTION, ERR_INVALID, "line %u: %s",
                   line_of(reading->text, reading->name, record), what);
}

/* ---- reading ---- */

static json_t *unconst(const json_t *value)
{
    return (json_t *)(uintptr_t)value;
}

static int read_urlacl(struct state *state, const json_t *record, struct err_text *why)
{
    struct reservation_wish wish = {.was_there = true};
    int listens = 1, delegates = 0;
    json_error_t error;

    if (json_unpack_ex(unconst(record), &error, JSON_STRICT, "{s:s, s?s, s?s, s?b, s?b}", "url",
                       &wish.url, "user", &wish.user, "group", &wish.group, "listen", &listens,
                       "delegate", &delegates) < 0)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "%s", error.text);
    wish.listens = listens != 0;
    wish.delegates = delegates != 0;
    return reservations_add(&state->reservations, &wish, why);
}

static unsigned sslcert_key(const char *name)
{
    unsigned key = 0;

    while (key < SSLCERT_KEYS && strcmp(name, sslcert_names[key]) != 0)
        key++;
    return key;
}

static int read_sslcert(struct state *state, const json_t *record, struct err_text *why)
{
    struct sslcert wish = {{NULL}};
    const char *name;
    json_t *value;

    if (!json_is_object(record))
        return err_set(why, EXIT_OPTION, ERR_INVALID, "a certificate is an object");
    json_object_foreach(unconst(record), name, value)
    {
        unsigned key = sslcert_key(name);

        if (key == SSLCERT_KEYS)
            return err_set(why, EXIT_OPTION, ERR_INVALID, "%.60s: no such key", name);
        if (!json_is_string(value))
            return err_set(why, EXIT_OPTION, ERR_INVALID, "%s must be a text", name);
        wish.text[key] = (char *)(uintptr_t)json_string_value(value);
    }
    return sslcerts_add(&state->sslcerts, &wish, why);
}

static int read_listen(struct state *state, const json_t *record, struct err_text *why)
{
    if (!json_is_string(record))
        return err_set(why, EXIT_OPTION, ERR_INVALID, "an address is a text");
    return state_add_listen(state, json_string_value(record), why);
}

static int read_list(struct state *state, const struct reading *reading, const json_t *list,
                     struct err_text *why)
{
    struct err_text reason;

    if (list && !json_is_array(list))
        return err_set(why, EXIT_OPTION, ERR_INVALID, "%s must be a list", reading->name);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (reading->read(state, json_array_get(list, i), &reason) < 0)
            return wrong(reading, i, reason.text, why);
    return 0;
}

static int read_timeouts(struct state *state, json_t *timeouts, struct err_text *why)
{
    int header_wait = 0, idle_connection = 0;
    json_error_t error;

    if (timeouts == NULL)
        return 0;
    if (json_unpack_ex(timeouts, &error, JSON_STRICT, "{s?i, s?i}", "headerwaittimeout",
                       &header_wait, "idleconnectiontimeout", &idle_connection) < 0)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "timeout: %s", error.text);
    if (header_wait < 0 || header_wait > TIMEOUT_MOST_S || idle_connection < 0 ||
        idle_connection > TIMEOUT_MOST_S)
        return err_set(why, EXIT_OPTION, ERR_INVALID,
                       "timeout: must be seconds between 1 and %d, or 0 for none given",
                       TIMEOUT_MOST_S);
    state->header_wait_s = (unsigned)header_wait;
    state->idle_connection_s = (unsigned)idle_connection;
    return 0;
}

static int read_root(struct state *state, json_t *root, struct span text, struct err_text *why)
{
    json_t *urlacl = NULL, *sslcert = NULL, *iplisten = NULL, *timeouts = NULL;
    json_error_t error;
    int version, code;

    if (json_unpack_ex(root, &error, JSON_STRICT, "{s:i, s?o, s?o, s?o, s?o}", "version", &version,
                       "urlacl", &urlacl, "sslcert", &sslcert, "iplisten", &iplisten, "timeout",
                       &timeouts) < 0)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "line 1: %s", error.text);
    if (version != VERSION)
        return err_set(why, EXIT_OPTION, ERR_INVALID, "version %d: this program knows version %d",
                       version, VERSION);
    code = read_list(state, &(struct reading){"urlacl", text, read_urlacl}, urlacl, why);
    if (code == 0)
        code = read_list(state, &(struct reading){"sslcert", text, read_sslcert}, sslcert, why);
    if (code == 0)
        code = read_list(state, &(struct reading){"iplisten", text, read_listen}, iplisten, why);
    return code < 0 ? code : read_timeouts(state, timeouts, why);
}

int state_read(struct state *state, struct span text, struct err_text *why)
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
    code = read_root(state, root, text, why);
    json_decref(root);
    if (code < 0)
        state_fini(state);
    return code;
}
