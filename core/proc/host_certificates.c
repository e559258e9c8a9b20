/*
 * Files that are in force are looked at by proc/certificates. What is left out has none that could
 * be: its certificate may be anywhere in the store, its disk may not be there yet. So it is judged
 * as a whole, a few records at a time.
 */
#include "proc/host_certificates.h"

#include <stdio.h>
#include <string.h>

#include "base/json_out.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pairs.h"
#include "proc/cert_store.h"
#include "proc/master_priv.h"
#include "share/control.h"
#include "share/state.h"

#define STORE_NAME    "certificates"
#define RETRY_SECONDS 3
#define RETRY_MOST    32 /* records a time: each has files to be read, or a whole store */

/* ---- one record ---- */

static int add_binding(const struct host_certificates *self, const struct sslcert *record,
                       struct buf *all, struct err_text *text)
{
    const char *hash = record->text[SSLCERT_CERTHASH];
    struct cert_store_entry entry;
    int code = hash ? cert_store_find(self->store, hash, &entry, text) : 0;

    if (code < 0)
        return code;
    if (buf_len(all) > 0)
        buf_append(all, SPAN(";"));
    sslcert_binding(record, hash ? entry.certificate : record->text[SSLCERT_CERT],
                    hash ? entry.key : record->text[SSLCERT_KEY], all);
    return 0;
}

static int judge_one(const struct host_certificates *self, const struct sslcert *record,
                     struct err_text *text)
{
    struct buf one = {0};
    int code = add_binding(self, record, &one, text);

    buf_append(&one, SPAN("\0"));
    if (code == 0)
        code = certificates_judge(&self->master->certificates, buf_span(&one).at, text);
    buf_fini(&one);
    return code;
}

/* ---- all of them ---- */

/* Those of the settings, then those of the state but for what is unusable. */
static int use_some(struct host_certificates *self, const struct sslcerts *records,
                    char *const *unusable, struct err_text *text)
{
    struct master *master = self->master;
    struct buf all = {0};
    int code = 0;

    buf_append(&all, span_str(master->apps.settings.tls));
    for (size_t i = 0; i < records->count && code == 0; i++)
        if (unusable[i] == NULL)
            code = add_binding(self, &records->at[i], &all, text);
    buf_append(&all, SPAN("\0"));
    if (code == 0)
        code = certificates_use(&master->certificates, buf_span(&all).at, text);
    buf_fini(&all);
    return code;
}

static int use_what_is_right(struct host_certificates *self, const struct sslcerts *before,
                             const struct sslcerts *records, char **unusable, struct err_text *text)
{
    struct err_text why;

    for (size_t i = 0; i < records->count; i++) {
        int code = judge_one(self, &records->at[i], &why);

        if (code == 0)
            continue;
        if (!sslcerts_have(before, &records->at[i]))
            return err_set(text, why.exit_code, code, "%.300s: %s", sslcert_place(&records->at[i]),
                           why.text);
        unusable[i] = mem_strdup(why.text);
    }
    return use_some(self, records, unusable, text);
}

