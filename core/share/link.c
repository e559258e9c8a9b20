/*
 * One socket to a worker of an attached process. All requests that a turn of the loop has begun
 * leave with one write, and the answers that one read brings go to their clients in the same turn:
 * that is what makes a link cheaper than a connection a request. The app may do what it likes: what
 * it does not read is bounded, and what it floods gets one read a turn.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "share/dispatch_priv.h"

#define READ_BYTES  (256u << 10) /* in one read; all links of the process share the room */
#define PAUSE_MS    20           /* for an app that has refused a request */
#define SEND_BYTES  (256u << 10) /* frames that are gathered for one write */
#define SPARE_BYTES (64u << 10)

static const struct h2_client_limits limits = {
    .max_concurrent_calls = 65535,
    .stream_window_bytes = 256 << 10,
    .header_table_bytes = 4096,
    .max_head_bytes = 1 << 20,
    .max_fields = 10000,
};

/* Frames are gathered in a buffer that a link has only while it has something to send: one is kept
 * for all links, or each turn would make it grow anew. */
static struct buf spare;

static void take_spare(struct link *link)
{
    if (link->out.data)
        return;
    link->out = spare;
    spare = (struct buf){0};
}

static void drop_empty(struct link *link)
{
    if (spare.data || link->out.cap > SPARE_BYTES) {
        buf_fini(&link->out);
        return;
    }
    spare = link->out;
    link->out = (struct buf){0};
}

static char *room_for_reading(void)
{
    static char *room;

    if (room == NULL)
        room = mem_alloc(READ_BYTES);
    return room;
}

/* ---- the end ---- */

void link_free(struct link *link)
{
    loop_timer_stop(&link->pause);
    loop_call_cancel(&link->turn);
    if (link->stream)
        stream_close(link->stream, false);
    list_remove(&link->node);
    link->dispatch->link_count--;
    h2_client_free(link->client);
    while (!list_empty(&link->calls))
        call_free(LIST_OWNER(link->calls.next, struct call, node));
    buf_fini(&link->out);
    mem_free(link);
}

static void ask_for_another(struct link *link)
{
    struct dispatch *dispatch = link->dispatch;

    if (link->renewed || link->retired)
        return;
    link->renewed = true;
    dispatch->parts.renew(dispatch->parts.owner, link->peer.process, link->peer.worker);
}

void link_close(struct link *link, const char *why)
{
    struct list *node;

    if (link->stream == NULL)
        return;
    if (why)
        log_event(LOG_WARN, "app_link_broken", "process %llu, worker %u: %s",
                  (unsigned long long)link->peer.process, link->peer.worker, why);
    stream_close(link->stream, false);
    link->stream = NULL;
    if (why)
        ask_for_another(link);
    link->retired = true;
    for (node = link->calls.next; node != &link->calls; node = node->next)
        call_abandon(LIST_OWNER(node, struct call, node));
    link->dispatch->slot->peer[link->peer.column] -= link->running;
    link->running = 0;
    loop_defer(link->dispatch->parts.loop, &link->turn);
    dispatch_links_changed(link->dispatch);
}

/* The app has left, or has been replaced: nothing of ours is there any more. */
static void close_when_done(struct link *link)
{
    bool unused = link->client == NULL || h2_client_calls(link->client) == 0;

    if (link->retired && unused && buf_len(&link->out) == 0)
        link_close(link, NULL);
}

void link_retire(struct link *link)
{
    link->retired = true;
    link_send_soon(link);
    dispatch_links_changed(link->dispatch);
}

static void on_pause_over(struct loop_timer *timer)
{
    struct link *link = LIST_OWNER(timer, struct link, pause);

    link->is_full = false;
    dispatch_links_changed(link->dispatch);
}

void link_refused(struct link *link)
{
    if (!link_is_usable(link))
        return;
    link->is_full = true;
    loop_timer_start(link->dispatch->parts.loop, &link->pause, PAUSE_MS);
    dispatch_links_changed(link->dispatch); /* others may have room for theirs */
}

void link_call_ended(struct link *link)
{
    if (link->stream == NULL)
        return; /* counted there */
    link->running--;
    link->dispatch->slot->peer[link->peer.column]--;
    link_send_soon(link);
    dispatch_place_free(link->dispatch);
}

