/*
 * PRIORITY_UPDATE (RFC 9218 section 7.1). Read here, because the library's own reader keeps a
 * stream that began after its PRIORITY_UPDATE in a list of idle ones when it is freed (nghttp2
 * 1.52). The priority field of a request is the library's.
 */
#include "http/h2_priv.h"

#define DEFAULT_URGENCY 3u

/* One member of the dictionary: key, maybe with a value, maybe with parameters, which mean nothing
 * here (RFC 8941 section 3.2). */
static void read_member(struct h2_priority *priority, struct span member)
{
    const char *parameters = memchr(member.at, ';', member.len);

    if (parameters)
        member.len = (size_t)(parameters - member.at);
    if (span_eq(member, SPAN("i")) || span_eq(member, SPAN("i=?1")))
        priority->incremental = true;
    else if (span_eq(member, SPAN("i=?0")))
        priority->incremental = false;
    else if (member.len == 3 && memcmp(member.at, "u=", 2) == 0 && member.at[2] >= '0' &&
             member.at[2] <= '7')
        priority->urgency = (uint8_t)(member.at[2] - '0');
}

struct h2_priority h2_priority_read(struct span payload)
{
    const unsigned char *id = (const unsigned char *)payload.at;
    struct h2_priority priority = {.urgency = DEFAULT_URGENCY};
    struct span text = span_skip(payload, 4), member;

    priority.stream_id =
        (int32_t)((id[0] & 0x7Fu) << 24 | (uint32_t)id[1] << 16 | (uint32_t)id[2] << 8 | id[3]);
    while (fields_list_next(&text, &member))
        if (member.len > 0)
            read_member(&priority, member);
    return priority;
}
