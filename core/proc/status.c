/*
 * A server is looked for where one that was started here would have its socket; only when there is
 * none, in the other places that a server of this user may have chosen: a service of root has no
 * XDG_RUNTIME_DIR, the shell of who asks for it has. What the server says is not trusted with the
 * terminal: an app's name may hold controls.
 */
#include "proc/status.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "proc/control.h"
#include "proc/runtime_dir.h"
#include "proc/terminal.h"

#define ANSWER_MS      5000
#define PIDS_NAMED     16 /* of servers that could be meant */
#define EXIT_NO_SERVER 69 /* none is there, or it does not answer (sysexits: EX_UNAVAILABLE) */
#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))

struct status {
    bool json;
    const char *socket; /* NULL: look for one */
    pid_t pid;          /* 0: the only one */
    char path[RUNTIME_PATH_BYTES];
    struct buf answer;
    struct err_text text;
};

/* ---- the words */

static int usage(struct status *status, const char *what, const char *word)
{
    return err_set(&status->text, EXIT_USAGE_ERROR, ERR_INVALID,
                   "%s%.200s; moonquay status [--json] [--socket PATH | PID]", what, word);
}

static int read_pid(struct status *status, const char *word)
{
    size_t digits = strspn(word, "0123456789");

    if (digits == 0 || digits > 9 || word[digits] != '\0' || atoi(word) == 0)
        return usage(status, "no process id: ", word);
    if (status->pid != 0)
        return usage(status, "one process id only, what is this: ", word);
    status->pid = atoi(word);
    return 0;
}

static int read_words(struct status *status, int argc, char **argv)
{
    int code = 0;

    for (int i = 0; i < argc && code == 0; i++) {
        const char *word = argv[i];

        if (strcmp(word, "--json") == 0)
            status->json = true;
        else if (strncmp(word, "--socket=", strlen("--socket=")) == 0)
            status->socket = word + strlen("--socket=");
        else if (strcmp(word, "--socket") == 0 && i + 1 < argc)
            status->socket = argv[++i];
        else if (strcmp(word, "--socket") == 0)
            code = usage(status, "wants a value: ", word);
        else if (word[0] == '-')
            code = usage(status, "no such option: ", word);
        else
            code = read_pid(status, word);
    }
    if (code == 0 && status->socket && status->socket[0] == '\0')
        return usage(status, "wants a value: --socket", "");
    if (code == 0 && status->socket && status->pid != 0)
        return usage(status, "a socket or a process id, not both", "");
    return code;
}

/* ---- finding the server */

/* The servers that live: their ids, and the connection to the first. */
struct found {
    int fd;
    unsigned count;
    pid_t pids[PIDS_NAMED];
};

static void look_at(struct status *status, const char *dir, pid_t pid, struct found *found)
{
    char path[RUNTIME_PATH_BYTES];
    int fd;

    runtime_dir_socket(dir, pid, path);
    fd = control_connect(path);
    if (fd < 0 && errno != EAGAIN) /* as good as dead for us */
        return;
    if (found->count == 0) {
        found->fd = fd;
        memcpy(status->path, path, sizeof(path));
    } else if (fd >= 0) {
        close(fd);
    }
    if (found->count < PIDS_NAMED)
        found->pids[found->count++] = pid;
}

static int by_pid(const struct dirent **a, const struct dirent **b)
{
    pid_t first = runtime_dir_pid((*a)->d_name), second = runtime_dir_pid((*b)->d_name);

    return (first > second) - (first < second);
}

static int is_socket_name(const struct dirent *entry)
{
    return runtime_dir_pid(entry->d_name) != 0;
}

