/*
 * The server of one worker: makes connections, keeps the list of them, and ends them in good order.
 */
#include "server/server.h"

#include "base/err.h"
#include "base/mem.h"
#include "server/session.h"

#define LOCAL_ADDRESSES 4096 /* that a worker remembers as text; of more it asks each time */

static uint32_t limit32(int64_t value)
{
    return value > UINT32_MAX / 4 ? UINT32_MAX / 4 : (uint32_t)value;
}

static int64_t shortest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void server_drained(struct loop_call *call)
{
    struct server *server = LIST_OWNER(call, struct server, drain_call);

    if (server->drained)
        server->drained(server->drained_owner);
}

struct server *server_new(const struct server_parts *parts)
{
    struct server *server = mem_zalloc(sizeof(*server));

    server->loop = parts->loop;
    server->settings = server->early = parts->settings;
    server->tally = parts->tally;
    server->slot = tally_slot(parts->tally, parts->slot);
    server->access_log = parts->access_log;
    server->error_log = parts->error_log;
    server->tls = parts->tls;
    /* Checked before: a text that is wrong trusts nobody. */
    addr_set_parse(&server->trusted, parts->settings->trusted_proxies, NULL);
    server->boot = parts->boot;
    server->prefixes = prefix_table_new();
    /* Connection numbers of different workers and lives do not meet, and stay below 2^53, from
     * where on readers of JSON lose digits. */
    server->last_conn = (parts->boot & 0xfffff) << 32;
    list_init(&server->conns);
    list_init(&server->closing_apps);
    loop_call_init(&server->drain_call, server_drained);
    server_apply_settings(server);
    return server;
}

static const struct app *first_app(const struct server *server)
{
    unsigned i = 0;

    while (server->apps[i] == NULL)
        i++;
    return server->apps[i];
}

/* A server with one app needs no other times for connections that have not asked for it yet. */
void server_apply_settings(struct server *server)
{
    const struct settings *settings = server->settings;

    server->limits = (struct message_limits){
        .max_request_head_bytes = limit32(settings->max_request_head_bytes),
        .max_target_bytes = limit32(settings->max_target_bytes),
        .max_field_length = limit32(settings->max_field_length),
        .max_authorization_length = limit32(settings->max_field_length) > AUTHORIZATION_BYTES
                                        ? limit32(settings->max_field_length)
                                        : AUTHORIZATION_BYTES,
        .max_fields = limit32(settings->max_fields),
        .target = {limit32(settings->url_segment_max_length),
                   limit32(settings->url_segment_max_count)},
    };
    server->h2_limits = (struct h2_limits){
        .message = &server->limits,
        .max_concurrent_streams = limit32(settings->h2_max_concurrent_streams),
        .stream_window_bytes = limit32(settings->h2_stream_window_bytes),
        .header_table_bytes = limit32(settings->h2_header_table_bytes),
        .max_resets = limit32(settings->h2_max_resets),
        .max_settings = limit32(settings->h2_max_settings),
        .max_pings = limit32(settings->h2_max_pings),
        .max_empty_frames = limit32(settings->h2_max_empty_frames),
        .max_other_frames = limit32(settings->h2_max_other_frames),
        .max_continuations = limit32(settings->h2_max_continuations),
    };
    channel_limits_init(server);
    server->early = server->app_count == 1 ? first_app(server)->settings : settings;
    server->timer_ms = timeouts_least(settings);
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (server->apps[i])
            server->timer_ms =
                shortest(server->timer_ms, timeouts_least(server->apps[i]->settings));
    for (struct list *node = server->conns.next; node != &server->conns; node = node->next)
        timeouts_look(LIST_OWNER(node, struct conn, node));
}

void server_free(struct server *server)
{
    if (server == NULL)
        return;
    server_abort(server);
    loop_call_cancel(&server->drain_call);
    while (server->free_exchange_count > 0) {
        struct exchange *exchange = server->free_exchanges[--server->free_exchange_count];

        arena_fini(&exchange->arena);
        mem_free(exchange);
    }
    while (server->free_buffer_count > 0)
        buf_fini(&server->free_buffers[--server->free_buffer_count]);
    session_free_streams(server);
    apps_free(server);
    while (server->locals) {
        struct local_address *local = server->locals;

        server->locals = local->next;
        mem_free(local);
    }
    prefix_table_free(server->prefixes);
    prefix_table_free(server->reserved);
    addr_set_fini(&server->trusted);
    mem_free(server);
}

