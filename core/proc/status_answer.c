/*
 * Gathered when it is asked for, from the shared segment, the slots and the settings in force;
 * nothing is kept for it meanwhile. The numbers of busy workers are a moment apart from each other.
 */
#include "proc/status_answer.h"

#include "base/version.h"
#include "proc/master_priv.h"
#include "proc/status_json.h"
#include "server/reason.h"

static const char *const master_states[] = {
    [MASTER_STARTING] = "starting",
    [MASTER_SERVING] = "serving",
    [MASTER_STOPPING] = "stopping",
};

static const char *const slot_states[] = {
    [SLOT_EMPTY] = "empty",
    [SLOT_LOADING] = "loading",
    [SLOT_LOADED] = "loaded",
    [SLOT_SERVING] = "serving",
};

struct addresses {
    struct status_json *json;
    const struct served_app *app;
};

static void add_address(void *context, const struct url_prefix *prefix, void *value)
{
    const struct addresses *addresses = context;

    if (value == addresses->app)
        status_json_text(addresses->json, NULL, prefix->text);
}

static void add_app(struct status_json *json, struct master *master, const struct served_app *app)
{
    struct addresses addresses = {json, app};

    status_json_object(json, NULL);
    status_json_text(json, "name", app->path);
    status_json_text(json, "state",
                     app->settings.enabled ? master_states[master->state] : "disabled");
    status_json_array(json, "addresses");
    if (master->apps.prefixes)
        prefix_table_each(master->apps.prefixes, add_address, &addresses);
    status_json_close(json);
    for (int i = 0; i < APP_GAUGES; i++)
        status_json_number(json, tally_app_gauge_name((enum tally_app_gauge)i),
                           tally_app_gauge_sum(master->tally, app->index, (enum tally_app_gauge)i));
    status_json_settings(json, "settings", &app->settings, SETTING_APP);
    status_json_object(json, "counters");
    for (int i = 0; i < APP_COUNTERS; i++)
        status_json_number(
            json, tally_app_counter_name((enum tally_app_counter)i),
            (int64_t)tally_app_counter_sum(master->tally, app->index, (enum tally_app_counter)i));
    status_json_close(json);
    status_json_close(json);
}

static void add_reasons(struct status_json *json, struct tally *tally)
{
    status_json_object(json, "reasons");
    for (unsigned i = REASON_NONE + 1; i < REASONS; i++)
        status_json_number(json, reason_name((enum reason)i), (int64_t)tally_reason_sum(tally, i));
    status_json_close(json);
}

static int64_t lua_bytes(const struct tally_slot *slot)
{
    int64_t bytes = 0;

    for (unsigned i = 0; i < TALLY_APPS; i++)
        bytes += slot->app[i].gauge[APP_LUA_BYTES];
    return bytes;
}

static void add_worker(struct status_json *json, struct master *master, const struct slot *slot)
{
    const struct tally_slot *tally = tally_slot(master->tally, slot->index);
    uint64_t restarts = __atomic_load_n(&tally->counter[COUNTER_RESTARTS], __ATOMIC_RELAXED);

    status_json_object(json, NULL);
    status_json_number(json, "slot", slot->index);
    status_json_number(json, "pid", slot->pid);
    status_json_text(json, "state", slot_states[slot->state]);
    for (int i = 0; i < GAUGES; i++)
        status_json_number(json, tally_gauge_name((enum tally_gauge)i),
                           __atomic_load_n(&tally->gauge[i], __ATOMIC_RELAXED));
    status_json_number(json, "lua_bytes", lua_bytes(tally));
    status_json_number(json, "restarts", (int64_t)restarts);
    status_json_close(json);
}

static void add_counters(struct status_json *json, struct tally *tally)
{
    status_json_object(json, "counters");
    for (int i = 0; i < COUNTERS; i++)
        status_json_number(json, tally_counter_name((enum tally_counter)i),
                           (int64_t)tally_counter_sum(tally, (enum tally_counter)i));
    status_json_close(json);
}

static void answer_status(struct master *master, struct buf *out)
{
    struct status_json json;

    status_json_init(&json, out);
    status_json_object(&json, NULL);
    status_json_text(&json, "version", MOONQUAY_VERSION);
    status_json_number(&json, "pid", getpid());
    status_json_number(&json, "uptime_seconds",
                       (loop_now_ms(master->loop) - master->started_ms) / 1000);
    status_json_text(&json, "state", master_states[master->state]);
    status_json_settings(&json, "settings", &master->apps.settings, SETTING_SERVER);
    status_json_array(&json, "apps");
    for (unsigned i = 0; i < master->apps.count; i++)
        if (master->apps.at[i].is_open)
            add_app(&json, master, &master->apps.at[i]);
    status_json_close(&json);
    status_json_array(&json, "workers");
    for (unsigned i = 0; i < master->slot_count; i++)
        add_worker(&json, master, master->slots[i]);
    status_json_close(&json);
    add_counters(&json, master->tally);
    add_reasons(&json, master->tally);
    status_json_close(&json);
    buf_append(out, SPAN("\n"));
}

void status_answer(void *owner, struct span command, struct buf *out)
{
    if (span_eq(command, SPAN("status")))
        answer_status(owner, out);
}
