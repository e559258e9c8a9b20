/*
 * A lost connection is tried again, sooner first and then once a second, for as long as the process
 * lives: requests that run on channels do not need it.
 */
#include "share/attachment.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "share/control.h"

#define FIRST_PAUSE 0.01 /* seconds */
#define MOST_PAUSE  1.0

struct attachment {
    struct attachment_parts parts;
    struct ipc_channel ipc; /* fd -1: not connected */
    struct loop_alarm again;
    double pause;
    bool is_over;
    bool serves[CONTROL_WORKERS];
};

static void say(struct attachment *attachment, enum control_kind kind, unsigned value,
                struct span text)
{
    if (attachment->ipc.fd >= 0)
        ipc_send(&attachment->ipc, kind, value, text, NULL, 0); /* its end is seen by reading */
}

static void say_serves(struct attachment *attachment, unsigned worker)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "serves", attachment->serves[worker] ? "1" : "0");
    say(attachment, CONTROL_WORKER, worker, buf_span(&pairs));
    buf_fini(&pairs);
}

static void say_attach(struct attachment *attachment)
{
    struct buf pairs = {0};

    pairs_add(&pairs, "version", CONTROL_VERSION);
    attachment->parts.describe(attachment->parts.owner, &pairs);
    say(attachment, CONTROL_ATTACH, 0, buf_span(&pairs));
    buf_fini(&pairs);
    for (unsigned i = 0; i < CONTROL_WORKERS; i++)
        if (attachment->serves[i])
            say_serves(attachment, i);
}

/* ---- connecting ---- */

static void on_message(struct ipc_channel *channel);

static int connect_to(struct attachment *attachment, unsigned wait_ms)
{
    int fd = control_dial(attachment->parts.path, wait_ms);

    if (fd < 0)
        return fd;
    ipc_open(&attachment->ipc, fd);
    ipc_watch(&attachment->ipc, attachment->parts.loop, on_message);
    ipc_reserve(&attachment->ipc);
    say_attach(attachment);
    return 0;
}

static void try_later(struct attachment *attachment)
{
    loop_alarm_start(attachment->parts.loop, &attachment->again, attachment->pause);
    attachment->pause *= 2;
    if (attachment->pause > MOST_PAUSE)
        attachment->pause = MOST_PAUSE;
}

static void on_again(struct loop_alarm *alarm)
{
    struct attachment *attachment = LIST_OWNER(alarm, struct attachment, again);

    if (connect_to(attachment, 0) < 0)
        try_later(attachment);
}

int attachment_open(struct attachment **made, const struct attachment_parts *parts,
                    struct err_text *text)
{
    struct attachment *attachment = mem_zalloc(sizeof(*attachment));
    int code;

    attachment->parts = *parts;
    attachment->ipc.fd = -1;
    attachment->pause = FIRST_PAUSE;
    loop_alarm_init(&attachment->again, on_again);
    code = connect_to(attachment, CONTROL_DIAL_MS);
    if (code < 0) {
        mem_free(attachment);
        return err_set(text, EXIT_PORT_IN_USE, ERR_NOT_FOUND, "no host answers at %s: %s",
                       parts->path, err_message(code));
    }
    *made = attachment;
    return 0;
}

void attachment_free(struct attachment *attachment)
{
    if (attachment == NULL)
        return;
    loop_alarm_stop(attachment->parts.loop, &attachment->again);
    ipc_close(&attachment->ipc);
    mem_free(attachment);
}

/* ---- what the host says ---- */

static void take_reply(struct attachment *attachment, unsigned number, struct span pairs)
{
    const char *wrong = pairs_find(pairs, "wrong"), *code = pairs_find(pairs, "code");
    struct err_text why;

    if (number != 0) {
        attachment->parts.replied(attachment->parts.owner, number, wrong, pairs);
        return;
    }
    if (wrong == NULL) {
        attachment->pause = FIRST_PAUSE;
        attachment->parts.attached(attachment->parts.owner, pairs);
        return;
    }
    attachment->is_over = true;
    err_set(&why, code ? atoi(code) : EXIT_OPTION, ERR_PERMISSION, "%s", wrong);
    attachment->parts.refused(attachment->parts.owner, &why);
}

static void take_channel(struct attachment *attachment, const struct ipc_message *message)
{
    const char *app = pairs_find(buf_span(&message->text), "app");

    if (message->fd_count == 1 && app)
        attachment->parts.channel(attachment->parts.owner, message->value,
                                  (unsigned)strtoul(app, NULL, 10), message->fds[0]);
}

static void on_message(struct ipc_channel *channel)
{
    struct attachment *attachment = LIST_OWNER(channel, struct attachment, ipc);
    struct ipc_message message;
    int code = 0;

    while (!attachment->is_over && (code = ipc_receive(&attachment->ipc, &message)) == 0) {
        if (message.kind == CONTROL_REPLY)
            take_reply(attachment, message.value, buf_span(&message.text));
        else if (message.kind == CONTROL_CHANNEL)
            take_channel(attachment, &message);
        ipc_message_fini(&message);
    }
    if (code == ERR_AGAIN)
        return;
    ipc_close(&attachment->ipc);
    if (attachment->is_over)
        return;
    log_event(LOG_WARN, "host_lost", "%s: it is asked again", attachment->parts.path);
    attachment->parts.lost(attachment->parts.owner);
    try_later(attachment);
}

void attachment_worker(struct attachment *attachment, unsigned worker, bool serves)
{
    if (worker >= CONTROL_WORKERS)
        return;
    attachment->serves[worker] = serves;
    say_serves(attachment, worker);
}

bool attachment_ask(struct attachment *attachment, unsigned number, struct span pairs)
{
    if (attachment->ipc.fd < 0 || attachment->is_over)
        return false;
    say(attachment, CONTROL_ASK, number, pairs);
    return true;
}

void attachment_detach(struct attachment *attachment, bool keep)
{
    struct buf pairs = {0};

    attachment->is_over = true;
    pairs_add(&pairs, "keep", keep ? "1" : "0");
    say(attachment, CONTROL_DETACH, 0, buf_span(&pairs));
    buf_fini(&pairs);
}
