/*
 * What the files of the registrar share: registrar.c (its life, its questions to the master),
 * registrar_program.c (who is connected, what they say), registrar_channel.c (their channels),
 * registrar_attach.c (who gets which queue), registrar_quota.c
 * (how much of everything), registrar_queue.c (queues and who serves them),
 * registrar_state.c (what the host remembers) and registrar_command.c (the commands of moonquay
 * http).
 */
#ifndef SHARE_REGISTRAR_PRIV_H
#define SHARE_REGISTRAR_PRIV_H

#include "base/list.h"
#include "net/listener.h"
#include "route/tally.h"
#include "share/control.h"
#include "share/registrar.h"
#include "share/state.h"

#define HOST_SLOTS 1024u

/* What its owner says of a queue. */
struct queue_terms {
    char *name;    /* NULL: nobody else can attach to it */
    char *acl;     /* who else may; NULL: nobody */
    char *schemes; /* of authentication; NULL: none */
    int64_t grace_ms;
};

/* A request queue of the host, which is one of its apps: whose it is, and who serves it. Others who
 * may attach to it bring prefixes, and change nothing of it. */
struct host_queue {
    bool is_open;        /* else the place is free */
    bool is_there;       /* the master has made it, or is asked to */
    bool is_hosted;      /* the host's configuration has made it: it is not forgotten */
    unsigned generation; /* tells it from those that had the place before */
    uid_t uid;
    struct queue_terms terms;
    struct list members;
    struct buf prefixes; /* of all members, and of those that have gone; each ended by a NUL */
    struct loop_alarm grace;
    struct registrar *registrar;
};

/* An app of a program, which serves a queue. */
struct member {
    struct list node; /* of the queue's */
    struct program *program;
    struct host_queue *queue; /* NULL: it serves none */
    unsigned number;          /* of the app in its process */
    bool is_maker;            /* of its queue, which goes when the attach is refused */
    bool is_guest;            /* the queue is another user's */
    bool is_alone;            /* when it came: of what was there only the place is left */
    unsigned wished;          /* prefixes that it has asked for */
    struct buf prefixes;      /* that it brought */
    int64_t most_running;
    bool gets_credentials;
    uint16_t column; /* the first of its workers'; consecutive */
};

/* Which channels a program is to get, and when. */
struct channels {
    uint8_t (*wanted)[HOST_SLOTS / 8]; /* by worker, a bit a slot; NULL: none ever was */
    struct loop_alarm pause;
    bool pauses;
    unsigned given; /* since it was calm */
    int64_t last_ms, pause_ms;
};

/* A connection to the control socket. */
struct program {
    struct list node;
    struct registrar *registrar;
    struct ipc_channel ipc;    /* fd -1: it has left, and something is still asked for it */
    struct loop_alarm unheard; /* it says nothing */
    struct caller caller;
    pid_t pid;
    uint64_t number;
    bool is_attached, is_awaited; /* the alarm runs */
    unsigned attach_number;       /* of its CONTROL_ATTACH */
    unsigned attaches;  /* how many there were: tells the answers to one from the next one's */
    unsigned questions; /* of CONTROL_ASK and CONTROL_COMMAND, not answered yet */
    struct buf wish;    /* the text of that */
    unsigned wished_prefixes, wished_ports; /* new ones in it */
    unsigned app_count;
    struct member members[CONTROL_APPS];
    bool serves[CONTROL_WORKERS];
    unsigned serving; /* workers */
    struct channels channels;
};

enum question_kind {
    QUESTION_OTHER,
    QUESTION_OPEN,
    QUESTION_SET,
    QUESTION_LISTEN,
    QUESTION_UNLISTEN,
    QUESTION_STATE,
    QUESTION_COMMAND,
};

/* What the master has been asked and has not answered. */
struct question {
    struct list node;
    unsigned number;
    struct program *program; /* NULL: nobody waits for it */
    enum question_kind kind;
    unsigned asked;  /* of an open: the program's count of attaches; else its own number */
    unsigned member; /* of an open: which app of the program's */
    unsigned place, generation; /* of the queue */
    bool is_first;              /* of an open: it makes the queue */
    bool is_guest;              /* of an open: it only adds prefixes */
    struct queue_terms terms;   /* of an owner's open: in force when the master agrees */
};

/* Lines of a kind in the log that anybody could cause without end: so many a second. */
struct few_lines {
    int64_t second; /* of the last */
    unsigned count; /* in it, those that were left out too */
};

struct registrar {
    struct registrar_parts parts;
    struct listener *listener;
    struct list programs;
    unsigned program_count;
    struct list questions;
    unsigned last_question;
    uint64_t last_process;
    struct host_queue queues[TALLY_APPS];
    struct state state;
    struct state before;    /* while it changes: what is in force */
    bool is_changing;       /* the state, and it is not answered yet: nobody else may */
    struct list deferred;   /* who wants to change it too */
    bool slots[HOST_SLOTS]; /* in which a worker serves */
    struct few_lines complaints, comings;
};

/* ---- registrar.c */

/* Asks the master; like is copied but for its number and place in the list, its terms are taken. */
void registrar_ask(struct registrar *registrar, const struct question *like, struct span pairs);

/* What a program is to end with, of what the master refused. */
int registrar_exit_code(struct span result);

