#include "share/principal.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/settings.h"

#define OVERFLOW_ID  65534u /* the kernel's default (/proc/sys/kernel/overflowuid) */
#define LOOKUP_BYTES 65536u
#define MOST_NUMBER  0xfffffffeu /* 2^32 - 1 means "none" to the kernel */

/* "#1000" as a number. */
static bool read_number(const char *name, uint32_t *id)
{
    unsigned long long number;
    char *end;

    if (name[0] != '#' || name[1] < '0' || name[1] > '9')
        return false;
    number = strtoull(name + 1, &end, 10);
    *id = (uint32_t)number;
    return *end == '\0' && number <= MOST_NUMBER;
}

static bool find_user(const char *name, uint32_t *id)
{
    char room[LOOKUP_BYTES];
    struct passwd entry, *found = NULL;

    if (getpwnam_r(name, &entry, room, sizeof(room), &found) != 0 || found == NULL)
        return false;
    *id = found->pw_uid;
    return true;
}

static bool find_group(const char *name, uint32_t *id)
{
    char room[LOOKUP_BYTES];
    struct group entry, *found = NULL;

    if (getgrnam_r(name, &entry, room, sizeof(room), &found) != 0 || found == NULL)
        return false;
    *id = found->gr_gid;
    return true;
}

static int check_name(const char *name, struct err_text *text)
{
    uint32_t id;

    if (name[0] == '\0' || strlen(name) > PRINCIPAL_NAME)
        return err_set(text, EXIT_OPTION, ERR_INVALID,
                       "the name of a user or group has 1 to %d characters", PRINCIPAL_NAME);
    if (name[0] == '#' && !read_number(name, &id))
        return err_set(text, EXIT_OPTION, ERR_INVALID, "%.40s is no number from #0 to #%u", name,
                       MOST_NUMBER);
    return 0;
}

int principal_find(struct principal *principal, bool is_group, const char *name,
                   struct err_text *text)
{
    int code = check_name(name, text);

    if (code < 0)
        return code;
    *principal = (struct principal){.is_group = is_group};
    if (read_number(name, &principal->id) ||
        (is_group ? find_group : find_user)(name, &principal->id))
        return 0;
    principal->is_unknown = true;
    return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "there is no %s %.200s",
                   is_group ? "group" : "user", name);
}

bool principal_is(const struct principal *principal, const struct caller *caller)
{
    if (principal->is_unknown || principal->id == OVERFLOW_ID)
        return false;
    if (!principal->is_group)
        return caller->uid == principal->id;
    for (unsigned i = 0; i < caller->group_count; i++)
        if (caller->groups[i] == principal->id)
            return true;
    return false;
}

/* ---- lists ---- */

struct item {
    bool excludes, is_group;
    char name[PRINCIPAL_NAME + 1];
};

static bool starts_with(struct span text, struct span word)
{
    return text.len >= word.len && memcmp(text.at, word.at, word.len) == 0;
}

/* False for what is none. */
static bool read_item(struct span text, struct item *item)
{
    struct span user = SPAN("user:"), group = SPAN("group:");

    item->excludes = starts_with(text, SPAN("-"));
    text = span_skip(text, item->excludes);
    item->is_group = starts_with(text, group);
    if (!item->is_group && !starts_with(text, user))
        return false;
    text = span_skip(text, item->is_group ? group.len : user.len);
    if (text.len > PRINCIPAL_NAME)
        return false;
    snprintf(item->name, sizeof(item->name), "%.*s", (int)text.len, text.at);
    return true;
}

enum match { IS_NOT, IS, IS_NOT_KNOWN };

static enum match match(const struct item *item, const struct caller *caller)
{
    struct principal principal;

    if (principal_find(&principal, item->is_group, item->name, NULL) < 0)
        return IS_NOT_KNOWN;
    if (principal_is(&principal, caller))
        return IS;
    return item->is_group && caller->has_more_groups ? IS_NOT_KNOWN : IS_NOT;
}

/* Who cannot be told from one that is excluded is let in by nothing. */
bool principals_allow(const char *list, const struct caller *caller)
{
    struct span word;
    struct item item;
    bool allowed = false;

    while (settings_item(&list, &word)) {
        enum match found = read_item(word, &item) ? match(&item, caller) : IS_NOT;

        if (item.excludes && found != IS_NOT)
            return false;
        allowed |= !item.excludes && found == IS;
    }
    return allowed;
}
