/*
 * The commands with which people administer a host, shaped like netsh's (reference/http-sys.md
 * section 19). One table has them all, another their arguments, and everything is made from the
 * two: what the command line takes, what the registrar takes of it, the help, the completion of
 * shells.
 */
#ifndef SHARE_ADMIN_H
#define SHARE_ADMIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define ADMIN_ARGUMENTS_MOST 16   /* of one noun */
#define ADMIN_VALUE_BYTES    4096 /* of an argument, its NUL included */

enum admin_verb { ADMIN_ADD, ADMIN_UPDATE, ADMIN_DELETE, ADMIN_SHOW, ADMIN_FLUSH, ADMIN_VERBS };

enum admin_noun {
    ADMIN_URLACL,
    ADMIN_SSLCERT,
    ADMIN_IPLISTEN,
    ADMIN_TIMEOUT,
    ADMIN_SERVICESTATE,
    ADMIN_LOGBUFFER,
    ADMIN_FIREWALL,
    ADMIN_NOUNS
};

enum admin_who {
    ADMIN_EVERYBODY,
    ADMIN_OWNERS,    /* root and the host's own user */
    ADMIN_DELEGATES, /* they, and who holds a reservation above with delegate=yes */
};

struct admin_command {
    enum admin_verb verb;
    enum admin_noun noun;
    enum admin_who who;
    const char *help;
};

#define ADMIN_BIT(verb) (1u << (verb))

struct admin_argument {
    enum admin_noun noun;
    const char *name;
    const char *form;   /* of its value, for people: "URL" */
    unsigned may, must; /* of which verbs, as bits: it may be given, it has to be */
    char group;         /* those with the same letter exclude each other, must is of one; 0: none */
    const char *with;   /* it is given beside this one, and never without; NULL: no matter */
    const char *const *choices; /* ended by NULL; else NULL */
    /* 0, or an error that says what is wrong; NULL: choices, or any text. */
    int (*judge)(const char *name, const char *value, struct err_text *text);
    const char *help;
};

extern const struct admin_command admin_commands[];
extern const size_t admin_command_count;
/* The arguments of a noun, in their order. */
const struct admin_argument *admin_arguments_of(enum admin_noun noun, size_t *count);

/* A command and the values of its arguments, by their place in admin_arguments; NULL: not given. */
struct admin_request {
    const struct admin_command *command;
    const char *values[ADMIN_ARGUMENTS_MOST];
};

/* The words of the command line: "add", "urlacl". */
const char *admin_verb_word(enum admin_verb verb);
const char *admin_noun_word(enum admin_noun noun);

/*
 * Reads a command as words: verb, noun, and arguments as NAME=VALUE or by their order. 0, or an
 * error with EXIT_USAGE_ERROR. The request borrows the words.
 */
int admin_read_words(struct admin_request *request, const char *const *words, size_t count,
                     struct err_text *text);

/* The same of pairs: verb, noun, and arguments by name. */
int admin_read_pairs(struct admin_request *request, struct span pairs, struct err_text *text);
void admin_write_pairs(const struct admin_request *request, struct buf *pairs);

/* The value of an argument, a choice as the table spells it; NULL: it was not given. */
const char *admin_value(const struct admin_request *request, const char *name);

/* Of an argument with the choices yes and no. */
bool admin_truth(const struct admin_request *request, const char *name, bool otherwise);

/* "120" or "0x78": 0 when it is no number between 1 and 65535. */
unsigned admin_seconds(const char *text);

/* What moonquay http --help says: of all commands, or of those that begin with these words. */
void admin_help(const char *const *words, size_t count, struct buf *out);

/* The words that may follow these, a line each; the last of them is being written. */
void admin_complete(const char *const *words, size_t count, struct buf *out);

#endif
