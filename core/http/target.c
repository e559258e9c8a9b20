/*
 * The request target. The common path needs nothing done to it: one scan of the raw bytes shows
 * that, and the path is then the raw target's own bytes. Otherwise it is copied with its escapes
 * decoded (once, all but %2F), and then freed of dot segments: in this order, so that an escaped
 * dot is a dot.
 */
#include "http/target.h"

#include <arpa/inet.h>

#include "base/err.h"
#include "http/chars_priv.h"

static int refuse(struct refusal *why, int status, const char *reason, const char *detail)
{
    *why = (struct refusal){status, reason, detail};
    return ERR_INVALID;
}

static int refuse_url(struct refusal *why, const char *detail)
{
    return refuse(why, 400, "URL", detail);
}

/* Bytes of a well-formed UTF-8 sequence at the front of bytes (RFC 3629 section 4), 0 when there is
 * none. */
static size_t utf8_sequence(const unsigned char *bytes, size_t len)
{
    unsigned char lead = bytes[0], low = 0x80, high = 0xBF;
    size_t need = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;

    if (lead < 0xC2 || lead > 0xF4 || len < need)
        return 0;
    if (lead == 0xE0)
        low = 0xA0; /* below: overlong */
    if (lead == 0xED)
        high = 0x9F; /* above: surrogates */
    if (lead == 0xF0)
        low = 0x90;
    if (lead == 0xF4)
        high = 0x8F; /* above: past U+10FFFF */
    if (bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++)
        if (bytes[i] < 0x80 || bytes[i] > 0xBF)
            return 0;
    return need;
}

/*
 * HTTP.sys reads what is no UTF-8 in the system's code page, where these bytes of Windows-1252 have
 * no character: it refuses them, and takes the other ones.
 */
static bool in_no_code_page(int byte)
{
    return byte == 0x81 || byte == 0x8D || byte == 0x8F || byte == 0x90 || byte == 0x9D;
}

struct decoder {
    struct span in; /* not yet decoded */
    char *out;      /* where the next byte goes; has room for all of in */
    struct refusal *why;
};

static void put(struct decoder *decoder, const void *bytes, size_t len, size_t taken)
{
    memcpy(decoder->out, bytes, len);
    decoder->out += len;
    decoder->in.at += taken;
    decoder->in.len -= taken;
}

/* Escapes of bytes from 0x80: decoded when they make a character, else the first stays as it is
 * written. */
static int decode_sequence(struct decoder *decoder, int first)
{
    unsigned char bytes[4] = {(unsigned char)first};
    size_t count = 1;

    for (; count < sizeof(bytes) && 3 * count < decoder->in.len; count++) {
        struct span rest = span_of(decoder->in.at + 3 * count, decoder->in.len - 3 * count);
        int byte = char_escape(rest);

        if (byte < 0x80)
            break;
        bytes[count] = (unsigned char)byte;
    }

    size_t len = utf8_sequence(bytes, count);

    if (len == 0 && in_no_code_page(first))
        return refuse_url(decoder->why, "an escape that is no character");
    if (len == 2 && bytes[0] == 0xC2 && bytes[1] < 0xA0)
        return refuse_url(decoder->why, "an escaped control character");
    if (len == 0)
        put(decoder, decoder->in.at, 3, 3);
    else
        put(decoder, bytes, len, 3 * len);
    return 0;
}

static int decode_escape(struct decoder *decoder)
{
    int byte = char_escape(decoder->in);
    char c = (char)byte;

    if (byte < 0)
        return refuse_url(decoder->why, "a percent sign that begins no escape");
    if (byte < 0x20 || byte == 0x7F)
        return refuse_url(decoder->why, "an escaped control character");
    if (byte >= 0x80)
        return decode_sequence(decoder, byte);
    if (byte == '/')
        put(decoder, decoder->in.at, 3, 3); /* a slash inside a segment must not become a border */
    else
        put(decoder, &c, 1, 3);
    return 0;
}

/* Decodes the escapes of path into out, which has room for as many bytes as path has. */
static int decode(struct span path, char *out, size_t *len, struct refusal *why)
{
    struct decoder decoder = {path, out, why};

    while (decoder.in.len > 0) {
        const char *escape = memchr(decoder.in.at, '%', decoder.in.len);
        size_t plain = escape ? (size_t)(escape - decoder.in.at) : decoder.in.len;

        put(&decoder, decoder.in.at, plain, plain);
        if (escape && decode_escape(&decoder) < 0)
            return ERR_INVALID;
    }
    *len = (size_t)(decoder.out - out);
    return 0;
}

