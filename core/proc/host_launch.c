#include "proc/host_launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "proc/child.h"

#define WORDS_MOST     (16 + 2 * (HOSTED_APP_SETTINGS + 4))
#define VARIABLES_MOST (HOSTED_APP_VARIABLES + 64)

/* The command line of its process, for exec. */
struct launch {
    const struct hosted_app *app;
    const struct passwd *user;
    const char *socket;
    char *words[WORDS_MOST + 1];
    unsigned count;
    char *environment[VARIABLES_MOST + 1];
    unsigned variable_count;
    struct buf prefixes;
};

static void add_word(struct launch *launch, const char *word)
{
    CHECK(launch->count < WORDS_MOST);
    launch->words[launch->count++] = (char *)(uintptr_t)word;
    launch->words[launch->count] = NULL;
}

static void add_setting(struct launch *launch, const char *pair)
{
    add_word(launch, "--set");
    add_word(launch, pair);
}

static void compose(struct launch *launch)
{
    const struct hosted_app *app = launch->app;

    add_word(launch, "moonquay");
    add_word(launch, "serve");
    add_word(launch, "--share");
    add_word(launch, "--no-dev");
    for (unsigned i = 0; i < HOSTED_APP_SETTINGS && app->set[i][0]; i++)
        add_setting(launch, app->set[i]);
    buf_append(&launch->prefixes, SPAN("url_prefixes="));
    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && app->prefix[i][0]; i++)
        buf_printf(&launch->prefixes, "%s%s", i ? "," : "", app->prefix[i]);
    buf_append(&launch->prefixes, SPAN("\0"));
    if (app->prefix[0][0])
        add_setting(launch, buf_span(&launch->prefixes).at);
    if (app->workers[0]) {
        add_word(launch, "--workers");
        add_word(launch, app->workers);
    }
    add_word(launch, "--");
    add_word(launch, app->file);
}

static void become_user(const struct passwd *user)
{
    if (user->pw_uid != geteuid() && (initgroups(user->pw_name, user->pw_gid) < 0 ||
                                      setresgid(user->pw_gid, user->pw_gid, user->pw_gid) < 0 ||
                                      setresuid(user->pw_uid, user->pw_uid, user->pw_uid) < 0))
        _exit(EXIT_PERMISSION);
}

/* What an app of any user may see of our environment; the rest is about us. */
static bool is_passed_on(const char *variable)
{
    static const char *const names[] = {
        "PATH=",
        "LANG=",
        "LANGUAGE=",
        "LC_",
        "TZ=",
        "TMPDIR=",
        "LUA_PATH=",
        "LUA_PATH_5_4=",
        "LUA_CPATH=",
        "LUA_CPATH_5_4=",
        "MOONQUAY_TLS_SOCKET_BIO=",
#ifdef __SANITIZE_ADDRESS__
        "LD_PRELOAD=",
        "ASAN_OPTIONS=",
        "UBSAN_OPTIONS=",
#endif
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* What has the name already stays. */
static void add_variable(struct launch *launch, const char *variable)
{
    size_t name = (size_t)(strchrnul(variable, '=') - variable);

    for (unsigned i = 0; i < launch->variable_count; i++)
        if (strncmp(launch->environment[i], variable, name + 1) == 0)
            return;
    if (launch->variable_count < VARIABLES_MOST)
        launch->environment[launch->variable_count++] = (char *)(uintptr_t)variable;
    launch->environment[launch->variable_count] = NULL;
}

static void add_named(struct launch *launch, const char *name, const char *value)
{
    char *variable;

    if (asprintf(&variable, "%s=%s", name, value) > 0) /* kept: exec takes it away */
        add_variable(launch, variable);
}

static void compose_environment(struct launch *launch)
{
    add_named(launch, "MOONQUAY_HOST", launch->socket);
    for (unsigned i = 0; i < HOSTED_APP_VARIABLES && launch->app->env[i][0]; i++)
        add_variable(launch, launch->app->env[i]);
    add_named(launch, "HOME", launch->user->pw_dir);
    add_named(launch, "USER", launch->user->pw_name);
    add_named(launch, "LOGNAME", launch->user->pw_name);
    for (char **variable = environ; *variable; variable++)
        if (is_passed_on(*variable))
            add_variable(launch, *variable);
}

/* A session of its own: no terminal of ours, and no signal that is meant for us. */
static void leave_terminal(void)
{
    int fd = open("/dev/null", O_RDONLY);

    setsid();
    if (fd < 0 || dup2(fd, STDIN_FILENO) < 0)
        _exit(EXIT_INTERNAL);
}

static void become_app(const void *arg)
{
    struct launch launch = *(const struct launch *)arg;
    char dir[HOSTED_APP_TEXT];

    leave_terminal();
    become_user(launch.user);
    compose_environment(&launch);
    snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(launch.app->file, '/') - launch.app->file),
             launch.app->file);
    if (chdir(dir[0] ? dir : "/") < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
        fprintf(stderr, "moonquay: %s: %s\n", dir, strerror(errno)); /* the app will say more */
    close_range(STDERR_FILENO + 1, ~0U, 0);
    child_unblock();
    execve("/proc/self/exe", launch.words, launch.environment);
    fprintf(stderr, "moonquay: cannot start an app: %s\n", strerror(errno));
    _exit(EXIT_INTERNAL);
}

pid_t host_launch(const struct hosted_app *app, const struct passwd *user, const char *socket)
{
    struct launch launch = {.app = app, .user = user, .socket = socket};
    pid_t pid;

    compose(&launch);
    pid = child_fork(become_app, &launch);
    buf_fini(&launch.prefixes);
    return pid;
}
