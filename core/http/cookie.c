/*
 * Cookie is read leniently, as RFC 6265 section 5 has browsers and servers meet, because a peer's
 * broken cookie must not cost it the good ones; Set-Cookie is written only when every browser will
 * take it the same way.
 */
#include "http/cookie.h"

#include <inttypes.h>

#include "base/err.h"
#include "http/date.h"
#include "http/fields.h"

/* Years 1601 (where RFC 6265's date algorithm begins) to 9999 (four digits). */
#define EXPIRES_MIN INT64_C(-11644473600)
#define EXPIRES_MAX INT64_C(253402300799)

static struct span unquote(struct span value)
{
    if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"')
        return span_of(value.at + 1, value.len - 2);
    return value;
}

bool cookie_next(struct span *text, struct cookie_pair *pair)
{
    while (text->len > 0) {
        const char *end = memchr(text->at, ';', text->len);
        struct span piece = span_of(text->at, end ? (size_t)(end - text->at) : text->len);
        size_t taken = piece.len + (end ? 1 : 0);

        *text = span_of(text->at + taken, text->len - taken);

        const char *equals = piece.len > 0 ? memchr(piece.at, '=', piece.len) : NULL;

        if (equals == NULL)
            continue;
        pair->name = span_trim(span_of(piece.at, (size_t)(equals - piece.at)));
        pair->value =
            unquote(span_trim(span_of(equals + 1, piece.len - (size_t)(equals - piece.at) - 1)));
        if (pair->name.len > 0)
            return true;
    }
    return false;
}

/* cookie-octet (RFC 6265 section 4.1.1): printable ASCII without space, '"', ',', ';' and '\'. */
static bool value_valid(struct span value)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = value.at[i];

        if (c <= ' ' || c >= 0x7f || c == '"' || c == ',' || c == ';' || c == '\\')
            return false;
    }
    return true;
}

static bool attribute_valid(struct span value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.at[i];

        if (c < ' ' || c == 0x7f || c == ';')
            return false;
    }
    return true;
}

/*
 * Browsers compare the prefixes without regard to case (RFC 6265bis section 5.4), so a writer must
 * too.
 */
static bool has_prefix(struct span name, struct span prefix)
{
    return name.len >= prefix.len && span_eq_nocase(span_of(name.at, prefix.len), prefix);
}

/* The part of cookie that cannot be written; NULL when there is none. */
static const char *fault(const struct cookie *cookie)
{
    bool host = has_prefix(cookie->name, SPAN("__Host-"));

    if (!field_name_valid(cookie->name))
        return "name";
    if (!value_valid(cookie->value))
        return "value";
    if (!attribute_valid(cookie->path))
        return "path";
    if (!attribute_valid(cookie->domain))
        return "domain";
    if (cookie->has_expires && (cookie->expires < EXPIRES_MIN || cookie->expires > EXPIRES_MAX))
        return "expires";
    if (!cookie->secure && cookie->same_site == COOKIE_NONE)
        return "same_site (none needs secure)";
    if (!cookie->secure && cookie->partitioned)
        return "partitioned (needs secure)";
    if (!cookie->secure && (host || has_prefix(cookie->name, SPAN("__Secure-"))))
        return "secure (the name's prefix needs it)";
    if (host && !span_eq(cookie->path, SPAN("/")))
        return "path (a __Host- cookie needs \"/\")";
    if (host && cookie->domain.at)
        return "domain (a __Host- cookie has none)";
    return NULL;
}

static const struct span same_site_names[] = {
    [COOKIE_STRICT] = {"; SameSite=Strict", 17},
    [COOKIE_LAX] = {"; SameSite=Lax", 14},
    [COOKIE_NONE] = {"; SameSite=None", 15},
};

static void write_attribute(struct buf *out, struct span name, struct span value)
{
    if (value.at == NULL)
        return;
    buf_append(out, name);
    buf_append(out, value);
}

static void write_flag(struct buf *out, bool set, struct span name)
{
    if (set)
        buf_append(out, name);
}

int cookie_write(struct buf *out, const struct cookie *cookie, const char **what)
{
    *what = fault(cookie);
    if (*what)
        return ERR_INVALID;
    buf_append(out, cookie->name);
    buf_append(out, SPAN("="));
    buf_append(out, cookie->value);
    write_attribute(out, SPAN("; Path="), cookie->path);
    write_attribute(out, SPAN("; Domain="), cookie->domain);
    if (cookie->has_max_age)
        buf_printf(out, "; Max-Age=%" PRId64, cookie->max_age);
    if (cookie->has_expires) {
        char date[DATE_BYTES];

        date_format(date, cookie->expires);
        write_attribute(out, SPAN("; Expires="), span_of(date, DATE_BYTES));
    }
    write_flag(out, cookie->secure, SPAN("; Secure"));
    write_flag(out, cookie->http_only, SPAN("; HttpOnly"));
    if (cookie->same_site != COOKIE_SAME_SITE_UNSET)
        buf_append(out, same_site_names[cookie->same_site]);
    write_flag(out, cookie->partitioned, SPAN("; Partitioned"));
    return 0;
}
