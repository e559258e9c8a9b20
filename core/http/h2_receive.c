/*
 * Receiving. Frames are cut out of the bytes here, before the library sees them: so each is counted
 * as it arrives, whatever the library does with it, and nothing more is taken once the session has
 * ended. The library gets each frame by itself.
 */
#include "http/h2_priv.h"

#include <nghttp2/nghttp2.h>

#include "base/err.h"
#include "http/h2_note.h"

#define PREFACE       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_BYTES (sizeof(PREFACE) - 1)

/* Decoded fields of a head are counted to this many times its limit: so far the peer gets its 431,
 * and HPACK's table stays right for the other streams; behind that the session ends. */
#define MOST_SECTIONS 4u

/* Frames of ours that wait because the peer does not read, beside those that the counters allow in
 * a window: heads, resets and credit of each stream. */
#define QUEUED_PER_STREAM 16u
#define QUEUED_BESIDE     1000u

#define PROTOCOL_ERROR   0x1u
#define FRAME_SIZE_ERROR 0x6u

static void violate(struct h2 *h2, uint32_t code, const char *detail)
{
    h2_fail(h2, code, "H2_Protocol", detail);
}

/* ---- what the library calls */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h2 = user;
    int32_t id = frame->hd.stream_id;
    struct h2_request *request = NULL;
    bool is_late = h2->closing == H2_CLOSING_LAST; /* GOAWAY says that nothing is done with it */

    h2->section_bytes = 0;
    h2->current = NULL;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        h2->current = h2_request_of(h2, id);
        return 0;
    }
    h2_stream_begun(h2);
    if (!is_late && h2->streams < h2->limits->max_concurrent_streams)
        request = h2->events->begin(h2->owner);
    if (request == NULL) {
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, H2_REFUSED_STREAM);
        if (!is_late) {
            h2->events->refused(h2->owner);
            h2_count(h2, H2_COUNT_RESETS);
        }
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* the library adds no second RST_STREAM */
    }
    h2_head_begin(request, id);
    nghttp2_session_set_stream_user_data(session, id, request);
    h2->current = request;
    h2->streams++;
    return 0;
}

static int take_trailer(struct h2 *h2, struct h2_request *request, struct span name,
                        struct span value)
{
    int rc = h2_trailer_field(h2->limits->message, request, name, value);

    if (rc == 0)
        return 0;
    nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, request->id,
                              rc == ERR_TOO_LARGE ? H2_ENHANCE_YOUR_CALM : PROTOCOL_ERROR);
    h2_count_provoked(h2, request);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct h2 *h2 = user;
    struct h2_request *request = h2->current;
    const struct message_limits *limits = h2->limits->message;

    (void)session, (void)frame, (void)flags;
    h2->section_bytes += name_len + value_len;
    if (!h2->limits->is_channel &&
        h2->section_bytes > MOST_SECTIONS * (uint64_t)limits->max_request_head_bytes)
        h2_fail(h2, H2_ENHANCE_YOUR_CALM, "RequestLength",
                "fields many times longer than max_request_head_bytes");
    if (request == NULL || request->arena == NULL || h2->stage == H2_STAGE_ENDED)
        return 0;

    struct span name_span = span_of((const char *)name, name_len);
    struct span value_span = span_of((const char *)value, value_len);

    if (!request->head_done)
        h2_head_field(limits, request, name_span, value_span);
    else if (request->refusal.status == 0)
        return take_trailer(h2, request, name_span, value_span);
    return 0;
}

/* What the peer said of the stream before it began counts more than the priority field. */
static void apply_priority_ahead(struct h2 *h2, int32_t id)
{
    for (unsigned i = 0; i < H2_PRIORITIES_AHEAD; i++) {
        struct h2_priority *ahead = &h2->ahead[i];
        nghttp2_extpri priority = {ahead->urgency, ahead->incremental};

        if (ahead->stream_id != id)
            continue;
        nghttp2_session_change_extpri_stream_priority(h2->session, id, &priority, 1);
        ahead->stream_id = 0;
    }
}

