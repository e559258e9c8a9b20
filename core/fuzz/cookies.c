/*
 * Cookie pairs: they lie in the field, in order, and written down again they read the same. A pair
 * that may be set as a cookie reads the same from what Set-Cookie says, which is a valid field
 * value.
 */
#include "http/cookie.h"

#include "base/err.h"
#include "fuzz/fuzz.h"

static void check_inside(struct span all, struct span part)
{
    CHECK(part.at >= all.at && part.len <= all.len);
    CHECK(part.at - all.at <= (ptrdiff_t)(all.len - part.len));
}

static void check_pair(const struct cookie_pair *pair)
{
    CHECK(pair->name.len > 0 && span_eq(pair->name, span_trim(pair->name)));
    CHECK(memchr(pair->name.at, ';', pair->name.len) == NULL);
    CHECK(memchr(pair->name.at, '=', pair->name.len) == NULL);
    CHECK(pair->value.len == 0 || memchr(pair->value.at, ';', pair->value.len) == NULL);
}

static void check_set(const struct cookie_pair *pair)
{
    struct cookie cookie = {
        .name = pair->name, .value = pair->value, .path = SPAN("/"), .secure = true};
    struct cookie_pair again;
    struct buf out = {0};
    const char *what;

    if (cookie_write(&out, &cookie, &what) < 0) {
        CHECK(what && buf_len(&out) == 0);
        return;
    }

    struct span text = buf_span(&out);

    CHECK(field_value_valid(text) && cookie_next(&text, &again));
    CHECK(span_eq(again.name, pair->name) && span_eq(again.value, pair->value));
    CHECK(cookie_next(&text, &again) && span_eq(again.name, SPAN("Path")));
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span all = span_of((const char *)data, size);
    struct span rest = all;
    struct cookie_pair pair;
    const char *last = all.at;
    struct buf first = {0}, second = {0}, written = {0};

    while (cookie_next(&rest, &pair)) {
        check_inside(all, pair.name);
        check_inside(all, pair.value);
        CHECK(pair.name.at >= last && pair.value.at > pair.name.at);
        last = pair.value.at + pair.value.len;
        check_pair(&pair);
        check_set(&pair);
        report_span(&first, "name", pair.name);
        report_span(&first, "value", pair.value);
        buf_append(&written, pair.name);
        buf_append(&written, SPAN("=\"")); /* quotes come off once, so these are the ones */
        buf_append(&written, pair.value);
        buf_append(&written, SPAN("\"; "));
    }
    rest = buf_len(&written) > 0 ? buf_span(&written) : SPAN_NONE;
    while (cookie_next(&rest, &pair)) {
        report_span(&second, "name", pair.name);
        report_span(&second, "value", pair.value);
    }
    CHECK(buf_len(&first) == buf_len(&second));
    CHECK(buf_len(&first) == 0 || span_eq(buf_span(&first), buf_span(&second)));
    buf_fini(&first);
    buf_fini(&second);
    buf_fini(&written);
    return 0;
}
