/*
 * The commands of moonquay http: who may give which, and what each does. A command that changes
 * something is answered when the master has saved it; what is only shown, at once.
 */
#include "share/registrar_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json_out.h"
#include "net/addr.h"
#include "route/url_prefix.h"
#include "share/admin.h"

#define DELEGATED_MOST 256u  /* below one that is delegated: they leave room for others */
#define OPENINGS       1024u /* that show firewall names; each prefix is compared with all */

/* A command that is performed. */
struct command {
    struct registrar *registrar;
    const struct caller *caller;
    struct admin_request request;
};

/* 0 and members of the document, whose object is open; or an error. */
typedef int command_show_fn(const struct command *command, struct json_out *document,
                            struct err_text *text);

/* Changes the state; 0 or an error. */
typedef int command_edit_fn(struct state *state, const struct admin_request *request,
                            struct err_text *text);

/* ---- who may ---- */

static bool is_owner(const struct command *command)
{
    uid_t uid = command->caller->uid;

    return uid == 0 || uid == command->registrar->parts.uid;
}

/* The reservation that decides what may be reserved at prefix: the next one above it; NULL. */
static const struct reservation *find_above(const struct reservations *list,
                                            const struct url_prefix *prefix)
{
    const struct reservation *best = NULL;

    for (size_t i = 0; i < list->count; i++)
        if (reservation_is_above(&list->at[i], prefix) &&
            (best == NULL || list->at[i].prefix.path.len > best->prefix.path.len))
            best = &list->at[i];
    return best;
}

/* One above prefix that is delegated and has as many below it as it may have; NULL. Not only the
 * next one counts: who delegates on would have the more the more often. */
static const struct reservation *find_full(const struct reservations *list,
                                           const struct url_prefix *prefix)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].delegates && reservation_is_above(&list->at[i], prefix) &&
            reservations_below(list, &list->at[i]) >= DELEGATED_MOST)
            return &list->at[i];
    return NULL;
}

static int judge_delegate(const struct command *command, const struct url_prefix *prefix,
                          struct err_text *text)
{
    const struct reservations *list = &command->registrar->state.reservations;
    const struct reservation *above = find_above(list, prefix);

    if (above == NULL || !above->delegates || !reservation_is_for(above, command->caller))
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "%.300s: user %u may not %s it: that takes root, user %u, or a reservation "
                       "above it with delegate=yes",
                       prefix->text, (unsigned)command->caller->uid,
                       command->request.command->verb == ADMIN_ADD ? "reserve" : "release",
                       (unsigned)command->registrar->parts.uid);
    if (command->request.command->verb == ADMIN_ADD && (above = find_full(list, prefix)))
        return err_set(text, EXIT_OPTION, ERR_LIMIT,
                       "there are %u reservations below %.300s already", DELEGATED_MOST,
                       above->prefix.text);
    return 0;
}

static int judge(const struct command *command, struct err_text *text)
{
    const struct admin_command *asked = command->request.command;
    struct url_prefix prefix;
    int code;

    if (asked->who == ADMIN_EVERYBODY || is_owner(command))
        return 0;
    if (asked->who == ADMIN_OWNERS)
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "%s %s: user %u may not: that takes root or user %u",
                       admin_verb_word(asked->verb), admin_noun_word(asked->noun),
                       (unsigned)command->caller->uid, (unsigned)command->registrar->parts.uid);
    code = reservation_url(&prefix, admin_value(&command->request, "url"), text);
    if (code < 0)
        return code;
    code = judge_delegate(command, &prefix, text);
    url_prefix_fini(&prefix);
    return code;
}

/* ---- urlacl ---- */

static int add_urlacl(struct state *state, const struct admin_request *request,
                      struct err_text *text)
{
    const struct reservation_wish wish = {
        .url = admin_value(request, "url"),
        .user = admin_value(request, "user"),
        .group = admin_value(request, "group"),
        .listens = admin_truth(request, "listen", true),
        .delegates = admin_truth(request, "delegate", false),
    };

