#include "share/reservation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HOLDER_BYTES 300u
#define GROUP_PREFIX "group:"
#define USER_PREFIX  "user:"

static void fini(struct reservation *reservation)
{
    url_prefix_fini(&reservation->prefix);
    mem_free(reservation->holder);
}

void reservations_fini(struct reservations *list)
{
    for (size_t i = 0; i < list->count; i++)
        fini(&list->at[i]);
    mem_free(list->at);
    *list = (struct reservations){0};
}

void reservations_copy(struct reservations *copy, const struct reservations *list)
{
    *copy = (struct reservations){.count = list->count};
    copy->at = mem_alloc(list->count * sizeof(*list->at) + 1);
    for (size_t i = 0; i < list->count; i++) {
        copy->at[i] = list->at[i];
        url_prefix_copy(&copy->at[i].prefix, &list->at[i].prefix);
        copy->at[i].holder = mem_strdup(list->at[i].holder);
    }
}

/* ---- whose ---- */

static int find_holder(struct reservation *reservation, const struct reservation_wish *wish,
                       struct err_text *text)
{
    const char *name = wish->user ? wish->user : wish->group;
    char holder[HOLDER_BYTES];
    int code;

    if (name == NULL || (wish->user && wish->group))
        return err_set(text, EXIT_OPTION, ERR_INVALID, "a reservation is for user= or for group=");
    code = principal_find(&reservation->who, wish->group != NULL, name, text);
    if (code < 0 && !(wish->was_there && reservation->who.is_unknown))
        return code;
    snprintf(holder, sizeof(holder), "%s%s", wish->group ? GROUP_PREFIX : USER_PREFIX, name);
    reservation->holder = mem_strdup(holder);
    return 0;
}

bool reservation_is_for(const struct reservation *reservation, const struct caller *caller)
{
    struct principal who = reservation->who;

    if (who.is_unknown)
        principal_find(&who, who.is_group, strchr(reservation->holder, ':') + 1, NULL);
    return principal_is(&who, caller);
}

/* ---- the list ---- */

static bool same_bucket(const struct url_prefix *a, const struct url_prefix *b)
{
    return a->https == b->https && a->port == b->port && span_eq(a->host, b->host);
}

/* Both paths end with a slash: whole segments. */
static bool is_at_or_above(const struct url_prefix *above, const struct url_prefix *prefix)
{
    return above->path.len <= prefix->path.len &&
           span_eq_nocase(above->path, span_of(prefix->path.at, above->path.len));
}

const struct reservation *reservations_find(const struct reservations *list,
                                            const struct url_prefix *prefix)
{
    const struct reservation *best = NULL;

    for (size_t i = 0; i < list->count; i++) {
        const struct reservation *one = &list->at[i];

        if (same_bucket(&one->prefix, prefix) && is_at_or_above(&one->prefix, prefix) &&
            (best == NULL || one->prefix.path.len > best->prefix.path.len))
            best = one;
    }
    return best;
}

bool reservation_is_above(const struct reservation *reservation, const struct url_prefix *prefix)
{
    return reservation->prefix.path.len < prefix->path.len &&
           same_bucket(&reservation->prefix, prefix) &&
           is_at_or_above(&reservation->prefix, prefix);
}

size_t reservations_below(const struct reservations *list, const struct reservation *above)
{
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++)
        count += reservation_is_above(above, &list->at[i].prefix);
    return count;
}

static int check_against(const struct reservations *list, const struct url_prefix *prefix,
                         struct err_text *text)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct url_prefix *other = &list->at[i].prefix;

        if (url_prefix_equal(other, prefix))
            return err_set(text, EXIT_OPTION, ERR_EXISTS, "%.300s is reserved for %.300s already",
                           prefix->text, list->at[i].holder);
        if (other->port == prefix->port && other->https != prefix->https)
            return err_set(text, EXIT_OPTION, ERR_STATE,
                           "%.300s: port %u carries %s: %.300s is reserved", prefix->text,
                           prefix->port, other->https ? "https" : "http", other->text);
    }
    if (list->count == RESERVATIONS_MOST)
        return err_set(text, EXIT_OPTION, ERR_LIMIT, "there are %d reservations already",
                       RESERVATIONS_MOST);
    return 0;
}

/* HTTP.sys has no prefix without it, and people who leave it out mean something else. */
int reservation_url(struct url_prefix *prefix, const char *url, struct err_text *text)
{
    size_t length = strlen(url);
    int code;

    if (length == 0 || url[length - 1] != '/')
        return err_set(text, EXIT_OPTION, ERR_INVALID, "%.300s: a reserved URL ends with a slash",
                       url);
    code = url_prefix_parse(prefix, span_str(url), text);
    if (code == 0 && prefix->port == 0) {
        url_prefix_fini(prefix);
        return err_set(text, EXIT_OPTION, ERR_INVALID, "%.300s: a reserved URL has a port", url);
    }
    return code;
}

int reservations_add(struct reservations *list, const struct reservation_wish *wish,
                     struct err_text *text)
{
    struct reservation fresh = {.listens = wish->listens, .delegates = wish->delegates};
    int code = reservation_url(&fresh.prefix, wish->url, text);

    if (code < 0)
        return code;
    code = check_against(list, &fresh.prefix, text);
    if (code == 0)
        code = find_holder(&fresh, wish, text);
    if (code < 0) {
        fini(&fresh);
        return code;
    }
    list->at = mem_realloc(list->at, (list->count + 1) * sizeof(*list->at));
    list->at[list->count++] = fresh;
    return 0;
}

int reservations_remove(struct reservations *list, const char *url, struct err_text *text)
{
    struct url_prefix prefix;
    int code = reservation_url(&prefix, url, text);

    if (code < 0)
        return code;
    code = err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "%.300s is not reserved", prefix.text);
    for (size_t i = 0; i < list->count && code < 0; i++) {
        if (!url_prefix_equal(&list->at[i].prefix, &prefix))
            continue;
        fini(&list->at[i]);
        memmove(&list->at[i], &list->at[i + 1], (list->count - i - 1) * sizeof(*list->at));
        list->count--;
        code = 0;
    }
    url_prefix_fini(&prefix);
    return code;
}
