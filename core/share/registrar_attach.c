/*
 * Who gets which app. An attach is judged as a whole before anything is asked, and asked app by
 * app; the master has the last word, and what one of the answers refuses takes the others back.
 */
#include "share/registrar_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "route/url_prefix.h"
#include "server/settings.h"

#define GRACE_MS 120000 /* of a program that does not say (registration_grace) */

#define QUEUE_NAME "request_queue_name"
#define QUEUE_ACL  "request_queue_acl"

/* ---- who may register what ---- */

static bool is_local_http(const struct url_prefix *prefix)
{
    return !prefix->https && (prefix->port == 0 || prefix->port > 1024) &&
           span_eq(prefix->host, SPAN("localhost"));
}

/* Reference sections 2.4 and 2.5: a reservation decides for everybody; without one root alone may
 * register, except on localhost, and what the host's configuration has given to a user (owner). */
static int may_register(const struct program *program, const struct url_prefix *prefix,
                        const struct host_queue *owner, struct err_text *text)
{
    const struct registrar *registrar = program->registrar;
    const struct reservation *reservation =
        reservations_find(&registrar->state.reservations, prefix);
    uid_t uid = program->caller.uid;

    if (reservation) {
        if (reservation->listens && reservation_is_for(reservation, &program->caller))
            return 0;
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "%.300s: user %u may not register it: %.300s is reserved for %.200s%s",
                       prefix->text, (unsigned)uid, reservation->prefix.text, reservation->holder,
                       reservation->listens ? "" : ", who may only reserve below");
    }
    if (uid == 0 || uid == registrar->parts.uid || is_local_http(prefix) ||
        (owner && owner->is_hosted && owner->uid == uid))
        return 0;
    return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                   "%.300s: user %u may not register it: nobody has reserved it, and then root "
                   "alone may, but for http://localhost above port 1024",
                   prefix->text, (unsigned)uid);
}

/* Nothing of it stays: what it has made is closed, what was taken over waits for its next owner. */
static void withdraw(struct program *program)
{
    for (unsigned i = 0; i < program->app_count; i++)
        host_queue_leave(&program->members[i], !program->members[i].is_maker);
    program->app_count = 0;
}

void attach_end(struct program *program, bool keep)
{
    for (unsigned i = 0; i < program->app_count; i++)
        host_queue_leave(&program->members[i], keep);
    program->app_count = 0;
    if (program->is_attached)
        program_log(program, "app_left");
    program->is_attached = false;
}

/* ---- attaching ---- */

/* The value of a pair of app number, "3:KEY"; the last one. */
static const char *find(struct span wish, unsigned number, const char *key)
{
    char name[200];

    snprintf(name, sizeof(name), "%u:%s", number, key);
    return pairs_find(wish, name);
}

static bool is_of(const char *key, unsigned number, const char *what)
{
    char name[24];
    int length = snprintf(name, sizeof(name), "%u:%s", number, what);

    return strcmp(key, name) == 0 || (what[0] == 's' && strncmp(key, name, (size_t)length) == 0);
}

int attach_judge(struct program *program, struct quota *quota, const char *prefix,
                 struct host_queue **owner, struct err_text *text)
{
    struct url_prefix parsed;
    int code = url_prefix_parse(&parsed, span_str(prefix), text);

    if (code < 0)
        return code;
    *owner = parsed.port ? host_queue_of_prefix(program->registrar, parsed.canonical) : NULL;
    code = may_register(program, &parsed, *owner, text);
    if (code == 0 && *owner == NULL)
        code = quota_take(quota, &parsed, text);
    url_prefix_fini(&parsed);
    return code;
}

int attach_is_taken(const char *prefix, struct err_text *text)
{
    struct url_prefix parsed;

    CHECK(url_prefix_parse(&parsed, span_str(prefix), NULL) == 0);
    err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS, "%.300s: another app has this prefix", parsed.text);
    url_prefix_fini(&parsed);
    return ERR_EXISTS;
}

