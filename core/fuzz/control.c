/*
 * What programs say to a host's registrar: two of them, one with the rights of the host and one
 * with none (where we are root), say messages, pieces of messages and bytes that are none, come
 * back and leave; the master agrees or refuses, sooner or later. An input is a row of steps, each
 * a byte for what, one for how, and text up to the next 0xff. Nobody is ever kept from being
 * answered: at the end all questions are, and a command of a fresh program gets its document.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "fuzz/fuzz.h"
#include "net/ipc.h"
#include "share/control.h"
#include "share/registrar.h"
#include "share/state.h"

#define PROGRAMS  2
#define QUESTIONS 256 /* that the master remembers */
#define STEPS     64
#define STRANGER  12345

/* A question to the master; texts that it answers with. */
struct asked {
    unsigned number;
    bool is_open;
    char prefixes[4096]; /* of an open: "+" pairs */
    size_t prefix_bytes;
};

struct scene {
    struct loop *loop;
    struct registrar *registrar;
    struct sockaddr_un address;
    struct ipc_channel programs[PROGRAMS]; /* fd -1: it has left */
    struct asked asked[QUESTIONS];
    unsigned first, count; /* of asked, a ring */
};

/* ---- the master ---- */

static void on_ask(void *owner, unsigned number, struct span pairs)
{
    struct scene *scene = owner;
    struct asked *asked = &scene->asked[(scene->first + scene->count) % QUESTIONS];
    const char *op = pairs_find(pairs, "op"), *key, *value;

    CHECK(op && scene->count < QUESTIONS);
    scene->count++;
    *asked = (struct asked){.number = number, .is_open = strcmp(op, "open") == 0};
    if (strcmp(op, "state") == 0) { /* what is to be saved can be read again */
        struct state state = {0};
        struct err_text why;

        CHECK(state_read(&state, span_str(pairs_find(pairs, "value")), &why) == 0);
        state_fini(&state);
    }
    while (asked->is_open && pairs_next(&pairs, &key, &value)) {
        size_t bytes = strlen(value) + 3;

        if (strcmp(key, "+") != 0 || asked->prefix_bytes + bytes > sizeof(asked->prefixes))
            continue;
        memcpy(asked->prefixes + asked->prefix_bytes, "+", 2);
        memcpy(asked->prefixes + asked->prefix_bytes + 2, value, bytes - 2);
        asked->prefix_bytes += bytes;
    }
}

static void on_channel(void *owner, unsigned app, struct span pairs, int fd)
{
    (void)owner, (void)app, (void)pairs;
    CHECK(fd >= 0);
}

static void answer(struct scene *scene, bool agrees)
{
    struct asked *asked = &scene->asked[scene->first];
    struct span result = agrees ? span_of(asked->prefixes, asked->prefix_bytes)
                                : span_of("code\0"
                                          "75\0",
                                          8);

    if (scene->count == 0)
        return;
    scene->first = (scene->first + 1) % QUESTIONS;
    scene->count--;
    registrar_replied(scene->registrar, asked->number, agrees ? NULL : "no", result);
}

static void turn(struct scene *scene)
{
    for (int i = 0; i < 4; i++)
        loop_turn(scene->loop, false);
}

/* ---- programs ---- */

static void come(struct scene *scene, unsigned which)
{
    uid_t us = geteuid();
    int fd;

    if (scene->programs[which].fd >= 0)
        return;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (which == 1 && us == 0)
        CHECK(seteuid(STRANGER) == 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&scene->address, sizeof(scene->address)) == 0);
    if (which == 1 && us == 0)
        CHECK(seteuid(us) == 0);
    ipc_open(&scene->programs[which], fd);
    turn(scene);
}

