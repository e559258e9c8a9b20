/*
 * What the files of an HTTP/2 session share: h2.c sets it up and ends it, h2_receive.c takes what
 * the peer sends, h2_send.c makes responses and frames; h2_head.c makes requests of fields,
 * h2_guard.c counts what a peer may not do too often, h2_priority.c reads PRIORITY_UPDATE,
 * h2_pool.c is the library's memory.
 */
#ifndef HTTP_H2_PRIV_H
#define HTTP_H2_PRIV_H

#include "base/list.h"
#include "http/h2.h"

#define H2_FRAME_HEAD 9u /* bytes in front of each payload (RFC 9113 section 4.1) */
#define H2_FRAME_BYTES                                                                             \
    16384u /* of payload: the default of SETTINGS_MAX_FRAME_SIZE, which we keep */

#define H2_PROBE_TYPE                                                                              \
    0xee /* of frames that nobody sends: h2_receive.c asks the library with one                    \
          */

/* Types and flags of frames (RFC 9113 section 6, RFC 9218 section 7.1). */
enum {
    H2_DATA = 0x0,
    H2_HEADERS = 0x1,
    H2_PRIORITY = 0x2,
    H2_RST_STREAM = 0x3,
    H2_SETTINGS = 0x4,
    H2_PUSH_PROMISE = 0x5,
    H2_PING = 0x6,
    H2_GOAWAY = 0x7,
    H2_WINDOW_UPDATE = 0x8,
    H2_CONTINUATION = 0x9,
    H2_PRIORITY_UPDATE = 0x10,

    H2_FLAG_END_STREAM = 0x1,
    H2_FLAG_END_HEADERS = 0x4,
    H2_FLAG_PADDED = 0x8,
    H2_FLAG_PRIORITY = 0x20,
};

/* ---- h2_guard.c */

enum h2_counter {
    H2_COUNT_RESETS,
    H2_COUNT_SETTINGS,
    H2_COUNT_PINGS,
    H2_COUNT_EMPTY_FRAMES,
    H2_COUNT_OTHER_FRAMES,
    H2_COUNTERS
};

/* Counts of the half window that runs and of the one before it: together never of more than
 * H2_WINDOW_MS, so that nobody is blamed for what he did longer ago. */
struct h2_guard {
    int64_t since_ms; /* when the running half began */
    uint32_t running[H2_COUNTERS], before[H2_COUNTERS];
    uint32_t window_updates; /* that the frames we sent may still be answered by */
    uint32_t continuations;  /* of the head that is being received */
};

/* The half windows that are over by now are forgotten. */
void h2_guard_turn(struct h2_guard *guard, int64_t now_ms);

/* One more. False: more than the limit. */
bool h2_guard_count(struct h2_guard *guard, const struct h2_limits *limits,
                    enum h2_counter counter);

/* A frame of ours has left, which WINDOW_UPDATE may answer. */
void h2_guard_sent(struct h2_guard *guard, uint8_t type);

/* What the error log says when a counter has passed its limit. */
const struct refusal *h2_guard_trouble(enum h2_counter counter);

/* ---- h2_pool.c: as malloc, free and realloc */

void *h2_pool_alloc(size_t size);
void h2_pool_free(void *memory);
void *h2_pool_realloc(void *memory, size_t size);

/* ---- h2_priority.c */

#define H2_PRIORITY_BYTES 64u /* of PRIORITY_UPDATE's payload; a longer one is not looked at */
#define H2_PRIORITIES_AHEAD                                                                        \
    8u /* streams that may get one before they begin; the last ones count                          \
        */

/* urgency 0 to 7, the first is the most urgent (RFC 9218 section 4) */
struct h2_priority {
    int32_t stream_id;
    uint8_t urgency;
    bool incremental;
};

/* Reads a PRIORITY_UPDATE payload of at least 4 bytes; what is malformed in its text is as if it
 * were not there. */
struct h2_priority h2_priority_read(struct span payload);

/* ---- h2_head.c */

