/*
 * One row an option. Everything that is said about an option (its default, its range, the words of
 * a refusal, the printed table, the types for editors) comes from its row, so that help and
 * behaviour cannot differ.
 */
#include <stddef.h>

#include "net/addr_set.h"
#include "route/url_prefix.h"
#include "server/hosted_app.h"
#include "server/settings_priv.h"
#include "server/tls_binding.h"

#define AT(field)   .at = offsetof(struct settings, field)
#define ROOM(field) AT(field), .room = sizeof(((struct settings *)0)->field)

#define TEXT(field)               .type = TYPE_TEXT, ROOM(field)
#define CHOICE(field, words)      .type = TYPE_CHOICE, ROOM(field), .choices = words
#define BOOL(field)               .type = TYPE_BOOL, AT(field)
#define COUNT(field, low, high)   .type = TYPE_COUNT, AT(field), .least = low, .most = high
#define SIZE(field, low, high)    .type = TYPE_SIZE, AT(field), .least = low, .most = high
#define SECONDS(field, low, high) .type = TYPE_SECONDS, AT(field), .least = low, .most = high
#define LIST(field, bytes)        .type = TYPE_LIST, AT(field), .room = bytes
#define ROWS(field, bytes, table) .type = TYPE_ROWS, AT(field), .room = bytes, .rows = &table
#define WORDS(field, words)       .type = TYPE_WORDS, AT(field), .room = 128, .choices = words

#define SERVER_START .scope = SETTING_SERVER, .when = SETTING_AT_START
#define SERVER_ANY   .scope = SETTING_SERVER, .when = SETTING_ANY_TIME
#define APP_START    .scope = SETTING_APP, .when = SETTING_AT_START
#define APP_ANY      .scope = SETTING_APP, .when = SETTING_ANY_TIME
#define APP_REQUEST  .scope = SETTING_APP, .when = SETTING_ANY_TIME, .per_request = true

#define DAY_MS   (86400 * 1000)
#define KIBI     ((int64_t)1 << 10)
#define MEBI     ((int64_t)1 << 20)
#define NO_LIMIT SETTING_UNLIMITED

/* Longest texts of lists. Those of the server's scope go to each worker in one message. */
#define URLS_BYTES       1024
#define PROXIES_BYTES    (16 * KIBI)
#define BINDINGS_BYTES   (32 * KIBI)
#define PRINCIPALS_BYTES (4 * KIBI)
#define ACL_BYTES        (4 * KIBI)
#define APPS_BYTES       (64 * KIBI)
#define PREFIXES_BYTES   (4 * MEBI) /* 10,000 prefixes and more */

#define MOST_CONNECTIONS 1000000000
#define QUEUE_NAME_MOST  260 /* characters, the reference's */

/* The reference's rule for names (section 3.2). */
static bool is_queue_name(struct span name)
{
    size_t characters = 0;

    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] == '/' || name.at[i] == '\\')
            return false;
        characters += ((unsigned char)name.at[i] & 0xC0) != 0x80; /* UTF-8: all but the rest */
    }
    return characters <= QUEUE_NAME_MOST;
}

static int judge_proxies(const char *text, struct err_text *why)
{
    struct addr_set set;
    int code = addr_set_parse(&set, text, why);

    addr_set_fini(&set);
    return code;
}

static int judge_prefixes(const char *text, struct err_text *why)
{
    struct url_prefix prefix;
    struct span item;
    int code = 0;

    while (code == 0 && settings_item(&text, &item)) {
        code = url_prefix_parse(&prefix, item, why);
        if (code == 0)
            url_prefix_fini(&prefix);
    }
    return code;
}