/* One that its user has left behind. */
static bool is_orphan_of(const struct host_queue *queue, const struct program *program)
{
    return list_empty(&queue->members) && queue->uid == program->caller.uid;
}

/* Looks at the prefixes of one app, which are for this queue; for NULL one that its user has left
 * behind may be taken over, and is then *queue. */
static int judge_prefixes(struct program *program, struct quota *quota, unsigned number,
                          struct host_queue **queue, struct err_text *text)
{
    struct span wish = buf_span(&program->wish);
    bool is_new = *queue == NULL;
    const char *key, *value;
    int code = 0;

    while (code == 0 && pairs_next(&wish, &key, &value)) {
        struct host_queue *owner;

        if (!is_of(key, number, "+"))
            continue;
        code = attach_judge(program, quota, value, &owner, text);
        if (code < 0 || owner == NULL || owner == *queue)
            continue;
        if (!is_orphan_of(owner, program))
            code = attach_is_taken(value, text);
        else if (!is_new || *queue)
            code = err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS,
                           "%.300s: two apps that are gone have these prefixes", value);
        else
            *queue = owner;
    }
    return code;
}

/* ---- which queue ---- */

enum mode { MODE_CREATE, MODE_ATTACH, MODE_CREATE_OR_ATTACH };

static enum mode mode_of(struct span wish, unsigned number)
{
    const char *mode = find(wish, number, "set:request_queue_mode");

    if (mode && strcmp(mode, "attach") == 0)
        return MODE_ATTACH;
    return mode && strcmp(mode, "create_or_attach") == 0 ? MODE_CREATE_OR_ATTACH : MODE_CREATE;
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* Who attaches to a queue has its schemes (reference section 3.2). */
static int check_schemes(const struct queue_terms *terms, const char *schemes,
                         struct err_text *text)
{
    if (same_text(terms->schemes, schemes))
        return 0;
    return err_set(
        text, EXIT_OPTION, ERR_STATE,
        "request queue \"%.260s\": authentication.schemes=%.100s: who made it has \"%.100s\"",
        terms->name, schemes ? schemes : "", terms->schemes ? terms->schemes : "");
}

/* A queue of this name is there. */
static int judge_named(const struct program *program, unsigned number, enum mode mode,
                       const struct host_queue *queue, struct err_text *text)
{
    bool is_ours = is_orphan_of(queue, program);
    const char *name = queue->terms.name;

    if (mode == MODE_CREATE && !is_ours)
        return err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS,
                       "there is a request queue \"%.260s\" already", name);
    if (!host_queue_lets_in(queue, &program->caller))
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "request queue \"%.260s\": user %u may not attach to it (request_queue_acl)",
                       name, (unsigned)program->caller.uid);
    return is_ours
               ? 0
               : check_schemes(&queue->terms,
                               find(buf_span(&program->wish), number, "set:authentication.schemes"),
                               text);
}

/* The queue that this app is to serve, a fresh place if need be; NULL and why. */
static struct host_queue *choose(struct program *program, struct quota *quota, unsigned number,
                                 struct err_text *text)
{
    struct span wish = buf_span(&program->wish);
    const char *name = find(wish, number, "set:" QUEUE_NAME);
    enum mode mode = mode_of(wish, number);
    struct host_queue *queue = name && name[0] ? host_queue_find(program->registrar, name) : NULL;

    if (mode == MODE_ATTACH && queue == NULL) {
        err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "there is no request queue \"%.260s\"",
                name ? name : "");
        return NULL;
    }
    if (queue && judge_named(program, number, mode, queue, text) < 0)
        return NULL;
    if (mode == MODE_ATTACH)
        return queue;
    if (judge_prefixes(program, quota, number, &queue, text) < 0)
        return NULL;
    return queue ? queue : host_queue_free_place(program->registrar, &program->caller, text);
}

