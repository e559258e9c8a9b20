/* The five rows of reference section 2.6. */
#include "server/hosting.h"

#include <stdio.h>

#include "server/settings.h"

static bool has_item(const char *list)
{
    struct span item;

    return list && settings_item(&list, &item);
}

struct hosting_choice hosting_choose(const struct hosting *hosting)
{
    bool prefixes = has_item(hosting->url_prefixes), urls = has_item(hosting->urls);

    if (prefixes && urls && hosting->prefer_urls)
        return (struct hosting_choice){hosting->urls, true, HOSTING_PREFIXES_CLEARED};
    if (prefixes)
        return (struct hosting_choice){hosting->url_prefixes, false,
                                       urls ? HOSTING_URLS_DROPPED : HOSTING_QUIET};
    if (urls)
        return (struct hosting_choice){hosting->urls, true, HOSTING_QUIET};
    if (hosting->attached)
        return (struct hosting_choice){"", false, HOSTING_QUIET};
    return (struct hosting_choice){has_item(hosting->default_urls) ? hosting->default_urls
                                                                   : HOSTING_DEFAULT,
                                   false, HOSTING_QUIET};
}

size_t hosting_warning(const struct hosting *hosting, enum hosting_note note, char *out,
                       size_t room)
{
    const char *from = hosting->urls_from && hosting->urls_from[0] ? hosting->urls_from : "urls";
    int length = 0;

    out[0] = '\0';
    if (note == HOSTING_URLS_DROPPED)
        length = snprintf(out, room, "%s: dropped, since the app has url_prefixes", from);
    else if (note == HOSTING_PREFIXES_CLEARED)
        length = snprintf(out, room,
                          "url_prefixes of the app: cleared, since %s and prefer_urls "
                          "are given",
                          from);
    return length < 0 ? 0 : (size_t)length < room ? (size_t)length : room - 1;
}
