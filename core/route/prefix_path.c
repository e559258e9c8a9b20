/*
 * The handler's path differs from the cooked one where two readers could disagree: it keeps %2F,
 * backslashes and double slashes. So the end of the base is found by walking over both; where
 * dot segments met double slashes the two may have nothing in common any more.
 */
#include "route/prefix_path_priv.h"

#include "base/err.h"
#include "http/refusal.h"

struct span prefix_path_raw(const struct target *target)
{
    const char *at = target->raw.at, *end = target->raw.at + target->raw.len;

    if (target->form == TARGET_ASTERISK || target->form == TARGET_AUTHORITY)
        return SPAN("");
    if (target->form == TARGET_ABSOLUTE)
        at = target->authority.at + target->authority.len;
    if (target->has_query)
        end = target->query.at - 1;
    return span_of(at, (size_t)(end - at));
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes one byte off text, or the one that an escape stands for. */
static char take_byte(struct span *text)
{
    int high = text->len >= 3 && text->at[0] == '%' ? hex_value(text->at[1]) : -1;
    int low = high >= 0 ? hex_value(text->at[2]) : -1;
    size_t used = low >= 0 ? 3 : 1;
    char c = low >= 0 ? (char)(high << 4 | low) : text->at[0];

    text->at += used;
    text->len -= used;
    return c;
}

/* What was cooked: whole segments, each with its slash behind it, and the one being written. */
struct cooking {
    char *out;
    size_t len, segment; /* segment: where the last one begins; there is a slash before it */
};

/* Ends the segment, which may take the one before with it. False when there is none before. */
static bool end_segment(struct cooking *cooking)
{
    struct span segment = span_of(cooking->out + cooking->segment, cooking->len - cooking->segment);
    bool up = span_eq(segment, SPAN("..")), stay = span_eq(segment, SPAN("."));

    if (up && cooking->segment == 1)
        return false;
    if (up)
        while (cooking->out[--cooking->segment - 1] != '/')
            ;
    if (up || stay || segment.len == 0)
        cooking->len = cooking->segment;
    else
        cooking->out[cooking->len++] = '/';
    cooking->segment = cooking->len;
    return true;
}

bool prefix_path_cook(struct span raw, struct arena *scratch, struct span *cooked)
{
    struct cooking cooking = {arena_alloc(scratch, raw.len + 2), 1, 1};

    cooking.out[0] = '/';
    while (raw.len > 0) {
        char c = take_byte(&raw);

        if (c != '/' && c != '\\')
            cooking.out[cooking.len++] = c;
        else if (!end_segment(&cooking))
            return false;
    }
    if (!end_segment(&cooking))
        return false;
    *cooked = span_of(cooking.out, cooking.len - 1);
    return true;
}

/*
 * The path as the handler sees it, but with '?' for each percent sign that came from %25, so that a
 * "%2F" in it was an escaped slash and never %252F. Has as many bytes as target->path. SPAN_NONE
 * when there is no such thing.
 */
static struct span mark_percents(const struct target *target, struct arena *scratch)
{
    const struct target_limits none = {0, 0};
    struct span raw = prefix_path_raw(target);
    struct target marked;
    struct refusal why;

    if (memmem(raw.at, raw.len, "%25", 3) == NULL)
        return target->path;

    char *text = arena_alloc(scratch, raw.len);

    memcpy(text, raw.at, raw.len);
    for (size_t i = 0; i + 2 < raw.len; i++)
        if (memcmp(text + i, "%25", 3) == 0)
            memcpy(text + i, "%3F", 3);
    if (target_parse(&marked, span_of(text, raw.len), SPAN("GET"), &none, scratch, &why) < 0 ||
        marked.path.len != target->path.len)
        return SPAN_NONE;
    return marked.path;
}

/* Bytes of the slash, in any of its spellings, at this place of a marked path; 0 for none. */
static size_t slash_at(struct span marked, size_t at)
{
    if (at >= marked.len)
        return 0;
    if (marked.at[at] == '/' || marked.at[at] == '\\')
        return 1;
    return marked.len - at >= 3 && span_eq_nocase(span_of(marked.at + at, 3), SPAN("%2f")) ? 3 : 0;
}

/* Where base ends in path, when a run of slashes counts as one. */
static size_t walk(struct span path, struct span marked, struct span base)
{
    size_t at = 0;

    for (size_t i = 0; i < base.len; i++) {
        size_t slash = slash_at(marked, at);

        if ((base.at[i] == '/') != (slash > 0) || at >= path.len)
            return 0;
        if (slash == 0 && ascii_lower(base.at[i]) != ascii_lower(path.at[at]))
            return 0;
        at += slash ? slash : 1;
        while (slash > 0 && (slash = slash_at(marked, at)) > 0)
            at += slash;
    }
    return at == path.len || path.at[at] == '/' ? at : 0;
}

size_t prefix_path_split(const struct target *target, struct span base, struct arena *scratch)
{
    struct span path = target->path;
    bool longer = path.len > base.len;

    if ((path.len == base.len || (longer && path.at[base.len] == '/')) &&
        span_eq_nocase(span_of(path.at, base.len), base))
        return base.len;

    struct span marked = mark_percents(target, scratch);

    return marked.at ? walk(path, marked, base) : 0;
}
