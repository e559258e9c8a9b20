/*
 * Short forms and --set fill the same list of pairs; the settings' own table (server/settings) says
 * what is allowed. Nothing here knows a default, but for those that depend on the terminal.
 */
#include "proc/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bind/config_file.h"
#include "bind/vm.h"
#include "proc/worker_ipc.h"

static const struct {
    const char *word, *key;
    const char *value; /* NULL: the next word, or what stands behind '=' */
} short_forms[] = {
    {"--urls", "urls", NULL},
    {"--workers", "workers", NULL},
    {"--user", "user", NULL},
    {"--dev", "development", "true"},
    {"--no-dev", "development", "false"},
    {"--share", "share", "true"},
    {"--access-log", "access_log", NULL},
    {"--access-log-format", "access_log_format", NULL},
    {"--error-log", "error_log", NULL},
    {"--error-log-format", "error_log_format", NULL},
    {"--log-level", "log_level", NULL},
};

static const struct {
    const char *word;
    enum command command;
} commands[] = {
    {"serve", COMMAND_SERVE},       {"host", COMMAND_HOST},       {"registrar", COMMAND_REGISTRAR},
    {"worker", COMMAND_WORKER},     {"options", COMMAND_OPTIONS}, {"version", COMMAND_VERSION},
    {"--version", COMMAND_VERSION}, {"help", COMMAND_HELP},       {"--help", COMMAND_HELP},
    {"-h", COMMAND_HELP},           {"status", COMMAND_STATUS},   {"cert", COMMAND_CERT},
    {"http", COMMAND_HTTP},         {"--words", COMMAND_WORDS},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define CONFIG_FILE "moonquay.conf.lua" /* is read when it is in the working directory */

/* The words that are left, and what they are read into. */
struct reader {
    struct options *options;
    const char *config; /* what --config names; NULL */
    char **words;
    struct err_text *text;
};

/* Of a pair that says where another one comes from. */
static bool is_place(const char *key)
{
    size_t length = strlen(key), mark = strlen(VM_SETTING_PLACE);

    return length > mark && strcmp(key + length - mark, VM_SETTING_PLACE) == 0;
}

static int usage(struct reader *reader, const char *what, const char *word)
{
    return err_set(reader->text, EXIT_USAGE_ERROR, ERR_INVALID, "%s%.200s; moonquay help shows how",
                   what, word);
}

/* where: "--set", or "--workers=" when the word stands for the key. */
static int add(struct reader *reader, const char *key, const char *value, const char *where)
{
    struct options *options = reader->options;
    int code = settings_check(key, value, where, reader->text);

    if (code < 0)
        return code;
    pairs_add(&options->overrides, key, value);
    if (strcmp(key, "urls") == 0)
        snprintf(options->urls_from, sizeof(options->urls_from), "%.*s%s", (int)strcspn(where, "="),
                 where, strchr(where, '=') ? "" : " urls");
    return 0;
}

/* The value of the option word: what stands behind '=', or the next word. NULL when there is none.
 */
static const char *value_of(struct reader *reader, const char *word, size_t name_len)
{
    if (word[name_len] == '=')
        return word + name_len + 1;
    return *reader->words ? *reader->words++ : NULL;
}

/* --set KEY=VALUE, which wins over the app, and --default KEY=VALUE, which everything else beats.
 */
static int read_pair(struct reader *reader, const char *word, struct span name)
{
    const char *pair = value_of(reader, word, name.len);
    const char *equals = pair ? strchr(pair, '=') : NULL;
    bool is_default = span_eq(name, SPAN("--default"));
    char key[128];
    int code;

    if (equals == NULL || equals == pair)
        return usage(reader, is_default ? "--default wants key=value" : "--set wants key=value",
                     "");
    snprintf(key, sizeof(key), "%.*s", (int)(equals - pair), pair);
    if (!is_default)
        return add(reader, key, equals + 1, "--set");
    code = settings_check(key, equals + 1, "--default", reader->text);
    if (code == 0)
        pairs_add(&reader->options->defaults, key, equals + 1);
    return code;
}

static int read_config(struct reader *reader, const char *word)
{
    reader->config = value_of(reader, word, strlen("--config"));
    return reader->config && reader->config[0] ? 0 : usage(reader, "wants a file: ", word);
}

static int read_path(struct reader *reader, const char *word, size_t name_len, const char **path)
{
    *path = value_of(reader, word, name_len);
    return *path && (*path)[0] ? 0 : usage(reader, "wants a path: ", word);
}

static int read_option(struct reader *reader, const char *word)
{
    size_t name_len = strcspn(word, "=");
    struct span name = span_of(word, name_len);

    if (span_eq(name, SPAN("--set")) || span_eq(name, SPAN("--default")))
        return read_pair(reader, word, name);
    if (span_eq(name, SPAN("--config")))
        return read_config(reader, word);
    if (span_eq(name, SPAN("--unregister")) && reader->options->command == COMMAND_SERVE) {
        reader->options->unregisters = true;
        return 0;
    }
    if (reader->options->command == COMMAND_HOST && span_eq(name, SPAN("--socket")))
        return read_path(reader, word, name_len, &reader->options->socket);
    if (reader->options->command == COMMAND_HOST && strcmp(word, "--replace") == 0) {
        reader->options->replaces = true;
        return 0;
    }
    if (reader->options->command == COMMAND_HOST && span_eq(name, SPAN("--state")))
        return read_path(reader, word, name_len, &reader->options->state);
    for (size_t i = 0; i < COUNT(short_forms); i++) {
        const char *value = short_forms[i].value;
        char where[64];

        if (!span_eq(name, span_str(short_forms[i].word)))
            continue;
        if (value && word[name_len] == '=')
            return usage(reader, "takes no value: ", word);
        if (value == NULL && (value = value_of(reader, word, name_len)) == NULL)
            return usage(reader, "wants a value: ", word);
        snprintf(where, sizeof(where), "%s=", short_forms[i].word);
        return add(reader, short_forms[i].key, value, where);
    }
    return usage(reader, "no such option: ", word);
}

/* By name, and by what the names stand for where that is there. */
static bool same_file(const char *a, const char *b)
{
    struct stat one, other;

    if (strcmp(a, b) == 0)
        return true;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

static int add_app(struct reader *reader, const char *word)
{
    struct options *options = reader->options;

    if (word[0] == '\0') /* a shell's unset variable, say: app.lua is not what was meant */
        return err_set(reader->text, EXIT_APP_MISSING, ERR_NOT_FOUND,
                       "the app \"\" names no file: moonquay serve FILE");
    if (strlen(word) >= PATH_MAX)
        return usage(reader, "too long a path: ", word);
    for (unsigned i = 0; i < options->app_count; i++)
        if (same_file(options->apps[i], word))
            return usage(reader, "the same app is named twice: ", word);
    if (options->app_count == OPTIONS_APPS)
        return err_set(reader->text, EXIT_USAGE_ERROR, ERR_LIMIT,
                       "a server has at most %d apps, %.200s is one more", OPTIONS_APPS, word);
    options->apps[options->app_count++] = word;
    options->app = options->apps[0];
    return 0;
}

/* On a terminal sits whoever writes the app; elsewhere nobody may see its sources. */
static void add_defaults(struct options *options)
{
    bool on_terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);

    pairs_add(&options->defaults, "development", on_terminal ? "true" : "false");
    pairs_add(&options->defaults, "access_log", isatty(STDERR_FILENO) ? "-" : "off");
}

static int find_app(struct options *options, struct err_text *text)
{
    if (options->app_count > 0)
        return 0;
    if (access("app.lua", F_OK) < 0)
        return err_set(text, EXIT_APP_MISSING, ERR_NOT_FOUND,
                       "no app was named and there is no app.lua here: moonquay serve FILE");
    options->app = options->apps[options->app_count++] = "app.lua";
    return 0;
}

static bool has_library(const char *dir)
{
    char path[PATH_MAX + 128];

    snprintf(path, sizeof(path), "%s/moonquay/init.lua", dir);
    return access(path, R_OK) == 0;
}

/*
 * The Lua library: in the tree (build/release/bin/moonquay), beside an installed executable, or
 * where the build was told that it would be installed.
 */
static void find_lua_dir(char out[PATH_MAX])
{
    static const char *const places[] = {"../../../lua", "../share/lua/5.4"};
    char exe[PATH_MAX], candidate[PATH_MAX + 64];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    exe[length < 0 ? 0 : length] = '\0';
    char *slash = strrchr(exe, '/');

    if (slash)
        *slash = '\0';
    for (size_t i = 0; slash && i < COUNT(places); i++) {
        snprintf(candidate, sizeof(candidate), "%s/%s", exe, places[i]);
        if (has_library(candidate) && realpath(candidate, out))
            return;
    }
    snprintf(out, PATH_MAX, "%s", MOONQUAY_LUA_DIR);
}

/* The file that --config or the environment names must be there, the usual one need not. */
static int read_config_file(struct reader *reader)
{
    struct options *options = reader->options;
    const char *path = reader->config, *key, *value;
    int code;

    if (path == NULL && (path = getenv("MOONQUAY_CONFIG")) != NULL && path[0] == '\0')
        path = NULL;
    if (path == NULL && access(CONFIG_FILE, F_OK) == 0)
        path = CONFIG_FILE;
    if (path == NULL)
        return 0;
    code = config_file_read(path, options->lua_dir, &options->config, reader->text);

    struct span rest = buf_span(&options->config);

    while (code == 0 && pairs_next(&rest, &key, &value))
        if (!is_place(key))
            pairs_add(&options->defaults, key, value);
    return code;
}

static int read_serve(struct reader *reader)
{
    const char *urls = getenv("MOONQUAY_URLS");
    bool only_words = false;
    int code = 0;

    add_defaults(reader->options); /* first, so that --default beats them */
    if (urls && urls[0])
        code = add(reader, "urls", urls, "MOONQUAY_URLS=");
    while (code == 0 && *reader->words) {
        const char *word = *reader->words++;

        if (reader->options->command == COMMAND_HOST && (only_words || word[0] != '-'))
            code = usage(reader, "a host takes no app: ", word);
        else if (only_words || word[0] != '-')
            code = add_app(reader, word);
        else if (strcmp(word, "--") == 0)
            only_words = true;
        else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
            reader->options->command = COMMAND_HELP;
        else
            code = read_option(reader, word);
    }
    if (code < 0 || reader->options->command == COMMAND_HELP)
        return code;
    find_lua_dir(reader->options->lua_dir);
    code = read_config_file(reader);
    if (code < 0 || reader->options->command == COMMAND_HOST)
        return code;
    if (getenv("MOONQUAY_HOST") && getenv("MOONQUAY_HOST")[0]) {
        reader->options->socket = getenv("MOONQUAY_HOST");
        pairs_add(&reader->options->overrides, "share", "true");
    }
    return find_app(reader->options, reader->text);
}

/* moonquay options [--markdown|--luals|--json] */
static int read_form(struct reader *reader)
{
    static const char *const forms[] = {"--markdown", "--luals", "--json"};
    const char *word = *reader->words;

    reader->options->form = word ? NULL : "text";
    if (word == NULL)
        return 0;
    for (size_t i = 0; i < COUNT(forms); i++)
        if (strcmp(word, forms[i]) == 0)
            reader->options->form = forms[i] + strlen("--");
    if (reader->options->form == NULL)
        return usage(reader, "no such option: ", word);
    return reader->words[1] ? usage(reader, "one word too many: ", reader->words[1]) : 0;
}

int options_parse(struct options *options, int argc, char **argv, struct err_text *text)
{
    struct reader reader = {.options = options, .text = text};

    memset(options, 0, sizeof(*options));
    if (argc < 2)
        return usage(&reader, "what shall it do?", "");
    reader.words = argv + 2;
    for (size_t i = 0; i < COUNT(commands); i++) {
        if (strcmp(argv[1], commands[i].word) != 0)
            continue;
        options->command = commands[i].command;
        if (options->command == COMMAND_SERVE || options->command == COMMAND_HOST)
            return read_serve(&reader);
        if (options->command == COMMAND_OPTIONS)
            return read_form(&reader);
        if (options->command == COMMAND_STATUS || options->command == COMMAND_CERT ||
            options->command == COMMAND_HTTP)
            return 0;
        return argc > 2 ? usage(&reader, "one word too many: ", argv[2]) : 0;
    }
    return usage(&reader, "no such command: ", argv[1]);
}

void options_fini(struct options *options)
{
    buf_fini(&options->defaults);
    buf_fini(&options->config);
    buf_fini(&options->overrides);
}

int options_apply(struct settings *settings, struct span pairs, bool only_server, const char *where,
                  struct err_text *text)
{
    const char *key, *value;
    int code = 0;

    while (code == 0 && pairs_next(&pairs, &key, &value))
        if (!is_place(key) && (!only_server || settings_scope(key) == SETTING_SERVER))
            code = settings_set(settings, key, value, where, text);
    return code;
}

/* For completion: what people type, no parts of ours. */
void options_words(void)
{
    for (size_t i = 0; i < COUNT(commands); i++)
        if (commands[i].word[0] != '-' && commands[i].command != COMMAND_WORKER &&
            commands[i].command != COMMAND_REGISTRAR)
            puts(commands[i].word);
}

void options_help(void)
{
    fputs("moonquay serve [APP.lua ...] [options]  serves the apps, app.lua by default\n"
          "    --urls URL[,URL]                 http://localhost:5000; also MOONQUAY_URLS\n"
          "    --config FILE                    moonquay.conf.lua if it is here; also "
          "MOONQUAY_CONFIG\n"
          "    --workers N                      processes; as many as there are CPUs\n"
          "    --user NAME                      whom the workers become when root starts it\n"
          "    --dev, --no-dev                  error pages with sources; on a terminal\n"
          "    --access-log FILE|-|off          - (standard error) on a terminal\n"
          "    --access-log-format combined|json\n"
          "    --error-log FILE|-               - (standard error)\n"
          "    --error-log-format text|json\n"
          "    --log-level error|warn|info|debug\n"
          "    --set KEY=VALUE                  any setting, see moonquay options\n"
          "    --default KEY=VALUE              likewise, but configuration and app beat it\n"
          "    --share                          behind a host, which has the ports; MOONQUAY_HOST\n"
          "                                     names its socket and says so too\n"
          "    --unregister                     behind a host: prefixes go with the process, and "
          "are\n"
          "                                     not kept for registration_grace\n"
          "moonquay host [options]              has the ports of apps that are processes of their\n"
          "                                     own; options of the server as above\n"
          "    --socket PATH                    where apps find it\n"
          "    --state FILE                     what it remembers: reservations, certificates,\n"
          "                                     addresses, timeouts\n"
          "    --replace                        takes the place of the host that runs there, and\n"
          "                                     nobody notices\n"
          "moonquay status [PID]                how a running server of this user is\n"
          "    --json                           for programs\n"
          "    --socket PATH                    the one behind this control socket\n"
          "moonquay cert create                 a certificate for https://localhost, see\n"
          "                                     moonquay cert --help\n"
          "moonquay cert show FILE              what certificates say\n"
          "moonquay cert check CERT [KEY]       what a server and its clients would object to\n"
          "moonquay http COMMAND                administers a host: who may have which URL,\n"
          "                                     certificates; see moonquay http --help\n"
          "moonquay options                     all settings: default, meaning, range\n"
          "    --markdown, --luals, --json      for documents, editors, programs\n"
          "moonquay version\n"
          "moonquay help\n"
          "Signals: TERM and INT finish what runs and end, a second one ends at once;\n"
          "USR1 opens the log files again.\n",
          stdout);
}
