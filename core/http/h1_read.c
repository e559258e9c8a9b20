/*
 * Request heads. The request line is copied into the arena on its own and judged at once; field
 * lines are parsed where they arrived, and all that one call took is then copied in one piece and
 * the spans moved over. What concerns the message as a whole (Host, framing, persistence) is judged
 * when its last line is in.
 */
#include "http/h1_read.h"

#include "base/err.h"
#include "http/chars_priv.h"
#include "http/fields_priv.h"
#include "http/h1_line_priv.h"
#include "http/message_rules.h"

#define VERSION_BYTES 8u /* "HTTP/1.1" */

/* Room on the request line beside the target: method, two blanks, version. */
#define LINE_ALLOWANCE (MESSAGE_METHOD_BYTES + 2 + VERSION_BYTES)

enum { READER_START, READER_FIELDS, READER_DONE };

enum { HEAD_GOES_ON = 1 }; /* a line was taken, and another must follow */

void h1_reader_init(struct h1_reader *reader, const struct message_limits *limits,
                    struct request_head *head, struct arena *arena)
{
    *reader = (struct h1_reader){.limits = limits, .head = head, .arena = arena};
    *head = (struct request_head){.major = 1};
    fields_init(&head->fields, arena);
}

bool h1_reader_idle(const struct h1_reader *reader)
{
    return reader->state == READER_START && reader->scanned == 0;
}

static int refuse(struct h1_reader *reader, int status, const char *reason, const char *detail)
{
    return message_refuse(&reader->refusal, status, reason, detail);
}

static int check_request_line_limits(struct h1_reader *reader, struct span line)
{
    size_t limit = (size_t)reader->limits->max_target_bytes + LINE_ALLOWANCE;
    size_t head_room = h1_head_room(reader->limits, reader->head_bytes);

    if (line.len <= limit && line.len <= head_room)
        return 0;

    size_t passed = h1_line_passes(line, limit);

    if (line.len > head_room && head_room + 1 < passed)
        return refuse(reader, 431, "RequestLength", "a head longer than max_request_head_bytes");
    if (passed != SIZE_MAX)
        return refuse(reader, 414, "URL_Length",
                      "a request line longer than max_target_bytes allows");
    return 0;
}

/* "HTTP/" DIGIT "." DIGIT; a minor version above ours is answered as ours (RFC 9110 section 2.5).
 */
static int read_version(struct h1_reader *reader)
{
    struct span version = reader->head->version;

    if (version.len == VERSION_BYTES && memcmp(version.at, "HTTP/1.1", VERSION_BYTES) == 0) {
        reader->head->minor = 1; /* what nearly every client says */
        return 0;
    }
    if (version.len != VERSION_BYTES || memcmp(version.at, "HTTP/", 5) != 0 ||
        !char_is(version.at[5], CHAR_DIGIT) || version.at[6] != '.' ||
        !char_is(version.at[7], CHAR_DIGIT))
        return refuse(reader, 400, "BadRequest", "a malformed version");
    if (version.at[5] != '1')
        return refuse(reader, 505, "Version_N/S", "a major version other than 1");
    reader->head->minor = version.at[7] != '0';
    return 0;
}

/* method SP request-target SP HTTP-version (RFC 9112 section 3); line lies in the arena. */
static int parse_request_line(struct h1_reader *reader, struct span line)
{
    struct request_head *head = reader->head;
    size_t method_len = chars_span(line, CHAR_TOKEN);

    if (method_len == 0 || method_len == line.len || line.at[method_len] != ' ')
        return refuse(reader, 400, "Verb", "a malformed method");
    if (message_check_method(span_of(line.at, method_len), &reader->refusal) < 0)
        return ERR_INVALID;
    head->method = span_of(line.at, method_len);

    struct span rest = span_of(line.at + method_len + 1, line.len - method_len - 1);
    const char *blank = memrchr(rest.at, ' ', rest.len);

    if (blank == NULL)
        return refuse(reader, 400, "BadRequest", "a request line without version");

    struct span target = span_of(rest.at, (size_t)(blank - rest.at));

    head->target.raw = target; /* for logs, whatever becomes of it */
    head->version = span_of(blank + 1, rest.len - target.len - 1);
    if (target.len > reader->limits->max_target_bytes)
        return refuse(reader, 414, "URL_Length", "a target longer than max_target_bytes");
    if (target_parse(&head->target, target, head->method, &reader->limits->target, reader->arena,
                     &reader->refusal) < 0)
        return ERR_INVALID;
    return read_version(reader);
}

