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

/* ---- who may register what ---- */

static bool is_local_http(const struct url_prefix *prefix)
{
    return !prefix->https && (prefix->port == 0 || prefix->port > 1024) &&
           span_eq(prefix->host, SPAN("localhost"));
}

/* Reference sections 2.4 and 2.5: a reservation decides for everybody; without one root alone may
 * register, except on localhost. */
static int may_register(const struct program *program, const struct url_prefix *prefix,
                        struct err_text *text)
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
    if (uid == 0 || uid == registrar->parts.uid || is_local_http(prefix))
        return 0;
    return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                   "%.300s: user %u may not register it: nobody has reserved it, and then root "
                   "alone may, but for http://localhost above port 1024",
                   prefix->text, (unsigned)uid);
}

static bool has_prefix(const struct shared *shared, struct span text)
{
    struct span rest = buf_span(&shared->prefixes);

    while (rest.len > 0) {
        size_t length = strlen(rest.at);

        if (span_eq_nocase(span_of(rest.at, length), text))
            return true;
        rest = span_skip(rest, length + 1);
    }
    return false;
}

/* The app that has the prefix; NULL. */
static struct shared *owner_of(struct registrar *registrar, struct span prefix)
{
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (registrar->apps[i].is_open && has_prefix(&registrar->apps[i], prefix))
            return &registrar->apps[i];
    return NULL;
}

/* ---- apps that have lost their process ---- */

static void on_grace_over(struct loop_alarm *alarm)
{
    struct shared *shared = LIST_OWNER(alarm, struct shared, grace);
    struct registrar *registrar = shared->registrar;

    log_event(LOG_INFO, "app_forgotten", "nobody has come back for it in registration_grace");
    registrar_ask_close(registrar, (unsigned)(shared - registrar->apps));
}

void attach_orphan(struct shared *shared)
{
    shared->holder = NULL;
    if (shared->grace_ms != SETTING_OFF)
        loop_alarm_start(shared->registrar->parts.loop, &shared->grace,
                         (double)shared->grace_ms / 1000);
}

void attach_end(struct program *program, bool keep)
{
    for (unsigned i = 0; i < program->app_count; i++) {
        struct shared *shared = &program->registrar->apps[program->apps[i]];

        if (shared->holder == program && keep)
            attach_orphan(shared);
        else if (shared->holder == program)
            registrar_ask_close(program->registrar, program->apps[i]);
    }
    program->app_count = 0;
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

int attach_judge(struct program *program, const char *prefix, struct shared **owner,
                 struct err_text *text)
{
    struct url_prefix parsed;
    int code = url_prefix_parse(&parsed, span_str(prefix), text);

    if (code < 0)
        return code;
    *owner = parsed.port ? owner_of(program->registrar, parsed.canonical) : NULL;
    code = may_register(program, &parsed, text);
    if (code == 0 && *owner && ((*owner)->holder || (*owner)->uid != program->caller.uid))
        code = err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS, "%.300s: another app has this prefix",
                       parsed.text);
    url_prefix_fini(&parsed);
    return code;
}

/* Looks at the prefixes of one app: 0 and the place of one that its user has left behind, or -1;
 * else an error. */
static int judge_prefixes(struct program *program, unsigned number, int *place,
                          struct err_text *text)
{
    struct registrar *registrar = program->registrar;
    struct span wish = buf_span(&program->wish);
    const char *key, *value;
    int code = 0;

    *place = -1;
    while (code == 0 && pairs_next(&wish, &key, &value)) {
        struct shared *owner;

        if (!is_of(key, number, "+"))
            continue;
        code = attach_judge(program, value, &owner, text);
        if (code == 0 && owner && *place >= 0 && owner != &registrar->apps[*place])
            code = err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS,
                           "%.300s: two apps that are gone have these prefixes", value);
        else if (code == 0 && owner)
            *place = (int)(owner - registrar->apps);
    }
    return code;
}

