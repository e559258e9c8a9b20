/*
 * The clients lie in a fixed table inside the control, so that a client can be closed inside its
 * own callback. A client has one alarm: until its line is there, then until its answer is taken, so
 * that one that stands still does not keep its place from others. Whatever else a client does ends
 * its connection with a debug line and nothing more: it is a process of our own user or root.
 */
#include "proc/control.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/listener.h"
#include "net/stream.h"
#include "proc/runtime_dir.h"

#define ACCEPT_BATCH   16
#define BACKLOG        64
#define LINE_SECONDS   2
#define ANSWER_SECONDS 10
#define WRITE_BYTES    (256 << 10) /* in one turn, then the workers' messages get theirs */

_Static_assert(RUNTIME_PATH_BYTES == sizeof(((struct sockaddr_un *)0)->sun_path), "sun_path");

struct client {
    struct control *control;
    struct stream *stream; /* NULL: a free place */
    struct loop_alarm limit;
    struct buf answer; /* what is left of it */
    size_t line_len;
    char line[CONTROL_LINE_BYTES];
};

struct control {
    struct loop *loop;
    struct listener *listener;
    control_answer_fn *answer;
    void *owner;
    struct client clients[CONTROL_CLIENTS];
    char path[RUNTIME_PATH_BYTES];
    dev_t dev; /* of the socket's file: another that took its place is not ours to remove */
    ino_t ino;
};

/* ---- clients */

static void end_client(struct client *client, const char *why)
{
    if (why)
        log_event(LOG_DEBUG, "control_closed", "%s", why);
    loop_alarm_stop(client->control->loop, &client->limit);
    stream_close(client->stream, false);
    client->stream = NULL;
    buf_fini(&client->answer);
}

static void on_limit(struct loop_alarm *alarm)
{
    struct client *client = LIST_OWNER(alarm, struct client, limit);

    end_client(client, buf_len(&client->answer) > 0 ? "a client does not take its answer"
                                                    : "a client sends no line");
}

static void on_writable(void *owner, int events)
{
    struct client *client = owner;
    struct span rest = buf_span(&client->answer);

    (void)events;
    if (rest.len > WRITE_BYTES)
        rest.len = WRITE_BYTES;
    ssize_t sent = stream_write(client->stream, &rest, 1);

    if (sent == ERR_AGAIN)
        return;
    if (sent < 0) {
        end_client(client, "a client left before its answer");
        return;
    }
    buf_consume(&client->answer, (size_t)sent);
    if (buf_len(&client->answer) == 0)
        end_client(client, NULL);
}

static void answer_line(struct client *client)
{
    struct control *control = client->control;

    control->answer(control->owner, span_of(client->line, client->line_len - 1), &client->answer);
    if (buf_len(&client->answer) == 0) {
        end_client(client, "a client sent what is no command");
        return;
    }
    if (buf_len(&client->answer) > CONTROL_ANSWER_BYTES) {
        end_client(client, "an answer is too long to be sent");
        return;
    }
    loop_alarm_start(control->loop, &client->limit, ANSWER_SECONDS);
    stream_owned_by(client->stream, client, on_writable);
    stream_want(client->stream, STREAM_WRITE);
}

static void on_readable(void *owner, int events)
{
    struct client *client = owner;
    ssize_t got = stream_read(client->stream, client->line + client->line_len,
                              CONTROL_LINE_BYTES - client->line_len);

    (void)events;
    if (got == ERR_AGAIN)
        return;
    if (got <= 0) {
        end_client(client, "a client left before its line was complete");
        return;
    }
    client->line_len += (size_t)got;
    const char *end = memchr(client->line, '\n', client->line_len);

    if (end == client->line + client->line_len - 1)
        answer_line(client);
    else if (end || client->line_len == CONTROL_LINE_BYTES)
        end_client(client, "a client sent more than a line");
}

static struct client *free_place(struct control *control)
{
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        if (control->clients[i].stream == NULL)
            return &control->clients[i];
    return NULL;
}

/* The file's mode keeps others out already, unless somebody has changed it. */
static bool is_allowed(int fd)
{
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);
    struct log_line line;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
        (peer.uid == 0 || peer.uid == geteuid()))
        return true;
    log_begin(&line, LOG_WARN, "control_refused", "another user may not ask this server");
    log_int(&line, "uid", peer.uid);
    log_int(&line, "pid", peer.pid);
    log_end(&line);
    return false;
}

static void on_accepted(void *owner, int fd, const struct net_addr *peer)
{
    struct control *control = owner;
    struct client *client = free_place(control);

    (void)peer;
    if (client == NULL)
        log_event(LOG_DEBUG, "control_closed", "too many clients");
    if (client == NULL || !is_allowed(fd)) {
        close(fd);
        return;
    }
    client->line_len = 0;
    client->stream = stream_plain_new(control->loop, fd);
    stream_owned_by(client->stream, client, on_readable);
    stream_want(client->stream, STREAM_READ);
    loop_alarm_start(control->loop, &client->limit, LINE_SECONDS);
}

/* ---- the socket's file */

static int fill_address(struct sockaddr_un *address, const char *path)
{
    size_t len = strlen(path);

    if (len >= sizeof(address->sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, len);
    return 0;
}

static int open_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

int control_connect(const char *path)
{
    struct sockaddr_un address;
    int fd, number;

    if (fill_address(&address, path) < 0)
        return -1;
    fd = open_socket();
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        number = errno;
        close(fd);
        errno = number;
        fd = -1;
    }
    return fd;
}

