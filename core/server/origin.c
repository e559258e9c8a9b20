/*
 * Both directions of the reserved fields in one place. What a host writes is read by the same
 * version of this file, or the processes would not have met (share/control.h): a reader refuses
 * what it does not know.
 */
#include "server/origin.h"

#include <endian.h>

#include "base/codec.h"
#include "base/err.h"
#include "server/server_priv.h"
#include "tls/tls_stream.h"

#define REQUEST     "moonquay-request"
#define CLIENT      "moonquay-client"
#define TARGET      "moonquay-target"
#define TLS         "moonquay-tls"
#define CERTIFICATE "moonquay-certificate"

bool origin_is_reserved(struct span name)
{
    struct span prefix = SPAN(ORIGIN_PREFIX);

    return name.len >= prefix.len && span_eq_nocase(span_of(name.at, prefix.len), prefix);
}

/* ---- writing ---- */

static struct span or_dash(struct span text)
{
    return text.at && text.len > 0 ? text : SPAN("-");
}

/*
 * moonquay-request, which every request has, is bytes and no text. Most of them have long codes in
 * HPACK's Huffman code, so that it goes as it is: to code and to decode a text of the same facts
 * took a tenth of what a request through a link costs. It begins and ends with a byte that is no
 * blank, since blanks at the ends of a value are not kept.
 */
#define REQUEST_MARK  0x80u
#define REQUEST_END   0xffu
#define BASE_UNKNOWN  UINT64_MAX
#define PORT_BYTES    2u
#define REQUEST_BYTES (1 + 4 * sizeof(uint64_t) + 2 * (1 + 16 + PORT_BYTES) + 1)

/* Each of these writes at to and returns what is behind. */
static uint8_t *put_number(uint8_t *to, uint64_t number)
{
    uint64_t bytes = htobe64(number);

    memcpy(to, &bytes, sizeof(bytes));
    return to + sizeof(bytes);
}

static unsigned ip_bytes(enum net_family family)
{
    return family == NET_IPV4 ? 4 : family == NET_IPV6 ? 16 : 0;
}

static uint8_t *put_address(uint8_t *to, const struct net_addr *addr)
{
    unsigned bytes = ip_bytes(addr->family);

    *to++ = addr->family;
    memcpy(to, addr->ip, bytes);
    if (bytes == 0)
        return to;
    to[bytes] = (uint8_t)(addr->port >> 8);
    to[bytes + 1] = (uint8_t)addr->port;
    return to + bytes + PORT_BYTES;
}

static uint8_t version_of(const struct request_head *head)
{
    return head->major == 2 ? 2 : request_is_http10(head) ? 0 : 1;
}

static struct span request_bytes(struct exchange *exchange, bool base_known)
{
    struct net_addr local = exchange_local(exchange);
    uint64_t base = base_known ? exchange->path_base.len : BASE_UNKNOWN;
    uint8_t *bytes = arena_alloc(&exchange->arena, REQUEST_BYTES), *to = bytes;

    *to++ = REQUEST_MARK | version_of(&exchange->head);
    to = put_number(to, exchange->server->boot);
    to = put_number(to, exchange->number);
    to = put_number(to, exchange->connection_number);
    to = put_number(to, base);
    to = put_address(to, &exchange->peer);
    to = put_address(to, &local);
    *to++ = REQUEST_END;
    return span_of((const char *)bytes, (size_t)(to - bytes));
}

static struct span words(struct arena *arena, const struct span *parts, unsigned count)
{
    size_t len = 0;
    char *text, *at;

    for (unsigned i = 0; i < count; i++)
        len += or_dash(parts[i]).len + 1;
    text = at = arena_alloc(arena, len);
    for (unsigned i = 0; i < count; i++) {
        struct span part = or_dash(parts[i]);

        memcpy(at, part.at, part.len);
        at += part.len;
        *at++ = ' ';
    }
    return span_of(text, len - 1);
}

static void add_client(struct exchange *exchange, struct fields *fields)
{
    char client[NET_ADDR_TEXT];
    const struct span parts[] = {
        span_of(client, net_addr_text(&exchange->client, client)),
        exchange->scheme,
        exchange->host,
    };

    fields_add(fields, SPAN(CLIENT), words(&exchange->arena, parts, 3));
}

static struct span without_blanks(struct arena *arena, struct span text)
{
    struct buf out = {0};
    struct span copy;

    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] == ' ')
            buf_append(&out, SPAN("%20"));
        else
            buf_append(&out, span_of(text.at + i, 1));
    copy = arena_copy(arena, buf_span(&out));
    buf_fini(&out);
    return copy;
}

