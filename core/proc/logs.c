/*
 * All or none: a log that cannot be opened leaves those that are open as they are, so that a
 * mistake in a name loses no line.
 */
#include "proc/logs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "proc/worker_ipc.h"
#include "server/error_log.h"
#include "server/log_file.h"

void logs_init(struct logs *logs)
{
    *logs = (struct logs){.error_fd = STDERR_FILENO, .access_fd = -1, .http_error_fd = -1};
}

static int open_http_error_log(const char *path, struct err_text *text)
{
    int fd = log_file_open(path, text), code;

    if (fd < 0)
        return fd;
    code = error_log_header(fd);
    if (code == 0)
        return fd;
    log_file_close(fd);
    return err_set(text, EXIT_LOG, code, "cannot write the log %s: %s", path, err_message(code));
}

static int open_all(struct logs *fresh, const struct settings *settings, struct err_text *text)
{
    const char *path = settings->error_log[0] ? settings->error_log : "-";

    if (strcmp(path, "off") == 0)
        return err_set(text, EXIT_OPTION, ERR_INVALID, "error_log=off: a file or - is needed");
    fresh->error_fd = log_file_open(path, text);
    if (fresh->error_fd < 0)
        return fresh->error_fd;
    fresh->access_fd = log_file_open(settings->access_log, text);
    if (fresh->access_fd < -1)
        return fresh->access_fd;
    fresh->http_error_fd = open_http_error_log(settings->http_error_log, text);
    return fresh->http_error_fd < -1 ? fresh->http_error_fd : 0;
}

int logs_open(struct logs *logs, const struct settings *settings, struct err_text *text)
{
    bool is_json = strcmp(settings->error_log_format, "json") == 0;
    struct logs fresh;
    int code;

    logs_init(&fresh);
    code = open_all(&fresh, settings, text);
    if (code < 0) {
        log_file_close(fresh.error_fd);
        log_file_close(fresh.access_fd);
        return code;
    }
    log_file_close(logs->access_fd);
    log_file_close(logs->http_error_fd);
    *logs = fresh;
    log_setup(fresh.error_fd, (enum log_level)log_level_parse(span_str(settings->log_level)),
              is_json ? LOG_JSON : LOG_TEXT, "master");
    return 0;
}

void logs_close(struct logs *logs)
{
    log_file_close(logs->access_fd);
    log_file_close(logs->http_error_fd);
    log_reopen(STDERR_FILENO);
    logs_init(logs);
}

bool logs_rotate(const struct logs *logs, const struct settings *settings)
{
    int64_t most = settings->http_error_log_max_bytes;
    struct err_text text;

    /* Each worker reports the same file; the second one finds a new one. */
    if (logs->http_error_fd < 0 || logs->http_error_fd == STDERR_FILENO || most == SETTING_OFF ||
        !log_file_full(logs->http_error_fd, most))
        return false;
    if (log_file_rotate(settings->http_error_log, (unsigned)settings->http_error_log_keep, &text) ==
        0)
        return true;
    log_event(LOG_ERROR, "rotate_failed", "%s; the log grows on", text.text);
    return false;
}

unsigned logs_files(const struct logs *logs, int fds[LOGS_MAX], unsigned *which)
{
    const struct {
        int fd;
        unsigned bit;
    } all[LOGS_MAX] = {{logs->error_fd, IPC_LOG_ERROR},
                       {logs->access_fd, IPC_LOG_ACCESS},
                       {logs->http_error_fd, IPC_LOG_HTTP_ERROR}};
    unsigned count = 0;

    *which = 0;
    for (unsigned i = 0; i < LOGS_MAX; i++)
        if (all[i].fd >= 0 && all[i].fd != STDERR_FILENO) {
            *which |= all[i].bit;
            fds[count++] = all[i].fd;
        }
    return count;
}