/* Takes empty lines and the request line. 0 when the request line was read. */
static int read_start(struct h1_reader *reader, struct span in, size_t *used)
{
    struct span line, content;
    bool whole;

    do {
        line = h1_line(span_of(in.at + *used, in.len - *used), reader->scanned, &whole);
        if (check_request_line_limits(reader, line) < 0)
            return ERR_INVALID;
        if (!whole) {
            reader->scanned = (uint32_t)line.len;
            return ERR_AGAIN;
        }
        if (h1_line_content(line, &content, &reader->refusal) < 0)
            return ERR_INVALID;
        *used += line.len;
        reader->head_bytes += (uint32_t)line.len;
        reader->scanned = 0;
    } while (content.len == 0);

    reader->state = READER_FIELDS;
    if (parse_request_line(reader, arena_copy(reader->arena, content)) == 0)
        return 0;
    return reader->refusal.status == 400 ? h1_blame_cr(content, &reader->refusal) : ERR_INVALID;
}

/* Takes one field line, or the empty line that ends the head: then 0, else HEAD_GOES_ON. */
static int read_field(struct h1_reader *reader, struct span in, size_t *taken)
{
    struct fields *fields = &reader->head->fields;
    struct span content;
    struct field field;
    bool whole;
    struct span line = h1_line(in, reader->scanned, &whole);

    if (h1_check_field_limits(reader->limits, line, whole, reader->head_bytes, fields->count,
                              &reader->refusal) < 0)
        return ERR_INVALID;
    if (!whole) {
        reader->scanned = (uint32_t)line.len;
        return ERR_AGAIN;
    }
    if (h1_line_content(line, &content, &reader->refusal) < 0)
        return ERR_INVALID;
    if (content.len > 0 && h1_parse_field(content, &field, &reader->refusal) < 0)
        return ERR_INVALID;
    *taken = line.len;
    reader->head_bytes += (uint32_t)line.len;
    reader->scanned = 0;
    if (content.len == 0)
        return 0;
    fields_push(fields, &field);
    return HEAD_GOES_ON;
}

/* Copies lines into the arena and makes the fields from index first on lie there. */
static void settle(struct h1_reader *reader, struct span lines, uint32_t first)
{
    struct fields *fields = &reader->head->fields;

    if (first == fields->count)
        return;

    const char *copy = arena_copy(reader->arena, lines).at;

    for (uint32_t i = first; i < fields->count; i++) {
        struct field *field = &fields->at[i];

        field->name.at = copy + (field->name.at - lines.at);
        field->value.at = copy + (field->value.at - lines.at);
    }
}

static int read_fields(struct h1_reader *reader, struct span in, size_t *used)
{
    uint32_t first = reader->head->fields.count;
    int rc;

    do {
        size_t taken = 0;

        rc = read_field(reader, span_of(in.at + *used, in.len - *used), &taken);
        *used += taken;
    } while (rc == HEAD_GOES_ON);
    settle(reader, span_of(in.at, *used), first);
    return rc;
}

/* What the fields say about the message as a whole. */
struct summary {
    const struct field *host, *length;
    bool transfer_encoding; /* there is such a field */
    bool chunked;           /* the last coding is chunked */
    bool unknown_coding;    /* one before it, or instead of it, is none of ours */
    bool close, keep_alive; /* tokens of Connection */
    bool expects;
};

static int note_length(struct h1_reader *reader, struct summary *summary, const struct field *field)
{
    if (summary->length && !span_eq(summary->length->value, field->value))
        return refuse(reader, 400, "Number", "two Content-Length fields that differ");
    summary->length = field;
    return message_read_length(field->value, &reader->head->content_length, &reader->refusal);
}

/*
 * Only the one spelling "chunked" as the one and last coding is taken. Codings that are none of
 * ours are 501, but not when chunked stands before them: then the end of the message is not certain
 * (RFC 9112 section 6.3).
 */
static int note_coding(struct h1_reader *reader, struct summary *summary, const struct field *field)
{
    struct span list = field->value, coding;

    summary->transfer_encoding = true;
    while (fields_list_next(&list, &coding)) {
        bool chunked = span_eq_nocase(coding, SPAN("chunked"));
        size_t name_len = chars_span(coding, CHAR_TOKEN);
        struct span name = span_of(coding.at, name_len);

        if (summary->chunked)
            return refuse(reader, 400, "Header", "a transfer coding behind chunked");
        if (name_len == 0 || (name_len < coding.len && coding.at[name_len] != ';') ||
            (!chunked && span_eq_nocase(name, SPAN("chunked"))))
            return refuse(reader, 400, "Header", "a malformed transfer coding");
        summary->chunked = chunked;
        summary->unknown_coding |= !chunked;
    }
    return 0;
}

