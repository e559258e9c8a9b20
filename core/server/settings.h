/*
 * Every option of DESIGN section 5 that exists so far, in one typed table: name, type, default,
 * range, scope and one line of help. Values arrive as text from the command line, the environment
 * or an app's table, and are checked here, once, with the same words.
 */
#ifndef SERVER_SETTINGS_H
#define SERVER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define SETTING_UNLIMITED INT64_MAX /* "unlimited" */
#define SETTING_OFF       INT64_MAX /* "off", for timers */

/* Times are milliseconds, sizes bytes. */
struct settings {
    /* server scope: only before start, the master acts on them */
    char urls[1024]; /* comma-separated */
    int64_t workers, drain_ms, watchdog_ms;
    char access_log[512];       /* path, "-" for standard error, "off", "" for the default */
    char access_log_format[16]; /* combined, json */
    char error_log[512];        /* path, "-" */
    char error_log_format[16];  /* text, json */
    char log_level[16];
    char user[64]; /* whom the workers become when the master is root; "" stays */
    bool development;
    /* app scope */
    int64_t max_field_length, max_request_head_bytes, max_target_bytes, max_fields;
    int64_t url_segment_max_length, url_segment_max_count;
    int64_t max_request_body_size, max_concurrent_requests;
    int64_t memory_limit, cpu_limit_ms;
    int64_t timeout_header_wait_ms, timeout_idle_connection_ms, timeout_entity_body_ms,
        timeout_drain_entity_body_ms;
    int64_t timeout_cancel_ms;
    bool allow_synchronous_io, throw_write_errors;
    char server_header[64]; /* "" for none */
};

enum setting_scope { SETTING_SERVER, SETTING_APP };

void settings_init(struct settings *settings);

/*
 * Sets one key (dotted: "timeouts.cancel") from text. where ("--set", "app.lua:3") begins the
 * message; one that ends with '=' ("--workers=") stands there for the key. ERR_NOT_FOUND for an
 * unknown key (the message suggests the nearest), ERR_INVALID for a value that is wrong or out of
 * range (the message names key, value and range); exit code EXIT_OPTION.
 */
int settings_set(struct settings *settings, const char *key, const char *value, const char *where,
                 struct err_text *text);

/* Fails as settings_set does, for what cannot be a value of any key: shown says what it was. */
int settings_refuse(const char *key, const char *shown, const char *where, struct err_text *text);

/* Writes the value in force as text, as settings_set would read it. ERR_NOT_FOUND. */
int settings_get(const struct settings *settings, const char *key, char *out, size_t room);

/* ERR_NOT_FOUND, or the scope of a key. */
int settings_scope(const char *key);

/* "10MB", "1.5 MiB", "512" as bytes; "1.5" (plain seconds) as milliseconds. ERR_INVALID. */
int settings_parse_size(const char *text, int64_t *bytes);
int settings_parse_seconds(const char *text, int64_t *ms);

/* Prints the table: key, default, range, meaning. */
void settings_print(FILE *out);

/* Calls each with every key in the table's order. */
void settings_each(void (*each)(void *arg, const char *key), void *arg);

#endif