/* Has the master close a queue, or one of its prefixes. */
void registrar_ask_close(struct registrar *registrar, unsigned place);
void registrar_ask_drop(struct registrar *registrar, unsigned place, const char *prefix);

/* ---- registrar_state.c */

/* Edits registrar->state as the pairs say; 0 or why not. */
typedef int state_edit_fn(struct registrar *registrar, struct program *program, struct span pairs,
                          struct err_text *text);

/* Has the state edited when nobody else changes it, and put in force; the program gets the answer
 * under number. */
void registrar_edit(struct registrar *registrar, struct program *program, unsigned number,
                    state_edit_fn *edit, struct span pairs);

/* The master's answer. */
void state_answered(struct registrar *registrar, const struct question *question, const char *wrong,
                    struct span result);

/* What the program (NULL: anybody) has not had its turn for is dropped. */
void state_forget(struct registrar *registrar, const struct program *program);

/* ---- registrar_program.c */

/* fd may be NULL. A program that does not read is cut off. */
void program_tell(struct program *program, enum control_kind kind, unsigned value, struct span text,
                  const int *fd);
void program_refuse(struct program *program, unsigned number, int exit_code, const char *why);

/* That it has come or gone, unless too many do. */
void program_log(const struct program *program, const char *event);

/* Whether so many workers may serve so many apps. */
bool program_seats_fit(const struct program *program, unsigned apps);

void program_end(struct program *program);

/* Fits listener_accept_fn; the owner is the registrar. */
void program_accept(void *owner, int fd, const struct net_addr *peer);

/* ---- registrar_channel.c */

void channels_init(struct program *program);
void channels_fini(struct program *program);

/* Channels between one of its workers and one slot of the host are made, soon; -1: all. Nothing
 * while it is not attached, or the worker does not serve. */
void channels_want(struct program *program, int only_worker, int only_slot);

struct quota;

/* ---- registrar_attach.c */

/* A CONTROL_ATTACH: judges it and asks the master for each app. */
void attach_begin(struct program *program, const struct ipc_message *message);

/* Whether the program may have this prefix: 0, and whose it is already, or NULL; else the error. */
int attach_judge(struct program *program, struct quota *quota, const char *prefix,
                 struct host_queue **owner, struct err_text *text);

/* ERR_EXISTS, and that the prefix, which is right, has another owner. */
int attach_is_taken(const char *prefix, struct err_text *text);

/* The master's answer to one of these. What it has opened is there, whether the program still wants
 * it or not. */
void attach_opened(struct registrar *registrar, struct question *question, const char *wrong,
                   struct span result);

/* A program gives its apps up: kept for the next one, or closed. */
void attach_end(struct program *program, bool keep);

/* ---- registrar_quota.c */

/* What a user has, and is about to get. */
struct quota {
    uid_t uid;
    bool is_trusted;
    unsigned prefixes, ports;
    uint8_t ports_seen[65536 / 8];
};

/* What the user of the program has now. */
void quota_begin(struct quota *quota, const struct program *program);

/* One prefix more, which nobody has: 0, or ERR_LIMIT. */
int quota_take(struct quota *quota, const struct url_prefix *prefix, struct err_text *text);

/* ---- registrar_queue.c */

void queue_terms_fini(struct queue_terms *terms);
void queue_terms_copy(struct queue_terms *terms, const struct queue_terms *from);

void host_queue_init(struct host_queue *queue, struct registrar *registrar);
void host_queue_fini(struct host_queue *queue);
unsigned host_queue_place(const struct host_queue *queue);

/* NULL when there is none of this name. */
struct host_queue *host_queue_find(struct registrar *registrar, const char *name);

/* The one that has the prefix (canonical text); NULL. */
struct host_queue *host_queue_of_prefix(struct registrar *registrar, struct span prefix);

/* A free place for a queue of the caller's, or NULL and why. */
struct host_queue *host_queue_free_place(struct registrar *registrar, const struct caller *caller,
                                         struct err_text *text);

/* Whether the caller may attach to it; whether it is the caller's, or the caller is root. */
bool host_queue_lets_in(const struct host_queue *queue, const struct caller *caller);
bool host_queue_obeys(const struct host_queue *queue, const struct caller *caller);

/* The member serves it from now on; it leaves again: what it brought stays for the grace of the
 * queue, or goes at once. A queue that has nobody left is closed likewise. */
void host_queue_join(struct host_queue *queue, struct member *member);
void host_queue_leave(struct member *member, bool keep);

/* Prefixes that are in force from now on, or no more; canonical text. */
void host_queue_add_prefix(struct host_queue *queue, struct member *member, const char *prefix);
void host_queue_drop_prefix(struct host_queue *queue, const char *prefix);
bool prefixes_have(const struct buf *prefixes, struct span prefix);

/* The master has not made it: it goes, unless somebody serves it who may still have it made. */
void host_queue_not_made(struct host_queue *queue);

/* After new prefixes: whether its grace goes on. */
void host_queue_is_whole(struct host_queue *queue);

/* Nobody is there: it waits for the next one of its user. */
void host_queue_wait(struct host_queue *queue);

/* ---- registrar_command.c */

/* A CONTROL_COMMAND: judges it, and answers it now or when the master has. */
void command_perform(struct program *program, const struct ipc_message *message);

/* The master's answer to one that it was asked for. */
void command_answered(const struct question *question, const char *wrong, struct span result);

#endif
