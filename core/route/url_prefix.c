/*
 * Reading goes from left to right: scheme, authority, port, host, path; the first thing that is
 * wrong ends it with a message. What was read is then written out once in canonical form, and the
 * spans of a prefix point there.
 */
#include "route/url_prefix.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/mem.h"

#define MAX_LABEL   63  /* bytes (RFC 1035 section 2.3.4) */
#define SHOWN_BYTES 160 /* of a wrong prefix in its message */

struct reading {
    struct span text, path;
    struct err_text *why;
    struct url_prefix *prefix;
    char host[URL_PREFIX_MAX_HOST + 1]; /* canonical; longer than any bracketed address */
    bool needs_slash;                   /* behind the path */
};

/* Bytes of the UTF-8 character at the front of text (RFC 3629 section 4), 0 when there is none. */
static size_t utf8_character(struct span text)
{
    static const struct {
        unsigned char first, last, low, high; /* lead bytes, and what may follow them */
        size_t len;
    } rows[] = {
        {0x00, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
        {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    const unsigned char *bytes = (const unsigned char *)text.at;
    size_t row = 0, rows_count = sizeof(rows) / sizeof(rows[0]);

    while (row < rows_count && (bytes[0] < rows[row].first || bytes[0] > rows[row].last))
        row++;
    if (row == rows_count || text.len < rows[row].len)
        return 0;
    if (rows[row].len > 1 && (bytes[1] < rows[row].low || bytes[1] > rows[row].high))
        return 0;
    for (size_t i = 2; i < rows[row].len; i++)
        if ((bytes[i] & 0xC0) != 0x80)
            return 0;
    return rows[row].len;
}

/* Whether the character of len bytes at c is a control one: C0, DEL, or C1 (0xC2 0x80 to 0x9F). */
static bool is_control(const char *c, size_t len)
{
    unsigned char first = (unsigned char)c[0];

    return first < 0x20 || first == 0x7F ||
           (len == 2 && first == 0xC2 && (unsigned char)c[1] < 0xA0);
}

/* What a message shows of text: one line of valid characters, a '?' for each that is none. */
static void show(struct span text, char out[SHOWN_BYTES + 8])
{
    size_t len = 0;

    for (size_t i = 0, step = 0; i < text.len; i += step) {
        size_t character = utf8_character(span_of(text.at + i, text.len - i));

        step = character ? character : 1;
        if (len + step > SHOWN_BYTES) {
            memcpy(out + len, "...", 3);
            len += 3;
            break;
        }
        if (character == 0 || is_control(text.at + i, character)) {
            out[len++] = '?';
            continue;
        }
        memcpy(out + len, text.at + i, character);
        len += character;
    }
    out[len] = '\0';
}

static int fail(struct reading *reading, const char *wrong)
{
    char shown[SHOWN_BYTES + 8];

    show(reading->text, shown);
    return err_set(reading->why, EXIT_OPTION, ERR_INVALID, "%s: %s", shown, wrong);
}

/* Takes the scheme and "://" off rest. */
static int read_scheme(struct reading *reading, struct span *rest)
{
    const char *end = memmem(rest->at, rest->len, "://", 3);

    if (end == NULL)
        return fail(reading, "a prefix is scheme://host:port/path/, and there is no ://");

    struct span scheme = span_of(rest->at, (size_t)(end - rest->at));

    reading->prefix->https = span_eq_nocase(scheme, SPAN("https"));
    if (!reading->prefix->https && !span_eq_nocase(scheme, SPAN("http")))
        return fail(reading, "the scheme must be http or https");
    *rest = span_of(end + 3, rest->len - scheme.len - 3);
    return 0;
}

static int read_port(struct reading *reading, struct span digits)
{
    unsigned long port = 0;
    size_t count = 0;

    while (count < digits.len && digits.at[count] >= '0' && digits.at[count] <= '9')
        count++;
    if (digits.len == 0 || count < digits.len)
        return fail(reading, "the port must be a number between 1 and 65535 (without ':' it is 80 "
                             "for http, 443 for https)");
    if (digits.len > 1 && digits.at[0] == '0')
        return fail(reading, "the port must be written without leading zeros");
    for (size_t i = 0; i < count && port <= 65535; i++)
        port = 10 * port + (unsigned long)(digits.at[i] - '0');
    if (port > 65535)
        return fail(reading,
                    "the port must be between 1 and 65535 (0 for any free one, http only)");
    if (port == 0 && reading->prefix->https)
        return fail(reading,
                    "port 0 (any free one) is for http only; https takes one from 1 to 65535");
    reading->prefix->port = (uint16_t)port;
    return 0;
}

static void set_host(struct reading *reading, const char *before, const char *host,
                     const char *behind)
{
    snprintf(reading->host, sizeof(reading->host), "%s%s%s", before, host, behind);
}

static int read_ipv6(struct reading *reading, struct span host)
{
    char text[INET6_ADDRSTRLEN] = "";
    struct in6_addr address;

    if (host.len - 2 < sizeof(text))
        memcpy(text, host.at + 1, host.len - 2);
    if (strlen(text) != host.len - 2 || inet_pton(AF_INET6, text, &address) != 1)
        return fail(reading, "what is in brackets must be an IPv6 address (without a zone), as in "
                             "http://[::1]:80/");
    reading->prefix->bucket = PREFIX_IP;
    if (IN6_IS_ADDR_V4MAPPED(&address))
        set_host(reading, "", inet_ntop(AF_INET, &address.s6_addr[12], text, sizeof(text)), "");
    else
        set_host(reading, "[", inet_ntop(AF_INET6, &address, text, sizeof(text)), "]");
    return 0;
}

static int read_ipv4(struct reading *reading, struct span host)
{
    char text[INET_ADDRSTRLEN] = "";
    struct in_addr address;

    if (host.len < sizeof(text))
        memcpy(text, host.at, host.len);
    if (strlen(text) != host.len || inet_pton(AF_INET, text, &address) != 1)
        return fail(reading, "an IPv4 address must be four numbers from 0 to 255 without leading "
                             "zeros, as in 192.0.2.1");
    reading->prefix->bucket = PREFIX_IP;
    set_host(reading, "", text, "");
    return 0;
}

static bool is_host_byte(char c)
{
    c = ascii_lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* Why no host has this byte. */
static int refuse_host_byte(struct reading *reading, char c)
{
    if ((unsigned char)c >= 0x80)
        return fail(reading, "the host must be in ASCII: write an international name in its xn-- "
                             "form");
    if (c == '*')
        return fail(reading, "an asterisk in the host must stand alone or be the whole left-most "
                             "label, as in *.example.com");
    if (c == ':')
        return fail(reading, "an IPv6 address needs brackets, as in http://[::1]:80/, and no other "
                             "host may hold a colon");
    return fail(reading, "the host must consist of letters, digits, '-', '.' and '_', or be + or * "
                         "or an IPv6 address in brackets");
}

static int check_labels(struct reading *reading, struct span name)
{
    size_t label = 0;

    for (size_t i = 0; i <= name.len; i++) {
        if (i < name.len && name.at[i] != '.') {
            if (!is_host_byte(name.at[i]))
                return refuse_host_byte(reading, name.at[i]);
            label++;
            continue;
        }
        if (label == 0 || label > MAX_LABEL)
            return fail(reading, "each label of the host must be 1 to 63 bytes long");
        label = 0;
    }
    return 0;
}

static bool is_digits_and_dots(struct span host)
{
    for (size_t i = 0; i < host.len; i++)
        if ((host.at[i] < '0' || host.at[i] > '9') && host.at[i] != '.')
            return false;
    return true;
}

static int read_name(struct reading *reading, struct span host)
{
    bool subdomains = host.len > 2 && memcmp(host.at, "*.", 2) == 0;
    struct span name = subdomains ? span_of(host.at + 2, host.len - 2) : host;

    if (is_digits_and_dots(name)) {
        if (subdomains)
            return fail(reading, "*. must stand before a name, not before an address");
        return read_ipv4(reading, host);
    }
    if (check_labels(reading, name) < 0)
        return ERR_INVALID;
    if (host.len > URL_PREFIX_MAX_HOST)
        return fail(reading, "the host must not be longer than 253 bytes");
    for (size_t i = 0; i < host.len; i++)
        reading->host[i] = ascii_lower(host.at[i]);
    reading->host[host.len] = '\0';
    reading->prefix->bucket = PREFIX_HOST;
    reading->prefix->subdomains = subdomains;
    return 0;
}

static int read_host(struct reading *reading, struct span host)
{
    if (host.len == 0)
        return fail(reading, "the host is missing: a name, an address, + or *");
    if (host.at[0] == '[' && host.at[host.len - 1] == ']')
        return read_ipv6(reading, host);
    if (host.len > 1 || (host.at[0] != '+' && host.at[0] != '*'))
        return read_name(reading, host);
    reading->prefix->bucket = host.at[0] == '+' ? PREFIX_STRONG : PREFIX_WEAK;
    set_host(reading, "", host.at[0] == '+' ? "+" : "*", "");
    return 0;
}

/* The colon between host and port: the last one, but not one inside brackets. NULL for none. */
static const char *port_colon(struct span authority)
{
    const char *colon = memrchr(authority.at, ':', authority.len);
    const char *bracket = memrchr(authority.at, ']', authority.len);

    return colon && bracket && colon < bracket ? NULL : colon;
}

static int read_authority(struct reading *reading, struct span authority)
{
    const char *colon = authority.len > 0 ? port_colon(authority) : NULL;
    struct span host = authority;

    reading->prefix->port = reading->prefix->https ? 443 : 80;
    if (colon) {
        host.len = (size_t)(colon - authority.at);
        /* Before the port: what an address without brackets ends in is none. */
        if (authority.at[0] != '[' && memchr(host.at, ':', host.len))
            return refuse_host_byte(reading, ':');
        if (read_port(reading, span_of(colon + 1, authority.len - host.len - 1)) < 0)
            return ERR_INVALID;
    }
    return read_host(reading, host);
}

/* Requests are matched on a path that has no such segments. */
static int check_segment(struct reading *reading, struct span segment)
{
    if (segment.len == 0)
        return fail(reading, "the path has two slashes in a row, which requests are matched "
                             "without: write one");
    if (span_eq(segment, SPAN(".")) || span_eq(segment, SPAN("..")))
        return fail(reading, "the path has a segment . or .., which can never match: write the "
                             "path without it");
    return 0;
}

static int check_characters(struct reading *reading, struct span path)
{
    for (size_t i = 0, step = 0; i < path.len; i += step) {
        step = utf8_character(span_of(path.at + i, path.len - i));
        if (step == 0)
            return fail(reading, "the path must be valid UTF-8");
        if (path.at[i] == ' ' || is_control(path.at + i, step))
            return fail(reading, "the path must not hold blanks or control characters");
        if (path.at[i] == '\\')
            return fail(reading, "the path has a backslash, which requests are matched without: "
                                 "write a slash");
    }
    return 0;
}

/* path is empty or begins with a slash. */
static int read_path(struct reading *reading, struct span path)
{
    if (path.len <= 1) {
        reading->path = SPAN("/");
        return 0;
    }
    reading->path = path;
    reading->needs_slash = path.at[path.len - 1] != '/';
    if (path.len + reading->needs_slash > URL_PREFIX_MAX_PATH)
        return fail(reading, "the path must not be longer than 2048 bytes");
    if (check_characters(reading, path) < 0)
        return ERR_INVALID;
    for (size_t start = 1; start < path.len;) {
        const char *slash = memchr(path.at + start, '/', path.len - start);
        size_t end = slash ? (size_t)(slash - path.at) : path.len;

        if (check_segment(reading, span_of(path.at + start, end - start)) < 0)
            return ERR_INVALID;
        start = end + 1;
    }
    return 0;
}

/* Gives prefix, whose bucket, flags and port are set, its text. */
static void compose(struct url_prefix *prefix, struct span host, struct span path, bool slash)
{
    const char *scheme = prefix->https ? "https" : "http";
    size_t size = sizeof("https://:65535/") + host.len + path.len;
    char *text = mem_alloc(size);
    int front = snprintf(text, size, "%s://%.*s:%u", scheme, (int)host.len, host.at, prefix->port);
    size_t len = (size_t)front;

    memcpy(text + len, path.at, path.len);
    len += path.len;
    if (slash)
        text[len++] = '/';
    text[len] = '\0';
    prefix->text = text;
    prefix->canonical = span_of(text, len);
    prefix->host = span_of(text + strlen(scheme) + 3, host.len);
    prefix->path = span_of(text + front, len - (size_t)front);
}

int url_prefix_parse(struct url_prefix *prefix, struct span text, struct err_text *why)
{
    struct reading reading = {.text = text, .why = why, .prefix = prefix};
    struct span rest = text;

    *prefix = (struct url_prefix){0};
    if (text.len == 0)
        return err_set(why, EXIT_OPTION, ERR_INVALID,
                       ": a prefix must not be empty: it is scheme://host:port/path/");
    if (read_scheme(&reading, &rest) < 0)
        return ERR_INVALID;

    const char *slash = memchr(rest.at, '/', rest.len);
    size_t end = slash ? (size_t)(slash - rest.at) : rest.len;

    if (read_authority(&reading, span_of(rest.at, end)) < 0 ||
        read_path(&reading, span_of(rest.at + end, rest.len - end)) < 0)
        return ERR_INVALID;
    compose(prefix, span_str(reading.host), reading.path, reading.needs_slash);
    return 0;
}

void url_prefix_fini(struct url_prefix *prefix)
{
    mem_free(prefix->text);
    *prefix = (struct url_prefix){0};
}

void url_prefix_copy(struct url_prefix *copy, const struct url_prefix *prefix)
{
    *copy = *prefix;
    compose(copy, prefix->host, prefix->path, false);
}

bool url_prefix_equal(const struct url_prefix *a, const struct url_prefix *b)
{
    return span_eq_nocase(a->canonical, b->canonical);
}

bool url_prefix_is_wildcard_top(const struct url_prefix *prefix)
{
    return prefix->bucket == PREFIX_STRONG || prefix->bucket == PREFIX_WEAK;
}

bool url_prefix_is_loopback_name(const struct url_prefix *prefix)
{
    struct span host = prefix->host, tail = SPAN(".localhost");

    return span_eq(host, SPAN("localhost")) ||
           (host.len > tail.len && memcmp(host.at + host.len - tail.len, tail.at, tail.len) == 0);
}

void url_prefix_set_port(struct url_prefix *prefix, uint16_t port)
{
    char *old = prefix->text;

    CHECK(port != 0);
    prefix->port = port;
    compose(prefix, prefix->host, prefix->path, false);
    mem_free(old);
}

void url_prefix_print(const struct url_prefix *prefix, struct buf *out)
{
    buf_append(out, prefix->canonical);
}
