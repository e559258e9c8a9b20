/*
 * Everything here is a step of one attach at a time: what it decides is asked of the master as a
 * whole, app by app, and only when the last answer is there does the next program's turn come. So
 * two programs never see each other's half-done registrations.
 */
#include "share/registrar.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/listener.h"
#include "route/tally.h"
#include "route/url_prefix.h"
#include "server/settings.h"
#include "share/control.h"
#include "share/state.h"

#define PROGRAMS      1024u
#define PER_USER      128u /* programs of one user, but for root's */
#define ACCEPT_BATCH  16
#define FIRST_SECONDS 5 /* for a program to say what it wants */
#define HOST_SLOTS    1024u

/* An app of the host: whose it is, and who serves it. */
struct shared {
    bool is_open;
    uid_t uid;
    struct program *holder; /* NULL: nobody */
    unsigned number;        /* of the app in its process */
    int64_t grace_ms, most_running;
    bool gets_credentials;
    struct buf prefixes; /* each ended by a NUL */
    struct loop_alarm grace;
    struct registrar *registrar;
};

/* A connection to the control socket. */
struct program {
    struct list node;
    struct registrar *registrar;
    struct ipc_channel ipc; /* fd -1: it has left, and something is still asked for it */
    struct loop_alarm first;
    struct caller caller;
    pid_t pid;
    uint64_t number;
    bool is_attached, was_heard;
    unsigned attach_number; /* of its CONTROL_ATTACH */
    struct buf wish;        /* the text of that */
    unsigned app_count;
    unsigned apps[CONTROL_APPS];   /* of the host, by its own numbers */
    uint16_t column[CONTROL_APPS]; /* the first of its workers'; consecutive */
    bool serves[CONTROL_WORKERS];
};

/* What the master has been asked, in order. */
struct question {
    struct list node;
    unsigned number;
    struct program *program; /* NULL: nobody waits for it */
    unsigned asked;          /* the program's number, of a CONTROL_ASK */
    int app;                 /* of the program, of an attach; -1: a CONTROL_ASK */
    bool opens;
};

struct registrar {
    struct registrar_parts parts;
    struct listener *listener;
    struct list programs;
    unsigned program_count;
    struct list questions;
    unsigned last_question;
    uint64_t last_process;
    struct shared apps[TALLY_APPS];
    struct reservations reservations;
    bool slots[HOST_SLOTS]; /* in which a worker serves */
};

/* ---- answers ---- */

static void tell(struct program *program, enum control_kind kind, unsigned value, struct span text,
                 const int *fd)
{
    if (program->ipc.fd >= 0 &&
        ipc_send(&program->ipc, kind, value, text, fd, fd ? 1 : 0) == ERR_LIMIT)
        shutdown(program->ipc.fd, SHUT_RDWR); /* it does not read: its end is seen in a moment */
}

static void refuse(struct program *program, unsigned number, int exit_code, const char *why)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "wrong", why);
    pairs_add_number(&pairs, "code", (unsigned)exit_code);
    tell(program, CONTROL_REPLY, number, buf_span(&pairs), NULL);
    buf_fini(&pairs);
}

/* ---- questions ---- */

static void ask(struct registrar *registrar, struct program *program, int app, unsigned asked,
                bool opens, struct span pairs)
{
    struct question *question = mem_zalloc(sizeof(*question));

    question->number = ++registrar->last_question;
    question->program = program;
    question->app = app;
    question->asked = asked;
    question->opens = opens;
    list_init(&question->node);
    list_append(&registrar->questions, &question->node);
    registrar->parts.ask(registrar->parts.owner, question->number, pairs);
}

static void ask_close(struct registrar *registrar, unsigned app)
{
    struct shared *shared = &registrar->apps[app];
    struct buf pairs = {0};

    loop_alarm_stop(registrar->parts.loop, &shared->grace);
    shared->is_open = false;
    shared->holder = NULL;
    buf_fini(&shared->prefixes);
    pairs_add(&pairs, "op", "close");
    pairs_add_number(&pairs, "app", app);
    ask(registrar, NULL, -1, 0, false, buf_span(&pairs));
    buf_fini(&pairs);
}

