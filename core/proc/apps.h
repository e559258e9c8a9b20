/*
 * What the master knows of the apps: where they lie, which settings are in force for each and for
 * the server, and which URL prefixes lead to which. The workers are told from here; nothing else
 * decides what a value is.
 */
#ifndef PROC_APPS_H
#define PROC_APPS_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "proc/endpoints.h"
#include "proc/options.h"
#include "route/prefix_table.h"
#include "route/tally.h"
#include "server/settings.h"

struct prefix_list {
    struct url_prefix *at;
    size_t count;
};
void prefix_list_fini(struct prefix_list *list);

struct served_app {
    unsigned index;
    const char *path; /* of its file, as the command line has it */
    struct settings settings;
    bool is_open;            /* else its place is free */
    bool is_attached;        /* of a host: it came with a program, and path is ours */
    uid_t uid;               /* whose program */
    struct prefix_list kept; /* those that the setting apps names: they are its user's whoever
                              * serves them or not */
    bool inherits_header_wait, inherits_idle; /* these timeouts, from the server */
};

struct certificates;

struct apps {
    const struct options *options;
    const struct certificates *certificates; /* of the server; set before apps_open */
    struct served_app at[TALLY_APPS];
    unsigned count;
    struct settings settings;      /* of the server */
    struct prefix_table *prefixes; /* whose values are served apps; NULL before apps_open */
    size_t prefix_bytes;           /* of their texts, as a worker is told them */
};

/* Takes the apps' names and the settings that are known before any is loaded. 0 or the error. */
int apps_init(struct apps *apps, const struct options *options, struct err_text *text);
void apps_fini(struct apps *apps);

/* Leaves its place free. */
void served_app_fini(struct served_app *app);

/*
 * The apps are loaded: asked are the pairs "N:KEY" that they set themselves, each followed by
 * "N:KEY@" with its place. Server-wide settings that two apps want different are an error that
 * names both places.
 */
int apps_loaded(struct apps *apps, struct span asked, struct err_text *text);

/* Whether anybody has said what a setting of the server shall be. */
bool apps_is_given(const struct apps *apps, struct span asked, const char *key);

/*
 * Opens the sockets of all prefixes. A prefix that two apps have is an error that names both; so is
 * one that is no prefix, at its place. Nothing stays open after an error.
 */
int apps_open(struct apps *apps, struct endpoints *endpoints, struct span asked,
              struct err_text *text);

/*
 * Of a host: an app that a program brings or changes as a whole: op=open as share/registrar.h has
 * it; a guest's wish adds prefixes to one that is there. Nothing has changed when it fails. Adds to
 * change what the workers are told, to reply the prefixes in force. apps_close ends one.
 */
int apps_attach(struct apps *apps, unsigned index, struct span wish, struct endpoints *endpoints,
                struct buf *change, struct buf *reply, struct err_text *text);
void apps_detach(struct apps *apps, unsigned index, struct endpoints *endpoints,
                 struct buf *change);

/* Of a host: the timeouts of the machine, for connections before their first request and for apps
 * that name none. Adds to change what the workers are told. */
void apps_use_timeouts(struct apps *apps, int64_t header_wait_ms, int64_t idle_connection_ms,
                       struct buf *change);

/* Of a host: the app that has this prefix; NULL. And a place that is free, or TALLY_APPS. */
const struct served_app *apps_with_prefix(const struct apps *apps, const char *prefix);
unsigned apps_free_place(const struct apps *apps);

/* Of a host: where it listens, as endpoints_listen_on has it. */
int apps_listen_on(struct apps *apps, struct endpoints *endpoints, const struct net_addr *listen,
                   unsigned count, struct err_text *text);

/*
 * Of an attached process, in place of apps_open: what its apps want of the host, as pairs of a
 * CONTROL_ATTACH; then what the host has given them, which workers that begin are told.
 */
int apps_describe(struct apps *apps, struct span asked, struct buf *pairs, struct err_text *text);
void apps_given(struct apps *apps, struct span pairs);

/* The same, once they have been given something: what they have, to come back with. */
void apps_describe_again(const struct apps *apps, struct buf *pairs);

/* The host has given an app a prefix, or taken one back. Adds to change what the workers are told.
 */
void apps_note_prefix(struct apps *apps, struct served_app *app, const char *prefix, bool is_there,
                      struct buf *change);

/* The pairs of app index out of all, without the number in front. */
void apps_pairs_of(struct span asked, unsigned index, struct buf *own);

/* Adds the whole state, as IPC_SERVE has it. */
void apps_state(const struct apps *apps, struct buf *pairs);

/* Adds what all prefixes look like, separated by commas; at most so many, then how many more. */
void apps_print_addresses(const struct apps *apps, size_t most, struct buf *out);

/*
 * Changes at run time. Each adds to change what the workers have to be told and to reply what the
 * asker gets, or fails with one line.
 */
int apps_change_setting(struct apps *apps, struct served_app *app, const char *key,
                        const char *value, const char *place, struct buf *change,
                        struct err_text *text);
int apps_listen(struct apps *apps, struct served_app *app, struct endpoints *endpoints,
                const char *prefix, struct buf *change, struct buf *reply, struct err_text *text);
int apps_unlisten(struct apps *apps, struct served_app *app, struct endpoints *endpoints,
                  const char *prefix, struct buf *change, struct buf *reply, struct err_text *text);

#endif
