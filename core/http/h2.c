/*
 * The session's set-up and its ends: what the library is told to do, the upgrade from HTTP/1.1,
 * GOAWAY. nghttp2 does framing, HPACK, flow control and the order of DATA; what a peer may do too
 * often, and what a request may be, is judged by us.
 */
#include "http/h2_priv.h"

#include <nghttp2/nghttp2.h>

#include "base/err.h"
#include "http/h2_library.h"
#include "http/h2_note.h"

/* The connection's window is credited as content comes, so it only has to keep a peer busy for a
 * round trip. What holds back content that nobody reads is the window of its stream. */
#define CONNECTION_WINDOW_BYTES (1 << 20)
#define MOST_WINDOW_BYTES       0x7fffffffu /* RFC 9113 section 6.9.1 */

#define MOST_SETTINGS_ENTRIES 32u /* of one SETTINGS frame */
/* Of a response's field section as the library counts it, 12 more a field; above what a handler may
 * set. */
#define MOST_HEAD_BYTES (16u << 20)

/* Of a host: frames of the longest head that it may pass on, and answers that it has not read. */
#define CHANNEL_CONTINUATIONS 2048u
#define CHANNEL_ACKS          100000u

#define PING_TEXT "moonquay"

/* ---- set-up */

/* What a host sends passes as it is, and nothing of it is counted. */
static void befriend(nghttp2_option *options)
{
    nghttp2_option_set_no_http_messaging(options, 1);
    nghttp2_option_set_max_continuations(options, CHANNEL_CONTINUATIONS);
    nghttp2_option_set_max_outbound_ack(options, CHANNEL_ACKS);
    nghttp2_option_set_user_recv_extension_type(options, H2_NOTE_TYPE);
}

/* Each of the library's limits lies above ours of the same kind, so that ours speak first. */
static nghttp2_option *make_options(const struct h2_limits *limits)
{
    uint32_t replies = limits->max_pings + limits->max_settings;
    nghttp2_option *options;

    CHECK(nghttp2_option_new(&options) == 0);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_option_set_no_recv_client_magic(options, 1);
    nghttp2_option_set_max_continuations(options, 2 * (size_t)limits->max_continuations + 1);
    nghttp2_option_set_stream_reset_rate_limit(options, UINT32_MAX, UINT32_MAX); /* ours alone */
    nghttp2_option_set_max_outbound_ack(options, 2 * (size_t)replies + 1);
    nghttp2_option_set_max_settings(options, MOST_SETTINGS_ENTRIES);
    nghttp2_option_set_max_send_header_block_length(options, MOST_HEAD_BYTES);
    nghttp2_option_set_max_deflate_dynamic_table_size(options, limits->header_table_bytes);
    nghttp2_option_set_user_recv_extension_type(options, H2_PROBE_TYPE);
    if (limits->is_channel)
        befriend(options);
    return options;
}

/* Callbacks are the same for all sessions; the library copies them. */
static nghttp2_session_callbacks *make_callbacks(void)
{
    nghttp2_session_callbacks *callbacks;

    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    h2_receive_callbacks(callbacks);
    h2_send_callbacks(callbacks);
    return callbacks;
}

/*
 * The library would end the connection of a peer that opens one stream more than we allow; we
 * refuse that stream alone. So the library is told of no limit, and the peer is: h2_send puts the
 * right number into this frame.
 */
static void submit_settings(struct h2 *h2)
{
    const struct h2_limits *limits = h2->limits;
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, UINT32_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits->stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits->message->max_request_head_bytes},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, limits->header_table_bytes},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
    };
    size_t count = sizeof(entries) / sizeof(entries[0]) - (limits->is_channel ? 0 : 1);
    int32_t window = CONNECTION_WINDOW_BYTES;

    CHECK(nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, entries, count) == 0);
    if (limits->stream_window_bytes > CONNECTION_WINDOW_BYTES)
        window = (int32_t)limits->stream_window_bytes;
    CHECK(nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, window) == 0);
}

struct h2 *h2_new(const struct h2_limits *limits, const struct h2_events *events, void *owner)
{
    nghttp2_mem memory = h2_library_memory();
    struct h2 *h2 = mem_zalloc(sizeof(*h2));

    CHECK(limits->stream_window_bytes <= MOST_WINDOW_BYTES);
    h2->limits = limits;
    h2->events = events;
    h2->owner = owner;
    h2_notes_init(&h2->notes);

    nghttp2_session_callbacks *callbacks = make_callbacks();
    nghttp2_option *options = make_options(limits);

    CHECK(nghttp2_session_server_new3(&h2->session, callbacks, h2, options, &memory) == 0);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    submit_settings(h2);
    return h2;
}