/* ---- channels ---- */

static void connect_one(struct program *program, unsigned app, unsigned worker, unsigned slot)
{
    struct registrar *registrar = program->registrar;
    const struct shared *shared = &registrar->apps[program->apps[app]];
    struct buf to_host = {0}, to_program = {0};
    char process[24], most[24];
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
        log_event(LOG_ERROR, "channel_failed", "%s", strerror(errno));
        return;
    }
    snprintf(process, sizeof(process), "%llu", (unsigned long long)program->number);
    snprintf(most, sizeof(most), "%lld", (long long)shared->most_running);
    pairs_add_number(&to_host, "slot", slot);
    pairs_add(&to_host, "process", process);
    pairs_add_number(&to_host, "worker", worker);
    pairs_add(&to_host, "most", most);
    pairs_add_number(&to_host, "column", (program->column[app] + worker) % TALLY_PEERS);
    pairs_add_number(&to_host, "credentials", shared->gets_credentials);
    pairs_add_number(&to_program, "app", app);
    tell(program, CONTROL_CHANNEL, worker, buf_span(&to_program), &ends[0]);
    registrar->parts.channel(registrar->parts.owner, program->apps[app], buf_span(&to_host),
                             ends[1]);
    close(ends[0]);
    close(ends[1]);
    buf_fini(&to_host);
    buf_fini(&to_program);
}

static void connect_worker(struct program *program, unsigned worker, int only_slot)
{
    if (!program->is_attached || !program->serves[worker])
        return;
    for (unsigned slot = 0; slot < HOST_SLOTS; slot++)
        for (unsigned app = 0; app < program->app_count; app++)
            if (program->registrar->slots[slot] && (only_slot < 0 || slot == (unsigned)only_slot))
                connect_one(program, app, worker, slot);
}

void registrar_worker(struct registrar *registrar, unsigned slot)
{
    if (slot >= HOST_SLOTS)
        return;
    registrar->slots[slot] = true;
    for (struct list *node = registrar->programs.next; node != &registrar->programs;
         node = node->next)
        for (unsigned worker = 0; worker < CONTROL_WORKERS; worker++)
            connect_worker(LIST_OWNER(node, struct program, node), worker, (int)slot);
}

void registrar_renew(struct registrar *registrar, uint64_t process, unsigned worker, unsigned slot)
{
    for (struct list *node = registrar->programs.next; node != &registrar->programs;
         node = node->next) {
        struct program *program = LIST_OWNER(node, struct program, node);

        if (program->number == process && worker < CONTROL_WORKERS && slot < HOST_SLOTS)
            connect_worker(program, worker, (int)slot);
    }
}

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
    const struct reservation *reservation = reservations_find(&registrar->reservations, prefix);
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
        struct url_prefix prefix;
        struct shared *owner;

        if (!is_of(key, number, "+"))
            continue;
        if ((code = url_prefix_parse(&prefix, span_str(value), text)) < 0)
            return code;
        owner = prefix.port ? owner_of(registrar, prefix.canonical) : NULL;
        code = may_register(program, &prefix, text);
        if (code < 0)
            ;
        else if (owner && (owner->holder || owner->uid != program->caller.uid))
            code = err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS,
                           "%.300s: another app has this prefix", prefix.text);
        else if (owner && *place >= 0 && owner != &registrar->apps[*place])
            code = err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS,
                           "%.300s: two apps that are gone have these prefixes", prefix.text);
        else if (owner)
            *place = (int)(owner - registrar->apps);
        url_prefix_fini(&prefix);
    }
    return code;
}

