/*
 * Channels: socket pairs between a worker of the host and one of a program. A program may have them
 * made anew again and again, by closing them or by saying that its workers were replaced; each
 * costs the host some work, and a descriptor that is on its way. So what is wanted is a bit, which
 * cannot pile up; nobody is given more than it reads; and who has had many in a row waits, each
 * time longer.
 */
#include "share/registrar_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

/* In a row, before the first pause; and besides what is needed once for all, twice: workers of
 * both sides are replaced, and a deploy is quick. */
#define GIVEN_AT_ONCE 64u

#define PAUSE_MS        100 /* the first; each is twice as long as the one before */
#define MOST_PAUSE_MS   8000
#define CALM_MS         20000 /* without any, and it is as if there had been none */
#define UNREAD_PAUSE_MS 5     /* the first, for a program to read what it was given */

/* What is on its way to a program, as the kernel counts it: about twenty channels. Their
 * descriptors count for our user, and all programs together may not use up what it may send. */
#define UNREAD_BYTES 16384u

/* ---- making them ---- */

static void connect_one(struct program *program, unsigned app, unsigned worker, unsigned slot)
{
    struct registrar *registrar = program->registrar;
    const struct member *member = &program->members[app];
    unsigned place = host_queue_place(member->queue);
    struct buf to_host = {0}, to_program = {0};
    char process[24], most[24];
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
        log_event(LOG_ERROR, "channel_failed", "%s", strerror(errno));
        return;
    }
    snprintf(process, sizeof(process), "%llu", (unsigned long long)program->number);
    snprintf(most, sizeof(most), "%lld", (long long)member->most_running);
    pairs_add_number(&to_host, "slot", slot);
    pairs_add(&to_host, "process", process);
    pairs_add_number(&to_host, "worker", worker);
    pairs_add_number(&to_host, "uid", program->caller.uid);
    pairs_add(&to_host, "most", most);
    pairs_add_number(&to_host, "column", (member->column + worker) % TALLY_PEERS);
    pairs_add_number(&to_host, "credentials", member->gets_credentials);
    pairs_add_number(&to_program, "app", app);
    program_tell(program, CONTROL_CHANNEL, worker, buf_span(&to_program), &ends[0]);
    registrar->parts.channel(registrar->parts.owner, place, buf_span(&to_host), ends[1]);
    close(ends[0]);
    close(ends[1]);
    buf_fini(&to_host);
    buf_fini(&to_program);
}

static void connect_all(struct program *program, unsigned worker, unsigned slot)
{
    if (!program->serves[worker] || !program->registrar->slots[slot])
        return; /* no more */
    for (unsigned app = 0; app < program->app_count; app++)
        connect_one(program, app, worker, slot);
    program->channels.given += program->app_count;
}

/* ---- when ---- */

/* How many it has when it has all. */
static unsigned needed(const struct program *program)
{
    unsigned slots = 0;

    for (unsigned slot = 0; slot < HOST_SLOTS; slot++)
        slots += program->registrar->slots[slot];
    return slots * program->serving * program->app_count;
}

static void make_pause(struct program *program, int64_t first_ms)
{
    struct channels *channels = &program->channels;

    channels->pause_ms = channels->pause_ms < first_ms ? first_ms : 2 * channels->pause_ms;
    if (channels->pause_ms > MOST_PAUSE_MS)
        channels->pause_ms = MOST_PAUSE_MS;
    channels->pauses = true;
    loop_alarm_start(program->registrar->parts.loop, &channels->pause,
                     (double)channels->pause_ms / 1000);
}

/* Whether it may have one now; else there is a pause. */
static bool may_have(struct program *program, unsigned most)
{
    if (ipc_unread(&program->ipc) > UNREAD_BYTES)
        make_pause(program, UNREAD_PAUSE_MS);
    else if (program->channels.given >= most)
        make_pause(program, PAUSE_MS);
    else
        return true;
    return false;
}

static void give(struct program *program)
{
    struct channels *channels = &program->channels;
    unsigned most = GIVEN_AT_ONCE + 2 * needed(program);

    for (unsigned worker = 0; worker < CONTROL_WORKERS; worker++)
        for (unsigned slot = 0; slot < HOST_SLOTS; slot++) {
            uint8_t *bits = &channels->wanted[worker][slot / 8];

            if (*bits == 0) {
                slot |= 7;
                continue;
            }
            if (!(*bits & 1u << slot % 8))
                continue;
            if (!may_have(program, most))
                return;
            *bits &= (uint8_t) ~(1u << slot % 8);
            connect_all(program, worker, slot);
            channels->last_ms = loop_now_ms(program->registrar->parts.loop);
        }
}

/* Behind a pause it may have each once. */
static void on_pause_over(struct loop_alarm *alarm)
{
    struct channels *channels = LIST_OWNER(alarm, struct channels, pause);
    struct program *program = LIST_OWNER(channels, struct program, channels);
    unsigned most = GIVEN_AT_ONCE + 2 * needed(program);

    channels->pauses = false;
    if (channels->given >= most)
        channels->given = most - needed(program);
    if (program->is_attached)
        give(program);
}

static void mark(struct program *program, unsigned worker, int only_slot)
{
    const struct registrar *registrar = program->registrar;

    for (unsigned slot = 0; slot < HOST_SLOTS; slot++)
        if (registrar->slots[slot] && (only_slot < 0 || slot == (unsigned)only_slot))
            program->channels.wanted[worker][slot / 8] |= (uint8_t)(1u << slot % 8);
}

void channels_want(struct program *program, int only_worker, int only_slot)
{
    struct channels *channels = &program->channels;

    if (!program->is_attached)
        return;
    if (channels->wanted == NULL)
        channels->wanted = mem_zalloc(CONTROL_WORKERS * sizeof(channels->wanted[0]));
    for (unsigned worker = 0; worker < CONTROL_WORKERS; worker++)
        if (program->serves[worker] && (only_worker < 0 || worker == (unsigned)only_worker))
            mark(program, worker, only_slot);
    if (loop_now_ms(program->registrar->parts.loop) - channels->last_ms > CALM_MS)
        channels->given = 0, channels->pause_ms = 0;
    if (!channels->pauses)
        give(program);
}

/* ---- life ---- */

void channels_init(struct program *program)
{
    loop_alarm_init(&program->channels.pause, on_pause_over);
}

void channels_fini(struct program *program)
{
    loop_alarm_stop(program->registrar->parts.loop, &program->channels.pause);
    mem_free(program->channels.wanted);
}

/* ---- who wants them ---- */

void registrar_worker(struct registrar *registrar, unsigned slot)
{
    if (slot >= HOST_SLOTS)
        return;
    registrar->slots[slot] = true;
    for (struct list *node = registrar->programs.next; node != &registrar->programs;
         node = node->next)
        channels_want(LIST_OWNER(node, struct program, node), -1, (int)slot);
}

void registrar_worker_gone(struct registrar *registrar, unsigned slot)
{
    if (slot < HOST_SLOTS)
        registrar->slots[slot] = false;
}

void registrar_renew(struct registrar *registrar, uint64_t process, unsigned worker, unsigned slot)
{
    for (struct list *node = registrar->programs.next; node != &registrar->programs;
         node = node->next) {
        struct program *program = LIST_OWNER(node, struct program, node);

        if (program->number == process && worker < CONTROL_WORKERS && slot < HOST_SLOTS)
            channels_want(program, (int)worker, (int)slot);
    }
}
