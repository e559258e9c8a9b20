/*
 * URL prefixes and their table. Any text: a prefix that is read is the same one when its canonical
 * form is read again, and a table finds it with its own host and path. And as a request: what the
 * table finds among fixed prefixes is what a slow matcher finds that goes through all of them.
 *
 * In a request the first line is the Host field and the rest the target; without a line end all is
 * the target.
 */
#include "route/prefix_table.h"

#include <stdlib.h>

#include "fuzz/fuzz.h"

#define MAX_SEGMENTS 4096

static const struct target_limits no_limits = {0, 0};

/* ---- a text as a prefix */

static void check_message(const struct err_text *why)
{
    CHECK(why->exit_code == EXIT_OPTION);
    CHECK(strstr(why->text, ": "));
    for (const char *c = why->text; *c; c++)
        CHECK((unsigned char)*c >= 0x20 && *c != 0x7F);
}

static void change_case(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (ascii_lower(text[i]) >= 'a' && ascii_lower(text[i]) <= 'z')
            text[i] ^= 0x20;
}

/* The canonical form is a prefix, the same one; so it is in another case. */
static void check_again(const struct url_prefix *prefix)
{
    struct buf printed = {0};
    struct url_prefix again;

    url_prefix_print(prefix, &printed);
    CHECK(url_prefix_parse(&again, buf_span(&printed), NULL) == 0);
    CHECK(span_eq(again.canonical, prefix->canonical) && url_prefix_equal(&again, prefix));
    CHECK(span_eq(again.host, prefix->host) && span_eq(again.path, prefix->path));
    CHECK(again.bucket == prefix->bucket && again.port == prefix->port);
    url_prefix_fini(&again);
    change_case(printed.data + printed.head, buf_len(&printed));
    CHECK(url_prefix_parse(&again, buf_span(&printed), NULL) == 0);
    CHECK(url_prefix_equal(&again, prefix) && span_eq(again.host, prefix->host));
    url_prefix_fini(&again);
    buf_fini(&printed);
}

/* A Host field that asks for the prefix. */
static void write_host(const struct url_prefix *prefix, struct buf *host)
{
    if (url_prefix_is_wildcard_top(prefix) || prefix->bucket == PREFIX_IP)
        buf_append(host, SPAN("any.example"));
    else if (prefix->subdomains)
        buf_printf(host, "X%.*s", (int)prefix->host.len - 1, prefix->host.at + 1);
    else
        buf_append(host, prefix->host);
    buf_printf(host, ".:%u", prefix->port);
}

static struct span ip_of(const struct url_prefix *prefix)
{
    struct span host = prefix->host;

    if (span_eq(host, SPAN("0.0.0.0")))
        return SPAN("198.51.100.7");
    if (span_eq(host, SPAN("[::]")))
        return SPAN("2001:db8::7");
    return host.at[0] == '[' ? span_of(host.at + 1, host.len - 2) : host;
}

static enum prefix_found find(const struct prefix_port *port, const struct url_prefix *prefix,
                              struct prefix_match *match, struct arena *arena)
{
    struct buf host = {0}, raw = {0};
    struct target target;
    struct refusal why;
    enum prefix_found found;

    write_host(prefix, &host);
    for (size_t i = 0; i < prefix->path.len; i++)
        if (prefix->path.at[i] == '/')
            buf_append(&raw, SPAN("/"));
        else
            buf_printf(&raw, "%%%02x", (unsigned char)prefix->path.at[i]);
    CHECK(target_parse(&target, buf_span(&raw), SPAN("GET"), &no_limits, arena, &why) == 0);
    found = prefix_port_match(port, buf_span(&host), ip_of(prefix), &target, arena, match);
    match->base = arena_copy(arena, match->base);
    match->path = arena_copy(arena, match->path);
    buf_fini(&host);
    buf_fini(&raw);
    return found;
}