static int free_place(const struct registrar *registrar)
{
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (!registrar->apps[i].is_open)
            return (int)i;
    return -1;
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
    shared->grace_ms = number_of(wish, number, "registration_grace", 120000);
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
    ask(registrar, program, (int)number, 0, true, buf_span(&pairs));
    buf_fini(&pairs);
}

static int count_apps(struct program *program)
{
    struct span wish = buf_span(&program->wish);

    while (program->app_count < CONTROL_APPS && find(wish, program->app_count, "name"))
        program->app_count++;
    return program->app_count > 0 ? 0 : ERR_INVALID;
}

/* Consecutive ones for the workers of each app; shared when there are too many apps. */
static void choose_columns(struct program *program)
{
    for (unsigned i = 0; i < program->app_count; i++)
        program->column[i] = (uint16_t)((program->number * 8 + i * 8) % TALLY_PEERS);
}

static void orphan(struct shared *shared);

/* An attach has failed: what is new of it goes, what was taken over waits on for its next owner. */
static void undo(struct program *program, unsigned count)
{
    struct registrar *registrar = program->registrar;

    for (unsigned i = 0; i < count; i++) {
        struct shared *shared = &registrar->apps[program->apps[i]];

        if (!shared->is_open)
            continue;
        if (buf_len(&shared->prefixes) > 0)
            orphan(shared);
        else
            ask_close(registrar, program->apps[i]);
    }
    program->app_count = 0;
    program->is_attached = false;
}