    return reservations_add(&state->reservations, &wish, text);
}

static int delete_urlacl(struct state *state, const struct admin_request *request,
                         struct err_text *text)
{
    return reservations_remove(&state->reservations, admin_value(request, "url"), text);
}

/* With wanted only that one; returns how many. */
static int add_reservations(const struct reservations *list, const struct url_prefix *wanted,
                            struct json_out *json)
{
    struct buf record = {0};
    int count = 0;

    json_out_array(json, "urlacl");
    for (size_t i = 0; i < list->count && buf_len(json->out) <= CONTROL_DOCUMENT_BYTES; i++) {
        if (wanted && !url_prefix_equal(&list->at[i].prefix, wanted))
            continue;
        state_write_urlacl(&list->at[i], &record);
        json_out_encoded(json, NULL, buf_span(&record));
        buf_consume(&record, buf_len(&record));
        count++;
    }
    json_out_close(json);
    buf_fini(&record);
    return count;
}

static int show_urlacl(const struct command *command, struct json_out *document,
                       struct err_text *text)
{
    const char *url = admin_value(&command->request, "url");
    struct url_prefix wanted;
    int count;

    if (url && reservation_url(&wanted, url, text) < 0)
        return ERR_INVALID;
    count =
        add_reservations(&command->registrar->state.reservations, url ? &wanted : NULL, document);
    if (url)
        url_prefix_fini(&wanted);
    if (url && count == 0)
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%.300s is not reserved", url);
    return 0;
}

/* ---- sslcert ---- */

/* Borrows the texts of the request. */
static struct sslcert record_of(const struct admin_request *request)
{
    const char *negotiation = admin_value(request, "clientcertnegotiation");
    struct sslcert record;

    for (unsigned i = 0; i < SSLCERT_KEYS; i++)
        record.text[i] = (char *)(uintptr_t)admin_value(request, sslcert_names[i]);
    if (negotiation)
        record.text[SSLCERT_CLIENT_CERTIFICATE] =
            (char *)(uintptr_t)(strcmp(negotiation, "enable") == 0 ? "allow" : "none");
    return record;
}

static int add_sslcert(struct state *state, const struct admin_request *request,
                       struct err_text *text)
{
    const struct sslcert record = record_of(request);

    return sslcerts_add(&state->sslcerts, &record, text);
}

static int update_sslcert(struct state *state, const struct admin_request *request,
                          struct err_text *text)
{
    const struct sslcert record = record_of(request);

    return sslcerts_update(&state->sslcerts, &record, text);
}

static int delete_sslcert(struct state *state, const struct admin_request *request,
                          struct err_text *text)
{
    const struct sslcert place = record_of(request);

    return sslcerts_remove(&state->sslcerts, &place, text);
}

/* ---- iplisten, timeout ---- */

static int add_iplisten(struct state *state, const struct admin_request *request,
                        struct err_text *text)
{
    return state_add_listen(state, admin_value(request, "ipaddress"), text);
}

static int delete_iplisten(struct state *state, const struct admin_request *request,
                           struct err_text *text)
{
    return state_remove_listen(state, admin_value(request, "ipaddress"), text);
}

static int show_iplisten(const struct command *command, struct json_out *document,
                         struct err_text *text)
{
    const struct state *state = &command->registrar->state;
    char address[NET_ADDR_TEXT];

    (void)text;
    json_out_array(document, "iplisten");
    for (unsigned i = 0; i < state->listen_count; i++) {
        net_addr_ip(&state->listen[i], address);
        json_out_text(document, NULL, address);
    }
    json_out_close(document);
    return 0;
}

static unsigned *timeout_of(struct state *state, const struct admin_request *request)
{
    return strcmp(admin_value(request, "timeouttype"), "headerwaittimeout") == 0
               ? &state->header_wait_s
               : &state->idle_connection_s;
}

static int add_timeout(struct state *state, const struct admin_request *request,
                       struct err_text *text)
{
    (void)text;
    *timeout_of(state, request) = admin_seconds(admin_value(request, "value"));
    return 0;
}