static void end_section(struct h2 *h2, const nghttp2_frame *frame)
{
    struct h2_request *request = h2->current;
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

    h2->current = NULL;
    if (request == NULL || request->arena == NULL)
        return;
    request->ended |= ends;
    if (!request->head_done) {
        h2_head_end(h2->limits, request);
        apply_priority_ahead(h2, request->id);
        h2->events->head(h2->owner, request);
    } else if (request->refusal.status == 0 && !request->reset) {
        h2->events->ended(h2->owner, request);
    }
}

static void end_content(struct h2 *h2, const nghttp2_frame *frame)
{
    struct h2_request *request = h2_request_of(h2, frame->hd.stream_id);

    if (request == NULL || request->arena == NULL || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return;
    request->ended = true;
    if (request->refusal.status == 0 && !request->reset)
        h2->events->ended(h2->owner, request);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h2 = user;

    (void)session;
    h2->frame.known = true;
    if (h2->stage == H2_STAGE_ENDED)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        end_section(h2, frame);
    else if (frame->hd.type == NGHTTP2_DATA)
        end_content(h2, frame);
    else if (frame->hd.type == NGHTTP2_PING && frame->hd.flags & NGHTTP2_FLAG_ACK)
        h2_ping_answered(h2, frame->ping.opaque_data);
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *user)
{
    struct h2 *h2 = user;
    struct h2_request *request = h2_request_of(h2, id);

    (void)flags;
    nghttp2_session_consume_connection(session, len);
    if (request == NULL || request->arena == NULL || request->reset || h2->stage == H2_STAGE_ENDED)
        return 0;
    if (request->refusal.status) {
        nghttp2_session_consume_stream(session, id, len);
        return 0;
    }
    request->content_bytes += len;
    h2->events->data(h2->owner, request, span_of((const char *)data, len));
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                            void *user)
{
    struct h2 *h2 = user;

    (void)session;
    h2->faulty = true;
    if (error == NGHTTP2_ERR_HTTP_HEADER || error == NGHTTP2_ERR_HTTP_MESSAGING ||
        error == NGHTTP2_ERR_FLOW_CONTROL)
        h2_count_provoked(h2, h2_request_of(h2, frame->hd.stream_id));
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2 *h2 = user;
    struct h2_request *request = h2_request_of(h2, id);

    (void)session;
    if (request == NULL)
        return 0;
    if (h2->sending && code != H2_NO_ERROR)
        h2_count_provoked(h2, request); /* unless somebody knew of it */
    if (h2->current == request)
        h2->current = NULL;
    request->is_open = false;
    h2->streams--;
    h2->events->closed(h2->owner, request, code);
    return 0;
}

static int on_note_piece(nghttp2_session *session, const nghttp2_frame_hd *head,
                         const uint8_t *data, size_t len, void *user)
{
    struct h2 *h2 = user;

    (void)session;
    if (head->type == H2_NOTE_TYPE)
        h2_notes_take(&h2->notes, data, len);
    return 0;
}

/* Of a host; a note on a stream that is gone is nobody's. */
static void take_note(struct h2 *h2, const nghttp2_frame_hd *head)
{
    struct h2_request *request = h2_request_of(h2, head->stream_id);

    h2->frame.known = true;
    if (h2->events->note && request && request->arena && !request->reset &&
        buf_len(&h2->notes.in) == head->length)
        h2->events->note(h2->owner, request, buf_span(&h2->notes.in));
    buf_consume(&h2->notes.in, buf_len(&h2->notes.in));
}

static int on_probe(nghttp2_session *session, void **payload, const nghttp2_frame_hd *head,
                    void *user)
{
    struct h2 *h2 = user;

    (void)session, (void)payload;
    if (head->type == H2_NOTE_TYPE)
        take_note(h2, head);
    h2->alive = true;
    return NGHTTP2_ERR_CANCEL; /* nothing to keep */
}

void h2_receive_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(callbacks, on_note_piece);
    nghttp2_session_callbacks_set_unpack_extension_callback(callbacks, on_probe);
}

