/*
 * A state machine over bytes. The delimiter is CRLF "--" boundary, and CR can occur in it only as
 * its first byte: so when a match breaks off, the bytes matched so far are data and the search goes
 * on with the byte that broke it. Bytes that matched need not be kept either, because the delimiter
 * itself holds them.
 */
#include "http/multipart.h"

#include "base/err.h"
#include "http/chars_priv.h"
#include "http/media_type.h"

#define CRLF_BYTES 2u

enum state {
    BEFORE,     /* preamble; as if a CRLF stood before the first byte */
    FIRST,      /* the first bytes of a part's content, with the CRLF that ended its head */
    DATA,       /* content of a part */
    TAIL,       /* directly behind a delimiter */
    TAIL_DASH,  /* behind the first '-' of a closing delimiter */
    TAIL_BLANK, /* transport padding (RFC 2046 section 5.1.1) */
    TAIL_CR,
    HEAD, /* lines of a part's head */
    AFTER,
    REFUSED
};

static int refuse(struct multipart *multipart, int status, const char *reason, const char *detail)
{
    multipart->refusal = (struct refusal){status, reason, detail};
    multipart->state = REFUSED;
    return ERR_INVALID;
}

static int malformed(struct multipart *multipart, const char *detail)
{
    return refuse(multipart, 400, "BadRequest", detail);
}