static int64_t number_of(struct span wish, unsigned number, const char *key, int64_t otherwise)
{
    char name[160];
    const char *value;
    struct err_text text;
    int64_t found;

    snprintf(name, sizeof(name), "set:%s", key);
    value = find(wish, number, name);
    return value && settings_number(key, value, "", &found, &text) == 0 ? found : otherwise;
}

static char *text_of(struct span wish, unsigned number, const char *key)
{
    const char *text = find(wish, number, key);

    return text && text[0] ? mem_strdup(text) : NULL;
}

static struct queue_terms terms_wished(struct span wish, unsigned number)
{
    return (struct queue_terms){
        .name = text_of(wish, number, "set:" QUEUE_NAME),
        .acl = text_of(wish, number, "set:" QUEUE_ACL),
        .schemes = text_of(wish, number, "set:authentication.schemes"),
        .grace_ms = number_of(wish, number, "registration_grace", GRACE_MS),
    };
}

/* The terms of the queue when the master has answered all that it was asked. */
static const struct queue_terms *terms_to_be(const struct host_queue *queue)
{
    struct list *questions = &queue->registrar->questions;

    for (struct list *node = questions->prev; node != questions; node = node->prev) {
        const struct question *question = LIST_OWNER(node, struct question, node);

        if (question->kind == QUESTION_OPEN && !question->is_guest &&
            question->place == host_queue_place(queue) && question->generation == queue->generation)
            return &question->terms;
    }
    return &queue->terms;
}

/* What the queue is called and who may attach is said by who makes it, or finds it left behind
 * (reference section 3.2). */
static struct queue_terms terms_of(const struct member *member)
{
    const struct host_queue *queue = member->queue;
    struct queue_terms terms = terms_wished(buf_span(&member->program->wish), member->number), now;

    if (member->is_alone)
        return terms;
    queue_terms_copy(&now, terms_to_be(queue));
    mem_free(now.schemes);
    now.schemes = terms.schemes;
    now.grace_ms = terms.grace_ms;
    terms.schemes = NULL;
    queue_terms_fini(&terms);
    return now;
}

/* Those of other members stay, which the wish does not name. */
static void add_others(const struct host_queue *queue, struct buf *pairs)
{
    struct span rest = buf_span(&queue->prefixes);
    struct buf named = {0};
    struct span wish = buf_span(pairs);
    const char *key, *value;

    while (pairs_next(&wish, &key, &value)) {
        struct url_prefix prefix;

        if (strcmp(key, "+") != 0 || url_prefix_parse(&prefix, span_str(value), NULL) < 0)
            continue;
        buf_append(&named, prefix.canonical);
        buf_append(&named, SPAN("\0"));
        url_prefix_fini(&prefix);
    }
    for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1))
        if (!prefixes_have(&named, span_str(rest.at)))
            pairs_add(pairs, "+", rest.at);
    buf_fini(&named);
}

/* Not one of those that the terms have. */
static bool is_own_setting(const char *key)
{
    return strcmp(key, "set:" QUEUE_NAME) != 0 && strcmp(key, "set:" QUEUE_ACL) != 0;
}

/* What an owner wants of the queue, apart from its prefixes. */
static void add_settings(const struct member *member, const struct queue_terms *terms,
                         struct buf *pairs)
{
    struct span rest = buf_span(&member->program->wish);
    const char *key, *value;

    while (pairs_next(&rest, &key, &value)) {
        const char *setting = strchr(key, ':');

        if (is_of(key, member->number, "set:") && is_own_setting(setting + 1))
            pairs_add(pairs, setting + 1, value);
    }
    if (terms->name)
        pairs_add(pairs, "set:" QUEUE_NAME, terms->name);
    if (terms->acl)
        pairs_add(pairs, "set:" QUEUE_ACL, terms->acl);
}