/* A table with this prefix alone, and with its root beside it. */
static void check_found(const struct url_prefix *prefix, bool with_root)
{
    struct prefix_table *table = prefix_table_new();
    struct prefix_match match = {0};
    struct buf root_text = {0};
    struct url_prefix root;
    struct arena arena;
    int value, root_value;
    void *existing = NULL;

    arena_init(&arena);
    CHECK(prefix_table_add(table, prefix, &value, NULL) == 0);
    CHECK(prefix_table_add(table, prefix, &root_value, &existing) == ERR_EXISTS);
    CHECK(existing == &value);
    buf_printf(&root_text, "%.*s/", (int)(prefix->canonical.len - prefix->path.len), prefix->text);
    CHECK(url_prefix_parse(&root, buf_span(&root_text), NULL) == 0);
    with_root = with_root && prefix_table_add(table, &root, &root_value, NULL) == 0;

    const struct prefix_port *port = prefix_table_port(table, prefix->https, prefix->port);

    CHECK(port && find(port, prefix, &match, &arena) == PREFIX_FOUND);
    CHECK(match.value == &value && span_eq(match.path, SPAN("/")));
    CHECK(span_eq(match.base, span_of(prefix->path.at, prefix->path.len - 1)));
    CHECK(prefix_table_remove(table, prefix) == &value);
    port = prefix_table_port(table, prefix->https, prefix->port);
    CHECK((port != NULL) == with_root);
    if (with_root) {
        CHECK(find(port, prefix, &match, &arena) == PREFIX_FOUND && match.value == &root_value);
        CHECK(match.base.len == 0);
    }
    url_prefix_fini(&root);
    buf_fini(&root_text);
    arena_fini(&arena);
    prefix_table_free(table);
}

static void check_prefix(struct span text)
{
    struct err_text why = {0};
    struct url_prefix prefix;
    int code = url_prefix_parse(&prefix, text, &why);

    if (code < 0) {
        CHECK(code == ERR_INVALID);
        check_message(&why);
        return;
    }
    check_again(&prefix);
    if (prefix.port == 0) {
        url_prefix_set_port(&prefix, 65535);
        check_again(&prefix);
    }
    check_found(&prefix, false);
    check_found(&prefix, true);
    url_prefix_fini(&prefix);
}

/* ---- a text as a request */

/* The ports: many prefixes; and those of which there is one, where a look at the maps is spared. */
static const char *const texts[] = {
    "http://+:80/strong/",
    "http://+:80/base/ball/deep/",
    "http://a.example:80/",
    "http://a.example:80/base/",
    "http://a.example:80/base/ball/",
    "http://a.example:80/Base/Call/",
    "http://a.example:80/a%2Fb/",
    "http://a.example:80/\xC3\xA4/b/",
    "http://a.example:80/a?b/",
    "http://b.a.example:80/x/",
    "http://*.a.example:80/sub/",
    "http://*.a.example:80/x/y/",
    "http://192.0.2.1:80/ip/",
    "http://192.0.2.1:80/base/",
    "http://0.0.0.0:80/any/",
    "http://0.0.0.0:80/ip/",
    "http://[2001:db8::1]:80/six/",
    "http://[::]:80/any/",
    "http://*:80/weak/",
    "http://*:80/base/",
    "http://a.example:81/",
    "http://*:82/",
    "http://a.example:83/base/ball/",
    "http://+:84/a/",
    "http://+:84/a/a/a/a/",
};

#define PREFIXES   (sizeof(texts) / sizeof(texts[0]))
#define FIRST_PORT 80
#define LAST_PORT  84

static struct url_prefix prefixes[PREFIXES];
static struct prefix_table *table;

static void make_table(void)
{
    table = prefix_table_new();
    for (size_t i = 0; i < PREFIXES; i++) {
        CHECK(url_prefix_parse(&prefixes[i], span_str(texts[i]), NULL) == 0);
        CHECK(prefix_table_add(table, &prefixes[i], &prefixes[i], NULL) == 0);
    }
}

