/*
 * Every option of DESIGN section 5 in one typed table: name, type, default, range, scope, when it
 * can be changed, and one line of help. Values arrive as text from the command line, the
 * environment, a configuration file or an app's table, and are checked here, once, with the same
 * words.
 */
#ifndef SERVER_SETTINGS_H
#define SERVER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/span.h"

/* All three are above every count and time that can be given, so that comparing with them is right
 * without asking for them first. */
#define SETTING_UNLIMITED INT64_MAX       /* "unlimited" */
#define SETTING_OFF       INT64_MAX       /* "off", for timers and rates */
#define SETTING_NONE      (INT64_MAX - 1) /* "none": not given, another setting decides */

/*
 * Times are milliseconds, sizes bytes. A char * is a list or another long text, owned by the struct
 * and never NULL; it is freed when the key is set again. Lists are as they were given, with commas:
 * settings_item walks them.
 */
struct settings {
    /* server scope, read at the start */
    char *urls;
    bool prefer_urls, share;
    int64_t workers;
    char user[64];              /* whom the workers become when the master is root; "" stays */
    char access_log[512];       /* path, "-" for standard error, "off", "" for the default */
    char access_log_format[16]; /* combined, json */
    char error_log[512];        /* path, "-" */
    char error_log_format[16];  /* text, json */
    bool development;
    char http_error_log[512]; /* path, "-" for standard error, "off" */
    int64_t http_error_log_max_bytes, http_error_log_keep;
    char control_socket[108]; /* path, "off", "" for the server's own choice; fits sun_path */
    char *trusted_proxies;
    bool h2_cleartext;
    int64_t h2_max_concurrent_streams, h2_stream_window_bytes, h2_header_table_bytes;
    int64_t h2_max_resets, h2_max_settings, h2_max_pings;
    int64_t h2_max_empty_frames, h2_max_other_frames, h2_max_continuations;
    int64_t cache_max_bytes, cache_max_entry_bytes;
    char *tls;                      /* tls_binding_next reads it */
    char *apps;                     /* hosted_app_next does */
    char session_tickets_keys[512]; /* path, "" for keys that the server makes */
    int64_t session_tickets_rotate_ms;
    /* server scope, changeable */
    int64_t drain_ms, watchdog_ms;
    char log_level[16];
    int64_t max_field_length, max_request_head_bytes, max_target_bytes, max_fields;
    int64_t url_segment_max_length, url_segment_max_count;
    int64_t server_max_connections; /* SETTING_UNLIMITED */
    /* app scope, read at the start */
    char *url_prefixes;
    char request_queue_name[1041]; /* "" for none */
    char request_queue_mode[24];   /* create, attach, create_or_attach */
    char *request_queue_acl;       /* "user:alice, group:web, -user:bob" */
    int64_t memory_limit;
    char authentication_keytab[512], authentication_accounts[512];
    char authentication_pam_service[64], authentication_realm[256];
    char *authentication_principals;
    char authentication_channel_binding[16]; /* none, when_supported, require */
    bool authentication_automatic, authentication_forward_authorization;
    /* app scope, changeable */
    char *authentication_schemes;
    bool authentication_allow_anonymous;
    bool enabled, enable_response_caching, compression, throw_write_errors;
    int64_t max_accepts, max_concurrent_requests;
    int64_t max_connections; /* SETTING_NONE: only the server's counts; SETTING_UNLIMITED */
    int64_t request_queue_limit, request_queue_limit_bytes;
    char http_503_verbosity[16]; /* basic, limited, full */
    int64_t timeout_header_wait_ms, timeout_idle_connection_ms, timeout_drain_entity_body_ms;
    int64_t timeout_request_queue_ms, timeout_cancel_ms;
    int64_t registration_grace_ms;
    int64_t cpu_limit_ms;
    char server_header[64]; /* "" for none */
    /* app scope, also for one request */
    int64_t max_request_body_size;
    bool allow_synchronous_io;
    int64_t timeout_entity_body_ms, timeout_handler_ms, min_send_bytes_per_second;
};

