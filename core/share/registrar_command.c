/*
 * The commands of moonquay http: who may give which, and what each does. A command that changes
 * something is answered when the master has saved it; what is only shown, at once.
 */
#include "share/registrar_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "net/addr.h"
#include "route/url_prefix.h"
#include "share/admin.h"

#define DELEGATED_MOST                                                                             \
    256u            /* reservations below one that is delegated: they leave room for others */
#define PORTS 65536 /* that there are */

/* A command that is performed. */
struct command {
    struct registrar *registrar;
    const struct caller *caller;
    struct admin_request request;
};

/* 0 and members of the document, whose object is open; or an error. */
typedef int command_show_fn(const struct command *command, struct json_out *document,
                            struct err_text *text);

/* ---- who may ---- */

static bool is_owner(const struct command *command)
{
    uid_t uid = command->caller->uid;

    return uid == 0 || uid == command->registrar->parts.uid;
}

/* The reservation that decides what may be reserved at prefix: the next one above it; NULL. */
static const struct reservation *find_above(const struct reservations *list,
                                            const struct url_prefix *prefix)
{
    struct url_prefix above = *prefix; /* borrows its text */

    if (above.path.len <= 1)
        return NULL;
    do
        above.path.len--;
    while (above.path.at[above.path.len - 1] != '/');
    return reservations_find(list, &above);
}

/* How many reservations have this one next above them. */
static unsigned count_below(const struct reservations *list, const struct reservation *above)
{
    unsigned count = 0;

    for (size_t i = 0; i < list->count; i++)
        count += find_above(list, &list->at[i].prefix) == above;
    return count;
}

static int judge_delegate(const struct command *command, const struct url_prefix *prefix,
                          struct err_text *text)
{
    const struct reservations *list = &command->registrar->reservations;
    const struct reservation *above = find_above(list, prefix);

    if (above == NULL || !above->delegates || !reservation_is_for(above, command->caller))
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "%.300s: user %u may not %s it: that takes root, user %u, or a reservation "
                       "above it with delegate=yes",
                       prefix->text, (unsigned)command->caller->uid,
                       command->request.command->verb == ADMIN_ADD ? "reserve" : "release",
                       (unsigned)command->registrar->parts.uid);
    if (command->request.command->verb == ADMIN_ADD && count_below(list, above) >= DELEGATED_MOST)
        return err_set(text, EXIT_OPTION, ERR_LIMIT,
                       "there are %u reservations below %.300s already", DELEGATED_MOST,
                       above->prefix.text);
    return 0;
}

static int judge(const struct command *command, struct err_text *text)
{
    const struct admin_command *asked = command->request.command;
    struct url_prefix prefix;
    int code;

    if (asked->who == ADMIN_EVERYBODY || is_owner(command))
        return 0;
    if (asked->who == ADMIN_OWNERS)
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "%s %s: user %u may not: that takes root or user %u",
                       admin_verb_word(asked->verb), admin_noun_word(asked->noun),
                       (unsigned)command->caller->uid, (unsigned)command->registrar->parts.uid);
    code = reservation_url(&prefix, admin_value(&command->request, "url"), text);
    if (code < 0)
        return code;
    code = judge_delegate(command, &prefix, text);
    url_prefix_fini(&prefix);
    return code;
}

/* ---- urlacl ---- */

/* Its members, in an object that is open. */
static void add_reservation(struct json_out *json, const struct reservation *reservation)
{
    json_out_text(json, "url", reservation->prefix.text);
    json_out_text(json, reservation->is_group ? "group" : "user",
                  strchr(reservation->holder, ':') + 1);
    json_out_truth(json, "listen", reservation->listens);
    json_out_truth(json, "delegate", reservation->delegates);
}

/* With wanted only that one; returns how many. */
static int add_reservations(const struct reservations *list, const struct url_prefix *wanted,
                            struct json_out *json)
{
    int count = 0;

    json_out_array(json, "urlacl");
    for (size_t i = 0; i < list->count && buf_len(json->out) <= CONTROL_DOCUMENT_BYTES; i++) {
        if (wanted && !url_prefix_equal(&list->at[i].prefix, wanted))
            continue;
        json_out_object(json, NULL);
        add_reservation(json, &list->at[i]);
        json_out_close(json);
        count++;
    }
    json_out_close(json);
    return count;
}

static int show_urlacl(const struct command *command, struct json_out *document,
                       struct err_text *text)
{
    const char *url = admin_value(&command->request, "url");
    struct url_prefix wanted;
    int count;

    if (url && reservation_url(&wanted, url, text) < 0)
        return ERR_INVALID;
    count = add_reservations(&command->registrar->reservations, url ? &wanted : NULL, document);
    if (url)
        url_prefix_fini(&wanted);
    if (url && count == 0)
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%.300s is not reserved", url);
    return 0;
}