/* A user of the machine leaves places for others. */
static bool has_too_many(const struct program *program)
{
    const struct registrar *registrar = program->registrar;
    uid_t uid = program->caller.uid;
    unsigned count = 0;

    for (unsigned i = 0; i < TALLY_APPS; i++)
        count += registrar->apps[i].is_open && registrar->apps[i].uid == uid;
    return uid != 0 && uid != registrar->parts.uid && count >= CONTROL_USER_APPS;
}

/* Or an error. */
static int free_place(const struct program *program, struct err_text *text)
{
    if (has_too_many(program))
        return err_set(text, EXIT_PORT_IN_USE, ERR_LIMIT, "user %u has %u apps already",
                       (unsigned)program->caller.uid, CONTROL_USER_APPS);
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (!program->registrar->apps[i].is_open)
            return (int)i;
    return err_set(text, EXIT_PORT_IN_USE, ERR_LIMIT, "the host has %d apps already", TALLY_APPS);
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

/* Registers one app; the master has the last word. */
static void ask_open(struct program *program, unsigned number, unsigned place)
{
    struct registrar *registrar = program->registrar;
    struct shared *shared = &registrar->apps[place];
    struct span wish = buf_span(&program->wish), rest = wish;
    const char *key, *value;
    struct buf pairs = {0};

    loop_alarm_stop(registrar->parts.loop, &shared->grace);
    shared->is_open = true;
    shared->uid = program->caller.uid;
    shared->holder = program;
    shared->number = number;
    shared->grace_ms = number_of(wish, number, "registration_grace", GRACE_MS);
    shared->most_running = number_of(wish, number, "max_concurrent_requests", 512);
    shared->gets_credentials =
        number_of(wish, number, "authentication.forward_authorization", 0) != 0;
    program->apps[number] = place;
    pairs_add(&pairs, "op", "open");
    pairs_add_number(&pairs, "app", place);
    pairs_add(&pairs, "value", find(wish, number, "name"));
    pairs_add_number(&pairs, "uid", program->caller.uid);
    while (pairs_next(&rest, &key, &value))
        if (is_of(key, number, "set:") || is_of(key, number, "+"))
            pairs_add(&pairs, strchr(key, ':') + 1, value);
    registrar_ask(
        registrar,
        &(struct question){
            .program = program, .kind = QUESTION_OPEN, .asked = program->attaches, .place = place},
        buf_span(&pairs));
    buf_fini(&pairs);
}

static int count_apps(struct program *program)
{
    struct span wish = buf_span(&program->wish);

    const char *name;

    while (program->app_count < CONTROL_APPS && (name = find(wish, program->app_count, "name"))) {
        program->app_count++;
        if (strlen(name) > CONTROL_NAME_BYTES)
            return ERR_TOO_LARGE;
    }
    return program->app_count > 0 ? 0 : ERR_INVALID;
}

/* Consecutive ones for the workers of each app; shared when there are too many apps. */
static void choose_columns(struct program *program)
{
    for (unsigned i = 0; i < program->app_count; i++)
        program->column[i] = (uint16_t)((program->number * 8 + i * 8) % TALLY_PEERS);
}

/* An attach has failed: what is new of it goes, what was taken over waits on for its next owner. */
static void undo(struct program *program, unsigned count)
{
    struct registrar *registrar = program->registrar;

    for (unsigned i = 0; i < count; i++) {
        struct shared *shared = &registrar->apps[program->apps[i]];

        if (!shared->is_open)
            continue;
        if (buf_len(&shared->prefixes) > 0)
            attach_orphan(shared);
        else
            registrar_ask_close(registrar, program->apps[i]);
    }
    program->app_count = 0;
    program->is_attached = false;
}

void attach_begin(struct program *program, const struct ipc_message *message)
{
    const char *version = pairs_find(buf_span(&message->text), "version");
    struct err_text text = {0};
    int place, code;

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
    if ((code = count_apps(program)) < 0) {
        program_refuse(program, message->value, EXIT_USAGE_ERROR,
                       code == ERR_TOO_LARGE ? "an app's name is too long" : "no app is named");
        program->app_count = 0;
        return;
    }
    if (!program_seats_fit(program, program->app_count)) {
        program_refuse(program, message->value, EXIT_USAGE_ERROR,
                       "more workers times apps than a host takes of one process");
        program->app_count = 0;
        return;
    }
    choose_columns(program);
    for (unsigned i = 0; i < program->app_count; i++) {
        code = judge_prefixes(program, i, &place, &text);

        if (code == 0 && place < 0)
            code = place = free_place(program, &text);
        if (code < 0) {
            program_refuse(program, message->value, text.exit_code, text.text);
            undo(program, i);
            return;
        }
        ask_open(program, i, (unsigned)place);
    }
}

/* All of its apps are there. */
static void attached(struct program *program)
{
    struct registrar *registrar = program->registrar;
    struct buf pairs = {0};

    program->is_attached = true;
    pairs_add(&pairs, "ok", "1");
    for (unsigned i = 0; i < program->app_count; i++) {
        struct span rest = buf_span(&registrar->apps[program->apps[i]].prefixes);
        char key[16];

        snprintf(key, sizeof(key), "%u:+", i);
        for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1))
            pairs_add(&pairs, key, rest.at);
    }
    program_tell(program, CONTROL_REPLY, program->attach_number, buf_span(&pairs), NULL);
    buf_fini(&pairs);
    log_event(LOG_INFO, "app_attached", "process %d of user %u", (int)program->pid,
              (unsigned)program->caller.uid);
    for (unsigned worker = 0; worker < CONTROL_WORKERS; worker++)
        program_connect(program, worker, -1);
}

