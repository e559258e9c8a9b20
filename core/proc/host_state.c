/*
 * A change is judged and prepared as far as it can fail, then written to disk, and only then told:
 * what holds is what a restart would find.
 */
#include "proc/host_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/host_certificates.h"
#include "proc/master_priv.h"
#include "proc/state_file.h"
#include "proc/takeover.h"
#include "share/state.h"

struct host_state {
    struct state_file file;
    struct state state;
    struct buf text; /* of it, ended by a NUL */
    struct host_certificates certificates;
    int64_t header_wait_ms, idle_connection_ms; /* of the settings, where the state says nothing */
};

/* ---- reservations ---- */

static bool is_in(const struct reservations *list, const struct url_prefix *prefix)
{
    for (size_t i = 0; i < list->count; i++)
        if (url_prefix_equal(&list->at[i].prefix, prefix))
            return true;
    return false;
}

/* A port carries one scheme (reference section 2.4). */
static int check_schemes(const struct master *master, const struct state *wish,
                         struct err_text *text)
{
    for (size_t i = 0; i < wish->reservations.count; i++) {
        const struct url_prefix *prefix = &wish->reservations.at[i].prefix;

        if (prefix_table_port(master->apps.prefixes, !prefix->https, prefix->port))
            return err_set(text, EXIT_OPTION, ERR_STATE, "%.300s: port %u carries %s already",
                           prefix->text, prefix->port, prefix->https ? "http" : "https");
    }
    return 0;
}

static void tell_missing(const struct reservations *from, const struct reservations *in,
                         const char *key, struct buf *change)
{
    for (size_t i = 0; i < from->count; i++)
        if (in == NULL || !is_in(in, &from->at[i].prefix)) {
            buf_append(change, SPAN(IPC_RESERVED_SCOPE));
            pairs_add(change, key, from->at[i].prefix.text);
        }
}

/* ---- timeouts ---- */

static int64_t header_wait_ms(const struct host_state *host, const struct state *state)
{
    return state->header_wait_s ? (int64_t)state->header_wait_s * 1000 : host->header_wait_ms;
}

static int64_t idle_connection_ms(const struct host_state *host, const struct state *state)
{
    return state->idle_connection_s ? (int64_t)state->idle_connection_s * 1000
                                    : host->idle_connection_ms;
}

/* ---- addresses ---- */

static bool is_address_in(const struct state *state, const struct net_addr *addr)
{
    for (unsigned i = 0; i < state->listen_count; i++)
        if (memcmp(&state->listen[i], addr, sizeof(*addr)) == 0)
            return true;
    return false;
}

/* Those of the wish that from has not, NULL: all: 0, or what is wrong. What is only not there yet
 * goes to warnings. */
static int judge_addresses(const struct state *from, const struct state *wish, struct buf *warnings,
                           struct err_text *text)
{
    char ip[NET_ADDR_TEXT], line[200];
    struct err_text why;
    bool is_missing;

    for (unsigned i = 0; i < wish->listen_count; i++) {
        if (from && is_address_in(from, &wish->listen[i]))
            continue;
        net_addr_ip(&wish->listen[i], ip);
        if (endpoints_judge_listen(&wish->listen[i], &is_missing, &why) < 0)
            return err_set(text, why.exit_code, ERR_INVALID, "%s: %.500s", ip, why.text);
        snprintf(line, sizeof(line),
                 "this machine does not have %s now; it is served as soon as it has", ip);
        if (is_missing)
            pairs_add(warnings, "warning", line);
    }
    return 0;
}

static void log_warnings(struct span warnings)
{
    const char *key, *value;

    while (pairs_next(&warnings, &key, &value))
        log_event(LOG_WARN, "address_missing", "%s", value);
}

/* ---- changes ---- */

static bool same_listen(const struct state *a, const struct state *b)
{
    return a->listen_count == b->listen_count &&
           memcmp(a->listen, b->listen, a->listen_count * sizeof(a->listen[0])) == 0;
}

/* What can fail: sockets and files. On failure from is in force again. */
static int prepare(struct master *master, const struct state *from, const struct state *to,
                   struct err_text *text)
{
    struct err_text ignored;
    int code = 0;

    if (!same_listen(from, to))
        code =
            apps_listen_on(&master->apps, &master->endpoints, to->listen, to->listen_count, text);
    if (code < 0 || sslcerts_equal(&from->sslcerts, &to->sslcerts))
        return code;
    code = host_certificates_use(&master->host.state->certificates, &from->sslcerts, &to->sslcerts,
                                 text);
    if (code < 0 && !same_listen(from, to))
        apps_listen_on(&master->apps, &master->endpoints, from->listen, from->listen_count,
                       &ignored);
    return code;
}

static void put_in_force(struct master *master, struct state *wish, struct span content,
                         struct buf *change)
{
    struct host_state *host = master->host.state;

    if (!sslcerts_equal(&host->state.sslcerts, &wish->sslcerts))
        host_certificates_tell(&host->certificates);
    tell_missing(&host->state.reservations, &wish->reservations, IPC_DROP_PREFIX, change);
    tell_missing(&wish->reservations, &host->state.reservations, IPC_ADD_PREFIX, change);
    apps_use_timeouts(&master->apps, header_wait_ms(host, wish), idle_connection_ms(host, wish),
                      change);
    state_fini(&host->state);
    host->state = *wish;
    *wish = (struct state){0};
    buf_fini(&host->text);
    buf_append(&host->text, content);
    buf_append(&host->text, SPAN("\0"));
}

