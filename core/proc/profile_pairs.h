/*
 * TLS bindings and ticket keys on their way from the master, which reads the files, to the workers,
 * which may not: as pairs (proc/worker_ipc.h). Bytes that are no text go as hexadecimal digits.
 */
#ifndef PROC_PROFILE_PAIRS_H
#define PROC_PROFILE_PAIRS_H

#include "base/buf.h"
#include "base/mem.h"
#include "base/span.h"
#include "tls/tls_profile.h"

void profile_pairs_add(struct buf *pairs, const struct tls_profile_parts *parts);

/*
 * The next binding in *rest, which is moved behind it; false at the end. What parts hold is
 * borrowed from the pairs and from scratch, which grows and must outlive them.
 */
bool profile_pairs_next(struct span *rest, struct tls_profile_parts *parts, struct arena *scratch);

/* Appends bytes as digits; reads digits back, dropping what is none. */
void hex_add(struct buf *out, struct span bytes);
struct span hex_read(const char *digits, struct arena *scratch);

#endif
