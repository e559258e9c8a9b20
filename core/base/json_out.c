/* Misuse (a close too many, a depth that no answer has) is our own mistake and ends the process. */
#include "base/json_out.h"

#include "base/err.h"
#include "base/log.h"

void json_out_init(struct json_out *json, struct buf *out)
{
    *json = (struct json_out){.out = out};
}

static void begin_value(struct json_out *json, const char *key)
{
    if (json->follows)
        buf_append(json->out, SPAN(","));
    json->follows = true;
    if (key) {
        log_quote(json->out, span_str(key));
        buf_append(json->out, SPAN(":"));
    }
}

static void open_value(struct json_out *json, const char *key, const char *opener, char closer)
{
    CHECK(json->depth < JSON_OUT_DEPTH);
    begin_value(json, key);
    buf_append(json->out, span_of(opener, 1));
    json->closers[json->depth++] = closer;
    json->follows = false;
}

void json_out_object(struct json_out *json, const char *key)
{
    open_value(json, key, "{", '}');
}

void json_out_array(struct json_out *json, const char *key)
{
    open_value(json, key, "[", ']');
}

void json_out_close(struct json_out *json)
{
    CHECK(json->depth > 0);
    buf_append(json->out, span_of(&json->closers[--json->depth], 1));
    json->follows = true;
}

void json_out_text(struct json_out *json, const char *key, const char *text)
{
    begin_value(json, key);
    log_quote(json->out, span_str(text));
}

void json_out_number(struct json_out *json, const char *key, int64_t number)
{
    begin_value(json, key);
    buf_printf(json->out, "%lld", (long long)number);
}

void json_out_truth(struct json_out *json, const char *key, bool truth)
{
    begin_value(json, key);
    buf_append(json->out, truth ? SPAN("true") : SPAN("false"));
}

void json_out_encoded(struct json_out *json, const char *key, struct span value)
{
    begin_value(json, key);
    buf_append(json->out, value.len ? value : SPAN("null"));
}
