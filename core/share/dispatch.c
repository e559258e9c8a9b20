/*
 * Which process gets a request. A place is taken in the tally first, where all workers of the host
 * count together, so that no worker of an app has more requests than it has granted.
 */
#include "share/dispatch.h"

#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "share/dispatch_priv.h"

static int64_t running_of(const struct link *link)
{
    return tally_peer_sum(link->dispatch->parts.tally, link->peer.column);
}

/* The one with the fewest running that has a place; NULL when none has. */
static struct link *choose(const struct dispatch *dispatch)
{
    struct link *best = NULL;
    int64_t fewest = INT64_MAX;

    for (struct list *node = dispatch->links.next; node != &dispatch->links; node = node->next) {
        struct link *link = LIST_OWNER(node, struct link, node);
        int64_t running = running_of(link);

        if (!link_has_room(link) || running >= link->peer.most_running || running >= fewest)
            continue;
        best = link;
        fewest = running;
    }
    return best;
}

/* Somebody else's request that waits longer than ours do is served first; ours come again when a
 * place becomes free behind it. */
static bool is_our_turn(struct dispatch *dispatch)
{
    int64_t ours = app_waits_since_us(dispatch->app), since_us;
    unsigned app = app_index(dispatch->app);
    int next = tally_next(dispatch->parts.tally, app, dispatch->parts.slot, &since_us);

    if (next < 0 || (ours != 0 && ours <= since_us))
        return true;
    if (dispatch->parts.wake && tally_wake(dispatch->parts.tally, (unsigned)next, app))
        dispatch->parts.wake(dispatch->parts.owner, (unsigned)next);
    return false;
}

static void demand(struct dispatch *dispatch)
{
    if (dispatch->demanded || dispatch->stopped || dispatch->parts.demand == NULL)
        return;
    dispatch->demanded = true;
    dispatch->parts.demand(dispatch->parts.owner);
}

static void demand_what_waits(struct dispatch *dispatch)
{
    if (!dispatch->is_served && app_waits_since_us(dispatch->app) != 0)
        demand(dispatch);
}

void dispatch_demand_again(struct dispatch *dispatch)
{
    dispatch->demanded = false;
    demand_what_waits(dispatch);
}

static bool has_room(void *context)
{
    struct dispatch *dispatch = context;

    if (!dispatch->is_served)
        demand(dispatch);
    return !dispatch->stopped && choose(dispatch) != NULL && is_our_turn(dispatch);
}

void dispatch_stop(struct dispatch *dispatch)
{
    dispatch->stopped = true;
    tally_takes(dispatch->slot, app_index(dispatch->app), false);
}

void dispatch_place_free(struct dispatch *dispatch)
{
    if (dispatch->stopped)
        return;
    if (app_waits_since_us(dispatch->app) == 0)
        is_our_turn(dispatch); /* no: whose it is hears of it */
    else
        app_pull(dispatch->app);
}

void dispatch_woken(struct dispatch *dispatch)
{
    tally_awake(dispatch->slot, app_index(dispatch->app));
    dispatch_place_free(dispatch);
}

void dispatch_links_changed(struct dispatch *dispatch)
{
    bool is_served = false, takes = false;

    if (dispatch->stopped)
        return;
    for (struct list *node = dispatch->links.next; node != &dispatch->links; node = node->next) {
        const struct link *link = LIST_OWNER(node, struct link, node);

        is_served |= link_is_usable(link);
        takes |= link_is_usable(link) && !link->is_full;
    }
    dispatch->is_served = is_served;
    dispatch->demanded &= !is_served;
    tally_takes(dispatch->slot, app_index(dispatch->app), takes);
    if (takes)
        dispatch_place_free(dispatch);
    else
        is_our_turn(dispatch); /* who has let ours go first */
    demand_what_waits(dispatch);
}

/* Another worker of the host may have taken the last place in between. */
static struct link *take_place(struct dispatch *dispatch)
{
    struct link *link;

    while ((link = choose(dispatch)) != NULL)
        if (tally_peer_take(dispatch->parts.tally, dispatch->slot, link->peer.column,
                            link->peer.most_running))
            return link;
    return NULL;
}

static void on_start(void *context, struct exchange *exchange)
{
    struct dispatch *dispatch = context;
    struct link *link = take_place(dispatch);

    exchange->task = NULL;
    if (link == NULL) {
        if (exchange_requeue(exchange) < 0)
            exchange_release(exchange);
        return;
    }
    list_remove(&link->node); /* the next of those that have as few gets the next one */
    list_append(&dispatch->links, &link->node);
    link->running++;
    if (call_start(link, exchange) < 0)
        link_call_ended(link);
}

/* A client's certificate is not asked for on behalf of an attached app. */
static void on_certified(struct exchange *exchange)
{
    (void)exchange;
}

struct dispatch *dispatch_new(const struct dispatch_parts *parts)
{
    struct dispatch *dispatch = mem_zalloc(sizeof(*dispatch));

    dispatch->parts = *parts;
    dispatch->slot = tally_slot(parts->tally, parts->slot);
    list_init(&dispatch->links);
    list_init(&dispatch->free_calls);
    dispatch->handler = (struct handler){
        .context = dispatch,
        .start = on_start,
        .has_room = has_room,
        .readable = call_readable,
        .writable = call_writable,
        .certified = on_certified,
        .cancelled = call_cancelled,
    };
    return dispatch;
}

void dispatch_free(struct dispatch *dispatch)
{
    struct list *node;

    if (dispatch == NULL)
        return;
    for (node = dispatch->links.next; node != &dispatch->links;) {
        struct link *link = LIST_OWNER(node, struct link, node);

        node = node->next;
        link_free(link);
    }
    while ((node = list_take(&dispatch->free_calls)) != NULL)
        mem_free(LIST_OWNER(node, struct call, node));
    mem_free(dispatch);
}

const struct handler *dispatch_handler(struct dispatch *dispatch)
{
    return &dispatch->handler;
}

void dispatch_serve(struct dispatch *dispatch, struct app *app)
{
    dispatch->app = app;
}

static bool is_to(const struct link *link, const struct dispatch_peer *peer)
{
    return link->peer.process == peer->process && link->peer.worker == peer->worker;
}

/* Links to one worker that only finish: an app may have them replaced again and again, and end no
 * request. What the oldest carries is given up. */
static void bound_finishing(struct dispatch *dispatch, const struct dispatch_peer *peer)
{
    struct link *oldest = NULL;
    unsigned count = 0;

    for (struct list *node = dispatch->links.prev; node != &dispatch->links; node = node->prev) {
        struct link *link = LIST_OWNER(node, struct link, node);

        if (!link->retired || link->stream == NULL || !is_to(link, peer))
            continue;
        oldest = link;
        count++;
    }
    if (count > DISPATCH_FINISHING)
        link_close(oldest, "too many of its links have not finished");
}

int dispatch_connect(struct dispatch *dispatch, const struct dispatch_peer *peer, int fd)
{
    CHECK(peer->column < TALLY_PEERS);
    if (dispatch->link_count == DISPATCH_LINKS) {
        close(fd);
        return ERR_LIMIT;
    }
    for (struct list *node = dispatch->links.next; node != &dispatch->links; node = node->next) {
        struct link *link = LIST_OWNER(node, struct link, node);

        if (is_to(link, peer))
            link_retire(link);
    }
    bound_finishing(dispatch, peer);
    link_new(dispatch, peer, fd);
    app_pull(dispatch->app);
    return 0;
}

unsigned dispatch_links(const struct dispatch *dispatch)
{
    return dispatch->link_count;
}