/* The index of the last slash before end; there is one, as the path begins with it. */
static size_t last_slash(const char *path, size_t end)
{
    while (path[--end] != '/')
        ;
    return end;
}

/*
 * Removes "." and ".." segments in place (RFC 3986 section 5.2.4); path begins with a slash. Where
 * the RFC lets
 * ".." stop at the root, we refuse: who asks for it is looking for a way out.
 */
static int remove_dot_segments(char *path, size_t *len, struct refusal *why)
{
    size_t kept = 0, at = 0;

    while (at < *len) {
        const char *slash = memchr(path + at + 1, '/', *len - at - 1);
        size_t end = slash ? (size_t)(slash - path) : *len;
        struct span segment = span_of(path + at + 1, end - at - 1);
        bool up = span_eq(segment, SPAN("..")), stay = span_eq(segment, SPAN("."));

        if (up && kept == 0)
            return refuse(why, 403, "Forbidden", "dot segments that lead above the root");
        if (up)
            kept = last_slash(path, kept);
        if (!up && !stay) {
            memmove(path + kept, path + at, end - at);
            kept += end - at;
        } else if (end == *len) {
            path[kept++] = '/'; /* what a last dot segment names is a folder */
        }
        at = end;
    }
    *len = kept;
    return 0;
}

/* Whether the segments of path keep to the limits; a character is a byte that continues none. */
static int check_segments(struct span path, const struct target_limits *limits, struct refusal *why)
{
    uint32_t count = 0, characters = 0;

    for (size_t i = 0; i < path.len; i++) {
        if (path.at[i] == '/') {
            count += i + 1 < path.len; /* nothing behind the last slash is no segment */
            characters = 0;
        } else if (((unsigned char)path.at[i] & 0xC0) != 0x80) {
            characters++;
        }
        if (limits->segment_max_length && characters > limits->segment_max_length)
            return refuse_url(why, "a path segment longer than url_segment_max_length");
        if (limits->segment_max_count && count > limits->segment_max_count)
            return refuse_url(why, "more path segments than url_segment_max_count");
    }
    return 0;
}

/* A path shorter than both limits cannot break one; most are. */
static int check_limits(struct span path, const struct target_limits *limits, struct refusal *why)
{
    uint32_t length = limits->segment_max_length ? limits->segment_max_length : UINT32_MAX;
    uint32_t count = limits->segment_max_count ? limits->segment_max_count : UINT32_MAX;

    return path.len <= length && path.len <= count ? 0 : check_segments(path, limits, why);
}

struct scan {
    size_t path_len; /* up to the '?' or the end */
    bool escapes, dots;
};

/* Looks at each byte of a path and query once. False when one may not stand in a target. */
static bool scan_path(struct span text, struct scan *scan)
{
    size_t i = 0;

    *scan = (struct scan){0};
    for (;; i++) {
        i += chars_span(span_of(text.at + i, text.len - i), CHAR_PATH_PLAIN);
        if (i == text.len || text.at[i] == '?')
            break;
        if (text.at[i] == '%')
            scan->escapes = true;
        else if (text.at[i] == '.')
            scan->dots |= text.at[i - 1] == '/'; /* the first byte is a slash */
        else
            return false;
    }
    scan->path_len = i;
    return chars_span(span_of(text.at + i, text.len - i), CHAR_TARGET) == text.len - i;
}

/* Path and query from text, which begins with a slash. */
static int read_path(struct target *target, struct span text, const struct target_limits *limits,
                     struct arena *arena, struct refusal *why)
{
    struct scan scan;

    if (!scan_path(text, &scan))
        return refuse_url(why, "a byte that must be escaped");
    if (scan.path_len < text.len) {
        target->has_query = true;
        target->query = span_of(text.at + scan.path_len + 1, text.len - scan.path_len - 1);
    }
    target->path = span_of(text.at, scan.path_len);
    if (scan.escapes || scan.dots) {
        char *path = arena_alloc(arena, scan.path_len);
        size_t len = 0;

        if (decode(target->path, path, &len, why) < 0 || remove_dot_segments(path, &len, why) < 0)
            return ERR_INVALID;
        target->path = span_of(path, len);
    }
    return check_limits(target->path, limits, why);
}

/* scheme "://" authority path-abempty [ "?" query ], for http and https: what else is no origin's
 * to answer. */