static void attach(struct program *program, const struct ipc_message *message)
{
    const char *version = pairs_find(buf_span(&message->text), "version");
    struct err_text text = {0};
    int place;

    if (program->app_count > 0) {
        refuse(program, message->value, EXIT_USAGE_ERROR, "this connection has attached already");
        return;
    }
    if (version == NULL || strcmp(version, CONTROL_VERSION) != 0) {
        refuse(program, message->value, EXIT_USAGE_ERROR, "the host is of another version");
        return;
    }
    buf_fini(&program->wish);
    buf_append(&program->wish, buf_span(&message->text));
    program->attach_number = message->value;
    if (count_apps(program) < 0) {
        refuse(program, message->value, EXIT_USAGE_ERROR, "no app is named");
        return;
    }
    choose_columns(program);
    for (unsigned i = 0; i < program->app_count; i++) {
        int code = judge_prefixes(program, i, &place, &text);

        if (code == 0 && place < 0 && (place = free_place(program->registrar)) < 0)
            code = err_set(&text, EXIT_PORT_IN_USE, ERR_LIMIT, "the host has %d apps already",
                           TALLY_APPS);
        if (code < 0) {
            refuse(program, message->value, text.exit_code, text.text);
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
    tell(program, CONTROL_REPLY, program->attach_number, buf_span(&pairs), NULL);
    buf_fini(&pairs);
    log_event(LOG_INFO, "app_attached", "process %d of user %u", (int)program->pid,
              (unsigned)program->caller.uid);
    for (unsigned worker = 0; worker < CONTROL_WORKERS; worker++)
        connect_worker(program, worker, -1);
}

/* ---- the end of a program ---- */

static void on_grace_over(struct loop_alarm *alarm)
{
    struct shared *shared = LIST_OWNER(alarm, struct shared, grace);
    struct registrar *registrar = shared->registrar;

    log_event(LOG_INFO, "app_forgotten", "nobody has come back for it in registration_grace");
    ask_close(registrar, (unsigned)(shared - registrar->apps));
}

static void orphan(struct shared *shared)
{
    shared->holder = NULL;
    if (shared->grace_ms != SETTING_OFF)
        loop_alarm_start(shared->registrar->parts.loop, &shared->grace,
                         (double)shared->grace_ms / 1000);
}

static void leave_apps(struct program *program, bool keep)
{
    for (unsigned i = 0; i < program->app_count; i++) {
        struct shared *shared = &program->registrar->apps[program->apps[i]];

        if (shared->holder == program && keep)
            orphan(shared);
        else if (shared->holder == program)
            ask_close(program->registrar, program->apps[i]);
    }
    program->app_count = 0;
    program->is_attached = false;
}

static void program_end(struct program *program)
{
    struct registrar *registrar = program->registrar;

    leave_apps(program, true);
    for (struct list *node = registrar->questions.next; node != &registrar->questions;
         node = node->next)
        if (LIST_OWNER(node, struct question, node)->program == program)
            LIST_OWNER(node, struct question, node)->program = NULL;
    loop_alarm_stop(registrar->parts.loop, &program->first);
    ipc_close(&program->ipc);
    buf_fini(&program->wish);
    list_remove(&program->node);
    registrar->program_count--;
    mem_free(program);
}

/* ---- what the master answers ---- */

static void keep_prefixes(struct shared *shared, struct span result)
{
    const char *key, *value;

    buf_consume(&shared->prefixes, buf_len(&shared->prefixes));
    while (pairs_next(&result, &key, &value))
        if (strcmp(key, "+") == 0)
            buf_append(&shared->prefixes, span_of(value, strlen(value) + 1));
}

static bool is_waiting(struct registrar *registrar, const struct program *program)
{
    for (struct list *node = registrar->questions.next; node != &registrar->questions;
         node = node->next) {
        const struct question *question = LIST_OWNER(node, struct question, node);

        if (question->program == program && question->opens)
            return true;
    }
    return false;
}

static void opened(struct registrar *registrar, const struct question *question, const char *wrong,
                   struct span result)
{
    struct program *program = question->program;

    if (program == NULL || program->app_count == 0)
        return; /* it has left, or another of its apps was refused */
    if (wrong) {
        const char *code = pairs_find(result, "code");

        struct shared *shared = &registrar->apps[program->apps[question->app]];

        shared->is_open = buf_len(&shared->prefixes) > 0; /* the master has changed nothing */
        refuse(program, program->attach_number, code ? atoi(code) : EXIT_OPTION, wrong);
        undo(program, program->app_count);
        return;
    }
    keep_prefixes(&registrar->apps[program->apps[question->app]], result);
    if (!is_waiting(registrar, program))
        attached(program);
}

static void changed(const struct question *question, const char *wrong, struct span result)
{
    struct buf pairs = {0};
    const char *ok = pairs_find(result, "ok");

    if (question->program == NULL)
        return;
    if (wrong)
        pairs_add(&pairs, "wrong", wrong);
    else
        pairs_add(&pairs, "ok", ok ? ok : "");
    tell(question->program, CONTROL_REPLY, question->asked, buf_span(&pairs), NULL);
    buf_fini(&pairs);
}

void registrar_replied(struct registrar *registrar, unsigned number, const char *wrong,
                       struct span result)
{
    struct list *node = list_take(&registrar->questions);
    struct question *question = node ? LIST_OWNER(node, struct question, node) : NULL;

    CHECK(question && question->number == number);
    if (question->opens)
        opened(registrar, question, wrong, result);
    else if (question->program)
        changed(question, wrong, result);
    mem_free(question);
}

/* ---- what programs say ---- */

static void change(struct program *program, const struct ipc_message *message)
{
    struct span text = buf_span(&message->text);
    const char *app = pairs_find(text, "app"), *key, *value;
    unsigned number = app ? (unsigned)strtoul(app, NULL, 10) : CONTROL_APPS;
    struct buf pairs = {0};

    if (!program->is_attached || number >= program->app_count) {
        refuse(program, message->value, EXIT_USAGE_ERROR, "this app is not attached");
        return;
    }
    pairs_add_number(&pairs, "app", program->apps[number]);
    while (pairs_next(&text, &key, &value))
        if (strcmp(key, "app") != 0)
            pairs_add(&pairs, key, value);
    ask(program->registrar, program, -1, message->value, false, buf_span(&pairs));
    buf_fini(&pairs);
}

static void worker(struct program *program, const struct ipc_message *message)
{
    const char *serves = pairs_find(buf_span(&message->text), "serves");

    if (message->value >= CONTROL_WORKERS || serves == NULL)
        return;
    program->serves[message->value] = strcmp(serves, "1") == 0;
    connect_worker(program, message->value, -1);
}

static bool take(struct program *program, const struct ipc_message *message)
{
    const char *keep;

    switch (message->kind) {
    case CONTROL_ATTACH:
        attach(program, message);
        return true;
    case CONTROL_WORKER:
        worker(program, message);
        return true;
    case CONTROL_ASK:
        change(program, message);
        return true;
    case CONTROL_DETACH:
        keep = pairs_find(buf_span(&message->text), "keep");
        leave_apps(program, keep == NULL || strcmp(keep, "0") != 0);
        return true;
    default:
        return false;
    }
}

static void on_message(struct ipc_channel *channel)
{
    struct program *program = LIST_OWNER(channel, struct program, ipc);
    struct ipc_message message;
    bool understood = true;
    int code;

    /* One message a turn: nobody keeps the others from being heard. */
    code = ipc_receive(&program->ipc, &message);
    if (code == ERR_AGAIN)
        return;
    if (code == 0) {
        loop_alarm_stop(program->registrar->parts.loop, &program->first);
        understood = take(program, &message);
        ipc_message_fini(&message);
    }
    if (code == ERR_INVALID || !understood)
        log_event(LOG_INFO, "control_closed", "user %u, process %d: a message that is none",
                  (unsigned)program->caller.uid, (int)program->pid);
    if (code < 0 || !understood)
        program_end(program);
}

static void on_first(struct loop_alarm *alarm)
{
    struct program *program = LIST_OWNER(alarm, struct program, first);

    log_event(LOG_INFO, "control_closed", "user %u, process %d: it says nothing",
              (unsigned)program->caller.uid, (int)program->pid);
    program_end(program);
}

static unsigned count_of(struct registrar *registrar, uid_t uid)
{
    unsigned count = 0;

    for (struct list *node = registrar->programs.next; node != &registrar->programs;
         node = node->next)
        count += LIST_OWNER(node, struct program, node)->caller.uid == uid;
    return count;
}

/* Supplementary groups count; who has more than there is room for has none of them. */
static void identify(struct caller *caller, int fd, const struct ucred *who)
{
    socklen_t len = (CALLER_GROUPS - 1) * sizeof(gid_t);

    caller->uid = who->uid;
    caller->groups[0] = who->gid;
    caller->group_count = 1;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, caller->groups + 1, &len) == 0)
        caller->group_count += (unsigned)(len / sizeof(gid_t));
}