static void add_certificate(struct exchange *exchange, struct fields *fields)
{
    struct arena *arena = &exchange->arena;
    struct span der = tls_stream_peer_der(exchange_tls(exchange), arena);
    struct tls_peer peer;

    if (der.at == NULL || !tls_stream_peer(exchange_tls(exchange), arena, &peer))
        return;
    const struct span parts[] = {
        without_blanks(arena, peer.verification),
        codec_base64(arena, der),
    };

    fields_add(fields, SPAN(CERTIFICATE), words(arena, parts, 2));
}

static void add_tls(struct exchange *exchange, struct fields *fields)
{
    struct tls_facts facts;

    if (exchange_tls(exchange) == NULL || !tls_stream_facts(exchange_tls(exchange), &facts))
        return;
    const struct span parts[] = {
        facts.version, facts.cipher, facts.group,
        facts.sni,     facts.alpn,   facts.is_resumed ? SPAN("1") : SPAN("0"),
    };

    fields_add(fields, SPAN(TLS), words(&exchange->arena, parts, 6));
    add_certificate(exchange, fields);
}

void origin_write(struct exchange *exchange, bool base_known, struct fields *fields,
                  uint64_t *unique)
{
    const struct target *target = &exchange->head.target;

    *unique = (uint64_t)1 << fields->count;
    fields_add(fields, SPAN(REQUEST), request_bytes(exchange, base_known));
    if (exchange->by_proxy)
        add_client(exchange, fields);
    if (target->form == TARGET_ABSOLUTE || target->form == TARGET_AUTHORITY)
        fields_add(fields, SPAN(TARGET), target->raw);
    if (exchange->https)
        add_tls(exchange, fields);
}

/* ---- reading ---- */

/* The next word of *rest; "-" becomes SPAN_NONE. False at the end. */
static bool next_word(struct span *rest, struct span *word)
{
    const char *end;

    if (rest->at == NULL || rest->len == 0)
        return false;
    end = memchr(rest->at, ' ', rest->len);
    *word = span_of(rest->at, end ? (size_t)(end - rest->at) : rest->len);
    *rest = end ? span_skip(*rest, word->len + 1) : SPAN_NONE;
    if (span_eq(*word, SPAN("-")))
        *word = SPAN_NONE;
    return true;
}

/* All words and no more. */
static bool read_words(struct span text, struct span *out, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!next_word(&text, &out[i]))
            return false;
    return text.len == 0;
}

static bool read_number(struct span text, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9' || *number > (UINT64_MAX - 9) / 10)
            return false;
        *number = *number * 10 + (uint64_t)(text.at[i] - '0');
    }
    return text.len > 0;
}

/* "127.0.0.1:80", "[::1]:80", "unix"; absent: NET_NONE. */
static bool read_address(struct span text, struct net_addr *addr)
{
    const char *colon = text.len ? memrchr(text.at, ':', text.len) : NULL;
    uint64_t port;

    *addr = (struct net_addr){.family = NET_NONE};
    if (text.at == NULL)
        return true;
    if (span_eq(text, SPAN("unix"))) {
        addr->family = NET_UNIX;
        return true;
    }
    if (colon == NULL)
        return false;
    struct span ip = span_of(text.at, (size_t)(colon - text.at));

    return read_number(span_skip(text, ip.len + 1), &port) && port <= UINT16_MAX &&
           net_addr_parse(addr, ip, (uint16_t)port) == 0;
}

/* Each of these takes from the front of *rest; false when it ends too soon. */
static bool take_byte(struct span *rest, uint8_t *byte)
{
    if (rest->len == 0)
        return false;
    *byte = (uint8_t)rest->at[0];
    *rest = span_skip(*rest, 1);
    return true;
}

static bool take_number(struct span *rest, uint64_t *number)
{
    uint64_t bytes;

    if (rest->len < sizeof(bytes))
        return false;
    memcpy(&bytes, rest->at, sizeof(bytes));
    *number = be64toh(bytes);
    *rest = span_skip(*rest, sizeof(bytes));
    return true;
}

static bool take_address(struct span *rest, struct net_addr *addr)
{
    unsigned bytes;
    uint8_t family;

    *addr = (struct net_addr){.family = NET_NONE};
    if (!take_byte(rest, &family) || family > NET_UNIX)
        return false;
    addr->family = family;
    bytes = ip_bytes(addr->family);
    if (bytes == 0)
        return true;
    if (rest->len < bytes + PORT_BYTES)
        return false;
    memcpy(addr->ip, rest->at, bytes);
    addr->port = (uint16_t)((uint8_t)rest->at[bytes] << 8 | (uint8_t)rest->at[bytes + 1]);
    *rest = span_skip(*rest, bytes + PORT_BYTES);
    return true;
}

