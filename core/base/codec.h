/*
 * Codings of bytes as text (RFC 4648), by OpenSSL's.
 */
#ifndef BASE_CODEC_H
#define BASE_CODEC_H

#include "base/mem.h"
#include "base/span.h"

/* Base64 with padding; in arena. */
struct span codec_base64(struct arena *arena, struct span bytes);

/* The bytes of base64 with padding, in arena; SPAN_NONE when it is malformed. */
struct span codec_base64_read(struct arena *arena, struct span text);

#endif