/* ---- a frame begins */

static void count_continuation(struct h2 *h2)
{
    if (!h2->limits->is_channel && ++h2->guard.continuations > h2->limits->max_continuations)
        h2_fail(h2, H2_ENHANCE_YOUR_CALM, "H2_Continuations",
                "more CONTINUATION frames in a head than max_continuations");
}

static void count_window_update(struct h2 *h2)
{
    if (h2->guard.window_updates > 0)
        h2->guard.window_updates--;
    else
        h2_count(h2, H2_COUNT_OTHER_FRAMES);
}

static void count_frame(struct h2 *h2)
{
    switch (h2->frame.type) {
    case H2_DATA:
    case H2_PUSH_PROMISE: /* of a client: the library ends the session */
        break;
    case H2_HEADERS:
        h2->guard.continuations = 0;
        break;
    case H2_CONTINUATION:
        count_continuation(h2);
        break;
    case H2_RST_STREAM:
        h2_count(h2, H2_COUNT_RESETS);
        break;
    case H2_SETTINGS:
        h2_count(h2, H2_COUNT_SETTINGS);
        break;
    case H2_PING:
        h2_count(h2, H2_COUNT_PINGS);
        break;
    case H2_WINDOW_UPDATE:
        count_window_update(h2);
        break;
    default:
        h2_count(h2, H2_COUNT_OTHER_FRAMES);
        break;
    }
}

static uint32_t read_32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void begin_frame(struct h2 *h2)
{
    struct h2_frame *frame = &h2->frame;

    frame->length = read_32(frame->head) >> 8;
    frame->left = frame->length;
    frame->type = frame->head[3];
    frame->flags = frame->head[4];
    frame->stream_id = (int32_t)(read_32(frame->head + 5) & 0x7fffffff);
    frame->first = 0;
    frame->known = false;
    count_frame(h2);
    if (frame->length > H2_FRAME_BYTES)
        violate(h2, FRAME_SIZE_ERROR, "a frame longer than SETTINGS_MAX_FRAME_SIZE");
    else if (frame->type == H2_PRIORITY && frame->stream_id == 0) /* not seen to by the library */
        violate(h2, PROTOCOL_ERROR, "a PRIORITY frame on no stream");
}

/* ---- a frame has ended */

/* Whether it brought neither fields nor content nor an end. */
static bool is_empty(const struct h2_frame *frame)
{
    bool continues = frame->type == H2_CONTINUATION;
    uint32_t around = 0;

    if (frame->type != H2_DATA && frame->type != H2_HEADERS && !continues)
        return false;
    if (!continues && frame->flags & H2_FLAG_END_STREAM)
        return false;
    if (!continues && frame->flags & H2_FLAG_PADDED)
        around += 1u + frame->first;
    if (frame->type == H2_HEADERS && frame->flags & H2_FLAG_PRIORITY)
        around += 5;
    return frame->length <= around;
}

static void update_priority(struct h2 *h2)
{
    const struct h2_frame *frame = &h2->frame;

    if (frame->stream_id != 0)
        violate(h2, PROTOCOL_ERROR, "a PRIORITY_UPDATE frame on a stream");
    if (frame->length < 4)
        violate(h2, FRAME_SIZE_ERROR, "a PRIORITY_UPDATE frame that names no stream");
    if (h2->stage == H2_STAGE_ENDED || frame->length > sizeof(h2->priority))
        return;

    struct h2_priority update =
        h2_priority_read(span_of((const char *)h2->priority, frame->length));
    nghttp2_extpri priority = {update.urgency, update.incremental};

    if (update.stream_id % 2 == 0) /* there are no pushed streams, and none is the connection */
        violate(h2, PROTOCOL_ERROR, "a PRIORITY_UPDATE frame for a stream of ours");
    else if (h2_request_of(h2, update.stream_id))
        nghttp2_session_change_extpri_stream_priority(h2->session, update.stream_id, &priority, 1);
    else if (update.stream_id > nghttp2_session_get_last_proc_stream_id(h2->session))
        h2->ahead[h2->next_ahead++ % H2_PRIORITIES_AHEAD] = update;
}

