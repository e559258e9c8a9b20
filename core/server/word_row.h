/*
 * Rows of words, as some settings have them: KEY=VALUE KEY=VALUE; KEY=VALUE … A value in double
 * quotes may hold blanks and semicolons, and after a backslash a quote or a backslash. A table says
 * which keys a row has, what each takes and where it goes in a struct of fixed rooms.
 */
#ifndef SERVER_WORD_ROW_H
#define SERVER_WORD_ROW_H

#include <stdbool.h>
#include <stddef.h>

struct word_key {
    const char *name;
    size_t at, room;                    /* where in the record */
    unsigned most;                      /* how often it may be given; the rooms lie in a row */
    const char *choices;                /* separated by '|', else NULL */
    bool (*is_right)(const char *text); /* NULL: any text */
    const char *form;                   /* what it must be, when it has no choices */
    bool required, is_number;
    const char *help;
};

struct word_table {
    const struct word_key *keys;
    size_t count, bytes; /* of keys; of the record */
    const char *noun;    /* "binding": what a row is */
    const char *type;    /* its name for editors */
    /* Judges the row as a whole; 0, or ERR_INVALID and why. NULL: there is no more to judge. */
    int (*judge)(const void *record, char *why, size_t room);
};

#define WORD_FIELD(record, field)                                                                  \
    .at = offsetof(struct record, field), .room = sizeof(((struct record *)0)->field), .most = 1
#define WORD_FIELDS(record, field, times, each)                                                    \
    .at = offsetof(struct record, field), .room = each, .most = times

/*
 * Reads the row at *rest, which is moved behind it, into record, which is zeros before: 1, 0 at the
 * end of the text, or ERR_INVALID and why (of which key, and what it must be).
 */
int word_row_next(const struct word_table *table, const char **rest, void *record, char *why,
                  size_t room);

/* How often a key is given in a record. */
unsigned word_row_count(const struct word_table *table, const void *record, const char *key);

/* 0, or ERR_INVALID for the first wrong row; why begins with its number: "binding 2: …". */
int word_rows_check(const struct word_table *table, const char *text, char *why, size_t room);

#endif
