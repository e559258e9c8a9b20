/*
 * Writes JSON into a buffer: what moonquay status and moonquay http are answered. Who writes opens
 * an object or array, adds members and closes it again; commas are put here. Text may hold any
 * bytes.
 */
#ifndef BASE_JSON_OUT_H
#define BASE_JSON_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define JSON_OUT_DEPTH 8

struct json_out {
    struct buf *out; /* borrowed */
    bool follows;    /* a value stands before, in the same object or array */
    unsigned depth;
    char closers[JSON_OUT_DEPTH];
};

void json_out_init(struct json_out *json, struct buf *out);

/* In all of these key is the name of the member, NULL for an element of an array and for the
 * whole. */
void json_out_object(struct json_out *json, const char *key);
void json_out_array(struct json_out *json, const char *key);

/* Ends the object or array that was opened last. */
void json_out_close(struct json_out *json);

void json_out_text(struct json_out *json, const char *key, const char *text);
void json_out_number(struct json_out *json, const char *key, int64_t number);
/* Of what is JSON already: one value; null when it is empty. */
void json_out_encoded(struct json_out *json, const char *key, struct span value);
void json_out_truth(struct json_out *json, const char *key, bool truth);

#endif