static int delete_timeout(struct state *state, const struct admin_request *request,
                          struct err_text *text)
{
    unsigned *seconds = timeout_of(state, request);

    if (*seconds == 0)
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%s is not set",
                       admin_value(request, "timeouttype"));
    *seconds = 0;
    return 0;
}

static void add_seconds(struct json_out *document, const char *name, unsigned seconds)
{
    if (seconds)
        json_out_number(document, name, seconds);
    else
        json_out_encoded(document, name, SPAN_NONE);
}

static int show_timeout(const struct command *command, struct json_out *document,
                        struct err_text *text)
{
    (void)text;
    json_out_object(document, "timeout");
    add_seconds(document, "idleconnectiontimeout", command->registrar->state.idle_connection_s);
    add_seconds(document, "headerwaittimeout", command->registrar->state.header_wait_s);
    json_out_close(document);
    return 0;
}

/* ---- firewall ---- */

/* Where clients of other machines come to. */
struct opening {
    uint16_t port;
    bool https;
    struct net_addr addr; /* NET_NONE: wherever the host listens */
};

/* False for what nobody else can reach. */
static bool read_opening(const char *text, struct opening *opening)
{
    struct url_prefix prefix;
    bool is_reachable;

    *opening = (struct opening){.port = 0};
    if (url_prefix_parse(&prefix, span_str(text), NULL) < 0)
        return false;
    if (prefix.bucket == PREFIX_IP)
        net_addr_parse(&opening->addr, prefix.host, 0);
    opening->port = prefix.port;
    opening->https = prefix.https;
    is_reachable = !url_prefix_is_loopback_name(&prefix) && !net_addr_loopback(&opening->addr);
    url_prefix_fini(&prefix);
    return is_reachable && opening->port != 0;
}

static void add_opening(struct json_out *json, const struct opening *opening)
{
    char address[NET_ADDR_TEXT] = "0.0.0.0";

    if (net_addr_loopback(&opening->addr))
        return;
    if (opening->addr.family != NET_NONE)
        net_addr_ip(&opening->addr, address);
    json_out_object(json, NULL);
    json_out_number(json, "port", opening->port);
    json_out_text(json, "scheme", opening->https ? "https" : "http");
    json_out_text(json, "address", address);
    json_out_close(json);
}

static void add_openings(const struct state *state, struct opening *opening, struct json_out *json)
{
    if (opening->addr.family != NET_NONE || state->listen_count == 0) {
        add_opening(json, opening);
        return;
    }
    for (unsigned i = 0; i < state->listen_count; i++) {
        opening->addr = state->listen[i];
        add_opening(json, opening);
    }
}

/* Several prefixes have the same one. */
static bool is_known(struct span found, const struct opening *opening)
{
    struct opening other;

    for (; found.len > 0; found = span_skip(found, sizeof(other))) {
        memcpy(&other, found.at, sizeof(other));
        if (other.port == opening->port && other.addr.family == opening->addr.family &&
            memcmp(other.addr.ip, opening->addr.ip, sizeof(other.addr.ip)) == 0)
            return true;
    }
    return false;
}

static void add_queue(const struct state *state, const struct host_queue *queue, struct buf *found,
                      struct json_out *json)
{
    struct span rest = queue->is_open ? buf_span(&queue->prefixes) : SPAN_NONE;
    struct opening opening;

    for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1)) {
        if (buf_len(found) > OPENINGS * sizeof(opening) || !read_opening(rest.at, &opening) ||
            is_known(buf_span(found), &opening))
            continue;
        buf_append(found, span_of((const char *)&opening, sizeof(opening)));
        add_openings(state, &opening, json);
    }
}

static int show_firewall(const struct command *command, struct json_out *document,
                         struct err_text *text)
{
    const struct registrar *registrar = command->registrar;
    struct buf found = {0};
    int code = 0;