/* What it is told; a reply is a document, prefixes or one refusal with an exit code. */
static bool hear(struct ipc_channel *program)
{
    struct ipc_message message;
    bool heard = program->fd >= 0 && ipc_receive(program, &message) == 0;

    if (!heard)
        return false;
    if (message.kind == CONTROL_REPLY) {
        struct span text = buf_span(&message.text);
        const char *code = pairs_find(text, "code");

        CHECK((pairs_find(text, "ok") != NULL) != (pairs_find(text, "wrong") != NULL));
        CHECK(code == NULL || (atoi(code) > 0 && atoi(code) < 126));
    } else {
        CHECK(message.kind == CONTROL_CHANNEL && message.fd_count == 1);
    }
    ipc_message_fini(&message);
    return true;
}

/* ---- steps ---- */

enum {
    STEP_LEAVE = CONTROL_COMMAND + 1,
    STEP_RAW,
    STEP_ANSWER,
    STEP_WORKER,
    STEP_RENEW,
    STEPS_END
};

static void step(struct scene *scene, unsigned what, unsigned how, struct span text)
{
    struct ipc_channel *program = &scene->programs[how % PROGRAMS];

    come(scene, how % PROGRAMS);
    if (what < STEP_LEAVE)
        ipc_send(program, what, how / PROGRAMS, text, NULL, 0);
    else if (what == STEP_LEAVE)
        ipc_close(program);
    else if (what == STEP_RAW)
        send(program->fd, text.at, text.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    else if (what == STEP_ANSWER)
        answer(scene, how & 2);
    else if (what == STEP_WORKER)
        registrar_worker(scene->registrar, how);
    else
        registrar_renew(scene->registrar, how, how / 2, how & 1);
    turn(scene);
    for (unsigned i = 0; i < PROGRAMS; i++)
        while (hear(&scene->programs[i]))
            ;
}

static void run_steps(struct scene *scene, struct span input)
{
    for (unsigned i = 0; i < STEPS && input.len >= 2; i++) {
        unsigned what = (unsigned char)input.at[0], how = (unsigned char)input.at[1];
        const char *end = memchr(input.at + 2, 0xff, input.len - 2);
        size_t length = end ? (size_t)(end - input.at - 2) : input.len - 2;

        step(scene, what % STEPS_END, how, span_of(input.at + 2, length));
        input = span_skip(input, 2 + length + (end != NULL));
        if (scene->count > QUESTIONS / 2) /* a master does answer */
            answer(scene, true);
    }
}

/* ---- the scene ---- */

static void open_scene(struct scene *scene)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *scene = (struct scene){.address = {.sun_family = AF_UNIX}};
    /* An abstract name: no file's rights keep other users away. */
    snprintf(scene->address.sun_path + 1, sizeof(scene->address.sun_path) - 1, "moonquay-fuzz-%d",
             (int)getpid());
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&scene->address, sizeof(scene->address)) == 0 &&
          listen(fd, PROGRAMS) == 0);
    for (unsigned i = 0; i < PROGRAMS; i++)
        scene->programs[i].fd = -1;
    scene->loop = loop_new();
    CHECK(scene->loop);
    scene->registrar = registrar_new(&(struct registrar_parts){.loop = scene->loop,
                                                               .uid = geteuid(),
                                                               .owner = scene,
                                                               .ask = on_ask,
                                                               .channel = on_channel});
    registrar_listen(scene->registrar, fd);
}

/* Whatever they have said, the next one is answered. */
static void ask_last(struct scene *scene)
{
    static const char command[] = "verb\0show\0noun\0firewall";
    struct ipc_channel *program = &scene->programs[0];

    while (scene->count > 0)
        answer(scene, true);
    ipc_close(program);
    turn(scene);
    while (scene->count > 0)
        answer(scene, true);
    come(scene, 0);
    CHECK(ipc_send(program, CONTROL_COMMAND, 1, span_of(command, sizeof(command)), NULL, 0) == 0);
    turn(scene);
    CHECK(hear(program));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scene scene;

    log_setup(STDERR_FILENO, LOG_ERROR, LOG_TEXT, "fuzz");
    open_scene(&scene);
    run_steps(&scene, span_of((const char *)data, size));
    ask_last(&scene);
    for (unsigned i = 0; i < PROGRAMS; i++)
        ipc_close(&scene.programs[i]);
    registrar_free(scene.registrar);
    loop_free(scene.loop);
    return 0;
}