/* Whether there are such users is judged where it counts, in the host. */
static int judge_acl(const char *text, struct err_text *why)
{
    struct span item;

    while (settings_item(&text, &item)) {
        struct span rest = span_skip(item, item.at[0] == '-');
        size_t colon = rest.len;
        const char *at = memchr(rest.at, ':', rest.len);

        if (at)
            colon = (size_t)(at - rest.at);
        if (colon + 1 >= rest.len || (!span_eq(span_of(rest.at, colon), SPAN("user")) &&
                                      !span_eq(span_of(rest.at, colon), SPAN("group"))))
            return err_set(why, EXIT_OPTION, ERR_INVALID,
                           "%.*s is neither user:NAME nor group:NAME nor one of these behind -",
                           item.len > 80 ? 80 : (int)item.len, item.at);
    }
    return 0;
}

const struct setting_row setting_rows[] = {
    {"urls", SERVER_START, LIST(urls, URLS_BYTES), .given = "http://localhost:5000",
     .help = "addresses to serve where url_prefixes names none"},
    {"prefer_urls", SERVER_START, BOOL(prefer_urls), .given = "false",
     .help = "urls that were given beat url_prefixes, not the other way round"},
    {"share", SERVER_START, BOOL(share), .given = "false",
     .help = "behind a host, which has the ports, as an attached process"},
    {"workers", SERVER_START, COUNT(workers, 1, 1024), .by_machine = 1, .help = "worker processes"},
    {"user", SERVER_START, TEXT(user), .given = "",
     .help = "whom the workers become when the server is started by root"},
    {"access_log", SERVER_START, TEXT(access_log), .given = "",
     .help = "file, - for standard error, off; by default - on a terminal, else off"},
    {"access_log_format", SERVER_START, CHOICE(access_log_format, "combined|json"),
     .given = "combined", .help = "form of the access log"},
    {"error_log", SERVER_START, TEXT(error_log), .given = "-",
     .help = "file, or - for standard error"},
    {"error_log_format", SERVER_START, CHOICE(error_log_format, "text|json"), .given = "text",
     .help = "form of the error log"},
    {"development", SERVER_START, BOOL(development), .given = "false",
     .help = "error pages with source lines; by default on a terminal"},
    {"http_error_log", SERVER_START, TEXT(http_error_log), .given = "off",
     .help = "log of what the core refuses or drops: file, - for standard error, off"},
    {"http_error_log_max_bytes", SERVER_START, SIZE(http_error_log_max_bytes, 64 * KIBI, NO_LIMIT),
     .word = "off", .given = "1MiB", .help = "a longer log begins a new file"},
    {"http_error_log_keep", SERVER_START, COUNT(http_error_log_keep, 0, 1000), .given = "10",
     .help = "old files of that log that are kept"},
    {"control_socket", SERVER_START, TEXT(control_socket), .given = "",
     .help = "path of the socket for moonquay's commands, off; by default the server chooses"},
    {"trusted_proxies", SERVER_START, LIST(trusted_proxies, PROXIES_BYTES), .given = "",
     .judge = judge_proxies, .help = "addresses whose PROXY protocol and Forwarded fields count"},
    {"h2.cleartext", SERVER_START, BOOL(h2_cleartext), .given = "false",
     .help = "HTTP/2 without TLS, on loopback and Unix sockets"},
    {"h2.max_concurrent_streams", SERVER_START, COUNT(h2_max_concurrent_streams, 1, 65535),
     .given = "100", .help = "requests at a time on an HTTP/2 connection"},
    {"h2.stream_window_bytes", SERVER_START, SIZE(h2_stream_window_bytes, 1024, 16 * MEBI),
     .given = "65535", .help = "content of a stream that is on its way or unread"},
    {"h2.header_table_bytes", SERVER_START, SIZE(h2_header_table_bytes, 0, 16 * MEBI),
     .given = "4096", .help = "fields that an HTTP/2 connection remembers, each way"},
    {"h2.max_resets", SERVER_START, COUNT(h2_max_resets, 1, 900), .given = "200",
     .help = "streams reset by or because of the client, in 10 s; more end the connection"},
    {"h2.max_settings", SERVER_START, COUNT(h2_max_settings, 1, 900), .given = "20",
     .help = "SETTINGS frames in 10 s, likewise"},
    {"h2.max_pings", SERVER_START, COUNT(h2_max_pings, 1, 900), .given = "100",
     .help = "PING frames in 10 s, likewise"},
    {"h2.max_empty_frames", SERVER_START, COUNT(h2_max_empty_frames, 1, 100000), .given = "100",
     .help = "frames that bring nothing, in 10 s, likewise"},
    {"h2.max_other_frames", SERVER_START, COUNT(h2_max_other_frames, 1, 1000000), .given = "1000",
     .help = "frames that serve no request, in 10 s, likewise"},
    {"h2.max_continuations", SERVER_START, COUNT(h2_max_continuations, 0, 7), .given = "7",
     .help = "CONTINUATION frames of a head, likewise"},
    {"cache.max_bytes", SERVER_START, SIZE(cache_max_bytes, MEBI, NO_LIMIT), .given = "64MiB",
     .help = "memory of the response cache"},
    {"cache.max_entry_bytes", SERVER_START, SIZE(cache_max_entry_bytes, 4 * KIBI, 16 * MEBI),
     .given = "262144", .help = "a larger response is not cached"},
    {"tls", SERVER_START, ROWS(tls, BINDINGS_BYTES, tls_binding_table), .given = "",
     .help = "certificates and keys by address, port and name"},
    {"apps", SERVER_START, ROWS(apps, APPS_BYTES, hosted_app_table), .given = "",
     .help = "of a host: apps that it starts itself, each a process of its own"},
    {"session_tickets.keys", SERVER_START, TEXT(session_tickets_keys), .given = "",
     .help = "file with the keys of TLS session tickets, 80 bytes each, the one that seals first; "
             "by default the server makes them"},
    {"session_tickets.rotate", SERVER_START,
     SECONDS(session_tickets_rotate_ms, 1000, 7 * (int64_t)DAY_MS), .word = "off", .given = "28800",
     .help = "how long a key that the server has made seals tickets; it opens "
             "them for twice as long again; off: as long as the server runs"},

    {"drain", SERVER_ANY, SECONDS(drain_ms, 0, DAY_MS), .given = "30",
     .help = "how long running requests may go on after a stop or reload"},
    {"watchdog", SERVER_ANY, SECONDS(watchdog_ms, 500, DAY_MS), .word = "off", .given = "10",
     .help = "a worker whose loop does not turn for so long is replaced"},
    {"log_level", SERVER_ANY, CHOICE(log_level, "error|warn|info|debug"), .given = "info",
     .help = "the least important lines that the error log keeps"},
    {"max_field_length", SERVER_ANY, SIZE(max_field_length, 64, MEBI), .given = "16384",
     .help = "bytes of a header field line: 431"},
    {"max_request_head_bytes", SERVER_ANY, SIZE(max_request_head_bytes, 256, 16 * MEBI),
     .given = "131072", .help = "bytes of request line and header fields: 431"},
    {"max_target_bytes", SERVER_ANY, SIZE(max_target_bytes, 16, MEBI), .given = "16384",
     .help = "bytes of the request target: 414"},
    {"max_fields", SERVER_ANY, COUNT(max_fields, 1, 65535), .given = "1000",
     .help = "header field lines of a request: 431"},
    {"url_segment_max_length", SERVER_ANY, COUNT(url_segment_max_length, 0, 32766), .given = "260",
     .help = "characters of a path segment, 0 for no limit: 400"},
    {"url_segment_max_count", SERVER_ANY, COUNT(url_segment_max_count, 0, 16383), .given = "255",
     .help = "segments of a path, 0 for no limit: 400"},
    {"server.max_connections", SERVER_ANY, COUNT(server_max_connections, 1, MOST_CONNECTIONS),
     .word = "unlimited", .given = "unlimited", .help = "connections over all apps and workers"},

    {"url_prefixes", APP_START, LIST(url_prefixes, PREFIXES_BYTES), .given = "",
     .judge = judge_prefixes, .help = "what the app serves: http://host:port/path/"},
    {"request_queue_name", APP_START, TEXT(request_queue_name), .is_right = is_queue_name,
     .form = "printable text of at most 260 characters without / and \\", .given = "",
     .help = "name under which others can attach to the app's queue"},
    {"request_queue_mode", APP_START, CHOICE(request_queue_mode, "create|attach|create_or_attach"),
     .given = "create", .help = "whether the queue of that name is made or must be there"},
    {"request_queue_acl", APP_START, LIST(request_queue_acl, ACL_BYTES), .given = "",
     .judge = judge_acl,
     .help = "who else may attach to the queue: user:NAME, group:NAME, -user:NAME for who may not"},
    {"memory_limit", APP_START, SIZE(memory_limit, MEBI, NO_LIMIT), .word = "unlimited",
     .given = "256MiB", .help = "Lua memory of the app in a worker"},
    {"authentication.schemes", APP_ANY,
     WORDS(authentication_schemes, "basic|ntlm|negotiate|kerberos|certificate"), .given = "",
     .help = "how clients may authenticate; in an app also a function"},
    {"authentication.allow_anonymous", APP_ANY, BOOL(authentication_allow_anonymous),
     .given = "true", .help = "requests without credentials reach the handler"},
    {"authentication.keytab", APP_START, TEXT(authentication_keytab), .given = "",
     .help = "file with the keys for kerberos and negotiate; by default the system's"},
    {"authentication.principals", APP_START, LIST(authentication_principals, PRINCIPALS_BYTES),
     .given = "", .help = "the app's names in the keytab; by default all that are in it"},
    {"authentication.accounts", APP_START, TEXT(authentication_accounts), .given = "",
     .help = "file with accounts for basic and ntlm"},
    {"authentication.pam_service", APP_START, TEXT(authentication_pam_service), .given = "",
     .help = "service that basic asks, for the system's accounts"},
    {"authentication.realm", APP_START, TEXT(authentication_realm), .given = "",
     .help = "realm of basic's challenge; by default the request's host"},
    {"authentication.channel_binding", APP_START,
     CHOICE(authentication_channel_binding, "none|when_supported|require"),
     .given = "when_supported",
     .help = "whether credentials must be bound to the TLS connection (RFC 5929)"},
    {"authentication.automatic", APP_START, BOOL(authentication_automatic), .given = "true",
     .help = "credentials are checked before the handler runs"},

    {"authentication.forward_authorization", APP_START, BOOL(authentication_forward_authorization),
     .given = "false", .help = "an app behind a host sees the Authorization field itself"},

    {"enabled", APP_ANY, BOOL(enabled), .given = "true",
     .help = "requests reach the app; when false they are refused: 503"},
    {"enable_response_caching", APP_ANY, BOOL(enable_response_caching), .given = "true",
     .help = "responses that allow it are cached"},
    {"compression", APP_ANY, BOOL(compression), .given = "true",
     .help = "responses are compressed for clients that ask for it"},
    {"throw_write_errors", APP_ANY, BOOL(throw_write_errors), .given = "false",
     .help = "a failed write raises an error"},
    {"max_request_body_size", APP_REQUEST, SIZE(max_request_body_size, 0, NO_LIMIT),
     .word = "unlimited", .given = "30000000", .help = "bytes of a request's content: 413"},
    {"allow_synchronous_io", APP_REQUEST, BOOL(allow_synchronous_io), .given = "true",
     .help = "content is read and written where a handler cannot wait, by blocking"},
    {"registration_grace", APP_START, SECONDS(registration_grace_ms, 0, DAY_MS), .word = "off",
     .given = "120",
     .help = "how long a host keeps the prefixes of an app whose process has ended; off: for ever"},
    {"max_accepts", APP_ANY, COUNT(max_accepts, 1, 1000000), .by_machine = 5,
     .help = "requests taken off the queue in one turn of a worker's loop"},
    {"max_concurrent_requests", APP_ANY, COUNT(max_concurrent_requests, 1, 1000000), .given = "512",
     .help = "running handlers in a worker; more requests wait"},
    {"max_connections", APP_ANY, COUNT(max_connections, 0, MOST_CONNECTIONS), .word = "unlimited",
     .can_be_none = true, .given = "none",
     .help = "connections of the app over all workers; none: only server.max_connections"},
    {"request_queue_limit", APP_ANY, COUNT(request_queue_limit, 1, 1000000), .given = "1000",
     .help = "waiting requests over all workers; more are refused"},
    {"request_queue_limit_bytes", APP_ANY, SIZE(request_queue_limit_bytes, 64 * KIBI, NO_LIMIT),
     .given = "64MiB", .help = "memory of waiting requests over all workers"},
    {"http_503_verbosity", APP_ANY, CHOICE(http_503_verbosity, "basic|limited|full"),
     .given = "limited", .help = "refused by the core: reset, a plain 503, or one with the reason"},
    {"timeouts.header_wait", APP_ANY, SECONDS(timeout_header_wait_ms, 1, DAY_MS), .word = "off",
     .given = "120", .help = "for the head of a request to arrive"},
    {"timeouts.idle_connection", APP_ANY, SECONDS(timeout_idle_connection_ms, 1, DAY_MS),
     .word = "off", .given = "120", .help = "for the next request of a connection"},
    {"timeouts.entity_body", APP_REQUEST, SECONDS(timeout_entity_body_ms, 1, DAY_MS), .word = "off",
     .given = "120", .help = "between two pieces of a request's content"},
    {"timeouts.drain_entity_body", APP_ANY, SECONDS(timeout_drain_entity_body_ms, 1, DAY_MS),
     .word = "off", .given = "120", .help = "for content that the handler left unread"},
    {"timeouts.request_queue", APP_ANY, SECONDS(timeout_request_queue_ms, 1, DAY_MS), .word = "off",
     .given = "120", .help = "for a request to wait in the queue"},
    {"timeouts.min_send_bytes_per_second", APP_REQUEST,
     COUNT(min_send_bytes_per_second, 1, UINT32_MAX - 1), .word = "off", .given = "150",
     .help = "a client that takes a response more slowly is dropped"},
    {"timeouts.handler", APP_REQUEST, SECONDS(timeout_handler_ms, 1, DAY_MS), .word = "off",
     .given = "off", .help = "a handler that runs longer is cancelled: 503"},
    {"timeouts.cancel", APP_ANY, SECONDS(timeout_cancel_ms, 1, DAY_MS), .word = "off",
     .given = "10", .help = "a cancelled handler that goes on for longer is closed"},
    {"cpu_limit", APP_ANY, SECONDS(cpu_limit_ms, 10, DAY_MS), .word = "off", .given = "1",
     .help = "how long a handler may compute without a wait"},
    {"server_header", APP_ANY, TEXT(server_header), .can_be_false = true, .given = "moonquay",
     .help = "value of the Server field, false for none"},
};

const size_t setting_row_count = sizeof(setting_rows) / sizeof(setting_rows[0]);

const struct setting_row *setting_find(const char *key)
{
    for (size_t i = 0; i < setting_row_count; i++)
        if (strcmp(setting_rows[i].key, key) == 0)
            return &setting_rows[i];
    return NULL;
}

int settings_scope(const char *key)
{
    const struct setting_row *row = setting_find(key);

    return row ? (int)row->scope : ERR_NOT_FOUND;
}

int settings_when(const char *key)
{
    const struct setting_row *row = setting_find(key);

    return row ? (int)row->when : ERR_NOT_FOUND;
}

bool settings_per_request(const char *key)
{
    const struct setting_row *row = setting_find(key);

    return row && row->per_request;
}

bool settings_is_group(const char *words)
{
    size_t length = strlen(words);

    for (size_t i = 0; i < setting_row_count && length > 0; i++)
        if (strncmp(setting_rows[i].key, words, length) == 0 && setting_rows[i].key[length] == '.')
            return true;
    return false;
}

void settings_each(void (*each)(void *arg, const char *key), void *arg)
{
    for (size_t i = 0; i < setting_row_count; i++)
        each(arg, setting_rows[i].key);
}