/* Initialises the session's part of request, its head and trailers. */
void h2_head_begin(struct h2_request *request, int32_t id);

/* A field of the head, pseudo-fields first. Copies it, or fills request->refusal. */
void h2_head_field(const struct message_limits *limits, struct h2_request *request,
                   struct span name, struct span value);

/* Judges the head as a whole; request->ended is set. */
void h2_head_end(const struct h2_limits *limits, struct h2_request *request);

/* A trailer field: copied or dropped. ERR_TOO_LARGE: above a limit; ERR_INVALID: it may not be a
 * trailer. */
int h2_trailer_field(const struct message_limits *limits, struct h2_request *request,
                     struct span name, struct span value);

/* ---- the session */

/* A frame that is being received. */
struct h2_frame {
    uint8_t head[H2_FRAME_HEAD];
    uint8_t have; /* bytes of head */
    uint8_t type, flags;
    uint8_t first; /* byte of payload: the pad length of some */
    bool known;    /* the library has handed it to us */
    bool in_block; /* a field section goes on in the next frame */
    int32_t stream_id;
    uint32_t length, left; /* of payload */
};

enum h2_stage {
    H2_STAGE_PREFACE,
    H2_STAGE_FRAMES,
    H2_STAGE_ENDED /* what still comes is not looked at */
};

enum h2_closing {
    H2_CLOSING_NOT,
    H2_CLOSING_NOTICE, /* GOAWAY that names no stream was handed over */
    H2_CLOSING_PING,   /* and a PING behind it */
    H2_CLOSING_LAST    /* GOAWAY that names the last stream was handed over */
};

struct nghttp2_session;
struct nghttp2_session_callbacks;

/* Notes of a session (h2_note.c): one that is being received, those that wait to be sent. */
struct h2_notes {
    struct buf in;
    struct list waiting;
    size_t waiting_bytes;
};

struct h2 {
    struct nghttp2_session *session;
    const struct h2_limits *limits;
    const struct h2_events *events;
    void *owner;
    struct refusal trouble;
    struct h2_guard guard;
    struct h2_notes notes;
    struct h2_frame frame;
    enum h2_stage stage;
    enum h2_closing closing;
    struct h2_request *current; /* whose field section is being received */
    uint64_t section_bytes;     /* of that section, decoded */
    unsigned streams;
    uint32_t streams_after_notice;
    uint8_t preface_bytes; /* that were received */
    uint8_t next_ahead;    /* the oldest in ahead */
    bool settings_sent;
    bool notice_sent;
    bool soon;    /* a PING follows the notice */
    bool sending; /* inside h2_send */
    bool alive;   /* the library has answered a probe */
    bool faulty;  /* the library has called a frame invalid */
    struct h2_priority ahead[H2_PRIORITIES_AHEAD];
    uint8_t priority[H2_PRIORITY_BYTES]; /* payload of a PRIORITY_UPDATE */
};

/* h2.c */

/* Ends the session with GOAWAY; the first trouble wins. */
void h2_fail(struct h2 *h2, uint32_t code, const char *reason, const char *detail);

/* The request of a stream that the library has; NULL when there is none. */
struct h2_request *h2_request_of(const struct h2 *h2, int32_t id);

/* One more of these, or the end of the session. */
void h2_count(struct h2 *h2, enum h2_counter counter);

/* A stream is reset for what the peer did on it; NULL, or one that was reset before, is none. */
void h2_count_provoked(struct h2 *h2, struct h2_request *request);

/* The notice has left; a stream has begun; a PING was answered. */
void h2_notice_sent(struct h2 *h2);
void h2_stream_begun(struct h2 *h2);
void h2_ping_answered(struct h2 *h2, const uint8_t text[8]);

/* h2_receive.c, h2_send.c: sets what the library calls. */
void h2_receive_callbacks(struct nghttp2_session_callbacks *callbacks);
void h2_send_callbacks(struct nghttp2_session_callbacks *callbacks);

#endif
