/*
 * The session is nghttp2's, which does framing, HPACK, flow control and the order of DATA; what an
 * app may make grow is bounded here. A response's fields are judged field by field, since the
 * library is told not to: a value with a line break in it would become two lines over HTTP/1.1.
 */
#include "http/h2_client.h"

#include <nghttp2/nghttp2.h>

#include "base/err.h"
#include "http/fields_priv.h"
#include "http/h2_library.h"
#include "http/h2_note.h"
#include "http/h2_priv.h"

#define CONNECTION_WINDOW_BYTES (1 << 20)
#define MOST_STREAM_ID          (1u << 30)
#define H2_STRING_BYTES         65535u      /* of a name or value: what HPACK's reader here takes */
#define MOST_HEAD_BYTES         (32u << 20) /* of a request, as the library counts it */
#define MOST_CONTINUATIONS      2048u       /* of a response's head: max_head_bytes counts before */
#define LINE_OVERHEAD           32u
#define FIXED_LINES             5u /* pseudo-fields */

/* A value that never comes again is kept out of HPACK's table, but its name should be there, or it
 * is spelled each time: so one of so many calls puts it there (again). */
#define CALLS_PER_NAMING 64u

/* Frames of ours that wait because the app does not read: heads, credit, resets and answers to
 * notes of each call that is open. */
#define QUEUED_PER_CALL 16u
#define QUEUED_BESIDE   1000u

struct h2_client {
    nghttp2_session *session;
    const struct h2_client_limits *limits;
    const struct h2_client_events *events;
    void *owner;
    struct h2_notes notes;
    struct h2_call *current; /* whose field section is being received */
    const char *trouble;     /* static; NULL: none */
    uint32_t most_stream_id;
    unsigned calls; /* that are open */
    unsigned begun; /* that there have been */
    bool leaving;
};

static struct h2_call *call_of(const struct h2_client *client, int32_t id)
{
    return nghttp2_session_get_stream_user_data(client->session, id);
}

static void fail(struct h2_client *client, const char *trouble)
{
    if (client->trouble == NULL)
        client->trouble = trouble;
}

/* ---- receiving */

static void reset(struct h2_client *client, struct h2_call *call, uint32_t code)
{
    if (!call->is_open || call->reset)
        return;
    call->reset = true;
    call->reset_code = code;
    CHECK(nghttp2_submit_rst_stream(client->session, NGHTTP2_FLAG_NONE, call->id, code) == 0);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_client *client = user;
    struct h2_call *call = call_of(client, frame->hd.stream_id);

    (void)session;
    client->current = call;
    if (call == NULL || call->arena == NULL)
        return 0;
    if (call->head_done)
        call->head_bytes = 0; /* else interim heads count too: there is no end of them */
    call->field_count = 0;
    call->status = call->head_done ? call->status : 0;
    fields_init(call->head_done ? call->trailers : call->fields, call->arena);
    return 0;
}

/* Three digits, or 0. */
static int status_of(struct span value)
{
    int status = 0;

    if (value.len != 3)
        return 0;
    for (size_t i = 0; i < 3; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return 0;
        status = status * 10 + (value.at[i] - '0');
    }
    return status >= 100 ? status : 0;
}

/* 0, or ERR_INVALID, ERR_TOO_LARGE: the stream is worth no more. */
static int take_field(struct h2_client *client, struct h2_call *call, struct span name,
                      struct span value)
{
    const struct h2_client_limits *limits = client->limits;
    struct fields *fields = call->head_done ? call->trailers : call->fields;

    call->head_bytes += (uint32_t)(name.len + value.len + LINE_OVERHEAD);
    if (call->head_bytes > limits->max_head_bytes || ++call->field_count > limits->max_fields + 1)
        return ERR_TOO_LARGE;
    if (name.len > 0 && name.at[0] == ':') {
        if (call->head_done || call->status || !span_eq(name, SPAN(":status")))
            return ERR_INVALID;
        call->status = status_of(value);
        return call->status ? 0 : ERR_INVALID;
    }
    if (!field_name_valid(name) || !field_value_valid(value))
        return ERR_INVALID;

    enum field_id id = field_id_of(name);
    const char *known = field_id_name(id);
    struct field field = {known ? span_of(known, name.len) : arena_copy(call->arena, name),
                          arena_copy(call->arena, value), id};

    fields_push(fields, &field);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct h2_client *client = user;
    struct h2_call *call = client->current;

