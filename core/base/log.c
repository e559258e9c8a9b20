/*
 * One log a process, so its state is a handful of statics. A line is built in memory and leaves in
 * one write: several processes append to the same file, and their lines must not mix. Nothing here
 * fails: a log that cannot be written must not stop the server.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"

#define PROCESS_BYTES 32

static int log_fd = STDERR_FILENO;
static enum log_level log_level = LOG_INFO;
static enum log_format log_format = LOG_TEXT;
static char log_process[PROCESS_BYTES];

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

#define LEVELS ((int)(sizeof(level_names) / sizeof(level_names[0])))

void log_setup(int fd, enum log_level level, enum log_format format, const char *process)
{
    log_reopen(fd);
    log_level = level;
    log_format = format;
    snprintf(log_process, sizeof(log_process), "%s", process);
}

void log_reopen(int fd)
{
    if (log_fd != STDERR_FILENO && log_fd != fd)
        close(log_fd);
    log_fd = fd;
}

void log_set_level(enum log_level level)
{
    log_level = level;
}

bool log_wants(enum log_level level)
{
    return level <= log_level;
}

int log_level_parse(struct span word)
{
    for (int level = 0; level < LEVELS; level++)
        if (span_eq(word, span_str(level_names[level])))
            return level;
    return -1;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

/* Writes the escape of a control character or quote to out (7 bytes); NULL when c needs none. */
static const char *escape_of(unsigned char c, char out[7])
{
    static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";

    for (const char *form = short_forms; *form; form += 2)
        if ((unsigned char)form[0] == c) {
            snprintf(out, 7, "\\%c", form[1]);
            return out;
        }
    if (c >= 0x20 && c != 0x7F)
        return NULL;
    snprintf(out, 7, "\\u%04x", c);
    return out;
}

void log_quote(struct buf *out, struct span text)
{
    char escaped[7];

    buf_append(out, SPAN("\""));
    for (size_t i = 0, length; i < text.len; i += length ? length : 1) {
        struct span rest = span_of(text.at + i, text.len - i);
        unsigned char first = (unsigned char)rest.at[0];

        length = utf8_length(rest);
        if (length == 0)
            buf_append(out, SPAN("\xEF\xBF\xBD"));
        else if (length == 2 && first == 0xC2 && (unsigned char)rest.at[1] < 0xA0)
            /* C1 controls: some terminals obey them. */
            buf_printf(out, "\\u%04x", (unsigned char)rest.at[1]);
        else if (length == 1 && escape_of(first, escaped))
            buf_append(out, span_str(escaped));
        else
            buf_append(out, span_of(rest.at, length));
    }
    buf_append(out, SPAN("\""));
}

/* Printable ASCII without what separates or quotes can stand as it is. */
static bool is_plain(struct span value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] <= ' ' || value.at[i] >= 0x7F || strchr("\"\\=", value.at[i]))
            return false;
    return value.len > 0;
}

static void add_key(struct log_line *line, const char *key)
{
    buf_printf(&line->text, log_format == LOG_JSON ? ",\"%s\":" : " %s=", key);
}

static void add_time(struct buf *out)
{
    struct timespec now;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", utc.tm_year + 1900, utc.tm_mon + 1,
               utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000000);
}

void log_begin(struct log_line *line, enum log_level level, const char *event, const char *message)
{
    line->text = (struct buf){0};
    line->wanted = log_wants(level);
    if (!line->wanted)
        return;
    if (log_format == LOG_JSON) {
        buf_append(&line->text, SPAN("{\"time\":\""));
        add_time(&line->text);
        buf_printf(&line->text, "\",\"level\":\"%s\",\"event\":\"%s\"", level_names[level], event);
    } else {
        add_time(&line->text);
        buf_printf(&line->text, " %s %s", level_names[level], event);
    }
    if (log_process[0])
        log_str(line, "process", log_process);
    if (message)
        log_str(line, "message", message);
}

void log_span(struct log_line *line, const char *key, struct span value)
{
    if (!line->wanted)
        return;
    add_key(line, key);
    if (log_format == LOG_TEXT && is_plain(value))
        buf_append(&line->text, value);
    else
        log_quote(&line->text, value);
}

void log_str(struct log_line *line, const char *key, const char *value)
{
    log_span(line, key, span_str(value));
}

void log_int(struct log_line *line, const char *key, int64_t value)
{
    if (!line->wanted)
        return;
    add_key(line, key);
    buf_printf(&line->text, "%lld", (long long)value);
}

void log_json(struct log_line *line, const char *key, struct span json)
{
    if (!line->wanted)
        return;
    add_key(line, key);
    buf_append(&line->text, json);
}

void log_end(struct log_line *line)
{
    if (!line->wanted)
        return;
    buf_append(&line->text, log_format == LOG_JSON ? SPAN("}\n") : SPAN("\n"));
    while (buf_len(&line->text) > 0) {
        struct span rest = buf_span(&line->text);
        ssize_t written = write(log_fd, rest.at, rest.len);

        if (written > 0)
            buf_consume(&line->text, (size_t)written);
        else if (written < 0 && errno != EINTR)
            break;
    }
    buf_fini(&line->text);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    struct log_line line;
    char message[1024];
    va_list args;

    if (!log_wants(level))
        return;
    va_start(args, format);
    if (format)
        vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    log_begin(&line, level, event, format ? message : NULL);
    log_end(&line);
}
