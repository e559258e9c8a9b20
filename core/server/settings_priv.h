/* What the table of settings, their values, and the printed forms of the table share. */
#ifndef SERVER_SETTINGS_PRIV_H
#define SERVER_SETTINGS_PRIV_H

#include "server/settings.h"

/* In struct settings a text or choice is a char array, a list a char *, a bool a bool, the rest an
 * int64_t. */
enum setting_type {
    TYPE_TEXT,
    TYPE_CHOICE,
    TYPE_BOOL,
    TYPE_COUNT,
    TYPE_SIZE,
    TYPE_SECONDS,
    TYPE_WORDS, /* a list, each item one of choices */
    TYPE_LIST,  /* a list of texts */
    TYPE_ROWS,  /* a list of tables: see word_row.h */
};

/* Why a value is wrong, when there is more to say than what would be right; else "". */
struct setting_why {
    char text[256];
};

struct word_table;

struct setting_row {
    const char *key;
    enum setting_type type;
    enum setting_scope scope;
    enum setting_when when;
    bool per_request;
    size_t at, room; /* where in struct settings; room of a text with its NUL */
    int64_t least, most;
    const char *word;    /* "unlimited" or "off": what lifts the limit; NULL when nothing does */
    bool can_be_none;    /* "none" is SETTING_NONE */
    bool can_be_false;   /* of a text: false and off are "" */
    const char *choices; /* separated by '|' */
    const struct word_table *rows;
    const char *form; /* what a value must be, where the type alone does not say it */
    /* Judges a whole text, or each item of a list; NULL: any will do. */
    bool (*is_right)(struct span text);
    /* Judges the whole of a list in its own words; 0 or an error. NULL: there is no more to say. */
    int (*judge)(const char *text, struct err_text *why);
    const char *given; /* the default as text; NULL: by_machine times the number of CPUs */
    int by_machine;
    const char *help;
};

extern const struct setting_row setting_rows[];
extern const size_t setting_row_count;

/* What a text says for a row. */
struct setting_value {
    int64_t number;
    bool truth;
    const char *text; /* borrowed */
};

/* settings_table.c */
const struct setting_row *setting_find(const char *key);

/* setting_value.c */

/* 0 or ERR_INVALID; fills value by the row's type. */
int setting_read(const struct setting_row *row, const char *text, struct setting_value *value,
                 struct setting_why *why);

/* "between 1 and 1024", "a, b or c". */
void setting_describe(const struct setting_row *row, char *out, size_t room);
void setting_describe_choices(const char *choices, const char *last_joint, char *out, size_t room);

/* Writes a number of the row as setting_read would read it. */
void setting_print_number(const struct setting_row *row, int64_t number, char *out, size_t room);

bool setting_is_choice(const char *choices, struct span word);
bool setting_is_list(const struct setting_row *row);

#endif
