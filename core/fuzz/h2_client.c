/*
 * The host's side of a link, with three calls on their way: the input is what the app answers. What
 * happened, and what the session sends in the end, is the same for every split. Content is consumed
 * as it comes; the windows are larger than an input, since how credit is gathered depends on how
 * content is split.
 */
#include "http/h2_client.h"
#include "base/err.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"

#define CALLS 3

static const struct h2_client_limits limits = {
    .max_concurrent_calls = 8,
    .stream_window_bytes = 1 << 20,
    .header_table_bytes = 512,
    .max_head_bytes = 512,
    .max_fields = 8,
};

struct call {
    struct h2_call h2; /* first: the session hands out this */
    struct fields fields, trailers;
    struct arena arena;
};

struct owner {
    struct h2_client *client;
    struct buf *report;
    struct call calls[CALLS];
    int32_t data_id; /* of the call whose content the report ends with, 0 for none */
};

static void note(struct owner *owner, const char *what, const struct h2_call *call)
{
    owner->data_id = 0;
    buf_printf(owner->report, "%s %d\n", what, call->id);
}

static void on_interim(void *user, struct h2_call *call, int status)
{
    struct owner *owner = user;

    CHECK(call->is_open && status >= 100 && status < 200 && status != 101);
    note(owner, "interim", call);
    report_fields(owner->report, &call->interim);
}

static void on_head(void *user, struct h2_call *call)
{
    struct owner *owner = user;

    CHECK(call->is_open && call->status >= 200 && call->status <= 999);
    note(owner, "head", call);
    report_number(owner->report, "status", (unsigned)call->status);
    report_fields(owner->report, call->fields);
    for (uint32_t i = 0; i < call->fields->count; i++)
        CHECK(field_name_valid(call->fields->at[i].name) &&
              field_value_valid(call->fields->at[i].value));
}

static void on_data(void *user, struct h2_call *call, struct span data)
{
    struct owner *owner = user;

    CHECK(call->is_open && call->head_done);
    if (owner->data_id != call->id)
        note(owner, "data", call);
    owner->data_id = call->id;
    buf_append(owner->report, data);
    h2_client_consumed(owner->client, call, data.len);
}

static void on_ended(void *user, struct h2_call *call)
{
    struct owner *owner = user;

    note(owner, "ended", call);
    report_fields(owner->report, call->trailers);
}

static void on_closed(void *user, struct h2_call *call, uint32_t code)
{
    struct owner *owner = user;

    CHECK(!call->is_open);
    note(owner, "closed", call);
    report_number(owner->report, "code", code);
    call->arena = NULL;
}

static size_t on_pull(void *user, struct h2_call *call, char *into, size_t room, enum h2_more *more)
{
    (void)user, (void)call, (void)into, (void)room;
    *more = H2_LAST;
    return 0;
}

static void on_note(void *user, struct h2_call *call, struct span pairs)
{
    struct owner *owner = user;

    note(owner, "note", call);
    report_span(owner->report, "pairs", pairs);
}

static void on_leaving(void *user)
{
    struct owner *owner = user;

    owner->data_id = 0;
    buf_printf(owner->report, "leaving\n");
}

static const struct h2_client_events events = {
    .interim = on_interim,
    .head = on_head,
    .data = on_data,
    .ended = on_ended,
    .closed = on_closed,
    .pull = on_pull,
    .note = on_note,
    .leaving = on_leaving,
};

static void begin(struct owner *owner, struct call *call)
{
    struct fields none;
    struct h2_call_head head = {.method = SPAN("GET"),
                                .scheme = SPAN("http"),
                                .path = SPAN("/"),
                                .fields = &none,
                                .has_content = call == &owner->calls[CALLS - 1]};

    arena_init(&call->arena);
    fields_init(&none, &call->arena);
    call->h2 = (struct h2_call){
        .arena = &call->arena, .fields = &call->fields, .trailers = &call->trailers};
    CHECK(h2_client_call(owner->client, &call->h2, &head) == 0);
}

static void run(struct feed *feed, struct buf *report)
{
    struct owner owner = {.report = report};
    struct buf out = {0};
    int code;

    owner.client = h2_client_new(&limits, &events, &owner);
    for (unsigned i = 0; i < CALLS; i++)
        begin(&owner, &owner.calls[i]);
    CHECK(h2_client_send(owner.client, &out, SIZE_MAX) == 0);
    buf_consume(&out, buf_len(&out));
    do {
        struct span in = feed_window(feed);

        code = in.len ? h2_client_receive(owner.client, in) : 0;
        feed_take(feed, in.len);
    } while (code == 0 && feed_more(feed));
    feed_close(feed);
    if (code == 0)
        code = h2_client_send(owner.client, &out, SIZE_MAX);
    CHECK(code == 0 || h2_client_trouble(owner.client));
    /* Behind the end of a session that is over, nothing counts. */
    report_number(report, "failed", code < 0 && !h2_client_is_over(owner.client));
    report_number(report, "calls", h2_client_calls(owner.client));
    h2_client_free(owner.client);
    buf_fini(&out);
    for (unsigned i = 0; i < CALLS; i++)
        arena_fini(&owner.calls[i].arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_each_way(data, size, run);
    return 0;
}