static void on_accepted(void *owner, int fd, const struct net_addr *peer)
{
    struct registrar *registrar = owner;
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof(who);
    struct program *program;

    (void)peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
        registrar->program_count >= PROGRAMS ||
        (who.uid != 0 && count_of(registrar, who.uid) >= PER_USER)) {
        log_event(LOG_WARN, "control_refused", "user %u has too many connections, or all have",
                  (unsigned)who.uid);
        close(fd);
        return;
    }
    program = mem_zalloc(sizeof(*program));
    program->registrar = registrar;
    identify(&program->caller, fd, &who);
    program->pid = who.pid;
    program->number = ++registrar->last_process;
    list_init(&program->node);
    list_append(&registrar->programs, &program->node);
    registrar->program_count++;
    loop_alarm_init(&program->first, on_first);
    loop_alarm_start(registrar->parts.loop, &program->first, FIRST_SECONDS);
    ipc_open(&program->ipc, fd);
    ipc_bound(&program->ipc, CONTROL_TEXT_BYTES, CONTROL_UNREAD_BYTES);
    ipc_watch(&program->ipc, registrar->parts.loop, on_message);
}

/* ---- reservations ---- */

static void ask_value(struct registrar *registrar, const char *op, const char *value)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "op", op);
    pairs_add(&pairs, "value", value);
    ask(registrar, NULL, -1, 0, false, buf_span(&pairs));
    buf_fini(&pairs);
}

