/*
 * The programs that are connected. Whatever one of them says or does not say harms nobody else: it
 * is heard one message a turn, what it does not read is bounded, descriptors included, and what is
 * no message ends its connection.
 */
#include "share/registrar_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/settings.h"

#define PROGRAMS 1024u
#define PER_USER 128u /* programs of one user, but for root's */

/* For a program to say what it wants, and for the rest of a message that it has begun; and how much
 * a user's programs may have begun to say at once. */
#define UNHEARD_SECONDS 5
#define UNHEARD_BYTES   (16u << 20)

/* Lines of the log a second about what programs do wrong, and about those that come and go. */
#define COMPLAINTS 5u
#define COMINGS    50u

/* ---- the log ---- */

static void log_few(const struct registrar *registrar, struct few_lines *lines, unsigned most,
                    enum log_level level, const char *event, const char *text)
{
    int64_t second = loop_now_ms(registrar->parts.loop) / 1000;

    if (lines->second != second && lines->count > most)
        log_event(level, event, "%u lines like this were left out", lines->count - most);
    if (lines->second != second)
        lines->count = 0;
    lines->second = second;
    if (lines->count++ < most)
        log_event(level, event, "%s", text);
}

static void complain(struct registrar *registrar, const char *event, uid_t uid, pid_t pid,
                     const char *what)
{
    char text[200];

    snprintf(text, sizeof(text), "user %u, process %d: %s", (unsigned)uid, (int)pid, what);
    log_few(registrar, &registrar->complaints, COMPLAINTS, LOG_WARN, event, text);
}

void program_log(const struct program *program, const char *event)
{
    char text[80];

    snprintf(text, sizeof(text), "process %d of user %u", (int)program->pid,
             (unsigned)program->caller.uid);
    log_few(program->registrar, &program->registrar->comings, COMINGS, LOG_INFO, event, text);
}

/* ---- answers ---- */

void program_tell(struct program *program, enum control_kind kind, unsigned value, struct span text,
                  const int *fd)
{
    if (program->ipc.fd >= 0 &&
        ipc_send(&program->ipc, kind, value, text, fd, fd ? 1 : 0) == ERR_LIMIT)
        shutdown(program->ipc.fd, SHUT_RDWR); /* it does not read: its end is seen in a moment */
}

void program_refuse(struct program *program, unsigned number, int exit_code, const char *why)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "wrong", why);
    pairs_add_number(&pairs, "code", (unsigned)exit_code);
    program_tell(program, CONTROL_REPLY, number, buf_span(&pairs), NULL);
    buf_fini(&pairs);
}

void program_end(struct program *program)
{
    struct registrar *registrar = program->registrar;

    attach_end(program, true);
    channels_fini(program);
    state_forget(registrar, program);
    for (struct list *node = registrar->questions.next; node != &registrar->questions;
         node = node->next)
        if (LIST_OWNER(node, struct question, node)->program == program)
            LIST_OWNER(node, struct question, node)->program = NULL;
    loop_alarm_stop(registrar->parts.loop, &program->unheard);
    ipc_close(&program->ipc);
    buf_fini(&program->wish);
    list_remove(&program->node);
    registrar->program_count--;
    mem_free(program);
}

/* ---- what programs say ---- */

/* A change that a program wants, as it says it; texts are never NULL. */
struct wanted {
    const char *op, *key, *value, *place;
};

static const char *text_of(struct span pairs, const char *key)
{
    const char *text = pairs_find(pairs, key);

    return text ? text : "";
}

static int judge_listen(struct program *program, const char *prefix, struct err_text *text)
{
    struct host_queue *owner;
    struct quota quota;
    int code;

    quota_begin(&quota, program);
    code = attach_judge(program, &quota, prefix, &owner, text);
    if (code == 0 && owner)
        code = attach_is_taken(prefix, text);
    return code;
}

