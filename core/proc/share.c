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
#include "base/mem.h"
#include "proc/runtime_dir.h"
#include "share/attachment.h"
#include "share/control.h"

#define SHARE_QUESTIONS 32 /* without an answer; the host takes CONTROL_QUESTIONS */

/* A change that the host is asked for, on behalf of a worker. */
struct share_question {
    struct list node;
    struct slot *asker;
    uint32_t generation; /* of its process */
    unsigned number;     /* the asker's */
    unsigned sent_as;
    struct buf asked;
};

static void describe(void *owner, struct buf *pairs)
{
    const struct master *master = owner;

    if (master->apps.prefixes)
        apps_describe_again(&master->apps, pairs);
    else
        buf_append(pairs, buf_span(&master->wish));
}

static void on_attached(void *owner, struct span pairs)
{
    struct master *master = owner;
    bool is_first = master->apps.prefixes == NULL;

    apps_given(&master->apps, pairs);
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

bool share_has_to_ask(const struct master *master, struct span asked)
{
    const char *op = pairs_find(asked, "op"), *key = pairs_find(asked, "key");

    return master->attachment && op && key && (strcmp(op, "set") != 0 || !is_ours(key));
}

static void drop(struct share_question *question)
{
    list_remove(&question->node);
    buf_fini(&question->asked);
    mem_free(question);
}

int share_ask(struct master *master, struct slot *asker, const struct ipc_message *message,
              struct err_text *text)
{
    struct share_question *question;

    if (master->share_questions >= SHARE_QUESTIONS)
        return err_set(text, EXIT_INTERNAL, ERR_LIMIT, "too many changes at once");
    question = mem_zalloc(sizeof(*question));
    question->asker = asker;
    question->generation = slot_generation(asker);
    question->number = message->value;
    question->sent_as = ++master->last_share_question;
    buf_append(&question->asked, buf_span(&message->text));
    list_init(&question->node);
    if (!attachment_ask(master->attachment, question->sent_as, buf_span(&question->asked))) {
        drop(question);
        return err_set(text, EXIT_INTERNAL, ERR_STATE, "the host is away at the moment");
    }
    list_append(&master->asked_host, &question->node);
    master->share_questions++;
    return 0;
}

static void settle(struct master *master, struct share_question *question, const char *wrong,
                   struct span result)
{
    const struct changes_asker asker = {question->asker, question->generation, question->number};

    master->share_questions--;
    changes_confirmed(master, &asker, buf_span(&question->asked), wrong, result);
    drop(question);
}

/* A refusal may come before the answer to an earlier question, and an answer too late. */
static void on_replied(void *owner, unsigned number, const char *wrong, struct span result)
{
    struct master *master = owner;

    for (struct list *node = master->asked_host.next; node != &master->asked_host;
         node = node->next)
        if (LIST_OWNER(node, struct share_question, node)->sent_as == number) {
            settle(master, LIST_OWNER(node, struct share_question, node), wrong, result);
            return;
        }
}

static void on_lost(void *owner)
{
    struct master *master = owner;

    while (!list_empty(&master->asked_host))
        settle(master, LIST_OWNER(master->asked_host.next, struct share_question, node),
               "the host has gone before it answered", SPAN_NONE);
}

int share_open(struct master *master, struct span asked, struct err_text *text)
{
    int code;

    list_init(&master->asked_host);
    code = apps_describe(&master->apps, asked, &master->wish, text);

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
                                                      .replied = on_replied,
                                                      .lost = on_lost,
                                                      .channel = on_channel},
                           text);
}

void share_close(struct master *master)
{
    if (master->attachment)
        while (!list_empty(&master->asked_host))
            drop(LIST_OWNER(master->asked_host.next, struct share_question, node));
    attachment_free(master->attachment);
    master->attachment = NULL;
    buf_fini(&master->wish);
}

void share_stop(struct master *master)
{
    if (master->attachment)
        attachment_detach(master->attachment, !master->options->unregisters);
}