void h2_free(struct h2 *h2)
{
    if (h2 == NULL)
        return;
    nghttp2_session_del(h2->session);
    h2_notes_fini(&h2->notes);
    mem_free(h2);
}

/* ---- upgrade */

#define MOST_UPGRADE_BYTES (6u * MOST_SETTINGS_ENTRIES)

/* The value of a digit of base64url (RFC 4648 section 5), or -1. */
static int base64url_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* Decodes text without padding into out. How many bytes, or ERR_INVALID. */
static ssize_t decode_settings(struct span text, uint8_t out[MOST_UPGRADE_BYTES])
{
    uint32_t bits = 0;
    size_t len = 0;

    if (text.len % 4 == 1 || text.len * 3 / 4 > MOST_UPGRADE_BYTES)
        return ERR_INVALID;
    for (size_t i = 0; i < text.len; i++) {
        int digit = base64url_digit(text.at[i]);

        if (digit < 0)
            return ERR_INVALID;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 > 0)
            out[len++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    return (ssize_t)len;
}

int h2_upgrade(struct h2 *h2, struct span settings, struct h2_request *request)
{
    uint8_t payload[MOST_UPGRADE_BYTES];
    ssize_t len = decode_settings(settings, payload);
    int is_head = span_eq(request->head->method, SPAN("HEAD"));

    if (len < 0 || nghttp2_session_upgrade2(h2->session, payload, (size_t)len, is_head, NULL) < 0 ||
        h2->faulty)
        return ERR_INVALID;
    request->id = 1;
    request->is_open = request->head_done = request->ended = true;
    nghttp2_session_set_stream_user_data(h2->session, 1, request);
    h2->streams++;
    return 0;
}

/* ---- counting and ending */

struct h2_request *h2_request_of(const struct h2 *h2, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h2->session, id);
}

void h2_fail(struct h2 *h2, uint32_t code, const char *reason, const char *detail)
{
    if (h2->stage == H2_STAGE_ENDED)
        return;
    h2->trouble = (struct refusal){0, reason, detail};
    h2_terminate(h2, code);
}

void h2_count(struct h2 *h2, enum h2_counter counter)
{
    const struct refusal *trouble = h2_guard_trouble(counter);

    if (!h2->limits->is_channel && !h2_guard_count(&h2->guard, h2->limits, counter))
        h2_fail(h2, H2_ENHANCE_YOUR_CALM, trouble->reason, trouble->detail);
}

void h2_count_provoked(struct h2 *h2, struct h2_request *request)
{
    if (request == NULL || request->reset)
        return;
    request->reset = true;
    h2_count(h2, H2_COUNT_RESETS);
}

void h2_terminate(struct h2 *h2, uint32_t code)
{
    h2->stage = H2_STAGE_ENDED;
    CHECK(nghttp2_session_terminate_session(h2->session, code) == 0);
}

static void name_last_stream(struct h2 *h2)
{
    int32_t last = nghttp2_session_get_last_proc_stream_id(h2->session);

    h2->closing = H2_CLOSING_LAST;
    nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, last, H2_NO_ERROR, NULL, 0);
}

/* A PING would overtake the notice in the library, so it waits until that has left. */
static void ping(struct h2 *h2)
{
    if (!h2->notice_sent || h2->closing != H2_CLOSING_NOTICE)
        return;
    h2->closing = H2_CLOSING_PING;
    nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, (const uint8_t *)PING_TEXT);
}

void h2_shut_down(struct h2 *h2, bool soon)
{
    if (h2->stage == H2_STAGE_ENDED)
        return;
    if (h2->closing == H2_CLOSING_NOT) {
        h2->closing = H2_CLOSING_NOTICE;
        h2->streams_after_notice = h2->limits->is_channel ? 0 : H2_STREAMS_AFTER_NOTICE;
        nghttp2_submit_shutdown_notice(h2->session);
    }
    h2->soon |= soon;
    if (h2->soon)
        ping(h2);
}

void h2_notice_sent(struct h2 *h2)
{
    h2->notice_sent = true;
    if (h2->soon)
        ping(h2);
}

void h2_stream_begun(struct h2 *h2)
{
    if (h2->streams_after_notice > 0 && --h2->streams_after_notice == 0 &&
        h2->closing != H2_CLOSING_LAST)
        name_last_stream(h2);
}

void h2_ping_answered(struct h2 *h2, const uint8_t text[8])
{
    if (h2->closing == H2_CLOSING_PING && memcmp(text, PING_TEXT, 8) == 0)
        name_last_stream(h2);
}

bool h2_is_over(const struct h2 *h2)
{
    return !nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session);
}

const struct refusal *h2_trouble(const struct h2 *h2)
{
    return &h2->trouble;
}

unsigned h2_streams(const struct h2 *h2)
{
    return h2->streams;
}
