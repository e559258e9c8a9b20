/*
 * Field lines in an array in the arena. A known name is recognised once, when its line is added, by
 * its length and a comparison of whole words; look-ups of known names then compare numbers.
 */
#include "http/fields.h"

#include "http/chars_priv.h"
#include "http/fields_priv.h"

#define FIRST_ROOM 16u /* lines of an ordinary request or response */

static const char *const names[FIELD_IDS] = {
    [FIELD_ACCEPT] = "accept",
    [FIELD_ACCEPT_ENCODING] = "accept-encoding",
    [FIELD_ACCEPT_LANGUAGE] = "accept-language",
    [FIELD_AUTHORIZATION] = "authorization",
    [FIELD_CACHE_CONTROL] = "cache-control",
    [FIELD_CONNECTION] = "connection",
    [FIELD_CONTENT_LENGTH] = "content-length",
    [FIELD_CONTENT_TYPE] = "content-type",
    [FIELD_COOKIE] = "cookie",
    [FIELD_DATE] = "date",
    [FIELD_EXPECT] = "expect",
    [FIELD_HOST] = "host",
    [FIELD_LOCATION] = "location",
    [FIELD_REFERER] = "referer",
    [FIELD_SERVER] = "server",
    [FIELD_SET_COOKIE] = "set-cookie",
    [FIELD_TE] = "te",
    [FIELD_TRAILER] = "trailer",
    [FIELD_TRANSFER_ENCODING] = "transfer-encoding",
    [FIELD_UPGRADE] = "upgrade",
    [FIELD_USER_AGENT] = "user-agent",
};

#define ONES  0x0101010101010101u
#define HIGHS 0x8080808080808080u