    (void)session, (void)frame, (void)flags;
    if (call == NULL || call->arena == NULL || call->reset)
        return 0; /* decoded all the same: HPACK's table must stay right */
    if (take_field(client, call, span_of((const char *)name, name_len),
                   span_of((const char *)value, value_len)) < 0)
        reset(client, call, H2_INTERNAL_ERROR);
    return 0;
}

/* A head that is complete. */
static void end_head(struct h2_client *client, struct h2_call *call)
{
    if (call->status == 0 || call->status == 101 || (call->status < 200 && call->ended)) {
        reset(client, call, H2_INTERNAL_ERROR);
        return;
    }
    if (call->status < 200) {
        call->interim = *call->fields;
        client->events->interim(client->owner, call, call->status);
        fields_init(call->fields, call->arena ? call->arena : call->fields->arena);
        return;
    }
    call->head_done = true;
    client->events->head(client->owner, call);
}

static void end_section(struct h2_client *client, const nghttp2_frame *frame)
{
    struct h2_call *call = client->current;

    client->current = NULL;
    if (call == NULL || call->arena == NULL || call->reset)
        return;
    call->ended |= (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (!call->head_done)
        end_head(client, call);
    else if (call->ended)
        client->events->ended(client->owner, call);
    else
        reset(client, call, H2_INTERNAL_ERROR); /* a second head */
}

static void end_content(struct h2_client *client, const nghttp2_frame *frame)
{
    struct h2_call *call = call_of(client, frame->hd.stream_id);

    if (call == NULL || call->arena == NULL || call->reset)
        return;
    if (!call->head_done) {
        reset(client, call, H2_INTERNAL_ERROR);
        return;
    }
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return;
    call->ended = true;
    client->events->ended(client->owner, call);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_client *client = user;

    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        end_section(client, frame);
        break;
    case NGHTTP2_DATA:
        end_content(client, frame);
        break;
    case NGHTTP2_GOAWAY:
        if (!client->leaving)
            client->events->leaving(client->owner);
        client->leaving = true; /* whatever it says of us: what it has taken it may still answer */
        break;
    default:
        break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *user)
{
    struct h2_client *client = user;
    struct h2_call *call = call_of(client, id);

    (void)flags;
    nghttp2_session_consume_connection(session, len);
    if (call && call->arena && call->head_done && !call->reset)
        client->events->data(client->owner, call, span_of((const char *)data, len));
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2_client *client = user;
    struct h2_call *call = call_of(client, id);

    (void)session;
    if (call == NULL || !call->is_open)
        return 0;
    if (client->current == call)
        client->current = NULL;
    if (code == H2_NO_ERROR && call->reset) /* the stream had ended before that left */
        code = call->reset_code;
    else if (code == H2_NO_ERROR && !call->ended)
        code = H2_INTERNAL_ERROR;
    call->is_open = false;
    client->calls--;
    client->events->closed(client->owner, call, code);
    return 0;
}

static int on_note_piece(nghttp2_session *session, const nghttp2_frame_hd *head,
                         const uint8_t *data, size_t len, void *user)
{
    struct h2_client *client = user;

    (void)session, (void)head;
    h2_notes_take(&client->notes, data, len);
    return 0;
}

static int on_note(nghttp2_session *session, void **payload, const nghttp2_frame_hd *head,
                   void *user)
{
    struct h2_client *client = user;
    struct h2_call *call = call_of(client, head->stream_id);

    (void)session, (void)payload;
    if (call && call->arena && !call->reset && buf_len(&client->notes.in) == head->length)
        client->events->note(client->owner, call, buf_span(&client->notes.in));
    buf_consume(&client->notes.in, buf_len(&client->notes.in));
    return NGHTTP2_ERR_CANCEL; /* nothing to keep */
}

/* ---- sending */

static ssize_t pull(nghttp2_session *session, int32_t id, uint8_t *into, size_t room,
                    uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_client *client = user;
    struct h2_call *call = source->ptr;
    enum h2_more more = H2_LATER;
    size_t len = client->events->pull(client->owner, call, (char *)into, room, &more);

    (void)session;
    CHECK(len <= room && (len > 0 || more != H2_GOES_ON));
    if (call->reset)
        more = H2_LATER;
    if (more == H2_LATER && len == 0)
        return NGHTTP2_ERR_DEFERRED;
    if (more != H2_LAST)
        return (ssize_t)len;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    call->has_content = false;
    if (call->trailing && call->trailing->count > 0) {
        struct h2_lines lines;

        h2_lines_init(&lines, call->trailing->count);
        for (uint32_t i = 0; i < call->trailing->count; i++)
            h2_lines_add_field(&lines, &call->trailing->at[i], NGHTTP2_NV_FLAG_NONE);
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(client->session, id, lines.at, lines.count);
        h2_lines_fini(&lines);
    }
    return (ssize_t)len;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_client *client = user;
    struct h2_call *call;

    (void)session;
    if (frame->hd.type == NGHTTP2_HEADERS && (call = call_of(client, frame->hd.stream_id)) != NULL)
        call->is_sent = true;
    else if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
        fail(client, "a violation of HTTP/2");
    return 0;
}

/* ---- life */

static nghttp2_option *make_options(const struct h2_client_limits *limits)
{
    nghttp2_option *options;

    CHECK(nghttp2_option_new(&options) == 0);
    nghttp2_option_set_no_auto_window_update(options, 1);
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_option_set_no_http_messaging(options, 1);
    nghttp2_option_set_peer_max_concurrent_streams(options, limits->max_concurrent_calls);
    nghttp2_option_set_max_send_header_block_length(options, MOST_HEAD_BYTES);
    nghttp2_option_set_max_deflate_dynamic_table_size(options, limits->header_table_bytes);
    nghttp2_option_set_max_continuations(options, MOST_CONTINUATIONS);
    nghttp2_option_set_user_recv_extension_type(options, H2_NOTE_TYPE);
    return options;
}

static nghttp2_session_callbacks *make_callbacks(void)
{
    nghttp2_session_callbacks *callbacks;

    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(callbacks, on_note_piece);
    nghttp2_session_callbacks_set_unpack_extension_callback(callbacks, on_note);
    h2_notes_callbacks(callbacks);
    return callbacks;
}

static void submit_settings(struct h2_client *client)
{
    const struct h2_client_limits *limits = client->limits;
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits->stream_window_bytes},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, limits->header_table_bytes},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    int32_t window = CONNECTION_WINDOW_BYTES;

    CHECK(nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, entries,
                                  sizeof(entries) / sizeof(entries[0])) == 0);
    if (limits->stream_window_bytes > CONNECTION_WINDOW_BYTES)
        window = (int32_t)limits->stream_window_bytes;
    CHECK(nghttp2_session_set_local_window_size(client->session, NGHTTP2_FLAG_NONE, 0, window) ==
          0);
}

