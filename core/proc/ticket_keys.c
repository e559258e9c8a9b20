/*
 * Whoever has a ticket key can read what was sent with its tickets, for as long as a worker takes
 * them: so keys of our own live in memory alone and are replaced on a schedule.
 */
#include "proc/ticket_keys.h"

#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "proc/profile_pairs.h"
#include "proc/worker_ipc.h"

static int read_keys(struct ticket_keys *keys, struct err_text *why)
{
    struct buf text = {0};
    struct err_text reason;
    int code = watched_file_read(&keys->file, &text, &reason);

    if (code == 0)
        code = tls_tickets_set(&keys->tickets, buf_span(&text), &reason);
    if (code == 0)
        watched_file_take(&keys->file, &text);
    buf_wipe(&text);
    if (code == 0 && (keys->file.mode & S_IROTH))
        log_event(LOG_WARN, "key_readable",
                  "session_tickets.keys=%s: everybody on this machine can read the keys",
                  keys->file.path);
    return code < 0 ? err_set(why, EXIT_OPTION, code, "session_tickets.keys=%s: %s",
                              keys->file.path, reason.text)
                    : 0;
}

static void rotated(struct ticket_keys *keys)
{
    keys->changed(keys->owner);
    log_event(LOG_DEBUG, "ticket_keys_rotated", NULL);
}

static void on_rotation(struct loop_alarm *alarm)
{
    struct ticket_keys *keys = LIST_OWNER(alarm, struct ticket_keys, rotation);

    loop_alarm_start(keys->loop, alarm, (double)keys->rotate_ms / 1000);
    if (tls_tickets_rotate(&keys->tickets) < 0)
        log_event(LOG_ERROR, "ticket_keys", "no random bytes for a new key; the old one stays");
    else
        rotated(keys);
}

int ticket_keys_start(struct ticket_keys *keys, const struct settings *settings, struct loop *loop,
                      struct err_text *why)
{
    keys->loop = loop;
    keys->rotate_ms = settings->session_tickets_rotate_ms;
    loop_alarm_init(&keys->rotation, on_rotation);
    if (settings->session_tickets_keys[0]) {
        keys->file.path = settings->session_tickets_keys;
        return read_keys(keys, why);
    }
    if (tls_tickets_rotate(&keys->tickets) < 0)
        return err_set(why, EXIT_INTERNAL, ERR_IO, "no random bytes for session tickets");
    if (keys->rotate_ms != SETTING_OFF)
        loop_alarm_start(loop, &keys->rotation, (double)keys->rotate_ms / 1000);
    return 0;
}

void ticket_keys_stop(struct ticket_keys *keys)
{
    if (keys->loop)
        loop_alarm_stop(keys->loop, &keys->rotation);
    watched_file_fini(&keys->file);
    explicit_bzero(&keys->tickets, sizeof(keys->tickets));
}

void ticket_keys_look(struct ticket_keys *keys)
{
    struct tls_tickets before = keys->tickets;
    struct err_text why;

    if (keys->file.path == NULL)
        return;
    if (watched_file_moved(&keys->file)) {
        keys->is_moving = true; /* until it has come to rest */
        return;
    }
    if (!keys->is_moving)
        return;
    keys->is_moving = false;
    if (read_keys(keys, &why) < 0) {
        log_event(LOG_ERROR, "ticket_keys_kept", "%s; the keys before stay in use", why.text);
    } else if (memcmp(&before, &keys->tickets, sizeof(before)) != 0) {
        log_event(LOG_INFO, "ticket_keys_changed", "%s", keys->file.path);
        keys->changed(keys->owner);
    }
    explicit_bzero(&before, sizeof(before));
}

void ticket_keys_take(struct ticket_keys *keys, struct span pairs)
{
    const char *digits = pairs_find(pairs, "keys");
    struct err_text why;
    struct arena scratch;

    if (digits == NULL || keys->loop == NULL || keys->file.path)
        return;
    arena_init(&scratch);
    struct span bytes = hex_read(digits, &scratch);

    if (tls_tickets_set(&keys->tickets, bytes, &why) < 0)
        log_event(LOG_WARN, "ticket_keys", "those of the host before are not used: %s", why.text);
    explicit_bzero((void *)(uintptr_t)bytes.at, bytes.len);
    arena_fini(&scratch);
}

void ticket_keys_state(const struct ticket_keys *keys, struct buf *pairs)
{
    struct buf digits = {0};

    hex_add(&digits, span_of((const char *)keys->tickets.keys,
                             (size_t)keys->tickets.count * TLS_TICKET_KEY_BYTES));
    buf_append(&digits, span_of("", 1));
    pairs_add(pairs, "keys", buf_span(&digits).at);
    buf_wipe(&digits);
}
