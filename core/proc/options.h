/* The command line: a command, apps, and settings that win over what the apps ask for. */
#ifndef PROC_OPTIONS_H
#define PROC_OPTIONS_H

#include <limits.h>

#include "base/buf.h"
#include "base/err.h"
#include "server/settings.h"

#define OPTIONS_APPS 64 /* of one server */

enum command {
    COMMAND_SERVE,
    COMMAND_HOST,
    COMMAND_REGISTRAR,
    COMMAND_WORKER,
    COMMAND_STATUS, /* reads its words itself */
    COMMAND_CERT,   /* likewise */
    COMMAND_HTTP,   /* likewise */
    COMMAND_WORDS,
    COMMAND_OPTIONS,
    COMMAND_VERSION,
    COMMAND_HELP,
};

struct options {
    enum command command;
    const char *apps[OPTIONS_APPS]; /* files, as they were named; borrowed from argv */
    unsigned app_count;
    const char *app;        /* the first of them */
    const char *socket;     /* that a host listens on: --socket; NULL: the usual one */
    const char *state;      /* its file: --state; likewise */
    bool replaces;          /* --replace: the host that runs */
    bool unregisters;       /* --unregister: their prefixes do not outlive the process */
    const char *form;       /* of COMMAND_OPTIONS: "text" and others of settings_print_as */
    char lua_dir[PATH_MAX]; /* where moonquay/init.lua is */
    struct buf defaults;    /* pairs: what depends on how we were started, --default, then what the
                             * configuration file says; the app wins over them */
    struct buf config;      /* pairs: the configuration file's alone, each with its place */
    struct buf overrides;   /* pairs: environment, then command line; they win over the app */
    char urls_from[32];     /* which of them named the urls in force: "--urls"; "" when none did */
};

/*
 * Reads the words, the environment and the configuration file. Each setting is checked here, so
 * that a wrong one is told before anything starts. 0, or an error with EXIT_USAGE_ERROR,
 * EXIT_OPTION, EXIT_APP_MISSING or what config_file_read ends with. Borrows argv.
 */
int options_parse(struct options *options, int argc, char **argv, struct err_text *text);
void options_fini(struct options *options);

/* Sets what the pairs say, but for places; with only_server, keys of the app's scope are left
 * alone. 0, or the first error. */
int options_apply(struct settings *settings, struct span pairs, bool only_server, const char *where,
                  struct err_text *text);

void options_help(void);
void options_words(void);

#endif
