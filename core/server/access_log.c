/*
 * Lines for programs that read logs: the combined form with the request's id at its end, followed
 * by "aborted" when the answer was broken off, and JSON, one object a line. What a client sent is
 * escaped, so that nobody writes lines of his own.
 */
#include "server/access_log.h"

#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/log_file.h"

#define STAMP_BYTES 48

struct access_log {
    struct log_file file;
    enum access_format format;
    int64_t stamp_second; /* the second that stamp shows */
    char stamp[STAMP_BYTES];
};

struct access_log *access_log_new(int fd, enum access_format format)
{
    struct access_log *log = mem_zalloc(sizeof(*log));

    log_file_init(&log->file, fd, "access_log_failed");
    log->format = format;
    log->stamp_second = -1;
    return log;
}

void access_log_free(struct access_log *log)
{
    if (log == NULL)
        return;
    log_file_fini(&log->file);
    mem_free(log);
}

void access_log_reopen(struct access_log *log, int fd)
{
    log_file_reopen(&log->file, fd);
}

void access_log_flush(struct access_log *log)
{
    log_file_flush(&log->file);
}

/* UTC: the lines of machines in two zones can be compared, and no hour comes twice. */
static struct span stamp_of(struct access_log *log, int64_t unix_ms)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t second = (time_t)(unix_ms / 1000);
    struct tm utc;

    if (second == log->stamp_second)
        return span_str(log->stamp);
    log->stamp_second = second;
    gmtime_r(&second, &utc);
    if (log->format == ACCESS_COMBINED)
        snprintf(log->stamp, sizeof(log->stamp), "%02d/%.3s/%04d:%02d:%02d:%02d +0000", utc.tm_mday,
                 months + 3 * utc.tm_mon, utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
    else
        snprintf(log->stamp, sizeof(log->stamp), "%04d-%02d-%02dT%02d:%02d:%02d",
                 utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                 utc.tm_sec);
    return span_str(log->stamp);
}

/* Quotes, backslashes and bytes that are no printable ASCII become \", \\ and \xHH. */
static void add_escaped(struct buf *out, struct span text)
{
    size_t plain = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];

        if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\')
            continue;
        buf_append(out, span_of(text.at + plain, i - plain));
        plain = i + 1;
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else
            buf_printf(out, "\\x%02X", c);
    }
    buf_append(out, span_of(text.at + plain, text.len - plain));
}

static void add_or_dash(struct buf *out, struct span text)
{
    if (text.len == 0)
        buf_append(out, SPAN("-"));
    else
        add_escaped(out, text);
}

/* A blank in a user's name would shift all that follows. */
static void add_user(struct buf *out, struct span user)
{
    size_t word = 0;

    if (user.len == 0)
        buf_append(out, SPAN("-"));
    for (size_t i = 0; i <= user.len; i++) {
        if (i < user.len && user.at[i] != ' ')
            continue;
        add_escaped(out, span_of(user.at + word, i - word));
        if (i < user.len)
            buf_append(out, SPAN("\\x20"));
        word = i + 1;
    }
}

static void add_combined(struct access_log *log, const struct access_entry *entry)
{
    struct buf *out = &log->file.lines;
    char ip[NET_ADDR_TEXT];

    buf_append(out, span_of(ip, net_addr_ip(entry->client, ip)));
    buf_append(out, SPAN(" - "));
    add_user(out, entry->user);
    buf_append(out, SPAN(" ["));
    buf_append(out, stamp_of(log, entry->unix_ms));
    buf_append(out, SPAN("] \""));
    if (entry->method.len == 0) {
        buf_append(out, SPAN("-"));
    } else {
        add_escaped(out, entry->method);
        buf_append(out, SPAN(" "));
        add_escaped(out, entry->target);
        buf_append(out, SPAN(" "));
        buf_append(out, entry->protocol);
    }
    buf_printf(out, "\" %03d %llu \"", entry->status, (unsigned long long)entry->content_bytes);
    add_or_dash(out, entry->referer);
    buf_append(out, SPAN("\" \""));
    add_or_dash(out, entry->user_agent);
    buf_append(out, SPAN("\" "));
    add_or_dash(out, entry->request_id);
    buf_append(out, entry->aborted ? SPAN(" aborted\n") : SPAN("\n"));
}

static void add_member(struct buf *out, const char *name, struct span value)
{
    buf_printf(out, ",\"%s\":", name);
    if (value.len == 0)
        buf_append(out, SPAN("null"));
    else
        log_quote(out, value);
}

static void add_json(struct access_log *log, const struct access_entry *entry)
{
    struct buf *out = &log->file.lines;
    char ip[NET_ADDR_TEXT];

    buf_append(out, SPAN("{\"time\":\""));
    buf_append(out, stamp_of(log, entry->unix_ms));
    buf_printf(out, ".%03dZ\"", (int)(entry->unix_ms % 1000));
    add_member(out, "id", entry->request_id);
    add_member(out, "client", span_of(ip, net_addr_ip(entry->client, ip)));
    add_member(out, "user", entry->user);
    add_member(out, "method", entry->method);
    add_member(out, "host", entry->host);
    add_member(out, "target", entry->target);
    if (entry->method.len > 0)
        add_member(out, "protocol", entry->protocol);
    else
        buf_append(out, SPAN(",\"protocol\":null"));
    if (entry->status > 0)
        buf_printf(out, ",\"status\":%d", entry->status);
    else
        buf_append(out, SPAN(",\"status\":null"));
    buf_printf(out, ",\"request_bytes\":%llu,\"response_bytes\":%llu",
               (unsigned long long)entry->request_bytes, (unsigned long long)entry->content_bytes);
    buf_printf(out, ",\"duration_ms\":%lld.%03d", (long long)(entry->duration_us / 1000),
               (int)(entry->duration_us % 1000));
    add_member(out, "referer", entry->referer);
    add_member(out, "user_agent", entry->user_agent);
    buf_printf(out, ",\"aborted\":%s}\n", entry->aborted ? "true" : "false");
}

void access_log_add(struct access_log *log, const struct access_entry *entry)
{
    if (log->format == ACCESS_JSON)
        add_json(log, entry);
    else
        add_combined(log, entry);
    if (log_file_due(&log->file))
        access_log_flush(log);
}