void attach_add_prefix(struct shared *shared, const char *prefix)
{
    buf_append(&shared->prefixes, span_of(prefix, strlen(prefix) + 1));
}

void attach_drop_prefix(struct shared *shared, const char *prefix)
{
    struct span rest = buf_span(&shared->prefixes);
    struct buf kept = {0};

    for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1))
        if (strcmp(rest.at, prefix) != 0)
            buf_append(&kept, span_of(rest.at, strlen(rest.at) + 1));
    buf_fini(&shared->prefixes);
    shared->prefixes = kept;
}

static void keep_prefixes(struct shared *shared, struct span result)
{
    const char *key, *value;

    buf_consume(&shared->prefixes, buf_len(&shared->prefixes));
    while (pairs_next(&result, &key, &value))
        if (strcmp(key, "+") == 0)
            attach_add_prefix(shared, value);
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

/* The master has changed nothing. */
static void not_opened(struct program *program, struct shared *shared, const char *wrong,
                       struct span result)
{
    const char *code = pairs_find(result, "code");

    shared->is_open = buf_len(&shared->prefixes) > 0;
    if (program == NULL)
        return;
    program_refuse(program, program->attach_number, code ? atoi(code) : EXIT_OPTION, wrong);
    undo(program, program->app_count);
}

/* What the master has opened is there, whether the program still wants it or not. */
void attach_opened(struct registrar *registrar, const struct question *question, const char *wrong,
                   struct span result)
{
    struct program *program = question->program;
    struct shared *shared = &registrar->apps[question->place];

    if (program && (program->app_count == 0 || question->asked != program->attaches))
        program = NULL; /* another of its apps was refused, or it has given up */
    if (wrong) {
        not_opened(program, shared, wrong, result);
        return;
    }
    if (shared->is_open)
        keep_prefixes(shared, result);
    if (program && !is_waiting(registrar, program))
        attached(program);
}

void attach_init(struct shared *shared)
{
    loop_alarm_init(&shared->grace, on_grace_over);
}