/* A guest of another user's queue adds to it, and takes nothing away. */
static int judge_owner(const struct member *member, const struct wanted *wanted,
                       struct err_text *text)
{
    const struct host_queue *queue = member->queue;
    const struct caller *caller = &member->program->caller;

    if (host_queue_obeys(queue, caller))
        return 0;
    return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                   "%s %.300s: user %u may not: the request queue \"%.260s\" is user %u's",
                   wanted->op, wanted->key[0] ? wanted->key : wanted->value, (unsigned)caller->uid,
                   queue->terms.name ? queue->terms.name : "", (unsigned)queue->uid);
}

/* The kind of question that it becomes, or an error: the master does what it is asked, for whoever
 * asks, so that all of it is judged here. */
static int judge(const struct member *member, const struct wanted *wanted, struct err_text *text)
{
    int code;

    if (strcmp(wanted->op, "set") == 0 && settings_scope(wanted->key) == SETTING_APP)
        return judge_owner(member, wanted, text) < 0 ? ERR_PERMISSION : QUESTION_SET;
    if (strcmp(wanted->op, "set") == 0)
        return err_set(text, EXIT_OPTION, ERR_PERMISSION, "%.80s is no setting of an app",
                       wanted->key);
    if (strcmp(wanted->op, "unlisten") == 0)
        return judge_owner(member, wanted, text) < 0 ? ERR_PERMISSION : QUESTION_UNLISTEN;
    if (strcmp(wanted->op, "listen") != 0)
        return err_set(text, EXIT_USAGE_ERROR, ERR_INVALID, "no such change: %.40s", wanted->op);
    code = judge_listen(member->program, wanted->value, text);
    return code < 0 ? code : QUESTION_LISTEN;
}

static void ask_change(const struct member *member, unsigned number, enum question_kind kind,
                       const struct wanted *wanted)
{
    struct program *program = member->program;
    unsigned place = host_queue_place(member->queue);
    const struct question question = {.program = program,
                                      .kind = kind,
                                      .asked = number,
                                      .member = member->number,
                                      .place = place,
                                      .generation = member->queue->generation};
    struct buf pairs = {0};

    pairs_add_number(&pairs, "app", place);
    pairs_add(&pairs, "op", wanted->op);
    pairs_add(&pairs, "key", wanted->key);
    pairs_add(&pairs, "value", wanted->value);
    pairs_add(&pairs, "place", wanted->place);
    program->questions++;
    registrar_ask(program->registrar, &question, buf_span(&pairs));
    buf_fini(&pairs);
}

static void change(struct program *program, const struct ipc_message *message)
{
    struct span text = buf_span(&message->text);
    const char *app = pairs_find(text, "app");
    unsigned number = app ? (unsigned)strtoul(app, NULL, 10) : CONTROL_APPS;
    const struct wanted wanted = {text_of(text, "op"), text_of(text, "key"), text_of(text, "value"),
                                  text_of(text, "place")};
    struct err_text why;
    int kind;

    if (!program->is_attached || number >= program->app_count)
        kind = err_set(&why, EXIT_USAGE_ERROR, ERR_STATE, "this app is not attached");
    else if (program->questions == CONTROL_QUESTIONS)
        kind = err_set(&why, EXIT_USAGE_ERROR, ERR_LIMIT, "too many changes at once");
    else
        kind = judge(&program->members[number], &wanted, &why);
    if (kind < 0)
        program_refuse(program, message->value, why.exit_code, why.text);
    else
        ask_change(&program->members[number], message->value, (enum question_kind)kind, &wanted);
}

bool program_seats_fit(const struct program *program, unsigned apps)
{
    return program->serving * apps <= CONTROL_SEATS;
}

