/*
 * The server of one worker: makes connections, keeps the list of them, and ends them in good order.
 */
#include "server/server.h"

#include "base/err.h"
#include "base/mem.h"
#include "server/server_priv.h"

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

struct server *server_new(struct loop *loop, const struct settings *settings,
                          struct tally_slot *slot, struct access_log *log, uint64_t boot)
{
    struct server *server = mem_zalloc(sizeof(*server));

    server->loop = loop;
    server->settings = settings;
    server->slot = slot;
    server->access_log = log;
    server->boot = boot;
    /* Connection numbers of different workers and lives do not meet, and stay below 2^53, from
     * where on readers of JSON lose digits. */
    server->last_conn = (boot & 0xfffff) << 32;
    list_init(&server->conns);
    loop_call_init(&server->drain_call, server_drained);
    server_apply_settings(server);
    return server;
}

void server_apply_settings(struct server *server)
{
    const struct settings *settings = server->settings;

    server->limits = (struct h1_limits){
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
    server->timer_ms = shortest(
        shortest(settings->timeout_header_wait_ms, settings->timeout_idle_connection_ms),
        shortest(settings->timeout_entity_body_ms, settings->timeout_drain_entity_body_ms));
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
    mem_free(server);
}

void server_set_handler(struct server *server, const struct handler *handler)
{
    server->handler = handler;
}

void server_accept(void *owner, int fd, const struct net_addr *peer)
{
    struct server *server = owner;

    server->conn_count++;
    server->slot->gauge[GAUGE_CONNECTIONS]++;
    server->slot->counter[COUNTER_CONNECTIONS]++;
    conn_new(server, stream_plain_new(server->loop, fd), peer);
}

void server_conn_gone(struct server *server)
{
    server->conn_count--;
    server->slot->gauge[GAUGE_CONNECTIONS]--;
    if (server->draining && server->conn_count == 0)
        loop_defer(server->loop, &server->drain_call);
}

void server_drain(struct server *server, void (*drained)(void *owner), void *owner)
{
    struct list waiting, *node;

    server->draining = true;
    server->drained = drained;
    server->drained_owner = owner;
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