static inline uint64_t load_8(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static inline uint32_t load_4(const char *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/*
 * Lower case in all bytes at once: sets bit 0x20 where 0x40 is set. Letters fold, '-' stays, and
 * nothing else becomes a lower-case letter or '-', so that a comparison with such a text is exact
 * for any bytes.
 */
static inline uint64_t fold_8(uint64_t word)
{
    return word | ((word & (ONES * 0x40)) >> 1);
}

static inline uint32_t fold_4(uint32_t word)
{
    return word | ((word & 0x40404040u) >> 1);
}

/* Compares len bytes (a constant where this is called) with a lower-case text, words overlapping at
 * the end. */
static inline bool is(const char *name, const char *lower, size_t len)
{
    if (len < 4)
        return span_eq_nocase(span_of(name, len), span_of(lower, len));
    if (len < 8)
        return fold_4(load_4(name)) == load_4(lower) &&
               fold_4(load_4(name + len - 4)) == load_4(lower + len - 4);
    for (size_t i = 0; i + 8 < len; i += 8)
        if (fold_8(load_8(name + i)) != load_8(lower + i))
            return false;
    return fold_8(load_8(name + len - 8)) == load_8(lower + len - 8);
}

#define TRY(id, text)                                                                              \
    if (is(name.at, text, sizeof(text) - 1))                                                       \
    return id

enum field_id field_id_of(struct span name)
{
    switch (name.len) {
    case 2:
        TRY(FIELD_TE, "te");
        break;
    case 4:
        TRY(FIELD_HOST, "host");
        TRY(FIELD_DATE, "date");
        break;
    case 6:
        TRY(FIELD_ACCEPT, "accept");
        TRY(FIELD_COOKIE, "cookie");
        TRY(FIELD_SERVER, "server");
        TRY(FIELD_EXPECT, "expect");
        break;
    case 7:
        TRY(FIELD_REFERER, "referer");
        TRY(FIELD_UPGRADE, "upgrade");
        TRY(FIELD_TRAILER, "trailer");
        break;
    case 8:
        TRY(FIELD_LOCATION, "location");
        break;
    case 10:
        TRY(FIELD_CONNECTION, "connection");
        TRY(FIELD_USER_AGENT, "user-agent");
        TRY(FIELD_SET_COOKIE, "set-cookie");
        break;
    case 12:
        TRY(FIELD_CONTENT_TYPE, "content-type");
        break;
    case 13:
        TRY(FIELD_CACHE_CONTROL, "cache-control");
        TRY(FIELD_AUTHORIZATION, "authorization");
        break;
    case 14:
        TRY(FIELD_CONTENT_LENGTH, "content-length");
        break;
    case 15:
        TRY(FIELD_ACCEPT_ENCODING, "accept-encoding");
        TRY(FIELD_ACCEPT_LANGUAGE, "accept-language");
        break;
    case 17:
        TRY(FIELD_TRANSFER_ENCODING, "transfer-encoding");
        break;
    default:
        break;
    }
    return FIELD_OTHER;
}

const char *field_id_name(enum field_id id)
{
    return id > FIELD_OTHER && id < FIELD_IDS ? names[id] : NULL;
}

bool field_name_valid(struct span name)
{
    return name.len > 0 && chars_span(name, CHAR_TOKEN) == name.len;
}

/* Sixteen bytes that are compared at once; both compilers have it, for any processor. */
typedef unsigned char bytes_16 __attribute__((vector_size(16)));

/* The bytes at at that are controls; HTAB is among them. Not zero where one is. */
static inline bytes_16 controls_16(const char *at)
{
    bytes_16 bytes;

    memcpy(&bytes, at, sizeof(bytes));
    return (bytes_16)(bytes < 0x20) | (bytes_16)(bytes == 0x7F);
}

/* Whether any of the eight bytes at at is a control; HTAB counts. */
static inline bool has_control_8(const char *at)
{
    uint64_t word = load_8(at), del = word ^ (ONES * 0x7F);

    return (((word - ONES * 0x20) & ~word) | ((del - ONES) & ~del)) & HIGHS;
}

/* Whether a value of 16 bytes or more has a control; the last look overlaps the one before it. */
static bool has_control(struct span value)
{
    bytes_16 found = controls_16(value.at + value.len - 16);
    uint64_t halves[2];

    for (size_t i = 0; i + 16 < value.len; i += 16)
        found |= controls_16(value.at + i);
    memcpy(halves, &found, sizeof(halves));
    return (halves[0] | halves[1]) != 0;
}

bool field_value_valid(struct span value)
{
    if (value.len >= 16 && !has_control(value))
        return true;
    if (value.len >= 8 && value.len < 16 && !has_control_8(value.at) &&
        !has_control_8(value.at + value.len - 8))
        return true;
    return chars_span(value, CHAR_VALUE) == value.len; /* short, or with HTAB, or refused */
}

void fields_init(struct fields *fields, struct arena *arena)
{
    *fields = (struct fields){.arena = arena};
}

void fields_grow(struct fields *fields)
{
    uint32_t room = fields->room ? 2 * fields->room : FIRST_ROOM;
    struct field *at = arena_alloc(fields->arena, room * sizeof(*at));

    if (fields->count > 0)
        memcpy(at, fields->at, fields->count * sizeof(*at));
    fields->at = at;
    fields->room = room;
}

void fields_add(struct fields *fields, struct span name, struct span value)
{
    fields_push(fields, &(struct field){name, value, field_id_of(name)});
}

/* Whether this line has the name, whose number is id. */
static bool has_name(const struct field *field, struct span name, enum field_id id)
{
    return field->id == id && (id != FIELD_OTHER || span_eq_nocase(field->name, name));
}

const struct field *fields_find(const struct fields *fields, struct span name, uint32_t from)
{
    enum field_id id = field_id_of(name);

    for (uint32_t i = from; i < fields->count; i++)
        if (has_name(&fields->at[i], name, id))
            return &fields->at[i];
    return NULL;
}

const struct field *fields_find_id(const struct fields *fields, enum field_id id, uint32_t from)
{
    for (uint32_t i = from; i < fields->count; i++)
        if (fields->at[i].id == id)
            return &fields->at[i];
    return NULL;
}

uint32_t fields_remove(struct fields *fields, struct span name)
{
    enum field_id id = field_id_of(name);
    uint32_t kept = 0, before = fields->count;

    for (uint32_t i = 0; i < before; i++)
        if (!has_name(&fields->at[i], name, id))
            fields->at[kept++] = fields->at[i];
    fields->count = kept;
    return before - kept;
}

void fields_set(struct fields *fields, struct span name, struct span value)
{
    enum field_id id = field_id_of(name);
    uint32_t kept = 0, before = fields->count;
    bool placed = false;

    for (uint32_t i = 0; i < before; i++) {
        if (!has_name(&fields->at[i], name, id))
            fields->at[kept++] = fields->at[i];
        else if (!placed) {
            fields->at[kept++] = (struct field){name, value, id};
            placed = true;
        }
    }
    fields->count = kept;
    if (!placed)
        fields_add(fields, name, value);
}

/* Joins the values of count lines with this name, the first of which is at index first. */
static struct span join(struct fields *fields, struct span name, enum field_id id, uint32_t first,
                        size_t bytes)
{
    const char *glue = id == FIELD_COOKIE ? "; " : ", ";
    char *text = arena_alloc(fields->arena, bytes);
    char *end = text;

    for (uint32_t i = first; i < fields->count; i++) {
        struct span value = fields->at[i].value;

        if (!has_name(&fields->at[i], name, id))
            continue;
        if (i > first) {
            memcpy(end, glue, 2);
            end += 2;
        }
        if (value.len > 0)
            memcpy(end, value.at, value.len);
        end += value.len;
    }
    return span_of(text, (size_t)(end - text));
}

struct span fields_combined(struct fields *fields, struct span name)
{
    enum field_id id = field_id_of(name);
    uint32_t first = 0, lines = 0;
    size_t bytes = 0;

    for (uint32_t i = 0; i < fields->count; i++) {
        if (!has_name(&fields->at[i], name, id))
            continue;
        if (lines++ == 0)
            first = i;
        bytes += fields->at[i].value.len + 2;
    }
    if (lines == 0)
        return SPAN_NONE;
    if (lines > 1)
        return join(fields, name, id, first, bytes);

    struct span value = fields->at[first].value;
    return value.at ? value : SPAN(""); /* an empty value is not an absent line */
}

/* Where the list element at the front of text ends: at its comma, outside quotes, or at the end. */
static size_t element_end(struct span text)
{
    bool quoted = false;
    size_t i = 0;

    for (; i < text.len; i++) {
        if (quoted && text.at[i] == '\\' && i + 1 < text.len)
            i++;
        else if (text.at[i] == '"')
            quoted = !quoted;
        else if (text.at[i] == ',' && !quoted)
            break;
    }
    return i;
}

bool fields_list_next(struct span *list, struct span *element)
{
    if (list->at == NULL)
        return false;

    size_t end = element_end(*list);

    *element = span_trim(span_of(list->at, end));
    *list = end < list->len ? span_of(list->at + end + 1, list->len - end - 1) : SPAN_NONE;
    return true;
}

bool fields_has_token(const struct fields *fields, enum field_id id, struct span token)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        struct span list = fields->at[i].value, element;

        if (fields->at[i].id != id)
            continue;
        while (fields_list_next(&list, &element))
            if (span_eq_nocase(element, token))
                return true;
    }
    return false;
}
