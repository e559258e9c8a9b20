/*
 * Fields are separated by one blank, so what a peer sent must hold none, nor what a reader of logs
 * may take for one or for the end of a line. Only the start of a long field is kept: the longest
 * line is some 4.7 KiB whatever the limits of requests are.
 */
#include "server/error_log.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "base/version.h"
#include "server/log_file.h"

#define METHOD_BYTES 255 /* these three as HTTP.sys has them */
#define TARGET_BYTES 4096
#define QUEUE_BYTES  255

struct error_log {
    struct log_file file;
    int64_t max_bytes;
    void (*full)(void *owner);
    void *owner;
    bool was_full; /* owner knows it */
};

static const char *const versions[] = {
    [ERROR_VERSION_NONE] = "-",       [ERROR_VERSION_UNKNOWN] = "HTTP/?.?",
    [ERROR_VERSION_1_0] = "HTTP/1.0", [ERROR_VERSION_1_1] = "HTTP/1.1",
    [ERROR_VERSION_2] = "HTTP/2",
};

struct error_log *error_log_new(int fd, int64_t max_bytes, void (*full)(void *owner), void *owner)
{
    struct error_log *log = mem_zalloc(sizeof(*log));

    CHECK(max_bytes == 0 || full != NULL);
    log_file_init(&log->file, fd, "error_log_failed");
    log->max_bytes = max_bytes;
    log->full = full;
    log->owner = owner;
    return log;
}

void error_log_free(struct error_log *log)
{
    if (log == NULL)
        return;
    log_file_fini(&log->file);
    mem_free(log);
}

void error_log_reopen(struct error_log *log, int fd)
{
    log_file_reopen(&log->file, fd);
    log->was_full = false;
}

void error_log_flush(struct error_log *log)
{
    if (buf_len(&log->file.lines) == 0)
        return;
    log_file_flush(&log->file);
    if (log->was_full || !log_file_full(log->file.fd, log->max_bytes))
        return;
    log->was_full = true; /* first: full may reopen */
    log->full(log->owner);
}

/* ---- one field */

static void add_stamp(struct buf *out, int64_t unix_ms)
{
    time_t second = (time_t)(unix_ms / 1000);
    struct tm utc = {0};

    gmtime_r(&second, &utc);
    buf_printf(out, "%04d-%02d-%02d %02d:%02d:%02d", utc.tm_year + 1900, utc.tm_mon + 1,
               utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

/* C0 and C1 controls, DEL, and Unicode's white space: a program that splits a line may know it. */
static bool is_blank(uint32_t code)
{
    return code <= ' ' || (code >= 0x7F && code <= 0xA0) || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
           code == 0x202F || code == 0x205F || code == 0x3000;
}

/* The bytes of the character that text begins with; 0 when it is none (RFC 3629) or a blank. */
static size_t visible_length(struct span text)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* less is overlong */
    const unsigned char *at = (const unsigned char *)text.at;
    uint32_t code = at[0];
    size_t length;

    if (code < 0x80)
        return is_blank(code) ? 0 : 1;
    if (code < 0xC0 || code > 0xF7)
        return 0;
    length = code < 0xE0 ? 2 : code < 0xF0 ? 3 : 4;
    if (text.len < length)
        return 0;
    code &= 0x7Fu >> length;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3F);
    }
    if (code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    return is_blank(code) ? 0 : length;
}

/* Adds text, but at most so many bytes of it, and says how many: a last character that does not fit
 * is left out. */
static size_t add_visible(struct buf *out, struct span text, size_t most)
{
    size_t used = 0;

    while (used < text.len) {
        struct span rest = span_of(text.at + used, text.len - used);
        size_t length = visible_length(rest);

        if (used + (length ? length : 1) > most)
            break;
        buf_append(out, length ? span_of(rest.at, length) : SPAN("+"));
        used += length ? length : 1;
    }
    return used;
}

