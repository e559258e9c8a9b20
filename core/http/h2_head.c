/*
 * Requests of fields (RFC 9113 section 8.3). That names are lower-case tokens, that pseudo-fields
 * come first, once and whole, and what else makes a message malformed, the library has seen to;
 * here are the limits, the target and the authority, refused as over HTTP/1.1. The first fault
 * counts; what follows it is not kept.
 */
#include "http/h2_priv.h"

#include "base/err.h"
#include "http/fields_priv.h"
#include "http/message_rules.h"

#define LINE_OVERHEAD  32u /* that a line counts beside its bytes (RFC 9113 section 6.5.2) */
#define LINE_SEPARATOR 2u  /* ": ", which HTTP/1.1 would have needed */

void h2_head_begin(struct h2_request *request, int32_t id)
{
    *request = (struct h2_request){.arena = request->arena,
                                   .head = request->head,
                                   .trailers = request->trailers,
                                   .id = id,
                                   .content_most = UINT64_MAX,
                                   .is_open = true};
    *request->head =
        (struct request_head){.version = SPAN("HTTP/2"), .major = 2, .keep_alive = true};
    fields_init(&request->head->fields, request->arena);
    fields_init(request->trailers, request->arena);
}

static int refuse(struct h2_request *request, int status, const char *reason, const char *detail)
{
    return message_refuse(&request->refusal, status, reason, detail);
}

enum fit { FITS, LINE_TOO_LONG, SECTION_TOO_LONG };

/* Counts a line in its section and holds both against their limits. */
static enum fit fit_line(const struct message_limits *limits, enum field_id id, struct span name,
                         struct span value, uint32_t *section_bytes)
{
    size_t section = *section_bytes + name.len + value.len + LINE_OVERHEAD;
    size_t most =
        id == FIELD_AUTHORIZATION ? limits->max_authorization_length : limits->max_field_length;

    if (section > limits->max_request_head_bytes)
        return SECTION_TOO_LONG;
    *section_bytes = (uint32_t)section;
    return name.len + LINE_SEPARATOR + value.len <= most ? FITS : LINE_TOO_LONG;
}

/* The parts of a request that have names of their own; the library lets no other ones through. */
enum pseudo_field {
    PSEUDO_NONE,
    PSEUDO_METHOD,
    PSEUDO_SCHEME,
    PSEUDO_PATH,
    PSEUDO_AUTHORITY,
    PSEUDO_PROTOCOL
};

static enum pseudo_field pseudo_field_of(struct span name)
{
    if (name.at[0] != ':')
        return PSEUDO_NONE;
    switch (name.at[1]) {
    case 'm':
        return PSEUDO_METHOD;
    case 's':
        return PSEUDO_SCHEME;
    case 'p':
        return span_eq(name, SPAN(":protocol")) ? PSEUDO_PROTOCOL : PSEUDO_PATH;
    default:
        return PSEUDO_AUTHORITY;
    }
}

static void take_pseudo_field(struct h2_request *request, enum pseudo_field field,
                              struct span value)
{
    struct request_head *head = request->head;

    switch (field) {
    case PSEUDO_METHOD:
        if (message_check_method(value, &request->refusal) == 0)
            head->method = arena_copy(request->arena, value);
        break;
    case PSEUDO_SCHEME:
        request->scheme = arena_copy(request->arena, value);
        break;
    case PSEUDO_PATH:
        request->path = arena_copy(request->arena, value);
        head->target.raw = request->path; /* for logs, whatever becomes of it */
        break;
    case PSEUDO_PROTOCOL:
        request->protocol = arena_copy(request->arena, value);
        break;
    default:
        request->authority = arena_copy(request->arena, value);
        break;
    }
}

static struct field copy_field(struct arena *arena, enum field_id id, struct span name,
                               struct span value)
{
    const char *known = field_id_name(id);

    return (struct field){known ? span_of(known, name.len) : arena_copy(arena, name),
                          arena_copy(arena, value), id};
}

static void take_field(struct h2_request *request, enum field_id id, struct span name,
                       struct span value)
{
    struct field field = copy_field(request->arena, id, name, value);

    fields_push(&request->head->fields, &field);
}

/* A path has a limit of its own, and is no field line otherwise. */
static int check_limits(const struct message_limits *limits, struct h2_request *request,
                        enum pseudo_field pseudo, enum field_id id, struct span name,
                        struct span value)
{
    enum fit fit = fit_line(limits, id, name, value, &request->head_bytes);

    if (pseudo == PSEUDO_PATH && value.len > limits->max_target_bytes)
        return refuse(request, 414, "URL_Length", "a target longer than max_target_bytes");
    if (fit == SECTION_TOO_LONG)
        return refuse(request, 431, "RequestLength", "fields longer than max_request_head_bytes");
    if (fit == LINE_TOO_LONG && pseudo != PSEUDO_PATH)
        return refuse(request, 431, "FieldLength", "a field line longer than its limit");
    if (pseudo == PSEUDO_NONE && request->head->fields.count >= limits->max_fields)
        return refuse(request, 431, "FieldLength", "more field lines than max_fields");
    return 0;
}

