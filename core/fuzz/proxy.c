/*
 * PROXY headers and sets of addresses. A header reads the same in any pieces, ends within its
 * limit, and its addresses survive being written as text; what is taken is not looked past. A set
 * has every address that stands in its text, and refuses with a message.
 */
#include "base/err.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "net/addr_set.h"
#include "net/proxy_protocol.h"

static void report_addr(struct buf *report, const char *label, const struct net_addr *addr)
{
    char text[NET_ADDR_TEXT];

    report_span(report, label, span_of(text, net_addr_text(addr, text)));
}

/* An address reads back from its text, and a set of that text alone has it. */
static void check_addr(const struct net_addr *addr)
{
    struct net_addr again;
    struct addr_set set;
    char text[NET_ADDR_TEXT];
    size_t len = net_addr_ip(addr, text);

    if (addr->family != NET_UNIX) {
        CHECK(net_addr_parse(&again, span_of(text, len), addr->port) == 0);
        CHECK(again.family == addr->family && again.port == addr->port);
        CHECK(memcmp(again.ip, addr->ip, sizeof(again.ip)) == 0);
    }
    CHECK(addr_set_parse(&set, text, NULL) == 0 && addr_set_has(&set, addr));
    addr_set_fini(&set);
}

static void check_complete(struct span in, const struct proxy_header *header, size_t used)
{
    size_t most = header->version == 1 ? PROXY_V1_MOST : PROXY_V2_MOST;
    struct proxy_header again;
    size_t again_used;

    CHECK(header->version == 1 || header->version == 2);
    CHECK(used > 0 && used <= most && used <= in.len && header->detail == NULL);
    CHECK(proxy_protocol_read(span_of(in.at, used), &again, &again_used) == 0);
    CHECK(again_used == used && again.has_addresses == header->has_addresses);
    CHECK(proxy_protocol_read(span_of(in.at, used - 1), &again, &again_used) == ERR_AGAIN);
    if (header->has_addresses) {
        check_addr(&header->source);
        check_addr(&header->destination);
    } else {
        CHECK(header->source.family == NET_NONE && header->destination.family == NET_NONE);
    }
}

static void read_header(struct feed *feed, struct buf *report)
{
    struct proxy_header header = {0};
    size_t used;
    int rc;

    do
        rc = proxy_protocol_read(feed_window(feed), &header, &used);
    while (rc == ERR_AGAIN && feed_more(feed));
    CHECK(rc == 0 || rc == ERR_AGAIN || rc == ERR_NOT_FOUND || rc == ERR_INVALID);
    CHECK((rc == ERR_INVALID) == (header.detail != NULL));
    if (rc == 0)
        check_complete(feed_window(feed), &header, used);
    else
        CHECK(used == 0 && !header.has_addresses);
    report_number(report, "answer", (unsigned long long)-rc);
    report_number(report, "version", header.version);
    report_number(report, "used", used);
    report_number(report, "addresses", header.has_addresses);
    report_addr(report, "source", &header.source);
    report_addr(report, "destination", &header.destination);
    report_span(report, "detail", span_str(header.detail));
}

/* The words of a text that is a set are in it, where they are addresses. */
static void check_words(const struct addr_set *set, const char *text)
{
    static const char separators[] = ", \t\r\n";

    for (text += strspn(text, separators); *text; text += strspn(text, separators)) {
        size_t len = strcspn(text, separators);
        struct net_addr addr;

        if (net_addr_parse(&addr, span_of(text, len), 0) == 0)
            CHECK(addr_set_has(set, &addr));
        text += len;
    }
}

static void check_set(struct span bytes)
{
    static const struct net_addr nobody = {.family = NET_NONE};
    struct err_text why = {0};
    struct addr_set set;
    char *text = mem_alloc(bytes.len + 1);

    if (bytes.len > 0)
        memcpy(text, bytes.at, bytes.len);
    text[bytes.len] = '\0';
    if (addr_set_parse(&set, text, &why) == 0) {
        check_words(&set, text);
        CHECK(set.count <= ADDR_SET_MOST && !addr_set_has(&set, &nobody));
    } else {
        CHECK(why.text[0] && why.exit_code == EXIT_OPTION && set.at == NULL && !set.has_unix);
    }
    addr_set_fini(&set);
    mem_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_each_way(data, size, read_header);
    check_set(span_of((const char *)data, size));
    return 0;
}