/* bchars, the last one no space (RFC 2046 section 5.1.1). */
static bool boundary_valid(struct span boundary)
{
    static const char others[] = "'()+_,-./:=? ";

    if (boundary.len == 0 || boundary.len > MULTIPART_BOUNDARY_MAX)
        return false;
    for (size_t i = 0; i < boundary.len; i++) {
        char c = boundary.at[i];
        bool alphanumeric =
            (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');

        if (!alphanumeric && (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return boundary.at[boundary.len - 1] != ' ';
}

int multipart_init(struct multipart *multipart, struct span content_type,
                   const struct multipart_limits *limits, struct arena *arena)
{
    *multipart = (struct multipart){
        .limits = *limits, .arena = arena, .state = BEFORE, .matched = CRLF_BYTES};
    if (!media_type_is(content_type, SPAN("multipart/form-data")))
        return ERR_INVALID;

    struct span boundary = media_type_parameter(content_type, SPAN("boundary"), arena);

    if (!boundary_valid(boundary))
        return ERR_INVALID;
    memcpy(multipart->delimiter, "\r\n--", 4);
    memcpy(multipart->delimiter + 4, boundary.at, boundary.len);
    multipart->delimiter_len = (uint32_t)boundary.len + 4;
    return 0;
}

void multipart_fini(struct multipart *multipart)
{
    buf_fini(&multipart->held);
}

/* How many bytes of the delimiter, from its byte number from on, text begins with. */
static size_t match(const struct multipart *multipart, size_t from, struct span text)
{
    size_t most = multipart->delimiter_len - from, len = 0;

    while (len < most && len < text.len && text.at[len] == multipart->delimiter[from + len])
        len++;
    return len;
}

/*
 * Where in text the delimiter begins, whole or cut off by the end of text; text.len when nowhere.
 */
static size_t find(const struct multipart *multipart, struct span text)
{
    size_t at = 0;

    while (at < text.len) {
        const char *cr = memchr(text.at + at, '\r', text.len - at);

        if (cr == NULL)
            return text.len;
        at = (size_t)(cr - text.at);

        size_t len = match(multipart, 0, span_of(cr, text.len - at));

        if (len == multipart->delimiter_len || at + len == text.len)
            return at;
        at += len;
    }
    return text.len;
}

/* The match broke off: what had matched is data, but for a CRLF that belongs to the part's head. */
static struct span unmatched(struct multipart *multipart)
{
    size_t head = multipart->state == FIRST ? CRLF_BYTES : 0, len = multipart->matched - head;

    multipart->matched = 0;
    if (multipart->state == FIRST)
        multipart->state = DATA;
    return span_of(multipart->delimiter + head, len);
}

/*
 * One step through what lies between delimiters. 0: a delimiter is complete; MULTIPART_DATA (maybe
 * of no bytes); ERR_AGAIN. How the bytes are split decides what each call gives, but never what
 * they give together.
 */
static int scan(struct multipart *multipart, struct span in, size_t *used, struct span *data)
{
    if (multipart->matched == 0) {
        size_t plain = find(multipart, in);

        if (plain > 0) {
            *data = span_of(in.at, plain);
            *used = plain;
            return MULTIPART_DATA;
        }
    }

    size_t len = match(multipart, multipart->matched, in);

    *used = len;
    multipart->matched += (uint32_t)len;
    if (multipart->matched == multipart->delimiter_len)
        return 0;
    if (len == in.len)
        return ERR_AGAIN;
    *data = unmatched(multipart);
    return MULTIPART_DATA;
}

static int step_content(struct multipart *multipart, struct span in, size_t *used,
                        struct span *data)
{
    bool preamble = multipart->state == BEFORE;
    int event = scan(multipart, in, used, data);

    if (event == 0) {
        multipart->state = TAIL;
        multipart->matched = 0;
        multipart->head_bytes = 0;
        return preamble ? ERR_AGAIN : MULTIPART_PART_END;
    }
    return event == MULTIPART_DATA && !preamble && data->len > 0 ? event : ERR_AGAIN;
}

/* Between a delimiter and the end of its line. Padding counts as part of the head that follows. */
static int step_padding(struct multipart *multipart, char c)
{
    if (c == '\r') {
        multipart->state = TAIL_CR;
        return ERR_AGAIN;
    }
    if (c != ' ' && c != '\t')
        return malformed(multipart, "something other than a line end behind a delimiter");
    multipart->state = TAIL_BLANK;
    if (multipart->head_bytes++ == multipart->limits.max_part_head_bytes)
        return refuse(multipart, 413, "EntityTooLarge", "part head above max_part_head_bytes");
    return ERR_AGAIN;
}

static int begin_part(struct multipart *multipart)
{
    if (multipart->parts == multipart->limits.max_parts)
        return refuse(multipart, 413, "EntityTooLarge", "more parts than max_parts");
    multipart->parts++;
    multipart->state = HEAD;
    multipart->name = multipart->filename = multipart->type = SPAN_NONE;
    fields_init(&multipart->fields, multipart->arena);
    return ERR_AGAIN;
}

/* One byte of the line behind a delimiter: "--" closes, CRLF begins a part. */
static int step_tail(struct multipart *multipart, char c)
{
    if (multipart->state == TAIL && c == '-') {
        multipart->state = TAIL_DASH;
        return ERR_AGAIN;
    }
    if (multipart->state == TAIL_DASH && c == '-') {
        multipart->state = AFTER;
        return MULTIPART_END;
    }
    if (multipart->state == TAIL_CR && c == '\n')
        return begin_part(multipart);
    if (multipart->state == TAIL_DASH || multipart->state == TAIL_CR)
        return malformed(multipart, "something other than a line end behind a delimiter");
    return step_padding(multipart, c);
}

/* --- Content-Disposition
 * ---------------------------------------------------------------------------- */

struct parameter {
    struct span name, value; /* value between its quotes, when it had any */
    bool quoted;
};

/*
 * A backslash escapes only '"' and itself: browsers send the others, as in C:\fotos, for
 * themselves.
 */
static bool is_escape(struct span text, size_t at)
{
    return text.at[at] == '\\' && at + 1 < text.len &&
           (text.at[at + 1] == '"' || text.at[at + 1] == '\\');
}

/*
 * Length of a quoted value, text beginning behind the opening quote; text.len when it does not end.
 */
static size_t quoted_length(struct span text)
{
    size_t at = 0;

    while (at < text.len && text.at[at] != '"')
        at += is_escape(text, at) ? 2 : 1;
    return at;
}

/* Takes name=value off the front of *text; false when it does not begin with that. */
static bool take_parameter(struct span *text, struct parameter *parameter)
{
    const char *equals = memchr(text->at, '=', text->len);

    if (equals == NULL)
        return false;
    parameter->name = span_trim(span_of(text->at, (size_t)(equals - text->at)));
    if (!field_name_valid(parameter->name))
        return false;
    *text = span_skip(*text, (size_t)(equals - text->at) + 1);
    parameter->quoted = text->len > 0 && text->at[0] == '"';
    if (parameter->quoted) {
        *text = span_skip(*text, 1);

        size_t len = quoted_length(*text);

        if (len >= text->len)
            return false;
        parameter->value = span_of(text->at, len);
        *text = span_trim(span_skip(*text, len + 1));
        return true;
    }

    const char *end = memchr(text->at, ';', text->len);
    size_t len = end ? (size_t)(end - text->at) : text->len;

    parameter->value = span_trim(span_of(text->at, len));
    *text = span_skip(*text, len);
    return field_name_valid(parameter->value);
}

/*
 * What the three escapes of browsers stand for (Fetch standard, multipart/form-data); -1 for any
 * other.
 */
static int browser_escape(struct span text)
{
    if (text.len < 3 || text.at[0] != '%')
        return -1;
    if (memcmp(text.at, "%22", 3) == 0)
        return '"';
    if (memcmp(text.at, "%0D", 3) == 0)
        return '\r';
    return memcmp(text.at, "%0A", 3) == 0 ? '\n' : -1;
}

static struct span unquote(struct multipart *multipart, const struct parameter *parameter)
{
    struct span text = parameter->value;

    if (memchr(text.at, '\\', text.len) == NULL && memchr(text.at, '%', text.len) == NULL)
        return text;

    char *out = arena_alloc(multipart->arena, text.len);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        int byte = browser_escape(span_skip(text, i));

        if (byte >= 0)
            i += 2;
        else if (is_escape(text, i))
            i++;
        out[len++] = byte >= 0 ? (char)byte : text.at[i];
    }
    return span_of(out, len);
}

/* An RFC 8187 value, UTF-8'language'text with escapes. False when it is none, or hides a NUL. */
static bool decode_extended(struct multipart *multipart, struct span text, struct span *name)
{
    const struct span charset = SPAN("utf-8'");

    if (text.len < charset.len || !span_eq_nocase(span_of(text.at, charset.len), charset))
        return false;
    text = span_skip(text, charset.len);

    const char *quote = text.len > 0 ? memchr(text.at, '\'', text.len) : NULL;

    if (quote == NULL)
        return false;
    text = span_skip(text, (size_t)(quote - text.at) + 1);

    char *out = arena_alloc(multipart->arena, text.len);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        int byte = (unsigned char)text.at[i];

        if (byte == '%') {
            byte = char_escape(span_skip(text, i));
            i += 2;
        }
        if (byte <= 0)
            return false;
        out[len++] = (char)byte;
    }
    *name = span_of(out, len);
    return true;
}

/*
 * name, filename and filename*. The last is not allowed in forms (RFC 7578 section 4.2), but some
 * clients send it for names outside ASCII: it counts where filename is missing.
 */
static bool take_name(struct multipart *multipart, const struct parameter *parameter,
                      struct span *extended)
{
    struct span *target = NULL;

    if (span_eq_nocase(parameter->name, SPAN("name")))
        target = &multipart->name;
    else if (span_eq_nocase(parameter->name, SPAN("filename")))
        target = &multipart->filename;
    else if (span_eq_nocase(parameter->name, SPAN("filename*")))
        target = extended;
    else
        return true;
    if (target->at)
        return false;
    if (target == extended)
        return !parameter->quoted && decode_extended(multipart, parameter->value, extended);
    *target = parameter->quoted ? unquote(multipart, parameter) : parameter->value;
    return true;
}

static bool read_parameters(struct multipart *multipart, struct span text)
{
    struct parameter parameter;
    struct span extended = SPAN_NONE;

    while (text.len > 0) {
        if (text.at[0] != ';')
            return false;
        text = span_trim(span_skip(text, 1));
        if (text.len == 0 || text.at[0] == ';')
            continue; /* a parameter may be missing between two semicolons */
        if (!take_parameter(&text, &parameter) || !take_name(multipart, &parameter, &extended))
            return false;
    }
    if (multipart->filename.at == NULL)
        multipart->filename = extended;
    return multipart->name.at != NULL;
}

/* One Content-Disposition: form-data with one name (RFC 7578 section 4.2). */
static bool read_disposition(struct multipart *multipart)
{
    const struct span name = SPAN("Content-Disposition");
    const struct field *field = fields_find(&multipart->fields, name, 0);

    if (field == NULL || !media_type_is(field->value, SPAN("form-data")))
        return false;

    uint32_t next = (uint32_t)(field - multipart->fields.at) + 1;
    const char *semicolon = memchr(field->value.at, ';', field->value.len);

    if (semicolon == NULL || fields_find(&multipart->fields, name, next))
        return false;
    return read_parameters(multipart,
                           span_skip(field->value, (size_t)(semicolon - field->value.at)));
}

/* --- part heads
 * -------------------------------------------------------------------------------------- */

static int end_head(struct multipart *multipart)
{
    if (!read_disposition(multipart))
        return malformed(multipart, "a part without a valid Content-Disposition");

    const struct field *type = fields_find(&multipart->fields, SPAN("Content-Type"), 0);

    if (type)
        multipart->type = type->value;
    /*
     * A part without content may end at once: the CRLF that ends its head is then its delimiter's.
     */
    multipart->state = FIRST;
    multipart->matched = CRLF_BYTES;
    return MULTIPART_PART;
}

/* A whole line, with its LF. */
static int head_line(struct multipart *multipart, struct span line)
{
    if (line.len < 2 || line.at[line.len - 2] != '\r')
        return malformed(multipart, "a bare LF in a part head");
    line.len -= 2;
    if (line.len == 0)
        return end_head(multipart);

    const char *colon = memchr(line.at, ':', line.len);

    if (colon == NULL)
        return malformed(multipart, "a line without a colon in a part head");

    struct span name = span_of(line.at, (size_t)(colon - line.at));
    struct span value = span_trim(span_skip(line, name.len + 1));

    if (!field_name_valid(name) || !field_value_valid(value))
        return malformed(multipart, "a bad field name or value in a part head");
    fields_add(&multipart->fields, arena_copy(multipart->arena, name),
               arena_copy(multipart->arena, value));
    return ERR_AGAIN;
}

/*
 * Gathers a line of the head; the limit is judged before the line, so that the split cannot matter.
 */
static int step_head(struct multipart *multipart, struct span in, size_t *used)
{
    const char *end = memchr(in.at, '\n', in.len);
    size_t len = end ? (size_t)(end - in.at) + 1 : in.len;

    *used = len;
    if (len > multipart->limits.max_part_head_bytes - multipart->head_bytes)
        return refuse(multipart, 413, "EntityTooLarge", "part head above max_part_head_bytes");
    multipart->head_bytes += (uint32_t)len;
    buf_append(&multipart->held, span_of(in.at, len));
    if (end == NULL)
        return ERR_AGAIN;

    int event = head_line(multipart, buf_span(&multipart->held));

    buf_consume(&multipart->held, buf_len(&multipart->held));
    return event;
}

static int step(struct multipart *multipart, struct span in, size_t *used, struct span *data)
{
    switch (multipart->state) {
    case BEFORE:
    case FIRST:
    case DATA:
        return step_content(multipart, in, used, data);
    case HEAD:
        return step_head(multipart, in, used);
    case AFTER:
        *used = in.len;
        return ERR_AGAIN;
    case REFUSED:
        return ERR_INVALID;
    default:
        *used = 1;
        return step_tail(multipart, in.at[0]);
    }
}

int multipart_next(struct multipart *multipart, struct span in, size_t *used, struct span *data)
{
    *used = 0;
    while (in.len > 0) {
        size_t taken = 0;
        int event = step(multipart, in, &taken, data);

        *used += taken;
        if (event != ERR_AGAIN)
            return event;
        in = span_skip(in, taken);
    }
    return multipart->state == REFUSED ? ERR_INVALID : ERR_AGAIN;
}

int multipart_finish(struct multipart *multipart)
{
    if (multipart->state == AFTER)
        return 0;
    if (multipart->state == REFUSED)
        return ERR_INVALID;
    return malformed(multipart, "multipart content that ends before its closing delimiter");
}
