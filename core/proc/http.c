/*
 * The words are read by the table of the commands, which the host reads too; it alone decides. One
 * question, one answer, and never longer than a time limit.
 */
#include "proc/http.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "proc/http_show.h"
#include "proc/runtime_dir.h"
#include "proc/terminal.h"
#include "share/admin.h"
#include "share/control.h"

#define ANSWER_MS    10000
#define WORDS_MOST   64
#define EXIT_NO_HOST 69 /* none is there, or it does not answer (sysexits: EX_UNAVAILABLE) */

struct http {
    bool json, help;
    const char *socket; /* NULL: look for one */
    char path[RUNTIME_PATH_BYTES];
    const char *words[WORDS_MOST]; /* of the command */
    size_t word_count;
    struct admin_request request;
    struct err_text text;
};

/* ---- the words ---- */

/* Adds where there is more about it: of the command, when it is known which one is meant. */
static int usage_of(struct http *http, int code)
{
    const struct admin_command *command = http->request.command;
    size_t used = strlen(http->text.text);

    snprintf(http->text.text + used, sizeof(http->text.text) - used,
             "; moonquay http%s%s%s%s --help shows how", command ? " " : "",
             command ? admin_verb_word(command->verb) : "", command ? " " : "",
             command ? admin_noun_word(command->noun) : "");
    return code;
}

static int usage(struct http *http, const char *what, const char *word)
{
    return usage_of(http,
                    err_set(&http->text, EXIT_USAGE_ERROR, ERR_INVALID, "%s%.200s", what, word));
}

/* One option at *word, which is moved to the last word that belongs to it. */
static int read_option(struct http *http, char ***word)
{
    const char *option = **word;

    if (strcmp(option, "--json") == 0) {
        http->json = true;
    } else if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
        http->help = true;
    } else if (strncmp(option, "--socket=", strlen("--socket=")) == 0) {
        http->socket = option + strlen("--socket=");
    } else if (strcmp(option, "--socket") == 0) {
        http->socket = (*word)[1] ? *++*word : "";
    } else {
        return usage(http, "no such option: ", option);
    }
    return http->socket && http->socket[0] == '\0' ? usage(http, "wants a path: --socket", "") : 0;
}

/* "help add urlacl" as "--help add urlacl". */
static void take_help(struct http *http)
{
    if (http->word_count == 0 || strcasecmp(http->words[0], "help") != 0)
        return;
    http->help = true;
    memmove(http->words, http->words + 1, --http->word_count * sizeof(http->words[0]));
}

/* words end with NULL, as argv does. */
static int read_words(struct http *http, char **words)
{
    int code = 0;

    for (; *words && code == 0; words++)
        if ((*words)[0] == '-')
            code = read_option(http, &words);
        else if (http->word_count == WORDS_MOST)
            code = usage(http, "one word too many: ", *words);
        else
            http->words[http->word_count++] = *words;
    take_help(http);
    if (code < 0 || http->help)
        return code;
    code = admin_read_words(&http->request, http->words, http->word_count, &http->text);
    return code < 0 ? usage_of(http, code) : 0;
}

/* ---- asking ---- */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const char *find_host(struct http *http)
{
    const char *named = getenv("MOONQUAY_HOST");

    if (http->socket)
        return http->socket;
    if (named && named[0])
        return named;
    runtime_dir_find_host(http->path);
    return http->path;
}

/* It was asked, and has perhaps only other things to do. */
static int no_answer(struct http *http, const char *where)
{
    bool is_harmless = http->request.command->verb == ADMIN_SHOW;

    return err_set(&http->text, EXIT_NO_HOST, ERR_TIMEOUT,
                   "the host at %.300s has not answered in %d s%s", where, ANSWER_MS / 1000,
                   is_harmless ? "" : "; it may still do what it was asked");
}

static int no_host(struct http *http, const char *where, int code)
{
    return err_set(&http->text, code == ERR_PERMISSION ? EXIT_PERMISSION : EXIT_NO_HOST, code,
                   "no host answers at %.300s: %s", where, err_message(code));
}