static void add_prefixes(struct member *member, struct buf *pairs)
{
    struct span rest = buf_span(&member->program->wish);
    const char *key, *value;

    member->wished = 0;
    while (pairs_next(&rest, &key, &value))
        if (is_of(key, member->number, "+")) {
            pairs_add(pairs, "+", value);
            member->wished++;
        }
    if (!member->is_alone)
        add_others(member->queue, pairs);
}

/* The queue as it is with this app; the master has the last word. */
static void ask_open(struct member *member)
{
    struct program *program = member->program;
    struct host_queue *queue = member->queue;
    struct question question = {.program = program,
                                .kind = QUESTION_OPEN,
                                .asked = program->attaches,
                                .member = member->number,
                                .place = host_queue_place(queue),
                                .generation = queue->generation,
                                .is_first = !queue->is_there,
                                .is_guest = member->is_guest};
    struct buf pairs = {0};

    pairs_add(&pairs, "op", "open");
    pairs_add_number(&pairs, "app", host_queue_place(queue));
    pairs_add(&pairs, "value", find(buf_span(&program->wish), member->number, "name"));
    pairs_add_number(&pairs, "uid", queue->uid);
    if (member->is_guest) {
        pairs_add(&pairs, "guest", "1");
    } else {
        question.terms = terms_of(member);
        add_settings(member, &question.terms, &pairs);
    }
    add_prefixes(member, &pairs);
    registrar_ask(program->registrar, &question, buf_span(&pairs));
    queue->is_there = true;
    buf_fini(&pairs);
}

/* The app serves the queue; the master is not asked yet. */
static void join(struct program *program, unsigned number, struct host_queue *queue)
{
    struct span wish = buf_span(&program->wish);
    struct member *member = &program->members[number];

    *member = (struct member){.program = program, .number = number};
    member->column = (uint16_t)((program->number * 8 + number * 8) % TALLY_PEERS);
    member->most_running = number_of(wish, number, "max_concurrent_requests", 512);
    member->gets_credentials =
        number_of(wish, number, "authentication.forward_authorization", 0) != 0;
    member->is_maker = !queue->is_open;
    member->is_guest = queue->is_open && queue->uid != program->caller.uid;
    member->is_alone = list_empty(&queue->members) && !member->is_guest;
    if (member->is_maker) {
        queue->is_open = true;
        queue->uid = program->caller.uid;
        queue->terms = terms_wished(wish, number);
    }
    host_queue_join(queue, member);
}

static int count_apps(struct program *program, struct err_text *text)
{
    struct span wish = buf_span(&program->wish);
    unsigned count = 0;
    const char *name;

    while (count < CONTROL_APPS && (name = find(wish, count, "name"))) {
        count++;
        if (strlen(name) > CONTROL_NAME_BYTES)
            return err_set(text, EXIT_USAGE_ERROR, ERR_TOO_LARGE, "an app's name is too long");
    }
    if (count == 0)
        return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "no app is named");
    if (!program_seats_fit(program, count))
        return err_set(text, EXIT_USAGE_ERROR, ERR_LIMIT,
                       "more workers times apps than a host takes of one process");
    return (int)count;
}

static bool is_waiting(struct registrar *registrar, const struct program *program)
{
    for (struct list *node = registrar->questions.next; node != &registrar->questions;
         node = node->next) {
        const struct question *question = LIST_OWNER(node, struct question, node);

        if (question->program == program && question->kind == QUESTION_OPEN &&
            question->asked == program->attaches)
            return true;
    }
    return false;
}

/* All of its apps are there. */
static void attached(struct program *program)
{
    struct buf pairs = {0};

    program->is_attached = true;
    pairs_add(&pairs, "ok", "1");
    for (unsigned i = 0; i < program->app_count; i++) {
        struct span rest = buf_span(&program->members[i].prefixes);
        char key[16];

        snprintf(key, sizeof(key), "%u:+", i);
        for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1))
            pairs_add(&pairs, key, rest.at);
    }
    program_tell(program, CONTROL_REPLY, program->attach_number, buf_span(&pairs), NULL);
    buf_fini(&pairs);
    program_log(program, "app_attached");
    channels_want(program, -1, -1);
}