static void ask_save(struct registrar *registrar)
{
    struct buf text = {0};

    state_write(&registrar->reservations, &text);
    buf_append(&text, SPAN("\0"));
    ask_value(registrar, "save", buf_span(&text).at);
    buf_fini(&text);
}

int registrar_load(struct registrar *registrar, struct span state, struct err_text *text)
{
    int code = state_read(&registrar->reservations, state, text);

    for (size_t i = 0; i < registrar->reservations.count; i++)
        ask_value(registrar, "reserve", registrar->reservations.at[i].prefix.text);
    return code;
}

int registrar_reserve(struct registrar *registrar, const struct reservation_wish *wish,
                      struct err_text *text)
{
    int code = reservations_add(&registrar->reservations, wish, text);

    if (code < 0)
        return code;
    ask_value(registrar, "reserve", wish->url);
    ask_save(registrar);
    return 0;
}

int registrar_release(struct registrar *registrar, const char *url, struct err_text *text)
{
    int code = reservations_remove(&registrar->reservations, url, text);

    if (code < 0)
        return code;
    ask_value(registrar, "release", url);
    ask_save(registrar);
    return 0;
}

/* ---- life ---- */

struct registrar *registrar_new(const struct registrar_parts *parts)
{
    struct registrar *registrar = mem_zalloc(sizeof(*registrar));
    uint32_t from = 0;

    registrar->parts = *parts;
    list_init(&registrar->programs);
    list_init(&registrar->questions);
    if (getrandom(&from, sizeof(from), 0) != sizeof(from))
        from = (uint32_t)getpid();
    registrar->last_process = (uint64_t)(from & 0x7fffffff) << 20; /* not those of one before us */
    for (unsigned i = 0; i < TALLY_APPS; i++) {
        registrar->apps[i].registrar = registrar;
        loop_alarm_init(&registrar->apps[i].grace, on_grace_over);
    }
    return registrar;
}

void registrar_free(struct registrar *registrar)
{
    struct list *node;

    if (registrar == NULL)
        return;
    if (registrar->listener)
        listener_stop(registrar->listener);
    while (!list_empty(&registrar->programs))
        program_end(LIST_OWNER(registrar->programs.next, struct program, node));
    for (unsigned i = 0; i < TALLY_APPS; i++) {
        loop_alarm_stop(registrar->parts.loop, &registrar->apps[i].grace);
        buf_fini(&registrar->apps[i].prefixes);
    }
    while ((node = list_take(&registrar->questions)) != NULL)
        mem_free(LIST_OWNER(node, struct question, node));
    reservations_fini(&registrar->reservations);
    mem_free(registrar);
}

void registrar_resume(struct registrar *registrar, struct span apps)
{
    const char *key, *value;

    while (pairs_next(&apps, &key, &value)) {
        char *rest;
        unsigned index = (unsigned)strtoul(key, &rest, 10);
        struct shared *shared = index < TALLY_APPS ? &registrar->apps[index] : NULL;

        if (shared == NULL || *rest != ':')
            continue;
        if (strcmp(rest, ":open") == 0) {
            shared->is_open = true;
            shared->grace_ms = 120000;
        } else if (strcmp(rest, ":uid") == 0) {
            shared->uid = (uid_t)strtoul(value, NULL, 10);
        } else if (strcmp(rest, ":+") == 0) {
            buf_append(&shared->prefixes, span_of(value, strlen(value) + 1));
        } else if (strcmp(rest, ":registration_grace") == 0) {
            struct err_text text;

            settings_number("registration_grace", value, "", &shared->grace_ms, &text);
        }
    }
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (registrar->apps[i].is_open)
            orphan(&registrar->apps[i]);
}

void registrar_listen(struct registrar *registrar, int fd)
{
    registrar->listener =
        listener_start(registrar->parts.loop, fd, ACCEPT_BATCH, on_accepted, registrar);
}