/*
 * Whether the library goes on reading: it does not say when it has ended the session (RFC 9113
 * section 5.4.1). An ended one ignores whatever comes, also a frame of a type that it would have
 * handed to us.
 */
static bool is_alive(struct h2 *h2)
{
    static const uint8_t probe[H2_FRAME_HEAD] = {0, 0, 0, H2_PROBE_TYPE};

    if (!nghttp2_session_want_read(h2->session))
        return true; /* over, but not by a fault */
    h2->alive = false;
    nghttp2_session_mem_recv(h2->session, probe, sizeof(probe));
    return h2->alive;
}

static const char *describe(uint8_t type)
{
    static const char *const details[] = {
        [H2_DATA] = "a DATA frame that is malformed or not allowed there",
        [H2_HEADERS] = "a HEADERS frame that is malformed or not allowed there",
        [H2_PRIORITY] = "a PRIORITY frame that is malformed or not allowed there",
        [H2_RST_STREAM] = "a RST_STREAM frame that is malformed or not allowed there",
        [H2_SETTINGS] = "a SETTINGS frame that is malformed or not allowed there",
        [H2_PUSH_PROMISE] = "a PUSH_PROMISE frame of a client",
        [H2_PING] = "a PING frame that is malformed or not allowed there",
        [H2_GOAWAY] = "a GOAWAY frame that is malformed or not allowed there",
        [H2_WINDOW_UPDATE] = "a WINDOW_UPDATE frame that is malformed or not allowed there",
        [H2_CONTINUATION] = "a CONTINUATION frame that is malformed or not allowed there",
    };

    return type <= H2_CONTINUATION ? details[type] : "a frame that is not allowed there";
}

static void end_frame(struct h2 *h2)
{
    struct h2_frame *frame = &h2->frame;

    frame->have = 0;
    frame->in_block = (frame->type == H2_HEADERS || frame->type == H2_CONTINUATION) &&
                      !(frame->flags & H2_FLAG_END_HEADERS);
    if (is_empty(frame))
        h2_count(h2, H2_COUNT_EMPTY_FRAMES);
    if (frame->known || frame->in_block || h2->stage == H2_STAGE_ENDED)
        return;
    /* Whatever the library kept to itself it has ignored, or its stream was reset, or all. */
    if (!is_alive(h2))
        violate(h2, PROTOCOL_ERROR, describe(frame->type));
    else if (frame->type == H2_DATA)
        h2_count_provoked(h2, h2_request_of(h2, frame->stream_id));
    else if (frame->type == H2_PRIORITY_UPDATE)
        update_priority(h2);
}

/* ---- bytes */

static void give_library(struct h2 *h2, struct span bytes)
{
    ssize_t rc = nghttp2_session_mem_recv(h2->session, (const uint8_t *)bytes.at, bytes.len);

    if (rc >= 0)
        return;
    CHECK(rc == NGHTTP2_ERR_FLOODED || rc == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS);
    h2_fail(h2, H2_ENHANCE_YOUR_CALM, h2->frame.type == H2_SETTINGS ? "H2_Settings" : "H2_Pings",
            "more frames to be answered than the peer reads answers of");
}

/* Takes some of in as the head of a frame; how many. */
static size_t take_head(struct h2_frame *frame, struct span in)
{
    size_t wanted = H2_FRAME_HEAD - frame->have, taken = wanted < in.len ? wanted : in.len;

    memcpy(frame->head + frame->have, in.at, taken);
    frame->have = (uint8_t)(frame->have + taken);
    return taken;
}

/*
 * Content beyond Content-Length: the library would give what came before the piece that passes it.
 * Nothing of such a frame is given, however it was split.
 */
