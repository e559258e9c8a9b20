/* The command line: a command, an app, and settings that win over what the app asks for. */
#ifndef PROC_OPTIONS_H
#define PROC_OPTIONS_H

#include <limits.h>

#include "base/buf.h"
#include "base/err.h"
#include "server/settings.h"

enum command {
    COMMAND_SERVE,
    COMMAND_WORKER,
    COMMAND_STATUS, /* reads its words itself */
    COMMAND_OPTIONS,
    COMMAND_VERSION,
    COMMAND_HELP,
};

struct options {
    enum command command;
    char app[PATH_MAX];
    char lua_dir[PATH_MAX]; /* where moonquay/init.lua is */
    struct buf defaults;    /* pairs: what depends on how we were started; the app wins over them */
    struct buf overrides;   /* pairs: environment, then command line; they win over the app */
    char urls_from[32];     /* which of them named the urls in force: "--urls"; "" when none did */
};

/*
 * Reads the words and the environment. Each setting is checked here, so that a wrong one is told
 * before anything starts. 0, or an error with EXIT_USAGE_ERROR, EXIT_OPTION or EXIT_APP_MISSING.
 */
int options_parse(struct options *options, int argc, char **argv, struct err_text *text);
void options_fini(struct options *options);

/* Sets what the pairs say; with only_server, keys of the app's scope are left alone. 0, or the
 * first error. */
int options_apply(struct settings *settings, struct span pairs, bool only_server, const char *where,
                  struct err_text *text);

void options_help(void);

#endif
