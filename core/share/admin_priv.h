/* What the files of the commands share: admin_table.c, admin.c (reading), admin_text.c (help). */
#ifndef SHARE_ADMIN_PRIV_H
#define SHARE_ADMIN_PRIV_H

#include "share/admin.h"

extern const struct admin_argument admin_arguments[]; /* a noun's lie together */
extern const size_t admin_argument_count;

/* An index, or -1. */
int admin_find_verb(struct span word);
int admin_find_noun(struct span word);
const struct admin_command *admin_find(int verb, int noun);

/* NAME=, with a name that could be one; 0: the word is a value. */
size_t admin_name_length(const char *word);

/* Whether this argument excludes itself: it was given, or another of its group was. */
bool admin_is_taken(const struct admin_request *request, const struct admin_argument *argument);

#endif
