/*
 * Each change has a version, told to the workers behind what it changes. A worker that does not
 * serve yet is told the whole state when it begins, and so counts for none of them.
 */
#include "proc/changes.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/host.h"
#include "proc/master_priv.h"
#include "proc/share.h"

#define PENDING_MOST 1024 /* changes that are not yet in force everywhere */

struct change {
    struct list node;
    struct changes_asker asker;
    unsigned version;
    struct buf reply;
};

void changes_init(struct changes *changes)
{
    list_init(&changes->pending);
}

static void change_free(struct changes *changes, struct change *change)
{
    list_remove(&change->node);
    buf_fini(&change->reply);
    mem_free(change);
    changes->count--;
}

void changes_fini(struct changes *changes)
{
    while (!list_empty(&changes->pending))
        change_free(changes, LIST_OWNER(changes->pending.next, struct change, node));
}

/* The version of the last change that holds in all workers. */
static unsigned held_version(const struct master *master)
{
    unsigned version = master->changes.version;

    for (unsigned i = 0; i < master->slot_count; i++) {
        const struct slot *slot = master->slots[i];

        if (slot->told && (int)(version - slot->applied) > 0)
            version = slot->applied;
    }
    return version;
}

static uint32_t generation_of(const struct master *master, const struct slot *asker)
{
    return asker ? slot_generation(asker) : host_generation(master);
}

/* Nobody hears it when its process has gone meanwhile. */
static void answer(struct master *master, const struct changes_asker *asker, struct span pairs)
{
    if (asker->generation != generation_of(master, asker->slot))
        return;
    if (asker->slot)
        slot_post(asker->slot, IPC_REPLY, asker->number, pairs);
    else
        host_post(master, IPC_REPLY, asker->number, pairs);
}

/* The sockets first: who hears that a port is closed will find it so. */
void changes_settle(struct master *master)
{
    struct changes *changes = &master->changes;
    struct list *node = changes->pending.next;
    unsigned version = held_version(master);

    endpoints_close_unused(&master->endpoints, version);
    while (node != &changes->pending) {
        struct change *change = LIST_OWNER(node, struct change, node);

        node = node->next;
        if ((int)(change->version - version) > 0)
            continue;
        answer(master, &change->asker, buf_span(&change->reply));
        change_free(changes, change);
    }
}

static void refuse(struct master *master, const struct changes_asker *asker,
                   const struct err_text *why)
{
    struct buf reply = {0};

    pairs_add(&reply, "wrong", why->text);
    pairs_add_number(&reply, "code", (unsigned)why->exit_code);
    answer(master, asker, buf_span(&reply));
    buf_fini(&reply);
}

/* The sockets that the change opened lie behind the first known ones; those it left have no use. */
static void tell_everybody(struct master *master, struct span change, unsigned last_id)
{
    unsigned version = master->changes.version;

    for (unsigned i = 0; i < master->slot_count; i++) {
        struct slot *slot = master->slots[i];

        if (!slot->told)
            continue;
        slot_post(slot, IPC_CHANGE, 0, change);
        slot_tell_sockets(slot, last_id);
        slot_post(slot, IPC_SYNC, version, SPAN_NONE);
    }
}

static void log_change(const struct served_app *app, const char *op, const char *key,
                       const char *value)
{
    struct log_line line;

    log_begin(&line, LOG_INFO, "changed", NULL);
    log_str(&line, "app", app->path);
    log_str(&line, "change", op);
    if (key[0])
        log_str(&line, "key", key);
    log_str(&line, "value", value);
    log_end(&line);
}

static int perform(struct master *master, struct served_app *app, struct span asked,
                   struct buf *change, struct buf *reply, struct err_text *text)
{
    const char *op = pairs_find(asked, "op"), *key = pairs_find(asked, "key");
    const char *value = pairs_find(asked, "value"), *place = pairs_find(asked, "place");
    int code;

    if (op == NULL || key == NULL || value == NULL || place == NULL)
        return err_set(text, EXIT_INTERNAL, ERR_INVALID, "a malformed question");
    if (strcmp(op, "set") == 0)
        code = apps_change_setting(&master->apps, app, key, value, place, change, text);
    else if (strcmp(op, "listen") == 0)
        code = apps_listen(&master->apps, app, &master->endpoints, value, change, reply, text);
    else
        code = apps_unlisten(&master->apps, app, &master->endpoints, value, change, reply, text);
    if (code == 0)
        log_change(app, op, key, value);
    return code;
}

