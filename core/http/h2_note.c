/*
 * The library holds a pointer to a note until its frame leaves, and forgets it with the session:
 * the list of those that wait is ours, so that none is lost then.
 */
#include "http/h2_note.h"

#include "base/err.h"
#include "base/mem.h"

struct note {
    struct list node;
    struct h2_notes *notes;
    size_t len;
    char bytes[];
};

void h2_notes_init(struct h2_notes *notes)
{
    *notes = (struct h2_notes){0};
    list_init(&notes->waiting);
}

static void note_free(struct note *note)
{
    note->notes->waiting_bytes -= note->len;
    list_remove(&note->node);
    mem_free(note);
}

void h2_notes_fini(struct h2_notes *notes)
{
    while (!list_empty(&notes->waiting))
        note_free(LIST_OWNER(notes->waiting.next, struct note, node));
    buf_wipe(&notes->in);
}

int h2_notes_send(struct h2_notes *notes, nghttp2_session *session, int32_t stream_id,
                  struct span pairs)
{
    struct note *note;

    if (pairs.len > H2_NOTE_BYTES)
        return ERR_TOO_LARGE;
    note = mem_alloc(sizeof(*note) + pairs.len);
    note->notes = notes;
    note->len = pairs.len;
    memcpy(note->bytes, pairs.at, pairs.len);
    list_init(&note->node);
    list_append(&notes->waiting, &note->node);
    notes->waiting_bytes += pairs.len;
    CHECK(nghttp2_submit_extension(session, H2_NOTE_TYPE, NGHTTP2_FLAG_NONE, stream_id, note) == 0);
    return 0;
}

static ssize_t pack(nghttp2_session *session, uint8_t *into, size_t room,
                    const nghttp2_frame *frame, void *user)
{
    struct note *note = frame->ext.payload;
    size_t len = note->len;

    (void)session, (void)user;
    if (room < len) /* the peer takes only smaller frames than anybody may ask for */
        return NGHTTP2_ERR_CANCEL;
    memcpy(into, note->bytes, len);
    note_free(note);
    return (ssize_t)len;
}

void h2_notes_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_pack_extension_callback(callbacks, pack);
}

void h2_notes_take(struct h2_notes *notes, const uint8_t *bytes, size_t len)
{
    if (buf_len(&notes->in) + len <= H2_NOTE_BYTES)
        buf_append(&notes->in, span_of((const char *)bytes, len));
}