struct h2_client *h2_client_new(const struct h2_client_limits *limits,
                                const struct h2_client_events *events, void *owner)
{
    struct h2_client *client = mem_zalloc(sizeof(*client));
    nghttp2_session_callbacks *callbacks = make_callbacks();
    nghttp2_option *options = make_options(limits);
    nghttp2_mem memory = h2_library_memory();

    client->limits = limits;
    client->events = events;
    client->owner = owner;
    client->most_stream_id = limits->most_stream_id ? limits->most_stream_id : MOST_STREAM_ID;
    h2_notes_init(&client->notes);
    CHECK(nghttp2_session_client_new3(&client->session, callbacks, client, options, &memory) == 0);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    submit_settings(client);
    return client;
}

void h2_client_free(struct h2_client *client)
{
    if (client == NULL)
        return;
    nghttp2_session_del(client->session);
    h2_notes_fini(&client->notes);
    mem_free(client);
}

/* ---- calls */

bool h2_client_is_worn(const struct h2_client *client)
{
    return nghttp2_session_get_next_stream_id(client->session) > client->most_stream_id;
}

bool h2_client_has_room(const struct h2_client *client)
{
    uint32_t theirs = nghttp2_session_get_remote_settings(client->session,
                                                          NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

    return !client->leaving && client->trouble == NULL && !h2_client_is_worn(client) &&
           client->calls < client->limits->max_concurrent_calls && client->calls < theirs;
}

static bool fits(struct span name, struct span value)
{
    return name.len <= H2_STRING_BYTES && value.len <= H2_STRING_BYTES;
}

static void add_pseudo_field(struct h2_lines *lines, struct span name, struct span value)
{
    if (value.at)
        h2_lines_add_static(lines, name, value);
}

static int gather_more(struct h2_client *client, struct h2_lines *lines,
                       const struct h2_call_head *head)
{
    bool names = client->begun++ % CALLS_PER_NAMING == 0;

    for (uint32_t i = 0; head->more && i < head->more->count; i++) {
        const struct field *field = &head->more->at[i];
        bool unique = !names && i < 64 && head->more_is_unique >> i & 1;

        if (!fits(field->name, field->value))
            return ERR_TOO_LARGE;
        h2_lines_add(lines, field->name, field->value,
                     NGHTTP2_NV_FLAG_NO_COPY_NAME |
                         (unique ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE));
    }
    return 0;
}

static int gather(struct h2_client *client, struct h2_lines *lines, const struct h2_call_head *head)
{
    if (!fits(head->path, head->authority))
        return ERR_TOO_LARGE;
    add_pseudo_field(lines, SPAN(":method"), head->method);
    add_pseudo_field(lines, SPAN(":scheme"), head->scheme);
    add_pseudo_field(lines, SPAN(":path"), head->path);
    add_pseudo_field(lines, SPAN(":authority"), head->authority);
    add_pseudo_field(lines, SPAN(":protocol"), head->protocol);
    for (uint32_t i = 0; i < head->fields->count; i++) {
        const struct field *field = &head->fields->at[i];

        if (head->skips && head->skips(field))
            continue;
        if (!fits(field->name, field->value))
            return ERR_TOO_LARGE;
        h2_lines_add_field(lines, field, NGHTTP2_NV_FLAG_NONE);
    }
    return gather_more(client, lines, head);
}

int h2_client_call(struct h2_client *client, struct h2_call *call, const struct h2_call_head *head)
{
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = pull};
    struct h2_lines lines;
    int code;

    CHECK(h2_client_has_room(client));
    h2_lines_init(&lines, FIXED_LINES + head->fields->count + (head->more ? head->more->count : 0));
    code = gather(client, &lines, head);
    if (code == 0) {
        call->id = nghttp2_submit_request(client->session, NULL, lines.at, lines.count,
                                          head->has_content ? &provider : NULL, call);
        CHECK(call->id > 0);
        call->status = 0;
        call->head_bytes = call->field_count = 0;
        call->is_open = true;
        call->has_content = head->has_content;
        call->is_sent = call->head_done = call->ended = call->reset = false;
        fields_init(call->fields, call->arena);
        fields_init(call->trailers, call->arena);
        client->calls++;
    }
    h2_lines_fini(&lines);
    return code;
}

