/*
 * Gathered when it is asked for, from the shared segment, the slots and the settings in force;
 * nothing is kept for it meanwhile. The numbers of busy workers are a moment apart from each other.
 * What an app asked for in its own scope is known to its workers alone, so it is not told here.
 */
#include "proc/status_answer.h"

#include "base/version.h"
#include "proc/master_priv.h"
#include "proc/status_json.h"

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

static void add_addresses(struct status_json *json, const struct endpoints *endpoints)
{
    char url[sizeof(endpoints->at[0].host) + 32];

    status_json_array(json, "addresses");
    for (unsigned i = 0; i < endpoints->count; i++) {
        snprintf(url, sizeof(url), "http://%s:%u", endpoints->at[i].host, endpoints->at[i].port);
        status_json_text(json, NULL, url);
    }
    status_json_close(json);
}

static void add_apps(struct status_json *json, struct master *master)
{
    status_json_array(json, "apps");
    status_json_object(json, NULL);
    status_json_text(json, "name", master->options->app);
    status_json_text(json, "state", master_states[master->state]);
    add_addresses(json, &master->endpoints);
    status_json_number(json, "connections", tally_gauge_sum(master->tally, GAUGE_CONNECTIONS));
    status_json_number(json, "running", tally_gauge_sum(master->tally, GAUGE_REQUESTS));
    status_json_close(json);
    status_json_close(json);
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
    status_json_settings(&json, "settings", &master->settings, SETTING_SERVER);
    add_apps(&json, master);
    status_json_array(&json, "workers");
    for (unsigned i = 0; i < master->slot_count; i++)
        add_worker(&json, master, master->slots[i]);
    status_json_close(&json);
    add_counters(&json, master->tally);
    status_json_close(&json);
    buf_append(out, SPAN("\n"));
}

void status_answer(void *owner, struct span command, struct buf *out)
{
    if (span_eq(command, SPAN("status")))
        answer_status(owner, out);
}
