/*
 * The content of a message: a number of bytes, or chunks with their trailer section (RFC 9112
 * section 7.1). Whole lines only are taken; a line that is not complete stays with the caller. Each
 * state has a step.
 */
#include "http/h1_read.h"

#include "base/err.h"
#include "http/chars_priv.h"
#include "http/h1_line_priv.h"
#include "http/message_rules.h"

#define MAX_CHUNK_LINE_BYTES 4096u /* against endless extensions in front of one chunk */
#define MAX_EXTENSION_BYTES                                                                        \
    16384u /* of a message: against many small chunks with much around them */
#define MAX_SIZE_DIGITS 16u

enum content_state {
    CONTENT_END,
    CONTENT_DATA,
    CONTENT_CHUNK_LINE,
    CONTENT_CHUNK_END, /* the CRLF behind a chunk's data */
    CONTENT_TRAILERS,
};

enum { STEP_ON = 2 }; /* beside H1_END and H1_DATA: the state changed or a line was taken */

void h1_content_init(struct h1_content *content, const struct request_head *head,
                     const struct message_limits *limits, struct arena *arena,
                     struct fields *trailers)
{
    *content = (struct h1_content){
        .limits = limits, .arena = arena, .trailers = trailers, .framing = head->framing};
    if (head->framing == FRAMING_SIZED && head->content_length > 0) {
        content->left = head->content_length;
        content->state = CONTENT_DATA;
    }
    if (head->framing == FRAMING_UNSIZED)
        content->state = CONTENT_CHUNK_LINE;
}

/* Bytes of the quoted string at the front of text (RFC 9110 section 5.6.4), 0 when there is none.
 */
static size_t quoted_string(struct span text)
{
    for (size_t i = 1; i < text.len && char_is(text.at[i], CHAR_VALUE); i++) {
        if (text.at[i] == '"')
            return i + 1;
        if (text.at[i] == '\\' && (++i == text.len || !char_is(text.at[i], CHAR_VALUE)))
            return 0;
    }
    return 0;
}

/* *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ), to the end of text. */
static bool extensions_valid(struct span text)
{
    while (text.len > 0) {
        text = span_skip_blanks(text);
        if (text.len == 0 || text.at[0] != ';')
            return false;
        text = span_skip_blanks(span_skip(text, 1));

        size_t name_len = chars_span(text, CHAR_TOKEN);

        if (name_len == 0)
            return false;
        text = span_skip(text, name_len);

        struct span equals = span_skip_blanks(text);

        if (equals.len == 0 || equals.at[0] != '=')
            continue;
        text = span_skip_blanks(span_skip(equals, 1));

        bool quoted = text.len > 0 && text.at[0] == '"';
        size_t value_len = quoted ? quoted_string(text) : chars_span(text, CHAR_TOKEN);

        if (value_len == 0)
            return false;
        text = span_skip(text, value_len);
    }
    return true;
}

static int refuse(struct h1_content *content, struct span line, const char *reason,
                  const char *detail)
{
    message_refuse(&content->refusal, 400, reason, detail);
    return h1_blame_cr(line, &content->refusal);
}

/* chunk-size [ chunk-ext ] */
static int parse_chunk_line(struct h1_content *content, struct span line)
{
    uint64_t size = 0;
    size_t digits = 0;

    for (; digits < line.len && digits <= MAX_SIZE_DIGITS && char_hex(line.at[digits]) >= 0;
         digits++)
        size = size << 4 | (uint64_t)char_hex(line.at[digits]);
    if (digits == 0)
        return refuse(content, line, "Number", "a chunk size that is no number");
    if (digits > MAX_SIZE_DIGITS || size > INT64_MAX)
        return refuse(content, line, "Number", "a chunk size above 2^63-1");

    struct span extensions = span_skip(line, digits);

    if (!extensions_valid(extensions))
        return refuse(content, line, "BadRequest", "a malformed chunk extension");
    content->extension_bytes += (uint32_t)extensions.len;
    if (content->extension_bytes > MAX_EXTENSION_BYTES)
        return refuse(content, line, "BadRequest", "too many bytes of chunk extensions");
    content->left = size;
    content->state = size > 0 ? CONTENT_DATA : CONTENT_TRAILERS;
    return STEP_ON;
}