void h2_client_resume(struct h2_client *client, struct h2_call *call)
{
    if (call->is_open && call->has_content && !call->reset)
        nghttp2_session_resume_data(client->session, call->id); /* fails when nothing waits */
}

void h2_client_consumed(struct h2_client *client, struct h2_call *call, size_t bytes)
{
    if (call->is_open && !call->ended && bytes > 0)
        nghttp2_session_consume_stream(client->session, call->id, bytes);
}

void h2_client_reset(struct h2_client *client, struct h2_call *call, uint32_t code)
{
    reset(client, call, code);
}

void h2_client_note(struct h2_client *client, struct h2_call *call, struct span pairs)
{
    if (call->is_open && !call->reset)
        h2_notes_send(&client->notes, client->session, call->id, pairs);
}

void h2_client_leave(struct h2_client *client)
{
    client->leaving = true;
    nghttp2_submit_goaway(client->session, NGHTTP2_FLAG_NONE, 0, H2_NO_ERROR, NULL, 0);
}

bool h2_client_is_over(const struct h2_client *client)
{
    return client->leaving && client->calls == 0;
}

unsigned h2_client_calls(const struct h2_client *client)
{
    return client->calls;
}

/* ---- bytes */

int h2_client_receive(struct h2_client *client, struct span in)
{
    size_t most = QUEUED_BESIDE + QUEUED_PER_CALL * (size_t)client->calls;
    ssize_t rc = nghttp2_session_mem_recv(client->session, (const uint8_t *)in.at, in.len);

    if (rc < 0)
        fail(client, nghttp2_strerror((int)rc));
    else if (nghttp2_session_get_outbound_queue_size(client->session) > most)
        fail(client, "more frames to be answered than it reads answers of");
    else if (!nghttp2_session_want_read(client->session) && !h2_client_wants_send(client) &&
             !h2_client_is_over(client))
        fail(client, "it has ended the session"); /* what waits to be sent is refused by sending */
    return client->trouble ? ERR_INVALID : 0;
}

const char *h2_client_trouble(const struct h2_client *client)
{
    return client->trouble;
}

int h2_client_send(struct h2_client *client, struct buf *out, size_t most)
{
    while (buf_len(out) < most) {
        const uint8_t *frame;
        ssize_t len = nghttp2_session_mem_send(client->session, &frame);

        CHECK(len >= 0);
        if (len == 0)
            break;
        buf_append(out, span_of((const char *)frame, (size_t)len));
    }
    return client->trouble ? ERR_INVALID : 0;
}

bool h2_client_wants_send(const struct h2_client *client)
{
    return nghttp2_session_want_write(client->session);
}