/* The cooked path of a request, step by step and each step on its own. */
struct slow_path {
    char *text;
    size_t len;
    struct span segments[MAX_SEGMENTS];
    size_t count;
    bool above_root;
};

static struct span raw_path(const struct target *target)
{
    struct span raw = target->raw;
    const char *question;

    if (target->form == TARGET_ASTERISK || target->form == TARGET_AUTHORITY)
        return SPAN("");
    if (target->form == TARGET_ABSOLUTE) {
        const char *colon = memchr(raw.at, ':', raw.len);
        const char *end = raw.at + raw.len;
        const char *slash = memchr(colon + 3, '/', (size_t)(end - colon - 3));

        raw = slash ? span_of(slash, (size_t)(end - slash)) : SPAN("");
    }
    question = raw.len > 0 ? memchr(raw.at, '?', raw.len) : NULL;
    return question ? span_of(raw.at, (size_t)(question - raw.at)) : raw;
}

static void slow_cook(struct slow_path *path, struct span raw)
{
    path->text = mem_alloc(raw.len + 1);
    for (size_t i = 0; i < raw.len; i++) {
        char digits[3] = {0};

        path->text[path->len] = raw.at[i];
        if (raw.at[i] == '%') {
            memcpy(digits, raw.at + i + 1, 2);
            path->text[path->len] = (char)strtol(digits, NULL, 16);
            i += 2;
        }
        path->len++;
    }
    for (size_t i = 0; i < path->len; i++)
        if (path->text[i] == '\\')
            path->text[i] = '/';
    for (size_t start = 0, i = 0; i <= path->len; i++) {
        struct span segment = span_of(path->text + start, i - start);

        if (i < path->len && path->text[i] != '/')
            continue;
        start = i + 1;
        if (segment.len == 0 || span_eq(segment, SPAN(".")))
            continue;
        if (!span_eq(segment, SPAN("..")))
            path->segments[path->count++] = segment;
        else if (path->count == 0)
            path->above_root = true;
        else
            path->count--;
        if (path->above_root)
            return;
    }
}

/* How many segments the path of a prefix has if it fits, else -1. */
static int slow_fit(const struct slow_path *path, struct span text)
{
    size_t count = 0;

    for (size_t start = 1, i = 1; i < text.len; i++) {
        if (text.at[i] != '/')
            continue;
        if (count == path->count ||
            !span_eq_nocase(path->segments[count], span_of(text.at + start, i - start)))
            return -1;
        start = i + 1;
        count++;
    }
    return (int)count;
}

static bool slow_host(const struct url_prefix *prefix, struct span field, struct span ip)
{
    struct span own = prefix->host;
    size_t len = 0;

    if (url_prefix_is_wildcard_top(prefix))
        return true;
    if (span_eq(own, SPAN("0.0.0.0")) || span_eq(own, SPAN("[::]")))
        return (memchr(ip.at, ':', ip.len) != NULL) == (own.at[0] == '[');
    if (prefix->bucket == PREFIX_IP)
        return span_eq(own, ip) ||
               (own.at[0] == '[' && span_eq(span_of(own.at + 1, own.len - 2), ip));
    if (field.len > 0 && field.at[0] == '[')
        return false;
    while (len < field.len && field.at[len] != ':')
        len++;
    if (len > 0 && field.at[len - 1] == '.')
        len--;
    if (len > URL_PREFIX_MAX_HOST)
        return false;
    if (!prefix->subdomains)
        return span_eq_nocase(own, span_of(field.at, len));
    for (size_t i = 0; i < len; i++)
        if (field.at[i] == '.')
            return i > 0 &&
                   span_eq_nocase(span_of(own.at + 1, own.len - 1), span_of(field.at + i, len - i));
    return false;
}

/* The place of a prefix's kind of host in the order of precedence. */
static int slow_rank(const struct url_prefix *prefix)
{
    bool any = span_eq(prefix->host, SPAN("0.0.0.0")) || span_eq(prefix->host, SPAN("[::]"));

    return 2 * (int)prefix->bucket + (prefix->subdomains || any);
}