static bool is_same(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

static void take(struct host_certificates *self, const struct sslcerts *records, char **unusable)
{
    loop_alarm_stop(self->master->loop, &self->retry);
    for (size_t i = 0; i < SSLCERTS_MOST; i++) {
        if (unusable[i] && !is_same(unusable[i], self->unusable[i]))
            log_event(LOG_ERROR, "certificate_unused", "%.300s: %s", sslcert_place(&records->at[i]),
                      unusable[i]);
        mem_free(self->unusable[i]);
        self->unusable[i] = unusable[i];
        if (unusable[i])
            loop_alarm_start(self->master->loop, &self->retry, RETRY_SECONDS);
    }
}

int host_certificates_use(struct host_certificates *self, const struct sslcerts *before,
                          const struct sslcerts *records, struct err_text *text)
{
    char *unusable[SSLCERTS_MOST] = {NULL};
    int code = use_some(self, records, unusable, text);

    if (code < 0)
        code = use_what_is_right(self, before, records, unusable, text);
    if (code == 0) {
        take(self, records, unusable);
        return 0;
    }
    for (size_t i = 0; i < SSLCERTS_MOST; i++)
        mem_free(unusable[i]);
    return code;
}

void host_certificates_tell(struct host_certificates *self)
{
    struct master *master = self->master;

    for (unsigned i = 0; i < master->slot_count; i++)
        if (master->slots[i]->told) {
            slot_send_certificates(master->slots[i]);
            slot_send_tickets(master->slots[i]);
        }
}

/* ---- what could not be used ---- */

/* True when it can be by now. */
static bool is_right_now(struct host_certificates *self, size_t record)
{
    struct err_text why;

    if (judge_one(self, &self->records->at[record], &why) == 0)
        return true;
    mem_free(self->unusable[record]);
    self->unusable[record] = mem_strdup(why.text);
    return false;
}

/* The next few; true when one of them can be used. */
static bool any_is_right_now(struct host_certificates *self)
{
    size_t count = self->records->count;
    bool is_right = false;

    for (size_t seen = 0, tried = 0; seen < count && tried < RETRY_MOST; seen++) {
        size_t i = self->next++ % count;

        if (self->unusable[i] == NULL)
            continue;
        tried++;
        is_right |= is_right_now(self, i);
    }
    return is_right;
}

static void on_retry(struct loop_alarm *alarm)
{
    struct host_certificates *self = LIST_OWNER(alarm, struct host_certificates, retry);
    const struct sslcerts *records = self->records;
    bool was_out[SSLCERTS_MOST];
    struct err_text ignored;

    loop_alarm_start(self->master->loop, alarm, RETRY_SECONDS);
    if (!any_is_right_now(self))
        return;
    for (size_t i = 0; i < SSLCERTS_MOST; i++)
        was_out[i] = self->unusable[i] != NULL;
    if (host_certificates_use(self, records, records, &ignored) < 0)
        return;
    for (size_t i = 0; i < records->count; i++)
        if (was_out[i] && self->unusable[i] == NULL)
            log_event(LOG_INFO, "certificate_used", "%.300s: it can be used now",
                      sslcert_place(&records->at[i]));
    host_certificates_tell(self);
}

/* ---- what is shown ---- */

static void write_records(const struct host_certificates *self, const struct sslcert *only,
                          struct json_out *document)
{
    const struct sslcerts *list = self->records;
    struct buf record = {0};

    json_out_array(document, "sslcert");
    for (size_t i = 0; i < list->count && buf_len(document->out) <= CONTROL_DOCUMENT_BYTES; i++) {
        if (only && only != &list->at[i])
            continue;
        state_write_sslcert(&list->at[i], self->unusable[i], &record);
        json_out_encoded(document, NULL, buf_span(&record));
        buf_consume(&record, buf_len(&record));
    }
    json_out_close(document);
    buf_fini(&record);
}

int host_certificates_show(const struct host_certificates *self, struct span asked,
                           struct buf *reply, struct err_text *text)
{
    const struct sslcert place = {
        .text = {[SSLCERT_IPPORT] = (char *)(uintptr_t)pairs_find(asked, "ipport"),
                 [SSLCERT_HOSTNAMEPORT] = (char *)(uintptr_t)pairs_find(asked, "hostnameport")}};
    const struct sslcert *only = NULL;
    struct buf bytes = {0};
    struct json_out document;
    int code = 0;

    if (sslcert_place(&place) && (only = sslcerts_find(self->records, &place)) == NULL)
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%.300s has no certificate",
                       sslcert_place(&place));
    json_out_init(&document, &bytes);
    json_out_object(&document, NULL);
    write_records(self, only, &document);
    json_out_close(&document);
    if (buf_len(&bytes) > CONTROL_DOCUMENT_BYTES)
        code = err_set(text, EXIT_OPTION, ERR_TOO_LARGE,
                       "show sslcert: the answer has more than %u bytes: ask for one of them",
                       CONTROL_DOCUMENT_BYTES);
    buf_append(&bytes, SPAN("\0"));
    if (code == 0)
        pairs_add(reply, "ok", buf_span(&bytes).at);
    buf_fini(&bytes);
    return code;
}

/* ---- life ---- */

void host_certificates_init(struct host_certificates *self, struct master *master,
                            const struct sslcerts *records, const char *state_path)
{
    const char *slash = strrchr(state_path, '/');

    self->master = master;
    self->records = records;
    loop_alarm_init(&self->retry, on_retry);
    snprintf(self->store, sizeof(self->store), "%.*s" STORE_NAME,
             slash ? (int)(slash - state_path + 1) : 0, state_path);
}

void host_certificates_fini(struct host_certificates *self)
{
    if (self->master == NULL)
        return;
    loop_alarm_stop(self->master->loop, &self->retry);
    for (size_t i = 0; i < SSLCERTS_MOST; i++)
        mem_free(self->unusable[i]);
}