static void look_into(struct status *status, const char *dir, struct found *found)
{
    struct dirent **names;
    int count;

    if (runtime_dir_check(dir, NULL) < 0)
        return;
    if (status->pid != 0) {
        look_at(status, dir, status->pid, found);
        return;
    }
    count = scandir(dir, &names, is_socket_name, by_pid);
    for (int i = 0; i < count; i++) {
        look_at(status, dir, runtime_dir_pid(names[i]->d_name), found);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
}

static int tell_several(struct status *status, const struct found *found)
{
    struct buf pids = {0};

    for (unsigned i = 0; i < found->count; i++)
        buf_printf(&pids, " %d", (int)found->pids[i]);
    int code = err_set(&status->text, EXIT_USAGE_ERROR, ERR_INVALID,
                       "several servers run, name one of them:%.*s%s", (int)buf_len(&pids),
                       buf_span(&pids).at, found->count == PIDS_NAMED ? " ..." : "");

    buf_fini(&pids);
    return code;
}

static int tell_none(struct status *status)
{
    if (status->pid != 0)
        return err_set(&status->text, EXIT_NO_SERVER, ERR_NOT_FOUND,
                       "no server of this user has the process id %d", (int)status->pid);
    return err_set(&status->text, EXIT_NO_SERVER, ERR_NOT_FOUND, "no server of this user runs");
}

/* A connection, or an error. */
static int find(struct status *status)
{
    char dirs[RUNTIME_DIRS][RUNTIME_DIR_BYTES];
    unsigned count = runtime_dirs(dirs);
    struct found found = {.fd = -1};

    for (unsigned i = 0; i < count && found.count == 0; i++)
        look_into(status, dirs[i], &found);
    if (found.count == 0)
        return tell_none(status);
    if (found.count == 1 && found.fd >= 0)
        return found.fd;
    if (found.fd >= 0)
        close(found.fd);
    return found.count > 1 ? tell_several(status, &found)
                           : err_set(&status->text, EXIT_NO_SERVER, ERR_TIMEOUT,
                                     "the server at %s is busy", status->path);
}

static int connect_to(struct status *status)
{
    int fd = control_connect(status->socket);

    if (fd >= 0)
        return fd;
    if (errno == EACCES || errno == EPERM)
        return err_set(&status->text, EXIT_PERMISSION, ERR_PERMISSION, "%.300s: %s", status->socket,
                       strerror(errno));
    return err_set(&status->text, EXIT_NO_SERVER, ERR_NOT_FOUND, "no server at %.300s: %s",
                   status->socket, strerror(errno));
}

/* ---- asking */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Some bytes; 0 at the end, or an error. */
static ssize_t receive(int fd, struct buf *into, int64_t until_ms)
{
    int64_t left_ms = until_ms - now_ms();
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ssize_t got;

    if (left_ms <= 0 || poll(&wait, 1, (int)left_ms) == 0)
        return ERR_TIMEOUT;
    got = recv(fd, buf_reserve(into, 65536), 65536, 0);
    if (got < 0)
        return err_from_errno(errno);
    buf_added(into, (size_t)got);
    return got;
}

static int ask(struct status *status, int fd)
{
    static const char line[] = "status\n";
    const char *where = status->socket ? status->socket : status->path;
    int64_t until_ms = now_ms() + ANSWER_MS;
    ssize_t got = 1;

    /* A server that refuses us may be gone already: what it had to say comes from reading. */
    send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL);
    while ((got > 0 || got == ERR_AGAIN) && buf_len(&status->answer) <= CONTROL_ANSWER_BYTES)
        got = receive(fd, &status->answer, until_ms);
    if (got == ERR_TIMEOUT)
        return err_set(&status->text, EXIT_NO_SERVER, ERR_TIMEOUT,
                       "the server at %.300s does not answer within %d s", where, ANSWER_MS / 1000);
    if (buf_len(&status->answer) == 0)
        return err_set(&status->text, EXIT_NO_SERVER, ERR_CLOSED,
                       "the server at %.300s gives no answer: it hears its own user and root only, "
                       "and a few at a time",
                       where);
    if (got != 0)
        return err_set(&status->text, EXIT_NO_SERVER, ERR_RESET,
                       "the answer of the server at %.300s is not complete", where);
    return 0;
}

/* ---- the table */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "-";
}

static int64_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_uptime(int64_t seconds)
{
    long long days = seconds / 86400, hours = seconds / 3600 % 24, minutes = seconds / 60 % 60;

    if (days > 0)
        printf("%lld d %lld h", days, hours);
    else if (hours > 0)
        printf("%lld h %lld min", hours, minutes);
    else if (minutes > 0)
        printf("%lld min %lld s", minutes, (long long)seconds % 60);
    else
        printf("%lld s", (long long)seconds);
}

static void print_head(const json_t *root)
{
    printf("moonquay ");
    terminal_print(stdout, text_of(root, "version"));
    printf(", pid %lld, ", (long long)number_of(root, "pid"));
    terminal_print(stdout, text_of(root, "state"));
    printf(", up ");
    print_uptime(number_of(root, "uptime_seconds"));
    putchar('\n');
}

