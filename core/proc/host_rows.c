#include "proc/host_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "proc/master_priv.h"
#include "proc/worker_ipc.h"

/* ---- reading ---- */

static void copy_user(struct host_row *row, const struct passwd *user)
{
    row->user = *user;
    row->user.pw_name = mem_strdup(user->pw_name);
    row->user.pw_dir = mem_strdup(user->pw_dir);
}

static int find_user(struct host_row *row, struct err_text *text)
{
    const char *file = row->app.file, *name = row->app.user;
    const struct passwd *user = name[0] ? getpwnam(name) : getpwuid(geteuid());

    if (name[0] == '\0' && geteuid() == 0)
        return err_set(text, EXIT_OPTION, ERR_INVALID,
                       "apps: %.400s: user= is missing: whom shall root start it as?", file);
    if (user == NULL)
        return err_set(text, EXIT_OPTION, ERR_NOT_FOUND, "apps: %.400s: user=%s: there is none",
                       file, name);
    if (user->pw_uid != geteuid() && geteuid() != 0)
        return err_set(text, EXIT_PERMISSION, ERR_PERMISSION,
                       "apps: %.400s: user=%s: only root can start it as another user", file, name);
    copy_user(row, user);
    return 0;
}

static int read_all(struct host_rows *rows, const char *rest, struct err_text *text)
{
    char why[200]; /* checked before */
    int code = 0;

    while (code == 0 && rows->count < HOSTED_APPS_MOST) {
        struct host_row *row = &rows->at[rows->count];

        if (hosted_app_next(&rest, &row->app, why, sizeof(why)) <= 0)
            return 0;
        row->place = TALLY_APPS;
        rows->count++;
        code = find_user(row, text);
    }
    if (code == 0 && rest[strspn(rest, " ")])
        code = err_set(text, EXIT_OPTION, ERR_LIMIT, "apps: more than %d", HOSTED_APPS_MOST);
    return code;
}

/* ---- places that there are ---- */

static bool is_hosted(const struct served_app *app)
{
    return app->is_open && app->kept.count > 0;
}

static const struct host_row *row_of(const struct host_rows *rows, unsigned place)
{
    for (unsigned i = 0; i < rows->count; i++)
        if (rows->at[i].place == place)
            return &rows->at[i];
    return NULL;
}

/* Where one of its prefixes is. */
static const struct served_app *find_by_prefix(const struct apps *apps, const struct host_row *row)
{
    const struct served_app *found = NULL;

    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && found == NULL && row->app.prefix[i][0]; i++)
        found = apps_with_prefix(apps, row->app.prefix[i]);
    return found;
}

/* Where it is under other prefixes. */
static const struct served_app *find_by_file(const struct apps *apps, const struct host_rows *rows,
                                             const struct host_row *row)
{
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (is_hosted(&apps->at[i]) && apps->at[i].uid == row->user.pw_uid &&
            strcmp(apps->at[i].path, row->app.file) == 0 && row_of(rows, i) == NULL)
            return &apps->at[i];
    return NULL;
}

/* Prefixes count before files: requests that wait are for them. */
static void claim_all(struct host_rows *rows, const struct apps *apps)
{
    for (unsigned i = 0; i < rows->count; i++) {
        const struct served_app *app = find_by_prefix(apps, &rows->at[i]);

        if (app && app->uid == rows->at[i].user.pw_uid && row_of(rows, app->index) == NULL)
            rows->at[i].place = app->index;
    }
    for (unsigned i = 0; i < rows->count; i++) {
        struct host_row *row = &rows->at[i];
        const struct served_app *app = row->place == TALLY_APPS && row->app.prefix[0][0]
                                           ? find_by_file(apps, rows, row)
                                           : NULL;

        if (app)
            row->place = app->index;
    }
}

