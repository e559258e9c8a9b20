/*
 * An attached process has no sockets of its own: its prefixes are the host's to open, and requests
 * come over channels that the host sends, one for each of its workers and each of ours.
 */
#include "proc/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "proc/runtime_dir.h"
#include "share/attachment.h"
#include "share/control.h"

static void describe(void *owner, struct buf *pairs)
{
    const struct master *master = owner;

    buf_append(pairs, buf_span(&master->wish));
}

static bool is_prefix(const char *key)
{
    size_t length = strlen(key);

    return length > 2 && strcmp(key + length - 2, ":" IPC_ADD_PREFIX) == 0;
}

/* A port that was chosen for us is what we want when we come back. */
static void remember(struct master *master, struct span given)
{
    struct span wish = buf_span(&master->wish);
    struct buf fresh = {0};
    const char *key, *value;

    while (pairs_next(&wish, &key, &value))
        if (!is_prefix(key))
            pairs_add(&fresh, key, value);
    while (pairs_next(&given, &key, &value))
        if (is_prefix(key))
            pairs_add(&fresh, key, value);
    buf_fini(&master->wish);
    master->wish = fresh;
}

static void on_attached(void *owner, struct span pairs)
{
    struct master *master = owner;
    bool is_first = master->apps.prefixes == NULL;

    apps_given(&master->apps, pairs);
    remember(master, pairs);
    if (is_first)
        master_shared(master);
    else
        log_event(LOG_INFO, "host_found", "the apps are attached again");
}

static void on_refused(void *owner, const struct err_text *why)
{
    struct master *master = owner;

    if (master->state == MASTER_STARTING) {
        master_fail(master, why->exit_code, "%s", why->text);
        return;
    }
    log_event(LOG_ERROR, "host_refused", "%s", why->text);
    master->status = why->exit_code;
    master_stop(master);
}

static void on_channel(void *owner, unsigned worker, unsigned app, int fd)
{
    struct master *master = owner;

    if (worker < master->slot_count)
        slot_post_fd(master->slots[worker], IPC_CHANNEL, app, SPAN_NONE, fd);
}

int share_open(struct master *master, struct span asked, struct err_text *text)
{
    int code = apps_describe(&master->apps, asked, &master->wish, text);

    if (code < 0)
        return code;
    if (master->options->socket)
        snprintf(master->host.path, sizeof(master->host.path), "%s", master->options->socket);
    else
        runtime_dir_find_host(master->host.path);
    return attachment_open(&master->attachment,
                           &(struct attachment_parts){.loop = master->loop,
                                                      .path = master->host.path,
                                                      .owner = master,
                                                      .describe = describe,
                                                      .attached = on_attached,
                                                      .refused = on_refused,
                                                      .channel = on_channel},
                           text);
}

void share_close(struct master *master)
{
    attachment_free(master->attachment);
    master->attachment = NULL;
    buf_fini(&master->wish);
}

void share_worker(struct master *master, unsigned slot, bool serves)
{
    if (master->attachment)
        attachment_worker(master->attachment, slot, serves);
}

/* Settings that hold where the handlers run; the host applies all others. */
static bool is_ours(const char *key)
{
    static const char *const ours[] = {
        "max_request_body_size", "allow_synchronous_io", "throw_write_errors", "cpu_limit",
        "timeouts.handler",      "timeouts.cancel",      "compression",
    };

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strcmp(key, ours[i]) == 0)
            return true;
    return settings_scope(key) != SETTING_APP; /* of this process's server */
}

int share_judge_change(const struct master *master, struct span asked, struct err_text *text)
{
    const char *op = pairs_find(asked, "op"), *key = pairs_find(asked, "key");

    if (master->attachment == NULL || op == NULL || key == NULL)
        return 0;
    if (strcmp(op, "set") != 0)
        return err_set(text, EXIT_OPTION, ERR_UNSUPPORTED,
                       "%s: an app behind a host names its prefixes at the start", op);
    if (is_ours(key))
        return 0;
    return err_set(text, EXIT_OPTION, ERR_UNSUPPORTED,
                   "%s: the host applies it, and takes it at the start of the app only", key);
}

void share_stop(struct master *master)
{
    if (master->attachment)
        attachment_detach(master->attachment, true);
}