static bool is_dead(const char *path)
{
    int fd = control_connect(path);

    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == ECONNREFUSED;
}

/*
 * Removes what servers left that could not: killed ones. A process id alone proves nothing, as the
 * directory may be shared with a container, where ids are others; nor does a refusal, as a server
 * that has just made its socket does not listen yet.
 */
static void sweep(const char *dir)
{
    struct dirent *entry;
    DIR *list = opendir(dir);

    while (list && (entry = readdir(list)) != NULL) {
        pid_t pid = runtime_dir_pid(entry->d_name);
        char path[RUNTIME_PATH_BYTES];

        if (pid == 0 || kill(pid, 0) == 0 || errno != ESRCH)
            continue;
        runtime_dir_socket(dir, pid, path);
        if (is_dead(path) && unlink(path) == 0)
            log_event(LOG_DEBUG, "control_swept", "removed %s, which a dead server left", path);
    }
    if (list)
        closedir(list);
}

/* Makes room for our socket: one of a dead server goes, anything else stays. */
static int clear(const char *path, struct err_text *text)
{
    struct stat info;

    if (lstat(path, &info) < 0)
        return errno == ENOENT ? 0
                               : err_set(text, EXIT_OPTION, err_from_errno(errno), "%s: %s", path,
                                         strerror(errno));
    if (!S_ISSOCK(info.st_mode))
        return err_set(text, EXIT_OPTION, ERR_EXISTS, "%s is there and is no socket", path);
    if (!is_dead(path))
        return err_set(text, EXIT_OPTION, ERR_IN_USE, "another program listens at %s", path);
    if (unlink(path) < 0)
        return err_set(text, EXIT_OPTION, err_from_errno(errno), "cannot remove the old %s: %s",
                       path, strerror(errno));
    return 0;
}

/* The mode is given by the mask, so that there is no moment in which others can connect. */
static int bind_and_listen(int fd, const struct sockaddr_un *address)
{
    mode_t before = umask(0177);
    int bound = bind(fd, (const struct sockaddr *)address, sizeof(*address));

    umask(before);
    return bound < 0 ? bound : listen(fd, BACKLOG);
}

/* A listening descriptor, or an error. */
static int listen_at(struct control *control, const char *path, struct err_text *text)
{
    struct sockaddr_un address;
    struct stat info = {0};
    int fd, code;

    if (fill_address(&address, path) < 0)
        return err_set(text, EXIT_OPTION, ERR_TOO_LARGE,
                       "%.200s%s is too long for a socket: %zu bytes, at most %zu", path,
                       strlen(path) > 200 ? "..." : "", strlen(path), sizeof(address.sun_path) - 1);
    code = clear(path, text);
    if (code < 0)
        return code;
    fd = open_socket();
    if (fd < 0 || bind_and_listen(fd, &address) < 0) {
        code = err_set(text, EXIT_OPTION, err_from_errno(errno), "cannot listen at %s: %s", path,
                       strerror(errno));
        if (fd >= 0)
            close(fd);
        return code;
    }
    lstat(path, &info);
    control->dev = info.st_dev;
    control->ino = info.st_ino;
    memcpy(control->path, address.sun_path, sizeof(control->path));
    return fd;
}

static int listen_somewhere(struct control *control, struct err_text *text)
{
    char dirs[RUNTIME_DIRS][RUNTIME_DIR_BYTES], path[RUNTIME_PATH_BYTES];
    unsigned count = runtime_dirs(dirs);
    int fd = ERR_NOT_FOUND;

    for (unsigned i = 0; i < count && fd < 0; i++) {
        if (runtime_dir_make(dirs[i], text) < 0)
            continue;
        sweep(dirs[i]);
        runtime_dir_socket(dirs[i], getpid(), path);
        fd = listen_at(control, path, text);
    }
    return fd;
}

struct control *control_open(struct loop *loop, const char *path, control_answer_fn *answer,
                             void *owner, struct err_text *text)
{
    struct control *control;
    int fd;

    *text = (struct err_text){0};
    if (strcmp(path, "off") == 0)
        return NULL;
    control = mem_zalloc(sizeof(*control));
    fd = path[0] ? listen_at(control, path, text) : listen_somewhere(control, text);
    if (fd < 0) {
        mem_free(control);
        if (path[0] == '\0') {
            log_event(LOG_WARN, "control_off", "moonquay status cannot ask this server: %s",
                      text->text);
            text->exit_code = 0;
        }
        return NULL;
    }
    control->loop = loop;
    control->answer = answer;
    control->owner = owner;
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
        control->clients[i].control = control;
        loop_alarm_init(&control->clients[i].limit, on_limit);
    }
    control->listener = listener_start(loop, fd, ACCEPT_BATCH, on_accepted, control);
    log_event(LOG_DEBUG, "control_open", "%s", control->path);
    return control;
}

void control_close(struct control *control)
{
    struct stat info;

    if (control == NULL)
        return;
    if (lstat(control->path, &info) == 0 && info.st_dev == control->dev &&
        info.st_ino == control->ino)
        unlink(control->path);
    listener_stop(control->listener);
    for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
        if (control->clients[i].stream)
            end_client(&control->clients[i], "the server ends");
    mem_free(control);
}