/* What the configuration gave to one row before, and gives to another now. */
static void take_back(struct master *master, const struct host_row *row)
{
    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && row->app.prefix[i][0]; i++) {
        const struct served_app *app = apps_with_prefix(&master->apps, row->app.prefix[i]);
        struct buf change = {0}, reply = {0};
        struct err_text ignored;

        if (app && app->index != row->place && is_hosted(app))
            apps_unlisten(&master->apps, &master->apps.at[app->index], &master->endpoints,
                          row->app.prefix[i], &change, &reply, &ignored);
        buf_fini(&change);
        buf_fini(&reply);
    }
}

/* What the configuration has no more. */
static void release_others(const struct host_rows *rows, struct apps *apps)
{
    for (unsigned i = 0; i < TALLY_APPS; i++)
        if (row_of(rows, i) == NULL)
            prefix_list_fini(&apps->at[i].kept);
}

/* ---- as the rows say ---- */

/* As its process will ask for it. */
static void describe(const struct host_row *row, struct buf *wish)
{
    const struct hosted_app *app = &row->app;

    pairs_add(wish, "value", app->file);
    pairs_add_number(wish, "uid", row->user.pw_uid);
    pairs_add(wish, IPC_APP_HOSTED, "1");
    for (unsigned i = 0; i < HOSTED_APP_SETTINGS && app->set[i][0]; i++) {
        const char *equals = strchr(app->set[i], '=');
        char key[HOSTED_APP_TEXT + 8];

        snprintf(key, sizeof(key), "set:%.*s", (int)(equals - app->set[i]), app->set[i]);
        pairs_add(wish, key, equals + 1);
    }
    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && app->prefix[i][0]; i++)
        pairs_add(wish, "+", app->prefix[i]);
}

static int check_prefixes(const struct apps *apps, const struct host_row *row,
                          struct err_text *text)
{
    for (unsigned i = 0; i < HOSTED_APP_PREFIXES && row->app.prefix[i][0]; i++) {
        const char *prefix = row->app.prefix[i];
        const struct served_app *app = apps_with_prefix(apps, prefix);

        if (app == NULL || app->index == row->place)
            continue;
        if (is_hosted(app))
            return err_set(text, EXIT_OPTION, ERR_EXISTS,
                           "apps: %.400s and %.400s: both have %.300s", app->path, row->app.file,
                           prefix);
        return err_set(text, EXIT_PORT_IN_USE, ERR_EXISTS,
                       "apps: %.400s: an app of user %u has %.300s", row->app.file,
                       (unsigned)app->uid, prefix);
    }
    return 0;
}

static int make_place(struct master *master, struct host_row *row, struct err_text *text)
{
    struct buf wish = {0}, change = {0}, reply = {0};
    int code = check_prefixes(&master->apps, row, text);

    if (code < 0)
        return code;
    if (row->place == TALLY_APPS)
        row->place = apps_free_place(&master->apps);
    if (row->place == TALLY_APPS)
        return err_set(text, EXIT_OPTION, ERR_LIMIT, "apps: %.400s: the host has %d apps already",
                       row->app.file, TALLY_APPS);
    describe(row, &wish);
    code = apps_attach(&master->apps, row->place, buf_span(&wish), &master->endpoints, &change,
                       &reply, text);
    buf_fini(&wish);
    buf_fini(&change);
    buf_fini(&reply);
    return code;
}

int host_rows_open(struct host_rows *rows, struct master *master, struct err_text *text)
{
    int code = read_all(rows, master->apps.settings.apps, text);

    if (code < 0)
        return code;
    claim_all(rows, &master->apps);
    for (unsigned i = 0; i < rows->count; i++)
        take_back(master, &rows->at[i]);
    release_others(rows, &master->apps);
    for (unsigned i = 0; i < rows->count && code == 0; i++)
        if (rows->at[i].app.prefix[0][0])
            code = make_place(master, &rows->at[i], text);
    return code;
}

void host_rows_close(struct host_rows *rows)
{
    for (unsigned i = 0; i < rows->count; i++) {
        mem_free(rows->at[i].user.pw_name);
        mem_free(rows->at[i].user.pw_dir);
    }
}
