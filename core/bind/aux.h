/*
 * What every binding needs: failures as values, argument checks, and the protected call from C.
 */
#ifndef BIND_AUX_H
#define BIND_AUX_H

#include <lauxlib.h>
#include <lua.h>

#include "base/buf.h"
#include "base/span.h"

struct vm;

/* The vm of a state: set for all threads of a state that has one; raises for a state that has none.
 */
struct vm *vm_of(lua_State *L);

/* Pushes nil and an error value { code, message } for an enum err; returns 2. message NULL: the
 * code's own. */
int l_fail(lua_State *L, int code, const char *message);

/* Pushes the error value alone. */
void l_push_error(lua_State *L, int code, const char *message);

/* Pushes the metatable of error values ("moonquay.error"). */
void l_push_error_meta(lua_State *L);

void l_push_span(lua_State *L, struct span text);

/* Pushes what the buffer holds and frees it, also when Lua has no memory for it and raises. */
void l_push_buf(lua_State *L, struct buf *text);

struct span l_check_span(lua_State *L, int index);
struct span l_to_span(lua_State *L, int index);

/* Seconds as a number, at least 0 and finite, else an argument error. */
double l_check_seconds(lua_State *L, int index);

#endif