static void note_connection(struct summary *summary, const struct field *field)
{
    struct span list = field->value, option;

    if (span_eq(list,
                SPAN("keep-alive"))) { /* what nearly every client says needs no list walked */
        summary->keep_alive = true;
        return;
    }
    while (fields_list_next(&list, &option)) {
        summary->close |= span_eq_nocase(option, SPAN("close"));
        summary->keep_alive |= span_eq_nocase(option, SPAN("keep-alive"));
    }
}

/* HTTP/1.0 knows no expectations: whatever it says there is ignored. */
static int note_expect(struct h1_reader *reader, struct summary *summary, const struct field *field)
{
    if (request_is_http10(reader->head))
        return 0;
    return message_read_expect(field->value, &summary->expects, &reader->refusal);
}

static int note_field(struct h1_reader *reader, struct summary *summary, const struct field *field)
{
    switch (field->id) {
    case FIELD_HOST:
        if (summary->host)
            return refuse(reader, 400, "Hostname", "more than one Host field");
        summary->host = field;
        return 0;
    case FIELD_CONTENT_LENGTH:
        return note_length(reader, summary, field);
    case FIELD_TRANSFER_ENCODING:
        return note_coding(reader, summary, field);
    case FIELD_CONNECTION:
        note_connection(summary, field);
        return 0;
    case FIELD_EXPECT:
        return note_expect(reader, summary, field);
    default:
        return 0;
    }
}

/* RFC 9112 section 3.2: even a target that makes it useless must come with a proper Host. */
static int judge_host(struct h1_reader *reader, const struct summary *summary)
{
    struct request_head *head = reader->head;

    if (summary->host == NULL && head->minor > 0)
        return refuse(reader, 400, "Hostname", "no Host field");
    if (summary->host && summary->host->value.len > 0 && !authority_valid(summary->host->value))
        return refuse(reader, 400, "Hostname", "a malformed Host");
    if (head->target.form == TARGET_ABSOLUTE)
        head->host = head->target.authority;
    else if (summary->host)
        head->host = summary->host->value;
    return 0;
}

/* Where the content ends (RFC 9112 section 6.3); what two readers could see in two ways is refused.
 */
static int judge_framing(struct h1_reader *reader, const struct summary *summary)
{
    struct request_head *head = reader->head;

    if (summary->transfer_encoding) {
        if (summary->length)
            return refuse(reader, 400, "BadRequest", "Content-Length with Transfer-Encoding");
        if (head->minor == 0)
            return refuse(reader, 400, "BadRequest", "Transfer-Encoding in HTTP/1.0");
        if (summary->unknown_coding)
            return refuse(reader, 501, "N/I", "an unknown transfer coding");
        if (!summary->chunked)
            return refuse(reader, 400, "Header", "a malformed transfer coding");
        head->framing = FRAMING_UNSIZED;
    } else if (head->content_length > 0) {
        head->framing = FRAMING_SIZED;
    }
    return 0;
}

static int finish_head(struct h1_reader *reader)
{
    struct request_head *head = reader->head;
    struct summary summary = {0};

    for (uint32_t i = 0; i < head->fields.count; i++)
        if (note_field(reader, &summary, &head->fields.at[i]) < 0)
            return ERR_INVALID;
    if (judge_host(reader, &summary) < 0 || judge_framing(reader, &summary) < 0)
        return ERR_INVALID;
    head->keep_alive = !summary.close && (head->minor > 0 || summary.keep_alive);
    head->expect_continue = summary.expects;
    reader->state = READER_DONE;
    return 0;
}

int h1_read_head(struct h1_reader *reader, struct span in, size_t *used)
{
    *used = 0;
    CHECK(reader->state != READER_DONE);
    if (reader->state == READER_START) {
        int rc = read_start(reader, in, used);

        if (rc < 0)
            return rc;
    }

    size_t taken = 0;
    int rc = read_fields(reader, span_of(in.at + *used, in.len - *used), &taken);

    *used += taken;
    return rc < 0 ? rc : finish_head(reader);
}