static int check(const struct master *master, struct err_text *text)
{
    if (master->apps.prefixes == NULL)
        return err_set(text, EXIT_INTERNAL, ERR_STATE, "the server has not started yet");
    if (master->state == MASTER_STOPPING)
        return err_set(text, EXIT_INTERNAL, ERR_STATE, "the server is stopping");
    if (master->changes.count == PENDING_MOST)
        return err_set(text, EXIT_INTERNAL, ERR_LIMIT, "too many changes at once");
    return 0;
}

/* The app that it is about; NULL. */
static struct served_app *app_of(struct master *master, struct span asked)
{
    const char *index = pairs_find(asked, "app");
    unsigned number = index ? (unsigned)strtoul(index, NULL, 10) : TALLY_APPS;

    return number < master->apps.count && master->apps.at[number].is_open ? &master->apps.at[number]
                                                                          : NULL;
}

static int perform_any(struct master *master, struct slot *asker, struct span asked,
                       struct buf *change, struct buf *reply, struct err_text *text)
{
    struct served_app *app = app_of(master, asked);
    host_perform_fn *host_perform = asker ? NULL : host_performer(asked);
    int code = check(master, text);

    if (code < 0)
        return code;
    if (host_perform)
        return host_perform(master, asked, change, reply, text);
    if (app == NULL)
        return err_set(text, EXIT_INTERNAL, ERR_NOT_FOUND, "there is no such app");
    return perform(master, app, asked, change, reply, text);
}

/* What it is now has been done: the workers are told, and the asker when all of them have it. Takes
 * the reply's content. */
static void put_in_force(struct master *master, const struct changes_asker *asker,
                         struct span change, struct buf *reply, unsigned last_id)
{
    struct change *made = mem_zalloc(sizeof(*made));

    master->changes.version = master->endpoints.version;
    tell_everybody(master, change, last_id);
    made->asker = *asker;
    made->version = master->changes.version;
    made->reply = *reply;
    *reply = (struct buf){0};
    list_append(&master->changes.pending, &made->node);
    master->changes.count++;
    master_settings_changed(master);
    changes_settle(master);
}

void changes_asked(struct master *master, struct slot *slot, const struct ipc_message *message)
{
    const struct changes_asker asker = {slot, generation_of(master, slot), message->value};
    struct span asked = buf_span(&message->text);
    unsigned last_id = master->endpoints.last_id;
    struct buf change = {0}, reply = {0};
    struct err_text text = {0};

    master->endpoints.version = master->changes.version + 1;
    if (slot && check(master, &text) == 0 && share_has_to_ask(master, asked)) {
        if (share_ask(master, slot, message, &text) < 0)
            refuse(master, &asker, &text);
    } else if (perform_any(master, slot, asked, &change, &reply, &text) < 0) {
        refuse(master, &asker, &text);
    } else {
        put_in_force(master, &asker, buf_span(&change), &reply, last_id);
    }
    buf_fini(&change);
    buf_fini(&reply);
}

/* The host has done it; a setting is kept here too, for who reads it. */
static int note(struct master *master, struct served_app *app, struct span asked, const char *given,
                struct buf *change, struct err_text *text)
{
    const char *op = pairs_find(asked, "op"), *key = pairs_find(asked, "key");
    const char *value = pairs_find(asked, "value"), *place = pairs_find(asked, "place");

    if (strcmp(op, "set") == 0)
        return apps_change_setting(&master->apps, app, key, value, place, change, text);
    apps_note_prefix(&master->apps, app, given, strcmp(op, "listen") == 0, change);
    log_change(app, op, key, value);
    return 0;
}

void changes_confirmed(struct master *master, const struct changes_asker *asker, struct span asked,
                       const char *wrong, struct span result)
{
    struct served_app *app = app_of(master, asked);
    const char *given = pairs_find(result, "ok");
    struct buf change = {0}, reply = {0};
    struct err_text text = {0};
    int code = check(master, &text);

    master->endpoints.version = master->changes.version + 1;
    if (wrong)
        code = err_set(&text, EXIT_OPTION, ERR_INVALID, "%s", wrong);
    if (code == 0 && app)
        code = note(master, app, asked, given ? given : "", &change, &text);
    if (code < 0 || app == NULL) {
        refuse(master, asker, &text);
    } else {
        pairs_add(&reply, "ok", given ? given : "");
        put_in_force(master, asker, buf_span(&change), &reply, master->endpoints.last_id);
    }
    buf_fini(&change);
    buf_fini(&reply);
}
