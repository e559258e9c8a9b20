/*
 * What happens inside a C object that a spec drives, written down as events { name, id, key = value
 * … } in a list beside the object, and told to a function of the spec while it happens.
 */
#ifndef BIND_PROBE_EVENTS_H
#define BIND_PROBE_EVENTS_H

#include <stdbool.h>

#include <lua.h>

#include "base/span.h"
#include "http/fields.h"

/* User values of the object. */
enum { PROBE_UV_EVENTS = 1, PROBE_UV_CALLBACK, PROBE_UV_COUNT = PROBE_UV_CALLBACK };

/* Of the call that runs: its state and the object's index in its stack. */
struct probe_events {
    lua_State *L;
    int self;
};

/* Opens an event on top: { name, id }. */
void probe_event_open(struct probe_events *log, const char *name, lua_Integer id);
void probe_event_string(struct probe_events *log, const char *key, struct span text);
void probe_event_integer(struct probe_events *log, const char *key, lua_Integer number);
void probe_event_bool(struct probe_events *log, const char *key, bool truth);
void probe_event_fields(struct probe_events *log, const char *key, const struct fields *fields);

/* Keeps the event on top, and tells the script of it. */
void probe_event_close(struct probe_events *log);

#endif
