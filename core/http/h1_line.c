/*
 * A limit is judged before the syntax of its line, and of two limits the one that is passed at the
 * earlier byte answers: then it does not matter whether the reader saw that byte alone or with the
 * rest of the line.
 */
#include "http/h1_line_priv.h"
#include "http/message_rules.h"

#include "base/err.h"
#include "http/chars_priv.h"

size_t h1_line_passes(struct span line, size_t limit)
{
    if (line.len <= limit || line.at[limit] == '\n')
        return SIZE_MAX;
    if (line.at[limit] != '\r')
        return limit + 1;
    /* The CR may be the line's end; the next byte tells. */
    return line.len < limit + 2 || line.at[limit + 1] == '\n' ? SIZE_MAX : limit + 2;
}

/* How many bytes line and "authorization:" have in common. */
static size_t like_authorization(struct span line)
{
    const struct span text = SPAN("authorization:");
    size_t n = 0;

    while (n < line.len && n < text.len && ascii_lower(line.at[n]) == text.at[n])
        n++;
    return n;
}

/* As h1_line_passes, for a field line, whose limit hangs on its name: nothing is certain before
 * that is. */
static size_t field_passes(const struct message_limits *limits, struct span line)
{
    const size_t named = sizeof("authorization:") - 1;
    size_t alike = like_authorization(line), known = alike + 1, limit = limits->max_field_length;

    if (alike < named && alike == line.len)
        return SIZE_MAX;
    if (alike == named) {
        limit = limits->max_authorization_length;
        known = named;
    }

    size_t passed = h1_line_passes(line, limit);

    return passed < known ? known : passed;
}

int h1_judge_field_limits(const struct message_limits *limits, struct span line, bool whole,
                          uint32_t before, uint32_t count, struct refusal *why)
{
    size_t head_room = h1_head_room(limits, before);
    size_t line_passed = field_passes(limits, line);

    if (line.len > head_room && head_room + 1 < line_passed)
        return message_refuse(why, 431, "RequestLength",
                              "fields longer than max_request_head_bytes");
    if (line_passed != SIZE_MAX)
        return message_refuse(why, 431, "FieldLength", "a field line longer than its limit");
    if (whole && count >= limits->max_fields && line.at[0] != '\r')
        return message_refuse(why, 431, "FieldLength", "more field lines than max_fields");
    return 0;
}

int h1_blame_cr(struct span text, struct refusal *why)
{
    if (memchr(text.at, '\r', text.len))
        message_refuse(why, 400, "Invalid_CR/LF", "a bare CR");
    return ERR_INVALID;
}

static int refuse_field(struct span content, struct refusal *why, const char *detail)
{
    message_refuse(why, 400, "Header", detail);
    return h1_blame_cr(content, why);
}

static int refuse_name(struct span content, struct refusal *why)
{
    size_t name_len = chars_span(content, CHAR_TOKEN);
    bool blank = name_len < content.len && ascii_blank(content.at[name_len]);

    if (blank && name_len == 0)
        return refuse_field(content, why, "a field line that begins with a blank");
    if (blank && memchr(content.at, ':', content.len))
        return refuse_field(content, why, "a blank before the colon");
    return refuse_field(content, why, "a field name that is no token");
}

int h1_parse_field(struct span content, struct field *field, struct refusal *why)
{
    const char *colon = memchr(content.at, ':', content.len);
    size_t name_len = colon ? (size_t)(colon - content.at) : 0;

    field->name = span_of(content.at, name_len);
    field->id = field_id_of(field->name);
    if (field->id == FIELD_OTHER && !field_name_valid(field->name)) /* known names are tokens */
        return refuse_name(content, why);
    field->value = span_trim(span_of(colon + 1, content.len - name_len - 1));
    if (!field_value_valid(field->value))
        return refuse_field(content, why, "a control character in a field value");
    return 0;
}
