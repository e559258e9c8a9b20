/*
 * Writes JSON into a buffer: what moonquay status is answered. Who writes opens an object or array,
 * adds members and closes it again; commas are put here. Text may hold any bytes.
 */
#ifndef PROC_STATUS_JSON_H
#define PROC_STATUS_JSON_H

#include <stdint.h>

#include "base/buf.h"
#include "server/settings.h"

#define STATUS_JSON_DEPTH 8

struct status_json {
    struct buf *out; /* borrowed */
    bool follows;    /* a value stands before, in the same object or array */
    unsigned depth;
    char closers[STATUS_JSON_DEPTH];
};

void status_json_init(struct status_json *json, struct buf *out);

/* In all of these key is the name of the member, NULL for an element of an array and for the
 * whole. */
void status_json_object(struct status_json *json, const char *key);
void status_json_array(struct status_json *json, const char *key);

/* Ends the object or array that was opened last. */
void status_json_close(struct status_json *json);

void status_json_text(struct status_json *json, const char *key, const char *text);
void status_json_number(struct status_json *json, const char *key, int64_t number);

/* An object: the settings of one scope, each as the text that would set it. */
void status_json_settings(struct status_json *json, const char *key,
                          const struct settings *settings, enum setting_scope scope);

#endif