    json_out_array(document, "ports");
    for (unsigned i = 0; i < TALLY_APPS; i++)
        add_queue(&registrar->state, &registrar->queues[i], &found, document);
    json_out_close(document);
    if (buf_len(&found) > OPENINGS * sizeof(struct opening))
        code = err_set(text, EXIT_OPTION, ERR_TOO_LARGE,
                       "show firewall: more than %u ports are in use", OPENINGS);
    buf_fini(&found);
    return code;
}

/* ---- what the master is asked ---- */

typedef void command_ask_fn(const struct command *command, struct buf *pairs);

static void ask_flush(const struct command *command, struct buf *pairs)
{
    (void)command;
    pairs_add(pairs, "op", "flush");
}

/* The master knows which of them can be used. */
static void ask_sslcert(const struct command *command, struct buf *pairs)
{
    static const enum sslcert_key places[] = {SSLCERT_IPPORT, SSLCERT_HOSTNAMEPORT};

    pairs_add(pairs, "op", "sslcert");
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const char *value = admin_value(&command->request, sslcert_names[places[i]]);

        if (value)
            pairs_add(pairs, sslcert_names[places[i]], value);
    }
}

static void add_member(const struct member *member, struct buf *pairs)
{
    const struct program *program = member->program;
    struct span rest = buf_span(&member->prefixes);
    char text[80];

    snprintf(text, sizeof(text), "%llu %d %u %u", (unsigned long long)program->number,
             (int)program->pid, (unsigned)program->caller.uid, host_queue_place(member->queue));
    pairs_add(pairs, "process", text);
    for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1))
        pairs_add(pairs, "url", rest.at);
}

/* Above the bound the master says that it is too much; it is told no more than it takes to see it.
 */
static void ask_service_state(const struct command *command, struct buf *pairs)
{
    const struct list *programs = &command->registrar->programs;
    const char *view = admin_value(&command->request, "view");

    pairs_add(pairs, "op", "servicestate");
    pairs_add(pairs, "view", view ? view : "session");
    pairs_add_number(pairs, "verbose", admin_truth(&command->request, "verbose", true));
    for (struct list *node = programs->next; node != programs; node = node->next) {
        const struct program *program = LIST_OWNER(node, struct program, node);

        for (unsigned i = 0; program->is_attached && i < program->app_count; i++)
            if (program->members[i].queue && buf_len(pairs) <= CONTROL_DOCUMENT_BYTES)
                add_member(&program->members[i], pairs);
    }
}

/* ---- all of them ---- */

static command_show_fn *const shows[ADMIN_NOUNS] = {
    [ADMIN_URLACL] = show_urlacl,
    [ADMIN_IPLISTEN] = show_iplisten,
    [ADMIN_TIMEOUT] = show_timeout,
    [ADMIN_FIREWALL] = show_firewall,
};

static command_edit_fn *const edits[ADMIN_VERBS][ADMIN_NOUNS] = {
    [ADMIN_ADD] = {[ADMIN_URLACL] = add_urlacl,
                   [ADMIN_SSLCERT] = add_sslcert,
                   [ADMIN_IPLISTEN] = add_iplisten,
                   [ADMIN_TIMEOUT] = add_timeout},
    [ADMIN_UPDATE] = {[ADMIN_SSLCERT] = update_sslcert},
    [ADMIN_DELETE] = {[ADMIN_URLACL] = delete_urlacl,
                      [ADMIN_SSLCERT] = delete_sslcert,
                      [ADMIN_IPLISTEN] = delete_iplisten,
                      [ADMIN_TIMEOUT] = delete_timeout},
};

static int show(const struct command *command, struct buf *out, struct err_text *text)
{
    enum admin_noun noun = command->request.command->noun;
    struct json_out document;
    int code;

    json_out_init(&document, out);
    json_out_object(&document, NULL);
    code = shows[noun](command, &document, text);
    if (code < 0)
        return code;
    json_out_close(&document);
    if (buf_len(out) <= CONTROL_DOCUMENT_BYTES)
        return 0;
    return err_set(text, EXIT_OPTION, ERR_TOO_LARGE,
                   "show %s: the answer has more than %u bytes: ask for one of them",
                   admin_noun_word(noun), CONTROL_DOCUMENT_BYTES);
}

