/* Options as Lua gives them, for moonquay.app { … } and for configuration files. */
#ifndef BIND_L_OPTION_H
#define BIND_L_OPTION_H

#include <stdbool.h>

#include <lua.h>

#include "base/buf.h"

/*
 * Pushes the value at index as the text that settings_set reads; is_list: it is the text of a
 * list. False, and what the value is ("(a table)"), when it can be none of the key's.
 */
bool option_push_text(lua_State *L, int index, const char *key, bool is_list);

/* Adds "key\0value\0". */
void option_add_pair(struct buf *pairs, const char *key, const char *value);

/* core.set_option, check_option and refuse_option, into the table on top of the stack. */
void l_option_open(lua_State *L);

#endif
