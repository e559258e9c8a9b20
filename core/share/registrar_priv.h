/*
 * What the files of the registrar share: registrar.c (its life, its questions to the master,
 * reservations), registrar_program.c (who is connected, what they say, their channels),
 * registrar_attach.c (who gets which app) and registrar_command.c (the commands of moonquay http).
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
    unsigned attaches;      /* how many there were: tells the answers to one from the next one's */
    unsigned questions;     /* of CONTROL_ASK, not answered yet */
    struct buf wish;        /* the text of that */
    unsigned app_count;
    unsigned apps[CONTROL_APPS];   /* of the host, by its own numbers */
    uint16_t column[CONTROL_APPS]; /* the first of its workers'; consecutive */
    bool serves[CONTROL_WORKERS];
    unsigned serving; /* workers */
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

/* What the master has been asked, in order. */
struct question {
    struct list node;
    unsigned number;
    struct program *program; /* NULL: nobody waits for it */
    enum question_kind kind;
    unsigned asked; /* of an open: the program's count of attaches; else its own number */
    unsigned place; /* of the app in the host */
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
    struct state state;
    struct buf good;        /* its text, as it is in force */
    struct buf wished;      /* likewise, as the master is asked to make it */
    bool is_changing;       /* the state, and it is not answered yet: nobody else may */
    struct list deferred;   /* who wants to change it too */
    bool slots[HOST_SLOTS]; /* in which a worker serves */
};

/* ---- registrar.c */

/* Asks the master; like is copied but for its number and place in the list. */
void registrar_ask(struct registrar *registrar, const struct question *like, struct span pairs);

/* Forgets an app of the host, and has the master forget it. */
void registrar_ask_close(struct registrar *registrar, unsigned app);

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

/* Whether so many workers may serve so many apps. */
bool program_seats_fit(const struct program *program, unsigned apps);

/* Makes channels to one of its workers: for one slot of the host, or -1 for all. */
void program_connect(struct program *program, unsigned worker, int only_slot);
void program_end(struct program *program);

/* Fits listener_accept_fn; the owner is the registrar. */
void program_accept(void *owner, int fd, const struct net_addr *peer);

/* ---- registrar_attach.c */

/* A CONTROL_ATTACH: judges it and asks the master for each app. */
void attach_begin(struct program *program, const struct ipc_message *message);

/* Whether the program may have this prefix: 0, and whose it is already, of the same user and
 * without a process, or NULL; else the error. */
int attach_judge(struct program *program, const char *prefix, struct shared **owner,
                 struct err_text *text);

/* What an app has from now on, or no more; canonical text. */
void attach_add_prefix(struct shared *shared, const char *prefix);
void attach_drop_prefix(struct shared *shared, const char *prefix);

/* The master's answer to one of these. */
void attach_opened(struct registrar *registrar, const struct question *question, const char *wrong,
                   struct span result);

/* An app has lost its process: it waits for the next of its user, for its grace. */
void attach_orphan(struct shared *shared);

/* A program gives its apps up: kept for the next one, or closed. */
void attach_end(struct program *program, bool keep);

/* Of each app, when the registrar is made. */
void attach_init(struct shared *shared);

/* ---- registrar_command.c */

/* A CONTROL_COMMAND: judges it, and answers it now or when the master has. */
void command_perform(struct program *program, const struct ipc_message *message);

/* The master's answer to one that it was asked for. */
void command_answered(const struct question *question, const char *wrong, struct span result);

#endif