static bool worker(struct program *program, const struct ipc_message *message)
{
    const char *serves = pairs_find(buf_span(&message->text), "serves");
    bool *seat = &program->serves[message->value % CONTROL_WORKERS];

    if (message->value >= CONTROL_WORKERS || serves == NULL)
        return false;
    program->serving -= *seat;
    *seat = strcmp(serves, "1") == 0;
    program->serving += *seat;
    if (!program_seats_fit(program, program->app_count))
        return false;
    channels_want(program, (int)message->value, -1);
    return true;
}

static bool take(struct program *program, const struct ipc_message *message)
{
    const char *keep;

    switch (message->kind) {
    case CONTROL_ATTACH:
        attach_begin(program, message);
        return true;
    case CONTROL_WORKER:
        return worker(program, message);
    case CONTROL_ASK:
        change(program, message);
        return true;
    case CONTROL_COMMAND:
        command_perform(program, message);
        return true;
    case CONTROL_DETACH:
        keep = pairs_find(buf_span(&message->text), "keep");
        attach_end(program, keep == NULL || strcmp(keep, "0") != 0);
        return true;
    default:
        return false;
    }
}

/* The rest of a message is awaited as the first one is. */
static void await_message(struct program *program)
{
    if (!program->is_awaited)
        loop_alarm_start(program->registrar->parts.loop, &program->unheard, UNHEARD_SECONDS);
    program->is_awaited = true;
}

/* Of messages that are not complete, of all programs of a user. */
static size_t unheard_bytes(const struct registrar *registrar, uid_t uid)
{
    size_t bytes = 0;

    for (struct list *node = registrar->programs.next; node != &registrar->programs;
         node = node->next) {
        const struct program *program = LIST_OWNER(node, struct program, node);

        bytes += program->caller.uid == uid ? buf_len(&program->ipc.pieces) : 0;
    }
    return bytes;
}

static void heard_a_part(struct program *program)
{
    if (buf_len(&program->ipc.pieces) == 0)
        return;
    if (unheard_bytes(program->registrar, program->caller.uid) <= UNHEARD_BYTES) {
        await_message(program);
        return;
    }
    complain(program->registrar, "control_closed", program->caller.uid, program->pid,
             "too many messages of its user are not complete");
    program_end(program);
}

static void on_message(struct ipc_channel *channel)
{
    struct program *program = LIST_OWNER(channel, struct program, ipc);
    struct ipc_message message;
    bool understood = true;
    int code;

    /* One message a turn: nobody keeps the others from being heard. */
    code = ipc_receive(&program->ipc, &message);
    if (code == ERR_AGAIN) {
        heard_a_part(program);
        return;
    }
    if (code == 0) {
        loop_alarm_stop(program->registrar->parts.loop, &program->unheard);
        program->is_awaited = false;
        understood = take(program, &message);
        ipc_message_fini(&message);
    }
    if (code == ERR_INVALID || !understood)
        complain(program->registrar, "control_closed", program->caller.uid, program->pid,
                 "a message that is none");
    if (code < 0 || !understood)
        program_end(program);
}

static void on_unheard(struct loop_alarm *alarm)
{
    struct program *program = LIST_OWNER(alarm, struct program, unheard);

    complain(program->registrar, "control_closed", program->caller.uid, program->pid,
             "its message does not come");
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
    else
        caller->has_more_groups = true;
}

void program_accept(void *owner, int fd, const struct net_addr *peer)
{
    struct registrar *registrar = owner;
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof(who);
    struct program *program;

    (void)peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
        registrar->program_count >= PROGRAMS ||
        (who.uid != 0 && count_of(registrar, who.uid) >= PER_USER)) {
        complain(registrar, "control_refused", who.uid, who.pid,
                 "its user has too many connections, or all have");
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
    channels_init(program);
    loop_alarm_init(&program->unheard, on_unheard);
    await_message(program);
    ipc_open(&program->ipc, fd);
    ipc_bound(&program->ipc, CONTROL_TEXT_BYTES, CONTROL_UNREAD_BYTES);
    ipc_watch(&program->ipc, registrar->parts.loop, on_message);
}