static bool take_version(struct span *rest, struct request_head *head)
{
    uint8_t version;

    if (!take_byte(rest, &version) || version < REQUEST_MARK || version > (REQUEST_MARK | 2))
        return false;
    head->major = version == (REQUEST_MARK | 2) ? 2 : 1;
    head->minor = version == (REQUEST_MARK | 1);
    return true;
}

static bool take_base(struct exchange *exchange, struct origin *origin, struct span *rest)
{
    uint64_t base;

    if (!take_number(rest, &base))
        return false;
    origin->base = base == BASE_UNKNOWN ? -1 : (int64_t)base;
    return base == BASE_UNKNOWN || base <= exchange->head.target.path.len;
}

static bool read_request(struct exchange *exchange, struct origin *origin, struct span rest)
{
    uint8_t end;

    return take_version(&rest, &exchange->head) && take_number(&rest, &origin->boot) &&
           take_number(&rest, &origin->number) &&
           take_number(&rest, &exchange->connection_number) && take_base(exchange, origin, &rest) &&
           take_address(&rest, &exchange->peer) && take_address(&rest, &origin->local) &&
           take_byte(&rest, &end) && end == REQUEST_END && rest.len == 0;
}

static bool read_client(struct exchange *exchange, struct span text)
{
    struct span part[3];

    if (!read_words(text, part, 3) || !read_address(part[0], &exchange->client))
        return false;
    exchange->by_proxy = true;
    exchange->scheme = part[1];
    exchange->host = part[2];
    return true;
}

static bool read_tls(struct origin *origin, struct span text)
{
    struct span part[6];

    if (!read_words(text, part, 6))
        return false;
    origin->has_tls = true;
    origin->tls = (struct tls_facts){part[0], part[1], part[2],
                                     part[3], part[4], span_eq(part[5], SPAN("1"))};
    return true;
}

static struct span with_blanks(struct arena *arena, struct span text)
{
    char *out = arena_alloc(arena, text.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        bool blank = text.len - i >= 3 && memcmp(text.at + i, "%20", 3) == 0;

        out[len++] = blank ? ' ' : text.at[i];
        i += blank ? 2 : 0;
    }
    return span_of(out, len);
}

static bool read_certificate(struct exchange *exchange, struct origin *origin, struct span text)
{
    struct span part[2];

    if (!read_words(text, part, 2))
        return false;
    origin->verification = with_blanks(&exchange->arena, part[0]);
    origin->certificate = codec_base64_read(&exchange->arena, part[1]);
    return origin->certificate.at != NULL;
}

static bool read_target(struct exchange *exchange, struct span raw)
{
    struct request_head *head = &exchange->head;
    struct refusal refusal;
    struct target_limits none = {0, 0};

    return target_parse(&head->target, raw, head->method, &none, &exchange->arena, &refusal) == 0;
}

static bool read_field(struct exchange *exchange, struct origin *origin, const struct field *field)
{
    if (span_eq(field->name, SPAN(REQUEST)))
        return true; /* read behind the others: it depends on the target */
    if (span_eq(field->name, SPAN(CLIENT)))
        return read_client(exchange, field->value);
    if (span_eq(field->name, SPAN(TARGET)))
        return read_target(exchange, field->value);
    if (span_eq(field->name, SPAN(TLS)))
        return read_tls(origin, field->value);
    if (span_eq(field->name, SPAN(CERTIFICATE)))
        return read_certificate(exchange, origin, field->value);
    return false;
}

/* They lie behind all others, where the host adds them: what is found there ends the list. */
int origin_read(struct exchange *exchange)
{
    struct fields *fields = &exchange->head.fields;
    struct origin *origin = arena_alloc(&exchange->arena, sizeof(*origin));
    struct span request = SPAN_NONE;

    *origin = (struct origin){.base = -1};
    while (fields->count > 0 && origin_is_reserved(fields->at[fields->count - 1].name)) {
        const struct field *field = &fields->at[--fields->count];

        if (!read_field(exchange, origin, field))
            return ERR_INVALID;
        if (span_eq(field->name, SPAN(REQUEST)))
            request = field->value;
    }
    if (request.at == NULL || !read_request(exchange, origin, request))
        return ERR_INVALID;
    exchange->https = origin->has_tls;
    exchange->origin = origin;
    return 0;
}
