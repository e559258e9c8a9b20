/*
 * A strict reader: a proxy that is trusted writes these fields well, so that what does not fit the
 * grammar was half written by somebody else, such as a client whose open quote would swallow what
 * the proxy added. Two allowances: empty list elements are skipped (RFC 9110 section 5.6.1), and
 * blanks around the ';' of Forwarded, which its grammar lacks and many configurations have.
 */
#include "http/forwarded.h"

#include <arpa/inet.h>

#include "base/err.h"
#include "http/chars_priv.h"
#include "http/target.h"

#define TOO_MANY "more than 32 hops of proxies"

static int invalid(struct forwarded *out, const char *detail)
{
    out->detail = detail;
    return ERR_INVALID;
}

/* ---- nodes: an address or a name, and maybe a port (RFC 7239 section 6) */

struct node {
    enum forwarded_node kind;
    struct span ip;
    uint16_t port;
};

static bool is_ip(int family, struct span text)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.at, '\0', text.len))
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    return inet_pton(family, copy, &address) == 1;
}

/* '_' and at least one of ALPHA, DIGIT, '.', '_' and '-'. */
static bool is_obfuscated(struct span text)
{
    if (text.len < 2 || text.at[0] != '_')
        return false;
    for (size_t i = 1; i < text.len; i++)
        if (!char_is(text.at[i], CHAR_ALPHA | CHAR_DIGIT) && text.at[i] != '.' &&
            text.at[i] != '_' && text.at[i] != '-')
            return false;
    return true;
}