static void check_length(struct h2 *h2)
{
    const struct h2_frame *frame = &h2->frame;
    uint32_t around = frame->flags & H2_FLAG_PADDED ? 1u + frame->first : 0;
    struct h2_request *request = h2_request_of(h2, frame->stream_id);

    if (request == NULL || request->reset || frame->length <= around ||
        frame->length - around <= request->content_most - request->content_bytes)
        return;
    nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, request->id, PROTOCOL_ERROR);
    h2_count_provoked(h2, request);
}

/* Keeps what is looked at here: the first byte, and all of a PRIORITY_UPDATE. */
static void look_at_payload(struct h2 *h2, struct span payload)
{
    struct h2_frame *frame = &h2->frame;
    size_t at = frame->length - frame->left;

    if (payload.len == 0)
        return;
    if (at == 0)
        frame->first = (uint8_t)payload.at[0];
    if (at == 0 && frame->type == H2_DATA)
        check_length(h2);
    if (frame->type == H2_PRIORITY_UPDATE && frame->length <= sizeof(h2->priority))
        memcpy(h2->priority + at, payload.at, payload.len);
    frame->left -= (uint32_t)payload.len;
}

/* Takes the next bytes of a frame; how many. */
static size_t take_frame(struct h2 *h2, struct span in)
{
    struct h2_frame *frame = &h2->frame;
    size_t head = 0;

    if (frame->have < H2_FRAME_HEAD) {
        head = take_head(frame, in);
        if (frame->have < H2_FRAME_HEAD)
            return head;
        begin_frame(h2);
        if (h2->stage == H2_STAGE_ENDED)
            return head;
        if (head < H2_FRAME_HEAD)
            give_library(h2, span_of((const char *)frame->head, H2_FRAME_HEAD));
    }

    size_t rest = in.len - head, payload = frame->left < rest ? frame->left : rest;
    size_t from = head == H2_FRAME_HEAD ? 0 : head; /* a whole head goes with its payload */

    look_at_payload(h2, span_of(in.at + head, payload));
    if (head + payload > from)
        give_library(h2, span_of(in.at + from, head + payload - from));
    if (frame->left == 0)
        end_frame(h2);
    return head + payload;
}

/* Takes bytes of the preface; how many. */
static size_t take_preface(struct h2 *h2, struct span in)
{
    size_t wanted = PREFACE_BYTES - h2->preface_bytes, taken = wanted < in.len ? wanted : in.len;

    if (memcmp(&PREFACE[h2->preface_bytes], in.at, taken) != 0)
        h2_fail(h2, PROTOCOL_ERROR, "H2_Preface", "bytes that do not begin an HTTP/2 connection");
    else if (taken == wanted)
        h2->stage = H2_STAGE_FRAMES;
    h2->preface_bytes = (uint8_t)(h2->preface_bytes + taken);
    return taken;
}

/* A peer that asks and never reads may not make the queue of what it is sent grow without end. */
static void judge_queue(struct h2 *h2)
{
    const struct h2_limits *limits = h2->limits;
    size_t most = QUEUED_BESIDE + QUEUED_PER_STREAM * (size_t)limits->max_concurrent_streams +
                  limits->max_resets + limits->max_settings + limits->max_pings;

    if (nghttp2_session_get_outbound_queue_size(h2->session) > most)
        h2_fail(h2, H2_ENHANCE_YOUR_CALM, "H2_OtherFrames",
                "more frames to be sent than the peer reads");
}

int h2_receive(struct h2 *h2, struct span in, int64_t now_ms)
{
    h2_guard_turn(&h2->guard, now_ms);
    judge_queue(h2);
    while (in.len > 0 && h2->stage != H2_STAGE_ENDED)
        in = span_skip(in,
                       h2->stage == H2_STAGE_PREFACE ? take_preface(h2, in) : take_frame(h2, in));
    return h2->trouble.reason ? ERR_INVALID : 0;
}