void h2_head_field(const struct message_limits *limits, struct h2_request *request,
                   struct span name, struct span value)
{
    enum pseudo_field pseudo = pseudo_field_of(name);
    enum field_id id = pseudo ? FIELD_OTHER : field_id_of(name);

    if (request->refusal.status || check_limits(limits, request, pseudo, id, name, value) < 0)
        return;
    if (pseudo)
        take_pseudo_field(request, pseudo, value);
    else
        take_field(request, id, name, value);
}

/* In lower case, as nearly everybody writes it, it needs no look at each letter. */
static bool is_http(struct span scheme)
{
    return span_eq(scheme, SPAN("https")) || span_eq(scheme, SPAN("http")) ||
           span_eq_nocase(scheme, SPAN("https")) || span_eq_nocase(scheme, SPAN("http"));
}

/* CONNECT names host and port alone; all others a path, or all of the server (RFC 9113 section
 * 8.3.1). */
static int judge_target(const struct message_limits *limits, struct h2_request *request)
{
    struct request_head *head = request->head;
    struct span raw = request->path.at ? request->path : request->authority;

    /* Of these two the library lets no :path through that could be taken for a URL. */
    if (request->scheme.at && !is_http(request->scheme))
        return refuse(request, 400, "URL", "a :scheme that is neither http nor https");
    /* An extended CONNECT has a path, as a GET has (RFC 8441 section 4). */
    return target_parse(&head->target, raw, request->protocol.at ? SPAN("GET") : head->method,
                        &limits->target, request->arena, &request->refusal);
}

/* What the fields say about the message as a whole. */
struct summary {
    const struct field *host;
    bool has_length;
};

static int note_fields(struct h2_request *request, struct summary *summary)
{
    struct request_head *head = request->head;
    int rc = 0;

    for (uint32_t i = 0; i < head->fields.count && rc == 0; i++) {
        const struct field *field = &head->fields.at[i];

        if (field->id == FIELD_CONTENT_LENGTH) {
            summary->has_length = true;
            rc = message_read_length(field->value, &head->content_length, &request->refusal);
        } else if (field->id == FIELD_EXPECT) {
            rc = message_read_expect(field->value, &head->expect_continue, &request->refusal);
        } else if (field->id == FIELD_HOST) {
            summary->host = field; /* the library has seen to it that there is one */
        }
    }
    return rc;
}

static int judge_host(struct h2_request *request, const struct field *host)
{
    struct span authority = request->authority;

    if (authority.at && !authority_valid(authority))
        return refuse(request, 400, "Hostname", "a malformed :authority");
    if (host && !authority_valid(host->value))
        return refuse(request, 400, "Hostname", "a malformed Host");
    if (host && authority.at && !span_eq_nocase(host->value, authority))
        return refuse(request, 400, "Hostname", "Host and :authority differ");
    if (host == NULL && authority.at == NULL)
        return refuse(request, 400, "Hostname", "neither :authority nor Host");
    request->head->host = authority.at ? authority : host->value;
    return 0;
}

/* A host has judged it; an HTTP/1.0 request may have none. */
static int take_host(struct h2_request *request, const struct field *host)
{
    request->head->host = request->authority.at ? request->authority
                          : host                ? host->value
                                                : SPAN("");
    return 0;
}

void h2_head_end(const struct h2_limits *h2_limits, struct h2_request *request)
{
    const struct message_limits *limits = h2_limits->message;
    struct request_head *head = request->head;
    struct summary summary = {0};

    request->head_done = true;
    if (request->refusal.status || judge_target(limits, request) < 0 ||
        note_fields(request, &summary) < 0 ||
        (h2_limits->is_channel ? take_host : judge_host)(request, summary.host) < 0)
        return;
    if (summary.has_length)
        request->content_most = head->content_length;
    if (!request->ended)
        head->framing = head->content_length > 0 ? FRAMING_SIZED : FRAMING_UNSIZED;
}

int h2_trailer_field(const struct message_limits *limits, struct h2_request *request,
                     struct span name, struct span value)
{
    enum field_id id = field_id_of(name);

    if (fit_line(limits, id, name, value, &request->trailer_bytes) != FITS ||
        request->trailer_count >= limits->max_fields)
        return ERR_TOO_LARGE;
    request->trailer_count++;

    enum trailer_fate fate = trailer_fate_of(name);

    if (fate == TRAILER_FRAMING)
        return ERR_INVALID;
    if (fate == TRAILER_KEPT) {
        struct field field = copy_field(request->arena, id, name, value);

        fields_push(request->trailers, &field);
    }
    return 0;
}
