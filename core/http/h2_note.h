/*
 * Notes between host and attached app (h2.h): frames of an extension type, for both sides of a
 * session. The library cuts them out of what comes and puts them between its own frames.
 */
#ifndef HTTP_H2_NOTE_H
#define HTTP_H2_NOTE_H

#include <nghttp2/nghttp2.h>

#include "http/h2_priv.h"

void h2_notes_init(struct h2_notes *notes);
void h2_notes_fini(struct h2_notes *notes);

/* Hands a copy of the pairs to the library. ERR_TOO_LARGE above H2_NOTE_BYTES. */
int h2_notes_send(struct h2_notes *notes, nghttp2_session *session, int32_t stream_id,
                  struct span pairs);

/* What the library calls when a note leaves; sets that callback. */
void h2_notes_callbacks(nghttp2_session_callbacks *callbacks);

/* A piece of a note that comes; one that is too long is cut off, which its reader finds. */
void h2_notes_take(struct h2_notes *notes, const uint8_t *bytes, size_t len);

#endif