int host_state_change(struct master *master, const char *wish, struct buf *change,
                      struct buf *reply, struct err_text *text)
{
    struct host_state *host = master->host.state;
    struct state state = {0};
    struct err_text ignored;
    int code = state_read(&state, span_str(wish), text);

    if (code == 0)
        code = check_schemes(master, &state, text);
    if (code == 0)
        code = judge_addresses(&host->state, &state, reply, text);
    if (code == 0)
        code = prepare(master, &host->state, &state, text);
    if (code == 0) {
        code = state_file_save(&host->file, span_str(wish), text);
        if (code < 0)
            prepare(master, &state, &host->state, &ignored);
    }
    if (code == 0) {
        put_in_force(master, &state, span_str(wish), change);
        state_file_is_good(&host->file, span_str(wish));
        log_warnings(buf_span(reply));
    }
    state_fini(&state);
    return code;
}

/* ---- life ---- */

static void warn_of_holders(const struct reservations *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].who.is_unknown)
            log_event(LOG_WARN, "holder_unknown",
                      "%.300s is reserved for %.300s: there is none here, so nobody may have it",
                      list->at[i].prefix.text, list->at[i].holder);
}

static int read_state(struct host_state *host, const char *path, struct err_text *text)
{
    struct err_text why;
    int code = state_file_open(&host->file, path, &host->text, text);
    const char *slash = strrchr(host->file.path, '/');

    if (code < 0)
        return code;
    code = state_read(&host->state, buf_span(&host->text), &why);
    if (code < 0)
        return err_set(text, why.exit_code, code,
                       "%.400s: %.400s; what was right last is in %s.good", host->file.path,
                       why.text, slash ? slash + 1 : host->file.path);
    warn_of_holders(&host->state.reservations);
    state_file_is_good(&host->file, buf_span(&host->text));
    buf_append(&host->text, SPAN("\0"));
    return 0;
}

int host_state_open(struct master *master, struct err_text *text)
{
    const struct settings *settings = &master->apps.settings;
    struct host_state *host = mem_zalloc(sizeof(*host));
    const char *path =
        master->options->state ? master->options->state : takeover_state_path(master);
    struct buf ignored = {0};
    char usual[PATH_MAX];
    int code = path ? 0 : state_file_default(usual, text);

    master->host.state = host;
    host->file.lock_fd = -1;
    host->header_wait_ms = settings->timeout_header_wait_ms;
    host->idle_connection_ms = settings->timeout_idle_connection_ms;
    if (path == NULL)
        path = usual;
    if (code == 0)
        code = read_state(host, path, text);
    if (code < 0)
        return code;
    host_certificates_init(&host->certificates, master, &host->state.sslcerts, host->file.path);
    memcpy(master->endpoints.listen, host->state.listen, sizeof(host->state.listen));
    master->endpoints.listen_count = host->state.listen_count;
    apps_use_timeouts(&master->apps, header_wait_ms(host, &host->state),
                      idle_connection_ms(host, &host->state), &ignored);
    buf_fini(&ignored);
    return 0;
}

/* What cannot be served is told by who wants it served. */
static void warn_of_addresses(const struct state *state)
{
    struct buf warnings = {0};
    struct err_text text;

    if (judge_addresses(NULL, state, &warnings, &text) < 0)
        log_event(LOG_WARN, "address_unusable", "%s", text.text);
    log_warnings(buf_span(&warnings));
    buf_fini(&warnings);
}

int host_state_begin(struct master *master, struct err_text *text)
{
    struct host_state *host = master->host.state;
    const struct sslcerts *records = &host->state.sslcerts;

    warn_of_addresses(&host->state);
    return records->count ? host_certificates_use(&host->certificates, records, records, text) : 0;
}

const char *host_state_path(const struct master *master)
{
    return master->host.state->file.path;
}

void host_state_close(struct master *master)
{
    struct host_state *host = master->host.state;

    if (host == NULL)
        return;
    host_certificates_fini(&host->certificates);
    state_file_close(&host->file);
    state_fini(&host->state);
    buf_fini(&host->text);
    mem_free(host);
    master->host.state = NULL;
}

void host_state_let_go(struct master *master)
{
    state_file_unlock(&master->host.state->file);
}

bool host_state_hold(struct master *master)
{
    struct state_file *file = &master->host.state->file;
    struct err_text text;

    if (file->lock_fd >= 0 || state_file_lock(file, &text) == 0)
        return true;
    state_file_unlock(file);
    return false;
}

int host_state_certificates(const struct master *master, struct span asked, struct buf *reply,
                            struct err_text *text)
{
    return host_certificates_show(&master->host.state->certificates, asked, reply, text);
}

const char *host_state_text(const struct master *master)
{
    return buf_span(&master->host.state->text).at;
}

void host_state_describe(const struct master *master, struct buf *pairs)
{
    if (master->host.state)
        tell_missing(&master->host.state->state.reservations, NULL, IPC_ADD_PREFIX, pairs);
}