/* One value for the whole server, or one for each app. */
enum setting_scope { SETTING_SERVER, SETTING_APP };

enum setting_when { SETTING_AT_START, SETTING_ANY_TIME };

/* What a value was before it became text. */
enum setting_form {
    SETTING_FROM_TEXT,
    SETTING_FROM_NUMBER,
    SETTING_FROM_TRUE,
    SETTING_FROM_FALSE,
    SETTING_FROM_LIST,
    SETTING_FROM_NIL,
};

/* All defaults; what is in settings before is overwritten, not freed. */
void settings_init(struct settings *settings);
void settings_fini(struct settings *settings); /* a zeroed one too */

/* Makes to a copy that owns its texts; what is in to before is overwritten, not freed. */
void settings_copy(struct settings *to, const struct settings *from);

/*
 * Sets one key (dotted: "timeouts.cancel") from text. where ("--set", "app.lua:3") begins the
 * message; one that ends with '=' ("--workers=") stands there for the key. ERR_NOT_FOUND for an
 * unknown key (the message suggests the nearest), ERR_INVALID for a value that is wrong or out of
 * range (the message names key, value and range); exit code EXIT_OPTION.
 */
int settings_set(struct settings *settings, const char *key, const char *value, const char *where,
                 struct err_text *text);

/* The same judgement, and nothing is set. */
int settings_check(const char *key, const char *value, const char *where, struct err_text *text);

/* The same for a running server, where ERR_STATE is the answer for a key that is read at the start.
 */
int settings_check_change(const char *key, const char *value, const char *where,
                          struct err_text *text);

/* The same for a key whose value is a number (of bytes, milliseconds, 0 or 1), which is given
 * back. ERR_NOT_FOUND also for a key of another type. */
int settings_number(const char *key, const char *value, const char *where, int64_t *number,
                    struct err_text *text);

/* Fails as settings_set does, for what cannot be a value of any key: shown says what it was. */
int settings_refuse(const char *key, const char *shown, const char *where, struct err_text *text);

/* Whether a value of this form can be one of the key's. True for an unknown key: settings_set says
 * what is wrong with it. */
bool settings_takes(const char *key, enum setting_form form);

/* Writes the value in force as text, as settings_set would read it, cut to room. ERR_NOT_FOUND. */
int settings_get(const struct settings *settings, const char *key, char *out, size_t room);

/* The whole value of a key that is a text or a list, borrowed until it is set again; NULL for other
 * keys. */
const char *settings_text(const struct settings *settings, const char *key);

/* The number as settings_set would read it: "1.5", "off", "true". ERR_NOT_FOUND. */
int settings_number_text(const char *key, int64_t number, char *out, size_t room);

/* The next item of a list, without blanks around it; false at the end. Empty ones are left out. */
bool settings_item(const char **rest, struct span *item);

/* ERR_NOT_FOUND, or the scope of a key, or when it can be changed. */
int settings_scope(const char *key);
int settings_when(const char *key);

/* Whether a route or req.limits can change it for one request. */
bool settings_per_request(const char *key);

/* Whether keys begin with these words and a dot: "timeouts". */
bool settings_is_group(const char *words);

/* "10MB", "1.5 MiB", "512" as bytes; "1.5" (plain seconds) as milliseconds. ERR_INVALID. */
int settings_parse_size(const char *text, int64_t *bytes);
int settings_parse_seconds(const char *text, int64_t *ms);

/* Prints the table (key, default, type, scope, when it can change, meaning, range) as "text",
 * "markdown", "luals" (lua/moonquay/settings.lua) or "json". ERR_NOT_FOUND for another form. */
int settings_print_as(FILE *out, const char *form);

/* Calls each with every key in the table's order. */
void settings_each(void (*each)(void *arg, const char *key), void *arg);

#endif