static command_ask_fn *ask_of(const struct admin_command *row)
{
    if (row->verb == ADMIN_FLUSH && row->noun == ADMIN_LOGBUFFER)
        return ask_flush;
    if (row->verb == ADMIN_SHOW && row->noun == ADMIN_SSLCERT)
        return ask_sslcert;
    return row->verb == ADMIN_SHOW && row->noun == ADMIN_SERVICESTATE ? ask_service_state : NULL;
}

/* Reads and judges it: the state may have changed since the program asked. */
static int read_command(struct command *command, struct span asked, struct err_text *text)
{
    int code = admin_read_pairs(&command->request, asked, text);

    return code < 0 ? code : judge(command, text);
}

/* Fits state_edit_fn. */
static int edit(struct registrar *registrar, struct program *program, struct span pairs,
                struct err_text *text)
{
    struct command command = {.registrar = registrar, .caller = &program->caller};
    int code = read_command(&command, pairs, text);
    const struct admin_command *row = command.request.command;

    return code < 0 ? code : edits[row->verb][row->noun](&registrar->state, &command.request, text);
}

static void begin_edit(struct program *program, unsigned number,
                       const struct admin_request *request)
{
    struct buf pairs = {0}; /* nothing but what has been read, and so of bounded length */

    admin_write_pairs(request, &pairs);
    registrar_edit(program->registrar, program, number, edit, buf_span(&pairs));
    buf_fini(&pairs);
}

static void begin_ask(struct program *program, unsigned number, const struct command *command)
{
    const struct question question = {
        .program = program, .kind = QUESTION_COMMAND, .asked = number};
    struct buf pairs = {0};

    program->questions++;
    ask_of(command->request.command)(command, &pairs);
    registrar_ask(program->registrar, &question, buf_span(&pairs));
    buf_fini(&pairs);
}

static void begin(struct program *program, unsigned number, const struct command *command)
{
    if (ask_of(command->request.command))
        begin_ask(program, number, command);
    else
        begin_edit(program, number, &command->request);
}

static void tell(struct program *program, unsigned number, const char *document)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "ok", document);
    program_tell(program, CONTROL_REPLY, number, buf_span(&pairs), NULL);
    buf_fini(&pairs);
}

static int show_now(struct program *program, unsigned number, const struct command *command,
                    struct err_text *text)
{
    struct buf document = {0};
    int code = show(command, &document, text);

    buf_append(&document, SPAN("\0"));
    if (code == 0)
        tell(program, number, buf_span(&document).at);
    buf_fini(&document);
    return code;
}

static int perform(struct program *program, unsigned number, struct span asked,
                   struct err_text *text)
{
    struct command command = {.registrar = program->registrar, .caller = &program->caller};
    int code = read_command(&command, asked, text);
    const struct admin_command *row = command.request.command;

    if (code < 0)
        return code;
    if (row->verb == ADMIN_SHOW && shows[row->noun])
        return show_now(program, number, &command, text);
    if (program->questions == CONTROL_QUESTIONS)
        return err_set(text, EXIT_USAGE_ERROR, ERR_LIMIT, "too many commands at once");
    begin(program, number, &command);
    return 0;
}

void command_perform(struct program *program, const struct ipc_message *message)
{
    struct err_text text;

    if (perform(program, message->value, buf_span(&message->text), &text) < 0)
        program_refuse(program, message->value, text.exit_code, text.text);
}

void command_answered(const struct question *question, const char *wrong, struct span result)
{
    const char *code = pairs_find(result, "code"), *ok = pairs_find(result, "ok");

    if (question->program == NULL)
        return;
    question->program->questions--;
    if (wrong)
        program_refuse(question->program, question->asked, code ? atoi(code) : EXIT_INTERNAL,
                       wrong);
    else
        tell(question->program, question->asked, ok ? ok : "{}");
}
