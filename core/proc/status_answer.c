/*
 * Gathered when it is asked for, from the shared segment, the slots and the settings in force;
 * nothing is kept for it meanwhile. The numbers of busy workers are a moment apart from each other.
 */
#include "proc/status_answer.h"

#include "base/json_out.h"
#include "base/version.h"
#include "proc/master_priv.h"
#include "server/reason.h"

#define VALUE_BYTES 4096 /* of a setting; no text is longer */

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

struct settings_of {
    struct json_out *json;
    const struct settings *settings;
    enum setting_scope scope;
};

static void add_setting(void *arg, const char *key)
{
    struct settings_of *of = arg;
    char value[VALUE_BYTES];

    if (settings_scope(key) != (int)of->scope)
        return;
    settings_get(of->settings, key, value, sizeof(value));
    json_out_text(of->json, key, value);
}

/* An object: the settings of one scope, each as the text that would set it. */
static void add_settings(struct json_out *json, const char *key, const struct settings *settings,
                         enum setting_scope scope)
{
    struct settings_of of = {.json = json, .settings = settings, .scope = scope};

    json_out_object(json, key);
    settings_each(add_setting, &of);
    json_out_close(json);
}

struct addresses {
    struct json_out *json;
    const struct served_app *app;
};

static void add_address(void *context, const struct url_prefix *prefix, void *value)
{
    const struct addresses *addresses = context;

    if (value == addresses->app)
        json_out_text(addresses->json, NULL, prefix->text);
}

static void add_app(struct json_out *json, struct master *master, const struct served_app *app)
{
    struct addresses addresses = {json, app};

    json_out_object(json, NULL);
    json_out_text(json, "name", app->path);
    json_out_text(json, "state", app->settings.enabled ? master_states[master->state] : "disabled");
    json_out_array(json, "addresses");
    if (master->apps.prefixes)
        prefix_table_each(master->apps.prefixes, add_address, &addresses);
    json_out_close(json);
    for (int i = 0; i < APP_GAUGES; i++)
        json_out_number(json, tally_app_gauge_name((enum tally_app_gauge)i),
                        tally_app_gauge_sum(master->tally, app->index, (enum tally_app_gauge)i));
    add_settings(json, "settings", &app->settings, SETTING_APP);
    json_out_object(json, "counters");
    for (int i = 0; i < APP_COUNTERS; i++)
        json_out_number(
            json, tally_app_counter_name((enum tally_app_counter)i),
            (int64_t)tally_app_counter_sum(master->tally, app->index, (enum tally_app_counter)i));
    json_out_close(json);
    json_out_close(json);
}

static void add_reasons(struct json_out *json, struct tally *tally)
{
    json_out_object(json, "reasons");
    for (unsigned i = REASON_NONE + 1; i < REASONS; i++)
        json_out_number(json, reason_name((enum reason)i), (int64_t)tally_reason_sum(tally, i));
    json_out_close(json);
}

static int64_t lua_bytes(const struct tally_slot *slot)
{
    int64_t bytes = 0;

    for (unsigned i = 0; i < TALLY_APPS; i++)
        bytes += slot->app[i].gauge[APP_LUA_BYTES];
    return bytes;
}

static void add_worker(struct json_out *json, struct master *master, const struct slot *slot)
{
    const struct tally_slot *tally = tally_slot(master->tally, slot->index);
    uint64_t restarts = __atomic_load_n(&tally->counter[COUNTER_RESTARTS], __ATOMIC_RELAXED);

    json_out_object(json, NULL);
    json_out_number(json, "slot", slot->index);
    json_out_number(json, "pid", slot->pid);
    json_out_text(json, "state", slot_states[slot->state]);
    for (int i = 0; i < GAUGES; i++)
        json_out_number(json, tally_gauge_name((enum tally_gauge)i),
                        __atomic_load_n(&tally->gauge[i], __ATOMIC_RELAXED));
    json_out_number(json, "lua_bytes", lua_bytes(tally));
    json_out_number(json, "restarts", (int64_t)restarts);
    json_out_close(json);
}

static void add_counters(struct json_out *json, struct tally *tally)
{
    json_out_object(json, "counters");
    for (int i = 0; i < COUNTERS; i++)
        json_out_number(json, tally_counter_name((enum tally_counter)i),
                        (int64_t)tally_counter_sum(tally, (enum tally_counter)i));
    json_out_close(json);
}

static void answer_status(struct master *master, struct buf *out)
{
    struct json_out json;

    json_out_init(&json, out);
    json_out_object(&json, NULL);
    json_out_text(&json, "version", MOONQUAY_VERSION);
    json_out_number(&json, "pid", getpid());
    json_out_number(&json, "uptime_seconds",
                    (loop_now_ms(master->loop) - master->started_ms) / 1000);
    json_out_text(&json, "state", master_states[master->state]);
    add_settings(&json, "settings", &master->apps.settings, SETTING_SERVER);
    json_out_array(&json, "apps");
    for (unsigned i = 0; i < master->apps.count; i++)
        if (master->apps.at[i].is_open)
            add_app(&json, master, &master->apps.at[i]);
    json_out_close(&json);
    json_out_array(&json, "workers");
    for (unsigned i = 0; i < master->slot_count; i++)
        add_worker(&json, master, master->slots[i]);
    json_out_close(&json);
    add_counters(&json, master->tally);
    add_reasons(&json, master->tally);
    json_out_close(&json);
    buf_append(out, SPAN("\n"));
}

void status_answer(void *owner, struct span command, struct buf *out)
{
    if (span_eq(command, SPAN("status")))
        answer_status(owner, out);
}