static void add_field(struct buf *out, struct span text, size_t most)
{
    buf_append(out, SPAN(" "));
    if (text.len == 0)
        buf_append(out, SPAN("-"));
    else
        add_visible(out, text, most);
}

static void add_number(struct buf *out, uint32_t number)
{
    if (number == 0)
        buf_append(out, SPAN(" -"));
    else
        buf_printf(out, " %u", number);
}

static void add_address(struct buf *out, const struct net_addr *addr)
{
    static const struct net_addr none = {.family = NET_NONE};
    char ip[NET_ADDR_TEXT];

    if (addr == NULL)
        addr = &none;
    add_field(out, span_of(ip, net_addr_ip(addr, ip)), sizeof(ip));
    /* 0: that of a client whose proxy did not say it. */
    add_number(out, addr->family == NET_IPV4 || addr->family == NET_IPV6 ? addr->port : 0);
}

static size_t authority_end(struct span target, size_t at)
{
    while (at < target.len && target.at[at] != '/' && target.at[at] != '?' && target.at[at] != '#')
        at++;
    return at;
}

/*
 * What stands before "@" in the authority of an absolute or authority form. It is looked for in
 * what was refused, too: the scheme may be any or missing, and have any number of slashes behind
 * it. SPAN_NONE: there is none, as in each target that begins with a slash.
 */
static struct span userinfo_of(struct span target)
{
    size_t start = 0, end = authority_end(target, 0);
    const char *at;

    if (end > 0 && end < target.len && target.at[end] == '/' && target.at[end - 1] == ':') {
        for (start = end; start < target.len && target.at[start] == '/';)
            start++;
        end = authority_end(target, start);
    }
    at = end > start ? memrchr(target.at + start, '@', end - start) : NULL;
    return at ? span_of(target.at + start, (size_t)(at - target.at) - start) : SPAN_NONE;
}

static void add_target(struct buf *out, struct span target)
{
    struct span userinfo = userinfo_of(target);
    size_t before, room = TARGET_BYTES;

    if (userinfo.at == NULL) {
        add_field(out, target, room);
        return;
    }
    before = (size_t)(userinfo.at - target.at);
    buf_append(out, SPAN(" "));
    room -= add_visible(out, span_of(target.at, before), room);
    room -= add_visible(out, SPAN("+"), room);
    before += userinfo.len;
    add_visible(out, span_of(target.at + before, target.len - before), room);
}

/* ---- lines */

void error_log_add(struct error_log *log, const struct error_entry *entry)
{
    struct buf *out = &log->file.lines;
    enum reason reason = entry->reason == REASON_NONE ? REASON_NOT_AVAILABLE : entry->reason;

    add_stamp(out, entry->unix_ms);
    add_address(out, entry->client);
    add_address(out, entry->server);
    buf_printf(out, " %s", versions[entry->version]);
    add_field(out, entry->method, METHOD_BYTES);
    add_target(out, entry->target);
    add_number(out, entry->stream);
    add_number(out, (uint32_t)entry->status);
    buf_printf(out, " - %s", reason_name(reason)); /* s-siteid: IIS's, never known here */
    add_field(out, entry->queue, QUEUE_BYTES);
    buf_append(out, SPAN("\n"));
    if (log_file_due(&log->file))
        error_log_flush(log);
}

int error_log_header(int fd)
{
    struct buf text = {0};
    struct stat state;
    int code, number;

    if (fstat(fd, &state) < 0)
        return err_from_errno(errno);
    if (state.st_size > 0)
        return 0;
    buf_append(&text, SPAN("#Software: Moonquay " MOONQUAY_VERSION "\n#Version: 1.0\n#Date: "));
    add_stamp(&text, (int64_t)time(NULL) * 1000);
    buf_append(&text, SPAN("\n#Fields: date time c-ip c-port s-ip s-port cs-version cs-method"
                           " cs-uri streamid sc-status s-siteid s-reason s-queuename\n"));
    code = log_file_write(fd, buf_span(&text));
    number = errno;
    buf_fini(&text);
    errno = number;
    return code;
}
