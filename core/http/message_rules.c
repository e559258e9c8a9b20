/* Lengths, expectations, trailers: what HTTP/1.1 and HTTP/2 judge alike. */
#include "http/message_rules.h"

#include "base/err.h"
#include "http/chars_priv.h"
#include "http/fields.h"

int message_refuse(struct refusal *why, int status, const char *reason, const char *detail)
{
    *why = (struct refusal){status, reason, detail};
    return ERR_INVALID;
}

int message_check_method(struct span method, struct refusal *why)
{
    if (method.len > MESSAGE_METHOD_BYTES)
        return message_refuse(why, 501, "N/I", "a method longer than any there is");
    return 0;
}

int message_read_length(struct span value, uint64_t *length, struct refusal *why)
{
    uint64_t sum = 0;

    if (value.len == 0 || chars_span(value, CHAR_DIGIT) < value.len)
        return message_refuse(why, 400, "Number", "a Content-Length that is no plain number");
    for (size_t i = 0; i < value.len; i++) {
        uint64_t digit = (uint64_t)(value.at[i] - '0');

        if (sum > (INT64_MAX - digit) / 10)
            return message_refuse(why, 400, "Number", "a Content-Length above 2^63-1");
        sum = 10 * sum + digit;
    }
    *length = sum;
    return 0;
}

int message_read_expect(struct span value, bool *continues, struct refusal *why)
{
    struct span expectation;

    while (fields_list_next(&value, &expectation)) {
        if (span_eq_nocase(expectation, SPAN("100-continue")))
            *continues = true;
        else if (expectation.len > 0)
            return message_refuse(why, 417, "Header", "an unknown expectation");
    }
    return 0;
}

static const char *const framing_names[] = {"transfer-encoding", "content-length", "host"};

static const char *const dropped_names[] = {
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool is_among(struct span name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (span_eq_nocase(name, span_str(names[i])))
            return true;
    return false;
}

enum trailer_fate trailer_fate_of(struct span name)
{
    if (is_among(name, framing_names, COUNT(framing_names)))
        return TRAILER_FRAMING;
    return is_among(name, dropped_names, COUNT(dropped_names)) ? TRAILER_DROPPED : TRAILER_KEPT;
}