static enum prefix_found slow_match(uint16_t port, struct span host, struct span ip,
                                    const struct slow_path *path, const struct url_prefix **best)
{
    bool host_known = false;
    int best_rank = 0, best_fit = -1;

    for (size_t i = 0; i < PREFIXES; i++) {
        const struct url_prefix *prefix = &prefixes[i];
        int rank = slow_rank(prefix), fit;

        if (prefix->port != port || !slow_host(prefix, host, ip))
            continue;
        host_known = true;
        fit = slow_fit(path, prefix->path);
        if (fit < 0 ||
            (best_fit >= 0 && (rank > best_rank || (rank == best_rank && fit < best_fit))))
            continue;
        *best = prefix;
        best_rank = rank;
        best_fit = fit;
    }
    if (!host_known)
        return PREFIX_NO_HOST;
    if (path->above_root)
        return PREFIX_FORBIDDEN;
    return best_fit < 0 ? PREFIX_NO_PATH : PREFIX_FOUND;
}

static void check_split(const struct prefix_match *match, const struct target *target)
{
    const struct url_prefix *prefix = match->value;
    struct span base = match->base, path = match->path;

    CHECK(base.len + path.len == target->path.len);
    if (target->path.len == 0)
        return;
    CHECK(base.len == 0 || base.at == target->path.at);
    CHECK(path.at == target->path.at + base.len);
    CHECK(path.len == 0 || path.at[0] == '/');
    CHECK(path.len > 0 || base.len > 0);
    CHECK(base.len == 0 || prefix->path.len > 1);
    if (base.len > 0 && !memchr(base.at, '%', base.len) && !memchr(base.at, '\\', base.len) &&
        !memmem(base.at, base.len, "//", 2))
        CHECK(span_eq_nocase(base, span_of(prefix->path.at, prefix->path.len - 1)));
}

static void check_request(const struct target *target, struct span host, struct span ip)
{
    struct slow_path path = {0};
    struct arena scratch;

    slow_cook(&path, raw_path(target));
    for (uint16_t number = FIRST_PORT; number <= LAST_PORT; number++) {
        const struct prefix_port *port = prefix_table_port(table, false, number);
        const struct url_prefix *expected = NULL;
        struct prefix_match match = {0};
        enum prefix_found found;

        arena_init(&scratch);
        found = prefix_port_match(port, host, ip, target, &scratch, &match);
        CHECK(found == slow_match(number, host, ip, &path, &expected));
        if (found == PREFIX_FOUND) {
            CHECK(match.value == expected);
            check_split(&match, target);
        }
        arena_fini(&scratch);
    }
    mem_free(path.text);
}

static void check_target(struct span host, struct span raw, struct span method)
{
    struct arena arena;
    struct target target;
    struct refusal why;

    arena_init(&arena);
    if (target_parse(&target, raw, method, &no_limits, &arena, &why) == 0) {
        check_request(&target, host, SPAN("192.0.2.1"));
        check_request(&target, host, SPAN("2001:db8::1"));
        check_request(&target, SPAN("A.example:80"), SPAN("198.51.100.1"));
        check_request(&target, SPAN("a.example"), SPAN("2001:db8::2"));
        check_request(&target, SPAN("b.a.example."), SPAN("192.0.2.1"));
    }
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of((const char *)data, size);
    const char *line_end = size > 0 ? memchr(data, '\n', size) : NULL;
    struct span host = SPAN("");

    if (size > MAX_SEGMENTS)
        return 0;
    if (table == NULL)
        make_table();
    check_prefix(text);
    if (line_end) {
        host = span_of(text.at, (size_t)(line_end - text.at));
        text = span_of(line_end + 1, size - host.len - 1);
    }
    check_target(host, text, SPAN("GET"));
    check_target(host, text, SPAN("OPTIONS"));
    check_target(host, text, SPAN("CONNECT"));
    return 0;
}
