/*
 * The text is cut at '&' and at the first '=' of a piece before anything is decoded, so that an
 * escaped '&' or '=' is data. Most names and values hold neither '+' nor '%': those are handed out
 * as they lie.
 */
#include "http/query.h"

#include "http/chars_priv.h"

static struct span decode(struct span text, struct arena *arena)
{
    size_t plain = 0;

    while (plain < text.len && text.at[plain] != '+' && text.at[plain] != '%')
        plain++;
    if (plain == text.len)
        return text;

    char *out = arena_alloc(arena, text.len); /* decoding never makes text longer */
    size_t len = plain;

    memcpy(out, text.at, plain);
    for (size_t i = plain; i < text.len; i++) {
        int byte = char_escape(span_of(text.at + i, text.len - i));

        if (byte >= 0)
            i += 2;
        else
            byte = text.at[i] == '+' ? ' ' : text.at[i];
        out[len++] = (char)byte;
    }
    return span_of(out, len);
}

/* Takes the text up to the next separator, and the separator, off the front of *text. */
static struct span cut(struct span *text, char separator)
{
    const char *end = text->len > 0 ? memchr(text->at, separator, text->len) : NULL;
    struct span piece = *text;

    if (end)
        piece.len = (size_t)(end - text->at);
    size_t taken = piece.len + (end ? 1 : 0);

    *text = span_of(text->at + taken, text->len - taken);
    return piece;
}

bool query_next(struct span *text, struct query_pair *pair, struct arena *arena)
{
    while (text->len > 0) {
        struct span piece = cut(text, '&');

        if (piece.len == 0)
            continue;
        pair->name = decode(cut(&piece, '='), arena);
        pair->value = decode(piece, arena);
        return true;
    }
    return false;
}