static int step_end(struct h1_content *content, struct span in, size_t *taken, struct span *data)
{
    (void)content, (void)in, (void)taken, (void)data;
    return H1_END;
}

static int step_data(struct h1_content *content, struct span in, size_t *taken, struct span *data)
{
    if (in.len == 0)
        return ERR_AGAIN;
    *taken = content->left < in.len ? (size_t)content->left : in.len;
    *data = span_of(in.at, *taken);
    content->left -= *taken;
    if (content->left == 0)
        content->state = content->framing == FRAMING_UNSIZED ? CONTENT_CHUNK_END : CONTENT_END;
    return H1_DATA;
}

static int step_chunk_line(struct h1_content *content, struct span in, size_t *taken,
                           struct span *data)
{
    bool whole;
    struct span text, line = h1_line(in, content->scanned, &whole);

    (void)data;
    if (h1_line_passes(line, MAX_CHUNK_LINE_BYTES) != SIZE_MAX)
        return message_refuse(&content->refusal, 400, "BadRequest", "an over-long chunk line");
    if (!whole) {
        content->scanned = (uint32_t)line.len;
        return ERR_AGAIN;
    }
    if (h1_line_content(line, &text, &content->refusal) < 0)
        return ERR_INVALID;
    *taken = line.len;
    content->scanned = 0;
    return parse_chunk_line(content, text);
}

static int step_chunk_end(struct h1_content *content, struct span in, size_t *taken,
                          struct span *data)
{
    (void)data;
    if ((in.len > 0 && in.at[0] != '\r') || (in.len > 1 && in.at[1] != '\n'))
        return message_refuse(&content->refusal, 400, "Invalid_CR/LF", "a chunk without its CRLF");
    if (in.len < 2)
        return ERR_AGAIN;
    *taken = 2;
    content->state = CONTENT_CHUNK_LINE;
    return STEP_ON;
}

/* Keeps a trailer field, or not; line is checked either way. */
static int take_trailer(struct h1_content *content, struct span line)
{
    struct field field;

    if (h1_parse_field(line, &field, &content->refusal) < 0)
        return ERR_INVALID;

    enum trailer_fate fate = trailer_fate_of(field.name);

    if (fate == TRAILER_FRAMING)
        return message_refuse(&content->refusal, 400, "Header",
                              "a framing field among the trailers");
    content->trailer_count++;
    if (content->trailers && fate == TRAILER_KEPT)
        fields_add(content->trailers, arena_copy(content->arena, field.name),
                   arena_copy(content->arena, field.value));
    return STEP_ON;
}

static int step_trailers(struct h1_content *content, struct span in, size_t *taken,
                         struct span *data)
{
    bool whole;
    struct span text, line = h1_line(in, content->scanned, &whole);

    (void)data;
    if (h1_check_field_limits(content->limits, line, whole, content->trailer_bytes,
                              content->trailer_count, &content->refusal) < 0)
        return ERR_INVALID;
    if (!whole) {
        content->scanned = (uint32_t)line.len;
        return ERR_AGAIN;
    }
    if (h1_line_content(line, &text, &content->refusal) < 0)
        return ERR_INVALID;
    *taken = line.len;
    content->trailer_bytes += (uint32_t)line.len;
    content->scanned = 0;
    if (text.len > 0)
        return take_trailer(content, text);
    content->state = CONTENT_END;
    return H1_END;
}

typedef int step_fn(struct h1_content *content, struct span in, size_t *taken, struct span *data);

static step_fn *const steps[] = {
    [CONTENT_END] = step_end,
    [CONTENT_DATA] = step_data,
    [CONTENT_CHUNK_LINE] = step_chunk_line,
    [CONTENT_CHUNK_END] = step_chunk_end,
    [CONTENT_TRAILERS] = step_trailers,
};

int h1_read_content(struct h1_content *content, struct span in, size_t *used, struct span *data)
{
    int rc;

    *used = 0;
    *data = SPAN_NONE;
    do {
        size_t taken = 0;

        rc = steps[content->state](content, span_skip(in, *used), &taken, data);
        *used += taken;
    } while (rc == STEP_ON);
    return rc;
}
