/*
 * Field lines in the order in which they arrived or were added (RFC 9110 section 5). Names and
 * values are borrowed spans: whoever adds a line keeps its bytes alive as long as the fields,
 * usually in the same arena.
 */
#ifndef HTTP_FIELDS_H
#define HTTP_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/span.h"

/* Names that the core itself looks at, recognised once when a line is added. */
enum field_id {
    FIELD_OTHER = 0,
    FIELD_ACCEPT,
    FIELD_ACCEPT_ENCODING,
    FIELD_ACCEPT_LANGUAGE,
    FIELD_AUTHORIZATION,
    FIELD_CACHE_CONTROL,
    FIELD_CONNECTION,
    FIELD_CONTENT_LENGTH,
    FIELD_CONTENT_TYPE,
    FIELD_COOKIE,
    FIELD_DATE,
    FIELD_EXPECT,
    FIELD_HOST,
    FIELD_LOCATION,
    FIELD_REFERER,
    FIELD_SERVER,
    FIELD_SET_COOKIE,
    FIELD_TE,
    FIELD_TRAILER,
    FIELD_TRANSFER_ENCODING,
    FIELD_UPGRADE,
    FIELD_USER_AGENT,
    FIELD_IDS
};

struct field {
    struct span name, value;
    enum field_id id;
};

struct fields {
    struct field *at; /* count lines, in the arena */
    uint32_t count, room;
    struct arena *arena;
};

/* Borrows arena, which must outlive the fields or be reset together with them. */
void fields_init(struct fields *fields, struct arena *arena);

/* Which known name this is, without regard to case; FIELD_OTHER when none. */
enum field_id field_id_of(struct span name);

/* The lower-case spelling of a known name; NULL for FIELD_OTHER. */
const char *field_id_name(enum field_id id);

/* A token (RFC 9110 section 5.6.2), at least one byte. */
bool field_name_valid(struct span name);

/* No control but HTAB, no NUL, CR, LF, DEL; bytes from 0x80 are allowed (RFC 9110 section 5.5). */
bool field_value_valid(struct span value);

/* Adds a line at the end. Borrows name and value. */
void fields_add(struct fields *fields, struct span name, struct span value);

/* The first line with this name, at or after index from; NULL when none. Compare without regard to
 * case. */
const struct field *fields_find(const struct fields *fields, struct span name, uint32_t from);
const struct field *fields_find_id(const struct fields *fields, enum field_id id, uint32_t from);

/* Takes out every line with this name; returns how many there were. */
uint32_t fields_remove(struct fields *fields, struct span name);

/* Replaces every line with this name by one, at the place of the first (or the end). */
void fields_set(struct fields *fields, struct span name, struct span value);

/*
 * All values of name in order, joined with ", " (RFC 9110 section 5.3; "; " for Cookie, RFC 9113
 * section 8.2.3). One line: borrowed from the fields; several: in the arena. SPAN_NONE when there
 * is no such line.
 */
struct span fields_combined(struct fields *fields, struct span name);

/*
 * Takes the next element off the front of a comma-separated list (RFC 9110 section 5.6.1), without
 * its surrounding blanks, maybe empty; commas in quoted strings do not separate. False behind the
 * last one.
 */
bool fields_list_next(struct span *list, struct span *element);

/* True when the comma-separated list in any line of this name holds token, without regard to case.
 */
bool fields_has_token(const struct fields *fields, enum field_id id, struct span token);

#endif