static void print_app(const json_t *app)
{
    const json_t *addresses = json_object_get(app, "addresses");

    printf("\napp ");
    terminal_print(stdout, text_of(app, "name"));
    printf(": ");
    terminal_print(stdout, text_of(app, "state"));
    printf("\n  addresses    ");
    for (size_t i = 0; i < json_array_size(addresses); i++) {
        const char *address = json_string_value(json_array_get(addresses, i));

        printf("%s", i ? ", " : "");
        terminal_print(stdout, address ? address : "-");
    }
    printf("\n  connections  %lld\n", (long long)number_of(app, "connections"));
    printf("  requests     %lld running", (long long)number_of(app, "running"));
    if (json_object_get(app, "queued"))
        printf(", %lld queued (%lld bytes)", (long long)number_of(app, "queued"),
               (long long)number_of(app, "queued_bytes"));
    putchar('\n');
}

static const struct {
    const char *title, *key;
    int width; /* negative: at the left */
} columns[] = {
    {"WORKER", "slot", 6},          {"PID", "pid", 8},
    {"STATE", "state", -8},         {"CONNECTIONS", "connections", 11},
    {"REQUESTS", "requests", 8},    {"TASKS", "tasks", 7},
    {"LUA BYTES", "lua_bytes", 11}, {"RESTARTS", "restarts", 8},
};

static void print_worker(const json_t *worker)
{
    for (size_t i = 0; i < COUNT(columns); i++) {
        const json_t *value = json_object_get(worker, columns[i].key);
        char text[32];

        if (json_is_integer(value))
            snprintf(text, sizeof(text), "%*lld", columns[i].width,
                     (long long)json_integer_value(value));
        else
            snprintf(text, sizeof(text), "%*s", columns[i].width, text_of(worker, columns[i].key));
        printf("%s", i ? "  " : "");
        terminal_print(stdout, text);
    }
    putchar('\n');
}

static void print_workers(const json_t *workers)
{
    printf("\n");
    for (size_t i = 0; i < COUNT(columns); i++)
        printf("%s%*s", i ? "  " : "", columns[i].width, columns[i].title);
    printf("\n");
    for (size_t i = 0; i < json_array_size(workers); i++)
        print_worker(json_array_get(workers, i));
}

/* Names and numbers of an object; only_some leaves out those that are zero. */
static void print_numbers(const char *title, const json_t *numbers, bool only_some)
{
    void *at = json_object_iter((json_t *)(uintptr_t)numbers);
    bool begun = false;

    for (; at; at = json_object_iter_next((json_t *)(uintptr_t)numbers, at)) {
        long long number = json_integer_value(json_object_iter_value(at));

        if (only_some && number == 0)
            continue;
        if (!begun)
            printf("\n%s\n", title);
        begun = true;
        printf("  %12lld  ", number);
        terminal_print(stdout, json_object_iter_key(at));
        putchar('\n');
    }
}

static void print_table(const json_t *root)
{
    const json_t *apps = json_object_get(root, "apps");

    print_head(root);
    for (size_t i = 0; i < json_array_size(apps); i++)
        print_app(json_array_get(apps, i));
    print_workers(json_object_get(root, "workers"));
    print_numbers("counters", json_object_get(root, "counters"), false);
    print_numbers("reasons", json_object_get(root, "reasons"), true);
}

/* ---- all of it */

/* Read also when it is printed as it is: half an answer must not look like one. */
static int print(struct status *status)
{
    struct span answer = buf_span(&status->answer);
    json_error_t wrong;
    json_t *root = json_loadb(answer.at, answer.len, 0, &wrong);

    if (root == NULL)
        return err_set(&status->text, EXIT_INTERNAL, ERR_INVALID,
                       "the server's answer is no JSON: %s", wrong.text);
    if (status->json)
        fwrite(answer.at, 1, answer.len, stdout);
    else
        print_table(root);
    json_decref(root);
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_set(&status->text, EXIT_INTERNAL, ERR_IO, "cannot print the answer: %s",
                       strerror(errno));
    return 0;
}

static int run(struct status *status, int argc, char **argv)
{
    int code = read_words(status, argc, argv), fd;

    if (code < 0)
        return code;
    fd = status->socket ? connect_to(status) : find(status);
    if (fd < 0)
        return fd;
    code = ask(status, fd);
    close(fd);
    return code < 0 ? code : print(status);
}

int status_run(int argc, char **argv)
{
    struct status status = {0};
    int code = run(&status, argc, argv);

    buf_fini(&status.answer);
    if (code == 0)
        return 0;
    fprintf(stderr, "moonquay: %s\n", status.text.text);
    return status.text.exit_code;
}
