/*
 * TLS in a worker: what the master has read and judged becomes contexts here. A worker whose server
 * has no bindings never hears of any and spends nothing on TLS.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "proc/profile_pairs.h"
#include "proc/worker_priv.h"
#include "tls/tls_ctx.h"

static void on_counted(void *owner, enum tls_event event)
{
    struct worker *worker = owner;
    uint64_t *counter = worker->slot->counter;

    if (event == TLS_HANDSHAKE_FAILED) {
        counter[COUNTER_TLS_FAILED]++;
        return;
    }
    counter[COUNTER_TLS_HANDSHAKES]++;
    if (event == TLS_HANDSHAKE_RESUMED)
        counter[COUNTER_TLS_RESUMED]++;
}

/* MOONQUAY_TLS_SOCKET_BIO is for the specs: elsewhere only the kernel decides. */
static bool open_tls(struct worker *worker)
{
    const struct tls_parts parts = {
        .alpn = SERVER_ALPN,
        .counted = on_counted,
        .owner = worker,
        .socket_bio = getenv("MOONQUAY_TLS_SOCKET_BIO") != NULL,
    };
    struct err_text why;

    if (worker->tls == NULL)
        worker->tls = tls_new(&parts, &why);
    if (worker->tls == NULL)
        log_event(LOG_ERROR, "tls_unusable", "%s", why.text);
    return worker->tls != NULL;
}

/* What the master could make of the same texts can be made here, but for memory. */
static struct tls_profile *profile_of(const struct tls_profile_parts *parts)
{
    struct tls_profile *profile = NULL;
    struct tls_fault fault;

    if (parts->identity_count == 0 || tls_profile_new(&profile, parts, &fault) < 0)
        log_event(LOG_ERROR, "binding_lost", "a TLS binding cannot be used: %s",
                  parts->identity_count ? fault.why.text : "it has no certificate");
    return profile;
}

void worker_tls_use(struct worker *worker, struct span pairs)
{
    struct tls_profile **profiles = NULL;
    struct tls_profile_parts parts;
    struct arena scratch;
    unsigned count = 0;

    if (!open_tls(worker))
        return;
    arena_init(&scratch);
    while (profile_pairs_next(&pairs, &parts, &scratch)) {
        struct tls_profile *profile = profile_of(&parts);

        profiles = mem_realloc(profiles, (count + 1) * sizeof(struct tls_profile *));
        if (profile)
            profiles[count++] = profile;
    }
    tls_use(worker->tls, profiles, count);
    mem_free(profiles);
    arena_fini(&scratch);
}

void worker_tls_use_tickets(struct worker *worker, struct span pairs)
{
    const char *digits = pairs_find(pairs, "keys");
    struct arena scratch;
    struct err_text why;

    if (digits == NULL || !open_tls(worker))
        return;
    arena_init(&scratch);
    struct span keys = hex_read(digits, &scratch);

    if (tls_use_tickets(worker->tls, keys, &why) < 0)
        log_event(LOG_ERROR, "ticket_keys", "%s", why.text);
    explicit_bzero((void *)(uintptr_t)keys.at, keys.len);
    arena_fini(&scratch);
}
