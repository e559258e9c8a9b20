/*
 * JSON (RFC 8259) for Lua. Written straight into a buffer, read through libjansson. Integers stay
 * integers in both directions; a float that is whole is written with ".0".
 */
#ifndef BIND_L_JSON_H
#define BIND_L_JSON_H

#include <lua.h>

#include "base/buf.h"
#include "base/span.h"

/*
 * Deeper nesting is refused in both directions: it bounds the C stack, and a table that holds
 * itself ends here.
 */
#define JSON_MAX_DEPTH 128

/* A table that holds another one many times can mean more text than memory. */
#define JSON_MAX_BYTES (256u << 20)

/*
 * Appends the JSON of the value at index to out. 0; or ERR_INVALID (ERR_TOO_LARGE above
 * JSON_MAX_BYTES) with a message pushed that names what cannot be written and where, and out as
 * long as before. Tables are read raw: no Lua code runs. A table with keys 1..n is an array; one
 * without any is an object unless it is marked by json.array; an object's members come in the order
 * of next(). '/', U+2028 and U+2029 are not escaped: text that goes into a <script> needs its '<'
 * escaped by whoever puts it there. Raises only when Lua is out of memory for the message.
 */
int l_json_write(lua_State *L, int index, struct buf *out);

/*
 * Reads one JSON text, any value, and pushes it: null as json.null, arrays marked by json.array, so
 * that an empty one is written as "[]" again. 0; or ERR_INVALID with a message pushed that names
 * line and column. Refused are member names that occur twice or hold U+0000, and integers outside
 * 64 bits. May raise only when Lua is out of memory.
 */
int l_json_read(lua_State *L, struct span text);

/* Pushes the module: encode, decode, null, array, object. */
int l_json_open(lua_State *L);

#endif