static int read_absolute(struct target *target, const struct target_limits *limits,
                         struct arena *arena, struct refusal *why)
{
    struct span raw = target->raw;
    size_t scheme_len = chars_span(raw, CHAR_SCHEME);
    size_t prefix_len = scheme_len + 3;

    target->scheme = span_of(raw.at, scheme_len);
    if (!span_eq_nocase(target->scheme, SPAN("http")) &&
        !span_eq_nocase(target->scheme, SPAN("https")))
        return refuse_url(why, "neither a path nor an http or https URL");
    if (raw.len < prefix_len || memcmp(raw.at + scheme_len, "://", 3) != 0)
        return refuse_url(why, "an absolute target without authority");

    size_t end = prefix_len;

    while (end < raw.len && raw.at[end] != '/' && raw.at[end] != '?')
        end++;
    target->authority = span_of(raw.at + prefix_len, end - prefix_len);
    if (!authority_valid(target->authority))
        return refuse_url(why, "an absolute target whose authority is malformed");
    if (end == raw.len) {
        target->path = SPAN("/");
        return 0;
    }
    if (raw.at[end] == '?')
        return refuse_url(why, "an absolute target with a query and no path");
    return read_path(target, span_of(raw.at + end, raw.len - end), limits, arena, why);
}

int target_parse(struct target *target, struct span raw, struct span method,
                 const struct target_limits *limits, struct arena *arena, struct refusal *why)
{
    *target = (struct target){.form = TARGET_ORIGIN, .raw = raw};
    if (raw.len == 0)
        return refuse_url(why, "no request target");
    if (span_eq(method, SPAN("CONNECT"))) {
        target->form = TARGET_AUTHORITY;
        target->authority = raw;
        if (!authority_valid(raw) || !char_is(raw.at[raw.len - 1], CHAR_DIGIT) ||
            memrchr(raw.at, ':', raw.len) == NULL)
            return refuse_url(why, "CONNECT without host and port");
        return 0;
    }
    if (raw.at[0] == '/')
        return read_path(target, raw, limits, arena, why);
    if (raw.at[0] != '*') {
        target->form = TARGET_ABSOLUTE;
        return read_absolute(target, limits, arena, why);
    }
    target->form = TARGET_ASTERISK;
    if (raw.len > 1 || !span_eq(method, SPAN("OPTIONS")))
        return refuse_url(why, "an asterisk is a target for OPTIONS alone");
    return 0;
}

/* "[" IPv6address "]"; zones and IPvFuture are for links and for the future. */
static bool is_bracketed_ipv6(struct span host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (host.len < 4 || host.len - 2 >= sizeof(text) || host.at[host.len - 1] != ']')
        return false;
    memcpy(text, host.at + 1, host.len - 2);
    text[host.len - 2] = '\0';
    return strlen(text) == host.len - 2 && inet_pton(AF_INET6, text, &address) == 1;
}

/* *( unreserved / pct-encoded / sub-delims ), at least one; dotted IPv4 addresses are among them.
 */
static bool is_reg_name(struct span host)
{
    for (size_t i = 0; i < host.len; i++) {
        if (char_is(host.at[i], CHAR_REG_NAME))
            continue;
        if (char_escape(span_of(host.at + i, host.len - i)) < 0)
            return false;
        i += 2;
    }
    return host.len > 0;
}

static bool is_port(struct span port)
{
    unsigned long number = 0;

    if (port.len > 5 || chars_span(port, CHAR_DIGIT) < port.len)
        return false;
    for (size_t i = 0; i < port.len; i++)
        number = 10 * number + (unsigned long)(port.at[i] - '0');
    return port.len == 0 || (number >= 1 && number <= 65535);
}

bool authority_valid(struct span authority)
{
    bool bracketed = authority.len > 0 && authority.at[0] == '[';
    const char *from = bracketed ? memchr(authority.at, ']', authority.len) : authority.at;
    const char *end = authority.at + authority.len;

    if (authority.len == 0 || from == NULL)
        return false;

    const char *colon = memchr(from, ':', (size_t)(end - from));
    struct span host = span_of(authority.at, (size_t)((colon ? colon : end) - authority.at));
    struct span port = colon ? span_of(colon + 1, (size_t)(end - colon - 1)) : SPAN_NONE;

    return (bracketed ? is_bracketed_ipv6(host) : is_reg_name(host)) && is_port(port);
}