/* ---- connections ---- */

const struct local_address *server_local(struct server *server, const struct net_addr *addr)
{
    struct local_address *local;

    for (local = server->locals; local; local = local->next)
        if (memcmp(&local->addr, addr, sizeof(*addr)) == 0)
            return local;
    if (server->local_count == LOCAL_ADDRESSES)
        return NULL;
    local = mem_zalloc(sizeof(*local));
    local->addr = *addr;
    local->ip_len = net_addr_ip(addr, local->ip);
    local->next = server->locals;
    server->locals = local;
    server->local_count++;
    return local;
}

static bool is_any_address(const struct net_addr *addr)
{
    static const uint8_t zeros[sizeof(addr->ip)];

    return memcmp(addr->ip, zeros, sizeof(zeros)) == 0;
}

void server_entry_init(struct server_entry *entry, struct server *server,
                       const struct net_addr *addr, bool https)
{
    *entry = (struct server_entry){.server = server, .addr = *addr, .https = https};
    if (!is_any_address(addr))
        entry->local = server_local(server, addr);
}

/* False when there are too many connections. */
static bool count_connection(struct server *server)
{
    int64_t limit = server->settings->server_max_connections;

    if (limit != SETTING_UNLIMITED)
        return tally_take(server->tally, server->slot, GAUGE_CONNECTIONS, 1, limit);
    server->slot->gauge[GAUGE_CONNECTIONS]++;
    return true;
}

void server_accept(void *owner, int fd, const struct net_addr *peer)
{
    const struct server_entry *entry = owner;
    struct server *server = entry->server;
    struct stream *stream = stream_plain_new(server->loop, fd);

    if (!count_connection(server)) {
        server_report_refused(server, entry, peer);
        stream_close(stream, true);
        return;
    }
    server->conn_count++;
    server->slot->counter[COUNTER_CONNECTIONS]++;
    conn_new(server, stream, entry, peer);
}

void server_conn_gone(struct server *server, const struct conn *conn)
{
    server->conn_count--;
    if (conn->channel == NULL)
        server->slot->gauge[GAUGE_CONNECTIONS]--;
    if (server->draining && server->conn_count == 0)
        loop_defer(server->loop, &server->drain_call);
}

void server_accept_channel(struct server *server, struct app *app, int fd)
{
    server->conn_count++;
    channel_new(server, app, stream_plain_new(server->loop, fd));
}

static void refuse_waiting(struct server *server)
{
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (server->apps[i])
            admission_stop(server->apps[i]);
}

void server_keep_waiting(struct server *server, bool keep)
{
    server->keeps_waiting = keep;
    if (!keep && server->draining)
        refuse_waiting(server);
}

void server_drain(struct server *server, void (*drained)(void *owner), void *owner)
{
    struct list waiting, *node;

    server->draining = true;
    server->drained = drained;
    server->drained_owner = owner;
    if (!server->keeps_waiting)
        refuse_waiting(server);
    /* Draining one runs handlers, which may close any other: each is moved before it is looked at.
     */
    list_init(&waiting);
    while ((node = list_take(&server->conns)) != NULL)
        list_append(&waiting, node);
    while ((node = list_take(&waiting)) != NULL) {
        list_append(&server->conns, node);
        conn_drain(LIST_OWNER(node, struct conn, node));
    }
    if (server->conn_count == 0)
        loop_defer(server->loop, &server->drain_call);
}

void server_abort(struct server *server)
{
    struct list *node;

    while ((node = list_take(&server->conns)) != NULL)
        conn_close(LIST_OWNER(node, struct conn, node), CLOSE_DRAIN);
}

unsigned server_connections(const struct server *server)
{
    return server->conn_count;
}
