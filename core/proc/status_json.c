/* Misuse (a close too many, a depth that no answer has) is our own mistake and ends the process. */
#include "proc/status_json.h"

#include "base/err.h"
#include "base/log.h"

#define VALUE_BYTES 4096 /* of a setting; no text is longer */

void status_json_init(struct status_json *json, struct buf *out)
{
    *json = (struct status_json){.out = out};
}

static void begin_value(struct status_json *json, const char *key)
{
    if (json->follows)
        buf_append(json->out, SPAN(","));
    json->follows = true;
    if (key) {
        log_quote(json->out, span_str(key));
        buf_append(json->out, SPAN(":"));
    }
}

static void open_value(struct status_json *json, const char *key, const char *opener, char closer)
{
    CHECK(json->depth < STATUS_JSON_DEPTH);
    begin_value(json, key);
    buf_append(json->out, span_of(opener, 1));
    json->closers[json->depth++] = closer;
    json->follows = false;
}

void status_json_object(struct status_json *json, const char *key)
{
    open_value(json, key, "{", '}');
}

void status_json_array(struct status_json *json, const char *key)
{
    open_value(json, key, "[", ']');
}

void status_json_close(struct status_json *json)
{
    CHECK(json->depth > 0);
    buf_append(json->out, span_of(&json->closers[--json->depth], 1));
    json->follows = true;
}

void status_json_text(struct status_json *json, const char *key, const char *text)
{
    begin_value(json, key);
    log_quote(json->out, span_str(text));
}

void status_json_number(struct status_json *json, const char *key, int64_t number)
{
    begin_value(json, key);
    buf_printf(json->out, "%lld", (long long)number);
}

struct settings_of {
    struct status_json *json;
    const struct settings *settings;
    enum setting_scope scope;
};

static void add_setting(void *arg, const char *key)
{
    struct settings_of *of = arg;
    char value[VALUE_BYTES];

    if (settings_scope(key) != (int)of->scope)
        return;
    settings_get(of->settings, key, value, sizeof(value));
    status_json_text(of->json, key, value);
}

void status_json_settings(struct status_json *json, const char *key,
                          const struct settings *settings, enum setting_scope scope)
{
    struct settings_of of = {.json = json, .settings = settings, .scope = scope};

    status_json_object(json, key);
    settings_each(add_setting, &of);
    status_json_close(json);
}