void attach_begin(struct program *program, const struct ipc_message *message)
{
    const char *version = pairs_find(buf_span(&message->text), "version");
    struct err_text text = {0};
    struct quota quota;
    int count;

    if (program->app_count > 0) {
        program_refuse(program, message->value, EXIT_USAGE_ERROR,
                       "this connection has attached already");
        return;
    }
    if (version == NULL || strcmp(version, CONTROL_VERSION) != 0) {
        program_refuse(program, message->value, EXIT_USAGE_ERROR, "the host is of another version");
        return;
    }
    buf_fini(&program->wish);
    buf_append(&program->wish, buf_span(&message->text));
    program->attach_number = message->value;
    program->attaches++;
    count = count_apps(program, &text);
    quota_begin(&quota, program);
    program->wished_prefixes = 0 - quota.prefixes;
    program->wished_ports = 0 - quota.ports;
    for (unsigned i = 0; count > 0 && i < (unsigned)count; i++) {
        struct host_queue *queue = choose(program, &quota, i, &text);

        if (queue == NULL) {
            withdraw(program);
            count = ERR_INVALID;
            break;
        }
        program->app_count = i + 1;
        join(program, i, queue);
    }
    for (unsigned i = 0; i < program->app_count; i++)
        if (mode_of(buf_span(&program->wish), i) != MODE_ATTACH)
            ask_open(&program->members[i]);
    program->wished_prefixes += quota.prefixes;
    program->wished_ports += quota.ports;
    buf_fini(&program->wish);
    if (count < 0)
        program_refuse(program, message->value, text.exit_code, text.text);
    else if (!is_waiting(program->registrar, program))
        attached(program);
}

/* ---- what the master says ---- */

/* The first ones are those that the member has asked for. */
static void keep_prefixes(struct host_queue *queue, struct member *member, struct span result)
{
    unsigned wished = member ? member->wished : 0;
    const char *key, *value;

    buf_consume(&queue->prefixes, buf_len(&queue->prefixes));
    while (pairs_next(&result, &key, &value)) {
        if (strcmp(key, "+") != 0)
            continue;
        host_queue_add_prefix(queue, wished > 0 ? member : NULL, value);
        wished -= wished > 0;
    }
    host_queue_is_whole(queue);
}

/* The master has changed nothing. */
static void not_opened(struct program *program, const char *wrong, struct span result)
{
    program_refuse(program, program->attach_number, registrar_exit_code(result), wrong);
    withdraw(program);
}

/* What the master has is in force here too. */
static void keep_opened(struct host_queue *queue, struct question *question, struct span result)
{
    struct program *program = question->program;

    queue->is_there = true;
    if (!question->is_guest) {
        queue_terms_fini(&queue->terms);
        queue->terms = question->terms;
        question->terms = (struct queue_terms){0};
    }
    keep_prefixes(queue, program ? &program->members[question->member] : NULL, result);
}

void attach_opened(struct registrar *registrar, struct question *question, const char *wrong,
                   struct span result)
{
    struct program *program = question->program;
    struct host_queue *queue = &registrar->queues[question->place];
    bool is_same = queue->is_open && queue->generation == question->generation;

    if (program && (program->app_count == 0 || question->asked != program->attaches))
        program = question->program = NULL; /* another of its apps was refused, or it gave up */
    if (wrong && is_same && question->is_first)
        host_queue_not_made(queue);
    if (wrong && program)
        not_opened(program, wrong, result);
    if (wrong)
        return;
    if (is_same)
        keep_opened(queue, question, result);
    if (program && !is_waiting(registrar, program))
        attached(program);
}