/* ---- sending ---- */

void link_send_soon(struct link *link)
{
    loop_defer(link->dispatch->parts.loop, &link->turn);
}

/* False when the link is closed. */
static bool write_out(struct link *link)
{
    struct span rest = buf_span(&link->out);
    ssize_t sent = rest.len ? stream_write(link->stream, &rest, 1) : 0;

    if (sent < 0 && sent != ERR_AGAIN) {
        link_close(link, "it has closed its end");
        return false;
    }
    if (sent > 0)
        buf_consume(&link->out, (size_t)sent);
    return true;
}

static bool send_frames(struct link *link)
{
    take_spare(link);
    if (link->client && buf_len(&link->out) < OUT_MOST_BYTES &&
        h2_client_send(link->client, &link->out, SEND_BYTES) < 0) {
        write_out(link); /* it may read why */
        link_close(link, h2_client_trouble(link->client));
        return false;
    }
    return write_out(link);
}

static void settle(struct link *link)
{
    int events = STREAM_READ;

    if (!send_frames(link))
        return;
    if (buf_len(&link->out) > 0)
        events |= STREAM_WRITE;
    else if (link->client && h2_client_wants_send(link->client))
        loop_defer_turn(link->dispatch->parts.loop, &link->turn);
    else
        drop_empty(link);
    stream_want(link->stream, events);
    if (link->client && h2_client_is_worn(link->client)) {
        ask_for_another(link);
        link_retire(link);
    }
    close_when_done(link);
}

static void on_turn(struct loop_call *call)
{
    struct link *link = LIST_OWNER(call, struct link, turn);

    if (link->stream == NULL)
        link_free(link);
    else
        settle(link);
}

/* ---- receiving ---- */

static void heard(struct link *link)
{
    bool is_new = !link->is_there;

    link->is_there = true;
    link_send_soon(link);
    if (is_new)
        dispatch_links_changed(link->dispatch);
}

/* An app begins with its SETTINGS before it is asked anything. */
static void receive(struct link *link)
{
    char *room = room_for_reading();
    ssize_t got = stream_read(link->stream, room, READ_BYTES);
    bool left = link->client == NULL || (link->retired && h2_client_calls(link->client) == 0);

    if (got == ERR_AGAIN)
        return;
    if (got <= 0)
        link_close(link, left ? NULL : "it has closed its end");
    else if (h2_client_receive(link_client(link), span_of(room, (size_t)got)) < 0)
        link_close(link, h2_client_trouble(link->client));
    else
        heard(link);
}

static void on_ready(void *owner, int events)
{
    struct link *link = owner;

    if (events & STREAM_WRITE)
        settle(link);
    if ((events & STREAM_READ) && link->stream)
        receive(link);
}

/* ---- life ---- */

struct link *link_new(struct dispatch *dispatch, const struct dispatch_peer *peer, int fd)
{
    struct link *link = mem_zalloc(sizeof(*link));

    link->dispatch = dispatch;
    link->peer = *peer;
    link->stream = stream_plain_new(dispatch->parts.loop, fd);
    list_init(&link->calls);
    list_init(&link->node);
    list_append(&dispatch->links, &link->node);
    dispatch->link_count++;
    loop_call_init(&link->turn, on_turn);
    loop_timer_init(&link->pause, on_pause_over);
    stream_owned_by(link->stream, link, on_ready);
    stream_want(link->stream, STREAM_READ);
    return link;
}

bool link_is_usable(const struct link *link)
{
    return link->is_there && !link->retired && link->stream;
}

bool link_has_room(const struct link *link)
{
    return link_is_usable(link) && !link->is_full && buf_len(&link->out) < OUT_MOST_BYTES &&
           h2_client_has_room(link->client);
}

struct h2_client *link_client(struct link *link)
{
    struct h2_client_limits *own = &link->limits;

    if (link->client == NULL) {
        *own = limits;
        own->most_stream_id = link->dispatch->parts.most_stream_id;
        link->client = h2_client_new(own, &call_events, link);
    }
    return link->client;
}