static bool parse_port(struct span text, uint16_t *port)
{
    uint32_t number = 0;

    if (text.len < 1 || text.len > 5 || chars_span(text, CHAR_DIGIT) < text.len)
        return false;
    for (size_t i = 0; i < text.len; i++)
        number = 10 * number + (uint32_t)(text.at[i] - '0');
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

/* Takes the name off the front of *text, without the brackets of an IPv6 address. */
static bool take_node_name(struct span *text, struct node *node)
{
    bool bracketed = text->len > 0 && text->at[0] == '[';
    const char *end = text->len > 0 ? memchr(text->at, bracketed ? ']' : ':', text->len) : NULL;
    size_t len = end ? (size_t)(end - text->at) : text->len;
    struct span name = span_of(text->at, len);

    if (bracketed) {
        if (end == NULL || !is_ip(AF_INET6, span_skip(name, 1)))
            return false;
        *node = (struct node){.kind = FORWARDED_IP, .ip = span_skip(name, 1)};
        *text = span_skip(*text, len + 1);
        return true;
    }
    *text = span_skip(*text, len);
    *node = (struct node){.kind = FORWARDED_HIDDEN};
    if (is_ip(AF_INET, name))
        *node = (struct node){.kind = FORWARDED_IP, .ip = name};
    return node->kind == FORWARDED_IP || span_eq_nocase(name, SPAN("unknown")) ||
           is_obfuscated(name);
}

static bool parse_node(struct span text, struct node *node)
{
    if (!take_node_name(&text, node))
        return false;
    if (text.len == 0)
        return true;
    if (text.at[0] != ':')
        return false;
    return parse_port(span_skip(text, 1), &node->port) || is_obfuscated(span_skip(text, 1));
}

/* An entry of X-Forwarded-For: an IPv6 address may stand without brackets, and has no port then. */
static bool parse_x_node(struct span text, struct node *node)
{
    if (is_ip(AF_INET6, text)) {
        *node = (struct node){.kind = FORWARDED_IP, .ip = text};
        return true;
    }
    return memchr(text.at, '_', text.len) == NULL && parse_node(text, node);
}

/* ---- Forwarded */

/* An element while it is read. */
struct element {
    struct forwarded *out;
    struct arena *arena;
    struct span rest;
    struct span names[FORWARDED_PAIRS_MOST];
    unsigned count;
};

/* scheme (RFC 3986 section 3.1) */
static bool is_scheme(struct span text)
{
    return text.len > 0 && char_is(text.at[0], CHAR_ALPHA) &&
           chars_span(text, CHAR_SCHEME) == text.len;
}

static struct span unescape(struct span inside, struct arena *arena)
{
    char *out = arena_alloc(arena, inside.len);
    size_t len = 0;

    for (size_t i = 0; i < inside.len; i++) {
        if (inside.at[i] == '\\')
            i++;
        out[len++] = inside.at[i];
    }
    return span_of(out, len);
}

/* A quoted-string (RFC 9110 section 5.6.4) at the front of the rest. */
static bool take_quoted(struct element *element, struct span *value)
{
    struct span text = element->rest;
    bool escaped = false;

    for (size_t i = 1; i < text.len && char_is(text.at[i], CHAR_VALUE); i++) {
        if (text.at[i] == '"') {
            *value = span_of(text.at + 1, i - 1);
            if (escaped)
                *value = unescape(*value, element->arena);
            element->rest = span_skip(text, i + 1);
            return true;
        }
        if (text.at[i] != '\\')
            continue;
        escaped = true;
        if (++i == text.len || !char_is(text.at[i], CHAR_VALUE))
            return false;
    }
    return false;
}

static struct span take_token(struct element *element)
{
    struct span token = span_of(element->rest.at, chars_span(element->rest, CHAR_TOKEN));

    element->rest = span_skip(element->rest, token.len);
    return token;
}

static bool take_value(struct element *element, struct span *value)
{
    if (element->rest.len > 0 && element->rest.at[0] == '"')
        return take_quoted(element, value);
    *value = take_token(element);
    return value->len > 0;
}

/* Notes that a pair has this name: none may come twice (RFC 7239 section 4). */
static int note_name(struct element *element, struct span name)
{
    for (unsigned i = 0; i < element->count; i++)
        if (span_eq_nocase(element->names[i], name))
            return invalid(element->out, "a name twice in an element of Forwarded");
    if (element->count == FORWARDED_PAIRS_MOST)
        return invalid(element->out, "more than 16 pairs in an element of Forwarded");
    element->names[element->count++] = name;
    return 0;
}

/* What a pair says of the hop; unknown names are for others (RFC 7239 section 5.5). */
static int take_up(struct forwarded *out, struct forwarded_hop *hop, struct span name,
                   struct span value)
{
    bool is_for = span_eq_nocase(name, SPAN("for"));
    struct node node;

    if (is_for || span_eq_nocase(name, SPAN("by"))) {
        if (!parse_node(value, &node))
            return invalid(out, "a malformed node in Forwarded");
        if (is_for)
            hop->node = node.kind, hop->ip = node.ip, hop->port = node.port;
    } else if (span_eq_nocase(name, SPAN("proto"))) {
        if (!is_scheme(value))
            return invalid(out, "a malformed proto in Forwarded");
        hop->proto = value;
    } else if (span_eq_nocase(name, SPAN("host"))) {
        if (!authority_valid(value))
            return invalid(out, "a malformed host in Forwarded");
        hop->host = value;
    }
    return 0;
}

static int read_pair(struct element *element, struct forwarded_hop *hop)
{
    struct span name = take_token(element), value;

    if (name.len == 0 || element->rest.len == 0 || element->rest.at[0] != '=')
        return invalid(element->out, "an element of Forwarded that is no name=value");
    element->rest = span_skip(element->rest, 1);
    if (!take_value(element, &value))
        return invalid(element->out, "a malformed value in Forwarded");
    element->rest = span_skip_blanks(element->rest);
    if (element->rest.len > 0 && element->rest.at[0] != ';')
        return invalid(element->out, "a malformed value in Forwarded");
    if (note_name(element, name) < 0)
        return ERR_INVALID;
    return take_up(element->out, hop, name, value);
}

static int read_element(struct element *element)
{
    struct forwarded *out = element->out;
    struct forwarded_hop *hop;

    if (out->count == FORWARDED_MOST)
        return invalid(out, TOO_MANY);
    hop = &out->at[out->count++];
    *hop = (struct forwarded_hop){.node = FORWARDED_UNSAID};
    while (element->rest.len > 0) {
        if (element->rest.at[0] != ';' && read_pair(element, hop) < 0)
            return ERR_INVALID;
        if (element->rest.len > 0) /* at a ';' */
            element->rest = span_skip_blanks(span_skip(element->rest, 1));
    }
    return 0;
}

int forwarded_read(struct forwarded *out, const struct fields *fields, struct arena *arena)
{
    const struct span name = SPAN("Forwarded");
    const struct field *line = fields_find(fields, name, 0);

    out->count = 0;
    if (line == NULL)
        return ERR_NOT_FOUND;
    for (; line; line = fields_find(fields, name, (uint32_t)(line - fields->at) + 1)) {
        struct span list = line->value;
        struct element element = {.out = out, .arena = arena};

        while (fields_list_next(&list, &element.rest)) {
            element.count = 0;
            if (element.rest.len > 0 && read_element(&element) < 0)
                return ERR_INVALID;
        }
    }
    return 0;
}

/* ---- X-Forwarded-… */

struct x_list {
    struct span at[FORWARDED_MOST];
    uint32_t count, lines;
};

/* All elements of the lines with this name. */
static int read_list(struct x_list *list, const struct fields *fields, struct span name)
{
    const struct field *line = fields_find(fields, name, 0);

    list->count = list->lines = 0;
    for (; line; line = fields_find(fields, name, (uint32_t)(line - fields->at) + 1)) {
        struct span rest = line->value, element;

        list->lines++;
        while (fields_list_next(&rest, &element)) {
            if (element.len == 0)
                continue;
            if (list->count == FORWARDED_MOST)
                return ERR_INVALID;
            list->at[list->count++] = element;
        }
    }
    return 0;
}

/* The entry this far from the right end, or the left-most; SPAN_NONE when there are none. */
static struct span entry_from_right(const struct x_list *list, uint32_t distance)
{
    if (list->count == 0)
        return SPAN_NONE;
    return list->at[distance < list->count ? list->count - 1 - distance : 0];
}

static int check_x_lists(struct forwarded *out, const struct x_list *protos,
                         const struct x_list *hosts)
{
    for (uint32_t i = 0; i < protos->count; i++)
        if (!span_eq_nocase(protos->at[i], SPAN("http")) &&
            !span_eq_nocase(protos->at[i], SPAN("https")))
            return invalid(out, "X-Forwarded-Proto is neither http nor https");
    for (uint32_t i = 0; i < hosts->count; i++)
        if (!authority_valid(hosts->at[i]))
            return invalid(out, "a malformed X-Forwarded-Host");
    return 0;
}

static int read_x_nodes(struct forwarded *out, const struct x_list *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct node node;

        if (!parse_x_node(list->at[i], &node))
            return invalid(out, "a malformed address in X-Forwarded-For");
        out->at[i] = (struct forwarded_hop){.node = node.kind, .ip = node.ip, .port = node.port};
    }
    out->count = list->count;
    return 0;
}

int forwarded_read_x(struct forwarded *out, const struct fields *fields)
{
    struct x_list nodes, protos, hosts;

    out->count = 0;
    if (read_list(&nodes, fields, SPAN("X-Forwarded-For")) < 0 ||
        read_list(&protos, fields, SPAN("X-Forwarded-Proto")) < 0 ||
        read_list(&hosts, fields, SPAN("X-Forwarded-Host")) < 0)
        return invalid(out, TOO_MANY);
    if (nodes.lines + protos.lines + hosts.lines == 0)
        return ERR_NOT_FOUND;
    if (read_x_nodes(out, &nodes) < 0 || check_x_lists(out, &protos, &hosts) < 0)
        return ERR_INVALID;
    if (nodes.count == 0 && protos.count + hosts.count > 0)
        out->at[out->count++] = (struct forwarded_hop){.node = FORWARDED_UNSAID};
    for (uint32_t i = 0; i < out->count; i++) {
        out->at[i].proto = entry_from_right(&protos, out->count - 1 - i);
        out->at[i].host = entry_from_right(&hosts, out->count - 1 - i);
    }
    return 0;
}