/* ---- firewall ---- */

/* A port that clients of other machines come to. */
struct opening {
    uint16_t port;
    bool https;
    char address[NET_ADDR_TEXT];
};

/* False for what nobody else can reach. */
static bool read_opening(const char *text, struct opening *opening)
{
    struct net_addr addr = {.family = NET_NONE};
    struct url_prefix prefix;
    bool is_reachable;

    if (url_prefix_parse(&prefix, span_str(text), NULL) < 0)
        return false;
    if (prefix.bucket == PREFIX_IP)
        net_addr_parse(&addr, prefix.host, prefix.port);
    is_reachable =
        prefix.port != 0 && !url_prefix_is_loopback_name(&prefix) && !net_addr_loopback(&addr);
    opening->port = prefix.port;
    opening->https = prefix.https;
    snprintf(opening->address, sizeof(opening->address), "0.0.0.0");
    if (addr.family != NET_NONE)
        net_addr_ip(&addr, opening->address);
    url_prefix_fini(&prefix);
    return is_reachable;
}

/* Several prefixes have the same one. */
static bool is_new(const struct opening *openings, size_t count, const struct opening *opening)
{
    for (size_t i = 0; i < count; i++)
        if (openings[i].port == opening->port && strcmp(openings[i].address, opening->address) == 0)
            return false;
    return true;
}

static void add_opening(struct json_out *json, const struct opening *opening)
{
    json_out_object(json, NULL);
    json_out_number(json, "port", opening->port);
    json_out_text(json, "scheme", opening->https ? "https" : "http");
    json_out_text(json, "address", opening->address);
    json_out_close(json);
}

static int show_firewall(const struct command *command, struct json_out *document,
                         struct err_text *text)
{
    struct buf found = {0};
    size_t count = 0;

    (void)text;
    json_out_array(document, "ports");
    for (unsigned i = 0; i < TALLY_APPS; i++) {
        const struct shared *shared = &command->registrar->apps[i];
        struct span rest = shared->is_open ? buf_span(&shared->prefixes) : SPAN_NONE;
        struct opening opening;

        for (; rest.len > 0; rest = span_skip(rest, strlen(rest.at) + 1)) {
            if (!read_opening(rest.at, &opening) || count == PORTS ||
                !is_new((const struct opening *)(const void *)buf_span(&found).at, count, &opening))
                continue;
            buf_append(&found, span_of((const char *)&opening, sizeof(opening)));
            add_opening(document, &opening);
            count++;
        }
    }
    json_out_close(document);
    buf_fini(&found);
    return 0;
}

/* ---- all of them ---- */

static command_show_fn *const shows[ADMIN_NOUNS] = {
    [ADMIN_URLACL] = show_urlacl,
    [ADMIN_FIREWALL] = show_firewall,
};

static int show(const struct command *command, struct buf *out, struct err_text *text)
{
    const struct admin_command *row = command->request.command;
    struct json_out document;
    int code;

    json_out_init(&document, out);
    json_out_object(&document, NULL);
    code = shows[row->noun](command, &document, text);
    if (code < 0)
        return code;
    json_out_close(&document);
    if (buf_len(out) <= CONTROL_DOCUMENT_BYTES)
        return 0;
    return err_set(text, EXIT_OPTION, ERR_TOO_LARGE,
                   "%s %s: the answer has more than %u bytes: ask for one of them",
                   admin_verb_word(row->verb), admin_noun_word(row->noun), CONTROL_DOCUMENT_BYTES);
}

static int perform(struct command *command, struct span asked, struct buf *document,
                   struct err_text *text)
{
    const struct admin_command *row;
    int code = admin_read_pairs(&command->request, asked, text);

    if (code == 0)
        code = judge(command, text);
    if (code < 0)
        return code;
    row = command->request.command;
    if (row->verb == ADMIN_SHOW && shows[row->noun])
        return show(command, document, text);
    return err_set(text, EXIT_OPTION, ERR_UNSUPPORTED, "%s %s is not there yet",
                   admin_verb_word(row->verb), admin_noun_word(row->noun));
}

void command_perform(struct program *program, const struct ipc_message *message)
{
    struct command command = {.registrar = program->registrar, .caller = &program->caller};
    struct buf document = {0}, pairs = {0};
    struct err_text text;
    int code = perform(&command, buf_span(&message->text), &document, &text);

    if (code < 0) {
        program_refuse(program, message->value, text.exit_code, text.text);
    } else {
        buf_append(&document, SPAN("\0"));
        pairs_add(&pairs, "ok", buf_span(&document).at);
        program_tell(program, CONTROL_REPLY, message->value, buf_span(&pairs), NULL);
    }
    buf_fini(&document);
    buf_fini(&pairs);
}