/* The reply; other messages are none of ours. */
static int receive(struct ipc_channel *channel, struct ipc_message *reply)
{
    int64_t until_ms = now_ms() + ANSWER_MS, left_ms;
    int code = ERR_AGAIN;

    while (code == ERR_AGAIN && (left_ms = until_ms - now_ms()) > 0) {
        struct pollfd wait = {.fd = channel->fd, .events = POLLIN};

        poll(&wait, 1, (int)left_ms);
        code = ipc_receive(channel, reply);
        if (code == 0 && reply->kind != CONTROL_REPLY) {
            ipc_message_fini(reply);
            code = ERR_AGAIN;
        }
    }
    return code == ERR_AGAIN ? ERR_TIMEOUT : code;
}

static int ask(struct http *http, const char *where, struct ipc_message *reply)
{
    struct ipc_channel channel;
    struct buf pairs = {0};
    int fd = control_dial(where, CONTROL_DIAL_MS), code;

    if (fd < 0)
        return no_host(http, where, fd);
    ipc_open(&channel, fd);
    admin_write_pairs(&http->request, &pairs);
    code = ipc_send(&channel, CONTROL_COMMAND, 1, buf_span(&pairs), NULL, 0);
    if (code == 0)
        code = receive(&channel, reply);
    buf_fini(&pairs);
    ipc_close(&channel);
    if (code == ERR_TIMEOUT)
        return no_answer(http, where);
    return code < 0 ? no_host(http, where, code) : 0;
}

/* An exit status that says so, whatever the host says. */
static int exit_code_of(struct span reply)
{
    const char *text = pairs_find(reply, "code");
    int code = text ? atoi(text) : 0;

    return code > 0 && code < 126 ? code : EXIT_INTERNAL;
}

static int show(struct http *http, struct span reply)
{
    const struct admin_command *command = http->request.command;
    bool of_firewall = command->verb == ADMIN_SHOW && command->noun == ADMIN_FIREWALL;
    const char *ok = pairs_find(reply, "ok"), *wrong = pairs_find(reply, "wrong");

    if (ok)
        return http_show(span_str(ok), http->json, of_firewall, &http->text);
    if (wrong == NULL)
        wrong = "the host's answer is none";
    return err_set(&http->text, exit_code_of(reply), ERR_INVALID, "%s", wrong);
}

static int perform(struct http *http)
{
    struct ipc_message reply;
    int code = ask(http, find_host(http), &reply);

    if (code < 0)
        return code;
    code = show(http, buf_span(&reply.text));
    ipc_message_fini(&reply);
    return code;
}

/* ---- all of it ---- */

static void print(struct buf *text)
{
    fwrite(buf_span(text).at, 1, buf_len(text), stdout);
    buf_fini(text);
}

static void print_help(const struct http *http)
{
    struct buf text = {0};

    admin_help(http->words, http->word_count, &text);
    print(&text);
}

/* moonquay http --words WORD …: what may follow, for completion (scripts/completion). */
static int complete(int argc, char **argv)
{
    static const char *const options[] = {"--json", "--socket", "--help"};
    const char *words[WORDS_MOST];
    size_t count = 0;
    struct buf text = {0};

    for (int i = 0; i < argc && count < WORDS_MOST; i++)
        if (strcmp(argv[i], "--socket") == 0 && i < argc - 1)
            i++; /* its path, for which files are offered where we have no words */
        else if (argv[i][0] != '-' || i == argc - 1)
            words[count++] = argv[i];
    if (argc >= 2 && strcmp(argv[argc - 2], "--socket") == 0)
        return 0;
    if (count > 0 && words[count - 1][0] == '-')
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
            buf_printf(&text, "%s\n", options[i]);
    else
        admin_complete(words, count, &text);
    print(&text);
    return 0;
}

static int run(struct http *http, char **argv)
{
    int code = read_words(http, argv);

    if (code < 0)
        return code;
    if (!http->help)
        return perform(http);
    print_help(http);
    return 0;
}

int http_run(int argc, char **argv)
{
    struct http http = {.json = false};

    if (argc > 0 && strcmp(argv[0], "--words") == 0)
        return complete(argc - 1, argv + 1);
    if (run(&http, argv) == 0)
        return 0;
    fputs("moonquay: ", stderr);
    terminal_print(stderr, http.text.text);
    putc('\n', stderr);
    return http.text.exit_code;
}
