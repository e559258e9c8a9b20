/*
 * Requests that wait for an app in the old host: the app reaches the new one alone. So a worker of
 * the old host that has some is one more slot for the new registrar, and the two masters pass its
 * channels on.
 */
#include "proc/host.h"
#include "proc/takeover_priv.h"

void takeover_take_demand(struct takeover *takeover, unsigned slot, unsigned app)
{
    struct master *master = takeover->master;

    if (slot >= MAX_WORKERS || !takeover->is_host || !takeover->is_same[app])
        return;
    takeover->waits[slot] |= (uint64_t)1 << app;
    host_worker_serves(master, master->slot_count + slot);
    takeover_demand(master, master->slot_count + slot, app);
}

void takeover_demand_again(struct takeover *takeover)
{
    for (unsigned slot = 0; slot < MAX_WORKERS; slot++)
        for (unsigned app = 0; app < TALLY_APPS; app++)
            if (takeover->waits[slot] & (uint64_t)1 << app)
                takeover_demand(takeover->master, takeover->master->slot_count + slot, app);
}

bool takeover_has_slot(const struct master *master, unsigned slot)
{
    return takeover_is_shared(master) && slot >= master->slot_count &&
           slot - master->slot_count < MAX_WORKERS &&
           master->takeover->waits[slot - master->slot_count];
}

bool takeover_has_demand(const struct master *master, unsigned app)
{
    bool has_demand = false;

    for (unsigned i = 0; takeover_is_shared(master) && app < TALLY_APPS && i < MAX_WORKERS; i++)
        has_demand |= master->takeover->waits[i] & (uint64_t)1 << app;
    return has_demand;
}

bool takeover_is_between(const struct master *master)
{
    bool is_asked = false;

    for (unsigned app = 0; takeover_is_over(master) && app < TALLY_APPS; app++)
        is_asked |= takeover_has_demand(master, app);
    return is_asked;
}

void takeover_channel(struct master *master, unsigned slot, unsigned app,
                      const struct ipc_message *message)
{
    if (takeover_has_slot(master, slot) && message->fd_count == 1 && app < TALLY_APPS &&
        master->takeover->is_same[app])
        takeover_say(&master->takeover->old_host, TAKEOVER_CHANNEL,
                     (slot - master->slot_count) * TALLY_APPS + app, buf_span(&message->text),
                     &message->fds[0]);
}

void takeover_app_closed(struct master *master, unsigned app)
{
    if (master->takeover)
        master->takeover->is_same[app] = false;
}
